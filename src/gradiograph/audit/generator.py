"""A generator of films from an audit's public ones, with its quality on patients that it was not trained on."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.eigen import fit_eigen
from gradiograph.attacks.generator import Generated, begin, pack_generator
from gradiograph.attacks.generator_training import bound, calibrate, fit_generator
from gradiograph.audit.films import planar_shape
from gradiograph.audit.prior import held_out, open_public_films, require_new, share_nearer
from gradiograph.audit.unfinished import Unfinished
from gradiograph.core.random import stream
from gradiograph.log.atomic import write_file
from gradiograph.metrics.psnr import decibels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from gradiograph.attacks.generator import VariationalAutoencoder
    from gradiograph.audit.spec import Spec

SAMPLES = 256
"""Latents that are drawn to see whether it knows films by heart."""


@dataclass(frozen=True, kw_only=True)
class GeneratorQuality:
    """What a generator was trained on, and how good it is on films of patients that it was not trained on.

    Attributes:
        films: Public films that it was trained on.
        patients: Their patients.
        components: Size of the latent.
        steps: Of its training.
        seed: Of its training.
        seconds: Of the training, since it was last resumed.
        held_out_films: Films of other public patients, which the rest is measured on.
        shown_psnr: Mean PSNR of these films as the generator shows them, in dB.
        components_psnr: The same as the principal components show them that it began as.
        bound: Evidence lower bound of these films, nats per pixel, at the posterior's mean.
        components_bound: The same of the principal components.
        sampled_near_trained: Share of films drawn from it whose nearest film, among the held-out ones and as many that
            it was trained on, is one that it was trained on; 0.5 where it knows none by heart.
    """

    films: int
    patients: int
    components: int
    steps: int
    seed: int
    seconds: float
    held_out_films: int
    shown_psnr: float
    components_psnr: float
    bound: float
    components_bound: float
    sampled_near_trained: float


def train_generator(
    spec: Spec,
    folder: Path,
    path: Path,
    components: int,
    steps: int,
    progress: Callable[[float], None] = lambda _: None,
) -> GeneratorQuality:
    """Train a generator on nine tenths of the public patients, measure it on the rest, and write it.

    A training that was cut off goes on where it was: its checkpoint lies beside the file, under its name and ".part".

    Args:
        spec: The audit; its attacks are not looked at.
        folder: What relative paths in it are relative to.
        path: The file to write, new.
        components: Size of the latent.
        steps: Of the training.
        progress: Told the share that is done.

    Raises:
        BadInput: the films cannot be opened, are too few for these components, a public patient is a victim or in the
            gallery, the file exists, or a checkpoint of other settings lies beside it.
    """
    require_new(path, "generator")
    films = open_public_films(spec, folder)
    pixels, seed = torch.from_numpy(films.public.read()), spec.seeds[0]
    patients = [record.patient for record in films.public.records]
    out = held_out(patients, seed)
    unfinished = Unfinished.of(path, "generator", seed, components, steps, tuple(pixels.shape))
    prior, started = fit_eigen(pixels[~out], components), perf_counter()
    generator, checkpoint = stream(seed, "generator"), unfinished.read()
    network = fit_generator(pixels[~out], prior, steps, generator, checkpoint, unfinished.save, progress)
    seconds = perf_counter() - started
    trained = sorted({patient for patient, is_out in zip(patients, out.tolist(), strict=True) if not is_out})
    planes = pixels[:, :1] if network.shape[0] == 1 else pixels
    others = planes[out]
    network, plain = calibrate(network, others), calibrate(begin(prior), others)
    quality = GeneratorQuality(
        films=int((~out).sum()),
        patients=len(trained),
        components=components,
        steps=steps,
        seed=seed,
        seconds=seconds,
        held_out_films=len(others),
        shown_psnr=_shown(network, others),
        components_psnr=_shown(plain, others),
        bound=bound(network, others),
        components_bound=bound(plain, others),
        sampled_near_trained=_near_trained(network, planes[~out], others, generator),
    )
    content = pack_generator(network, planar_shape(films.dataset), asdict(quality), trained, secrets.token_bytes(32))
    write_file(path, content)
    unfinished.remove()
    return quality


def _shown(network: VariationalAutoencoder, films: Tensor) -> float:
    encoded = Generated(network=network)
    with torch.no_grad():
        return float(decibels(encoded.images(encoded.encode(films), tuple(films.shape[1:])), films).mean())


def _near_trained(
    network: VariationalAutoencoder, trained: Tensor, others: Tensor, generator: torch.Generator
) -> float:
    equal = trained[torch.randperm(len(trained), generator=generator)[: len(others)]]
    with torch.no_grad():
        drawn = network.decode(torch.randn(SAMPLES, len(network.std), generator=generator))
    return share_nearer(drawn, equal, others)
