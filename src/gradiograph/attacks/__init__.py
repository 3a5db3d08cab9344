"""Attacks: observation to reconstruction, each a choice of likelihood, parametrisation, prior and optimiser."""

from gradiograph.attacks.analytic import Analytic
from gradiograph.attacks.april import April
from gradiograph.attacks.conv_unmixing import ConvUnmixing
from gradiograph.attacks.dlg import dlg
from gradiograph.attacks.gradient_matching import gradient_matching
from gradiograph.attacks.idlg import idlg
from gradiograph.attacks.imprint import Imprint
from gradiograph.attacks.inverting_gradients import inverting_gradients
from gradiograph.attacks.label_inference import infer_labels
from gradiograph.attacks.latent_matching import latent_matching
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.attacks.mask_differencing import MaskDifferencing
from gradiograph.attacks.matching import GradientMatching
from gradiograph.attacks.r_gap import RGap
from gradiograph.attacks.restored import Restored
from gradiograph.attacks.rog import rog
from gradiograph.attacks.spear import Spear
from gradiograph.attacks.trap_weights import Fishing, TrapWeights
from gradiograph.attacks.unmixing import Unmixing

__all__ = [
    "Analytic",
    "April",
    "ConvUnmixing",
    "Fishing",
    "GradientMatching",
    "Imprint",
    "MaskDifferencing",
    "MaximumAPosteriori",
    "RGap",
    "Restored",
    "Spear",
    "TrapWeights",
    "Unmixing",
    "dlg",
    "gradient_matching",
    "idlg",
    "infer_labels",
    "inverting_gradients",
    "latent_matching",
    "rog",
]
