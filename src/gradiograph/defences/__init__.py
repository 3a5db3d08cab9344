"""Protections as channels on one client's update: how each acts, and how likely a seen update is under it."""

from gradiograph.defences.clip import Clip
from gradiograph.defences.distributed_noise import DistributedNoise
from gradiograph.defences.dp_fedavg import DPFedAvg
from gradiograph.defences.dp_sgd import DPSGD
from gradiograph.defences.gaussian_noise import GaussianNoise
from gradiograph.defences.laplace_noise import LaplaceNoise
from gradiograph.defences.local_dp import LocalDP
from gradiograph.defences.qsgd import QSGD
from gradiograph.defences.random_k import RandomK
from gradiograph.defences.sign_sgd import SignSGD
from gradiograph.defences.summed import SummedChannel
from gradiograph.defences.top_k import TopK
from gradiograph.defences.uniform_quantisation import UniformQuantisation

__all__ = [
    "DPSGD",
    "QSGD",
    "Clip",
    "DPFedAvg",
    "DistributedNoise",
    "GaussianNoise",
    "LaplaceNoise",
    "LocalDP",
    "RandomK",
    "SignSGD",
    "SummedChannel",
    "TopK",
    "UniformQuantisation",
]
