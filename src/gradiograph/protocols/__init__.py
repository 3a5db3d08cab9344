"""What one client does in a round: the same code for the client and for the attacker who replays it."""

from gradiograph.protocols.fedavg import FedAvg
from gradiograph.protocols.fedprox import FedProx
from gradiograph.protocols.fedsgd import FedSGD
from gradiograph.protocols.summed import SummedProtocol

__all__ = ["FedAvg", "FedProx", "FedSGD", "SummedProtocol"]
