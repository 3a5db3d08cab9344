"""Principal components of public films: a linear prior on images.

After Turk and Pentland 1991 (doi 10.1162/jocn.1991.3.1.71). As a density it is probabilistic principal component
analysis (Tipping and Bishop 1999, doi 10.1111/1467-9868.00196) without its noise term: the whitened latent is N(0, 1),
the image mean + components^T (std * latent).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradiograph.core.errors import BadInput, BadSetting, DataProblem
from gradiograph.core.fitted import owners, read_arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

FORMAT = "gradiograph eigen prior 1"
TRAIN = "Write one with `gradiograph prior train FILE`."
_MASKS = "mask_"
"""How the names of the arrays begin that are of masks."""
_BLOCK = 2048
_SMALLEST = 1e-10


@dataclass(frozen=True, kw_only=True, eq=False)
class EigenPrior:
    """The mean and the principal components of a set of films.

    Attributes:
        mean: (P,); P = H * W where all films are grey (equal channels are stored once), else C * H * W.
        components: (K, P), orthonormal rows, largest variance first.
        std: (K,), positive: standard deviation of each coordinate over the films.
        residual: Root mean square per pixel of what the components leave of the films they were fitted to; other films
            leave more.
        image_shape: (C, H, W).
    """

    mean: Tensor
    components: Tensor
    std: Tensor
    residual: float
    image_shape: tuple[int, int, int]

    def images(self, latent: Tensor) -> Tensor:
        """Whitened latent (B, K) -> images (B, C, H, W), differentiably and not clamped to [0, 1]."""
        flat = self.mean.to(latent) + (latent * self.std.to(latent)) @ self.components.to(latent)
        channels, *sides = self.image_shape
        return flat.reshape(len(latent), -1, *sides).expand(-1, channels, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> the whitened latent (B, K) of their projection; a grey prior takes the channels' mean.

        Raises:
            BadSetting: the images have another shape.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            msg = f"The prior is for images of shape {self.image_shape}, not {tuple(images.shape[1:])}. {TRAIN}"
            raise BadSetting(msg)
        flat = _flat(images, grey=self.is_grey)
        return (flat - self.mean.to(flat)) @ self.components.to(flat).T / self.std.to(flat)

    @property
    def is_grey(self) -> bool:
        """Whether equal channels are stored once."""
        return self.mean.numel() == self.image_shape[1] * self.image_shape[2]


def fit_eigen(films: Tensor, components: int) -> EigenPrior:
    """The exact principal components, in float64, by the Gram matrix of the films or of the pixels, the smaller one.

    Args:
        films: (N, C, H, W) in [0, 1]. Time grows with the cube of min(N, P): seconds for 2,000, hours for 20,000.
        components: K, at most N - 1 and at most P.

    Raises:
        BadSetting: K is not between 1 and what N films of P pixels allow.
        DataProblem: the films differ in fewer than K directions, for instance because some are copies.
    """
    grey = torch.equal(films, films[:, :1].expand_as(films))
    flat = _flat(films[:, :1], grey=True) if grey else _flat(films, grey=False)
    most = min(len(flat) - 1, flat.shape[1])
    if not 1 <= components <= most:
        msg = (
            f"components = {components} does not fit {len(flat)} films of {flat.shape[1]} pixels: between 1 and "
            f"{most} can be had. Lower it, or give more public films."
        )
        raise BadSetting(msg)
    mean = flat.mean(dim=0, dtype=torch.float64).to(flat)
    centred = flat - mean
    by_films = len(flat) <= flat.shape[1]
    values, vectors = torch.linalg.eigh(_gram(centred if by_films else centred.T))
    values, vectors = values.flip(0), vectors.flip(1)[:, :components]
    _require_rank(values, components)
    directions = centred.T @ vectors.to(flat) if by_films else vectors.to(flat)
    variances = values.clamp(min=0) / (len(flat) - 1)
    channels, height, width = films.shape[1:]
    return EigenPrior(
        mean=mean,
        components=torch.linalg.qr(directions).Q.T.contiguous(),
        std=variances[:components].sqrt().to(flat),
        residual=sqrt(float(variances[components:].sum()) / flat.shape[1]),
        image_shape=(channels, height, width),
    )


def mean_image(prior: EigenPrior | None, image_shape: tuple[int, ...]) -> Tensor:
    """What is shown (C, H, W) in place of an image that was not found: the prior's mean, grey without a prior."""
    return torch.full(image_shape, 0.5) if prior is None else prior.images(torch.zeros(1, len(prior.std)))[0]


