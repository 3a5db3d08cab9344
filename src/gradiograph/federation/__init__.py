"""Training over many rounds: clients, their defence, the server's step, checkpoints, and what the server saw."""

from gradiograph.federation.aggregation import secure_sum
from gradiograph.federation.capture import capture, capture_sum
from gradiograph.federation.checkpoint import pack, unpack
from gradiograph.federation.engine import Collect, drawn, next_round, send, train
from gradiograph.federation.fedadam import FedAdam
from gradiograph.federation.federation import Federation, Rounds, Site
from gradiograph.federation.prediction import predict, predict_masks
from gradiograph.federation.sgd import SGD
from gradiograph.federation.training import Training, untrained

__all__ = [
    "SGD",
    "Collect",
    "FedAdam",
    "Federation",
    "Rounds",
    "Site",
    "Training",
    "capture",
    "capture_sum",
    "drawn",
    "next_round",
    "pack",
    "predict",
    "predict_masks",
    "secure_sum",
    "send",
    "train",
    "unpack",
    "untrained",
]
