"""Where LPIPS finds its networks: a folder, torchvision's cache, or torchvision's download."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights

from gradiograph.core.errors import WeightsProblem

Network = Literal["alex", "squeeze"]

FOLDER_VARIABLE = "GRADIOGRAPH_LPIPS_WEIGHTS"
FILES: Mapping[Network, str] = {"alex": "alexnet_features_fp32.pth", "squeeze": "squeezenet1_1_features_fp32.pth"}
_URLS: Mapping[Network, str] = {
    "alex": AlexNet_Weights.IMAGENET1K_V1.url,
    "squeeze": SqueezeNet1_1_Weights.IMAGENET1K_V1.url,
}


def _remedy(network: Network) -> str:
    return (
        f"Either run once with internet access, so that torchvision can store the network; or save the `features.*` "
        f"part of its state dict as {FILES[network]} in a folder and name that folder in the audit file "
        f"(networks = {{ lpips = ... }}) or in the environment variable {FOLDER_VARIABLE}."
    )


def _find(network: Network, folders: Mapping[str, Path]) -> Path | None:
    """The first file that exists: the audit's folder, the environment variable's, torchvision's cache."""
    candidates = [Path(torch.hub.get_dir()) / "checkpoints" / _URLS[network].rpartition("/")[2]]
    if os.environ.get(FOLDER_VARIABLE):
        candidates.insert(0, Path(os.environ[FOLDER_VARIABLE]) / FILES[network])
    if "lpips" in folders:
        candidates.insert(0, Path(folders["lpips"]) / FILES[network])
    return next((path for path in candidates if path.is_file()), None)


def lpips_available(network: Network, folders: Mapping[str, Path]) -> str | None:
    """Why LPIPS can't be measured without a download, or None if it can.

    Args:
        network: The backbone.
        folders: `ScoringContext.network_folders`.

    Returns:
        None, or one sentence with the reason and the next step.
    """
    if _find(network, folders) is not None:
        return None
    return f"The weights of the LPIPS network '{network}' are not on this machine. {_remedy(network)}"


def _load(path: Path, what: str, remedy: str) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - weights only
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        state = None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"The file with {what} can't be read as a state dict (weights only). {remedy}"
        raise WeightsProblem(msg)
    return state


def backbone_state(network: Network, folders: Mapping[str, Path]) -> dict[str, Tensor]:
    """The convolutional layers by torchvision's names without `features.`, downloaded if they are nowhere.

    Raises:
        WeightsProblem: a file can't be read, or nothing is on this machine and the download fails.
    """
    path = _find(network, folders)
    if path is not None:
        state = _load(path, f"the LPIPS network '{network}'", _remedy(network))
    else:
        try:
            state = torch.hub.load_state_dict_from_url(
                _URLS[network], map_location="cpu", check_hash=True, weights_only=True
            )
        except (URLError, OSError, RuntimeError):
            msg = f"The weights of the LPIPS network '{network}' are not on this machine and can't be downloaded. "
            raise WeightsProblem(msg + _remedy(network)) from None
    prefix = "features."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def head_weights(network: Network) -> list[Tensor]:
    """The linear heads of LPIPS v0.1, which the `lpips` package carries: one weight per channel for each layer."""
    spec = find_spec("lpips")
    remedy = "Install the package `lpips` again."
    if spec is None or not spec.submodule_search_locations:
        msg = f"The package `lpips`, which carries the heads of LPIPS, is not installed. {remedy}"
        raise WeightsProblem(msg)
    path = Path(spec.submodule_search_locations[0]) / "weights" / "v0.1" / f"{network}.pth"
    state = _load(path, f"the LPIPS heads for '{network}'", remedy)
    return [state[f"lin{layer}.model.1.weight"].flatten() for layer in range(len(state))]