def variance_explained(prior: EigenPrior, films: Tensor) -> float:
    """The share of the films' squared distance from the prior's mean that its components hold, in [0, 1].

    Args:
        prior: The prior.
        films: (N, C, H, W), not all equal to the mean.
    """
    held = total = 0.0
    for block in torch.split(films, _BLOCK // 8):
        total += float((_flat(block, grey=prior.is_grey) - prior.mean).square().sum(dtype=torch.float64))
        held += float((prior.encode(block) * prior.std).square().sum(dtype=torch.float64))
    return held / total


def save_prior(prior: EigenPrior, path: Path, patients: Iterable[str] = (), masks: EigenPrior | None = None) -> None:
    """Write the prior as arrays without pickle: whole or not at all, mode 0600.

    Args:
        prior: The prior.
        path: The file, replaced if it exists; its folder is made, owner-only, where it is missing.
        patients: Identifiers of those whose films it was fitted to; stored as pseudonyms under a random key that the
            file holds as well, so that `fitted.require_disjoint` can compare. An audit refuses a prior that names none.
        masks: The prior on their masks, see `mask_prior`; None where there are none.

    Raises:
        BadInput: the file cannot be written.
    """
    arrays: dict[str, Any] = {"format": np.array(FORMAT), **owners(patients, secrets.token_bytes(32))}
    arrays |= _arrays(prior, "") | (_arrays(masks, _MASKS) if masks else {})
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            try:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        msg = f"The prior cannot be written ({error.strerror}). Give a file in a folder that you own."
        raise BadInput(msg) from None


def load_prior(path: Path, image_shape: tuple[int, ...]) -> EigenPrior:
    """Read a prior that `save_prior` wrote; never runs code that the file holds.

    Args:
        path: The file.
        image_shape: (C, H, W) of the images; the prior's own, but a grey prior serves any number of channels.

    Raises:
        BadInput: the file is missing, damaged or not a prior, or is for images of another shape.
    """
    prior = _prior(_read(path), "")
    shape = prior.image_shape
    if prior.is_grey and len(image_shape) == 3:
        prior = replace(prior, image_shape=(image_shape[0], shape[1], shape[2]))
    if prior.image_shape != image_shape:
        msg = f"The prior is for images of shape {shape}, the task's have the shape {image_shape}. {TRAIN}"
        raise BadInput(msg)
    return prior


def load_mask_prior(path: Path, shape: tuple[int, ...]) -> EigenPrior | None:
    """Read the prior on masks beside that on images; None where the file has none.

    Args:
        path: See `load_prior`.
        shape: (K - 1, H, W): structures without the background.

    Raises:
        BadInput: the file is missing, damaged or not a prior, or its masks have another shape.
    """
    arrays = _read(path)
    if f"{_MASKS}mean" not in arrays:
        return None
    prior = _prior(arrays, _MASKS)
    if prior.image_shape != shape:
        msg = f"The prior is for masks of shape {prior.image_shape}, the task's have the shape {shape}. {TRAIN}"
        raise BadInput(msg)
    return prior


def _flat(images: Tensor, *, grey: bool) -> Tensor:
    return (images.mean(dim=1) if grey else images).flatten(1)


def _gram(rows: Tensor) -> Tensor:
    """Rows (n, m) -> their inner products (n, n) in float64, summed in blocks so that no float64 copy is made."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for block in torch.split(rows, _BLOCK, dim=1):
        total.addmm_(block.double(), block.double().T)
    return total


def _require_rank(values: Tensor, components: int) -> None:
    rank = int((values > _SMALLEST * values[0]).sum())
    if rank < components:
        msg = (
            f"The films differ in {rank} directions only, fewer than components = {components}: some are copies or "
            "sums of others. Lower components, or give more public films."
        )
        raise DataProblem(msg)


def _arrays(prior: EigenPrior, prefix: str) -> dict[str, NDArray[Any]]:
    values = {name: getattr(prior, name).float().numpy(force=True) for name in ("mean", "components", "std")}
    values["residual"] = np.array(prior.residual, dtype=np.float64)
    values["image_shape"] = np.array(prior.image_shape, dtype=np.int64)
    return {prefix + name: value for name, value in values.items()}


def _prior(arrays: Mapping[str, NDArray[Any]], prefix: str) -> EigenPrior:
    mean, components, std = (torch.from_numpy(arrays[prefix + name]) for name in ("mean", "components", "std"))
    channels, height, width = (int(side) for side in arrays[prefix + "image_shape"])
    residual, shape = float(arrays[prefix + "residual"]), (channels, height, width)
    return EigenPrior(mean=mean, components=components, std=std, residual=residual, image_shape=shape)


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    return read_arrays(path, FORMAT, "prior", TRAIN, _is_consistent, BadInput)


def _is_consistent(arrays: Mapping[str, NDArray[Any]]) -> bool:
    prefixes = ["", *([_MASKS] if f"{_MASKS}mean" in arrays else [])]
    return {"key", "patients"} <= set(arrays) and all(_is_prior(arrays, prefix) for prefix in prefixes)


def _is_prior(arrays: Mapping[str, NDArray[Any]], prefix: str) -> bool:
    names = ("mean", "components", "std", "image_shape", "residual")
    mean, components, std, shape, residual = (arrays[prefix + name] for name in names)
    numbers = (mean, components, std, residual)
    return bool(
        all(array.dtype == np.float32 for array in numbers[:3])
        and all(np.isfinite(array).all() for array in numbers)
        and components.shape == (len(std), len(mean))
        and shape.shape == (3,)
        and len(mean) in (shape[1] * shape[2], shape.prod())
        and (std > 0).all()
    )
