"""What is trained: a model that classifies or segments with its loss, or the user's own by import path."""

from gradiograph.tasks.custom import custom
from gradiograph.tasks.densenet121 import densenet121
from gradiograph.tasks.dilated_net import dilated_net
from gradiograph.tasks.lenet import lenet
from gradiograph.tasks.losses import batch_dice, cross_entropy, dice, dice_cross_entropy
from gradiograph.tasks.monai_unet import monai_unet
from gradiograph.tasks.resnet18 import resnet18
from gradiograph.tasks.resnet18_groupnorm import resnet18_groupnorm
from gradiograph.tasks.resnet_wide_head import resnet_wide_head
from gradiograph.tasks.small_cnn import small_cnn
from gradiograph.tasks.unet import unet
from gradiograph.tasks.vit import vit
from gradiograph.tasks.weights import check_state, load_into, load_state

__all__ = [
    "batch_dice",
    "check_state",
    "cross_entropy",
    "custom",
    "densenet121",
    "dice",
    "dice_cross_entropy",
    "dilated_net",
    "lenet",
    "load_into",
    "load_state",
    "monai_unet",
    "resnet18",
    "resnet18_groupnorm",
    "resnet_wide_head",
    "small_cnn",
    "unet",
    "vit",
]
