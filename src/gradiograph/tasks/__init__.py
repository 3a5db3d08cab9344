"""What is trained: a classification model with its loss, or the user's own model by import path."""

from gradiograph.tasks.custom import custom
from gradiograph.tasks.densenet121 import densenet121
from gradiograph.tasks.lenet import lenet
from gradiograph.tasks.losses import cross_entropy
from gradiograph.tasks.resnet18 import resnet18
from gradiograph.tasks.resnet18_groupnorm import resnet18_groupnorm
from gradiograph.tasks.resnet_wide_head import resnet_wide_head
from gradiograph.tasks.small_cnn import small_cnn
from gradiograph.tasks.weights import check_state, load_into, load_state

__all__ = [
    "check_state",
    "cross_entropy",
    "custom",
    "densenet121",
    "lenet",
    "load_into",
    "load_state",
    "resnet18",
    "resnet18_groupnorm",
    "resnet_wide_head",
    "small_cnn",
]
