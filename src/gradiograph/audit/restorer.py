"""A film network from an audit's public films, with its quality on patients that it was not trained on."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.film_network import FilmPrior, pack_film_prior
from gradiograph.attacks.film_training import Rehearsal, degrade, fit_film_network
from gradiograph.audit.client import client_rounds, observe
from gradiograph.audit.films import planar_shape
from gradiograph.audit.plan import Builder, build_attack
from gradiograph.audit.prior import held_out, open_public_films, require_new, share_nearer
from gradiograph.audit.unfinished import Unfinished
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.log.atomic import write_file
from gradiograph.metrics import match
from gradiograph.metrics.psnr import decibels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from gradiograph.attacks.network_training import Checkpoint
    from gradiograph.audit.films import AuditFilms
    from gradiograph.audit.spec import Spec

SAMPLES = 64
MOST_HELD_OUT = 64


@dataclass(frozen=True, kw_only=True)
class RestorerQuality:
    """What a film network was trained on, and how good it is on films of patients that it was not trained on.

    Attributes:
        films: Public films that it was trained on.
        patients: Their patients.
        steps: Of its training.
        seed: Of its training.
        rehearsed: Outputs of the audit's first attack among what it was trained on.
        seconds: Of the training, since it was last resumed; the rehearsal not counted.
        held_out_films: Films of other public patients, which the rest is measured on.
        degraded_psnr: Mean PSNR of these films, degraded, in dB.
        restored_psnr: The same when restored.
        mean_film_psnr: The same of the mean public film in their place.
        sampled_near_trained: Share of films that the network draws from noise whose nearest film, among the held-out
            ones and as many that it was trained on, is one that it was trained on; 0.5 where it knows none by heart.
    """

    films: int
    patients: int
    steps: int
    seed: int
    rehearsed: int
    seconds: float
    held_out_films: int
    degraded_psnr: float
    restored_psnr: float
    mean_film_psnr: float
    sampled_near_trained: float


def train_restorer(
    spec: Spec,
    folder: Path,
    path: Path,
    steps: int,
    rehearse: int,
    progress: Callable[[float], None] = lambda _: None,
) -> RestorerQuality:
    """Train a film network on nine tenths of the public patients, measure it on the rest, and write it.

    A training that was cut off goes on where it was: its checkpoint lies beside the file, under its name and ".part".

    Args:
        spec: The audit. With a rehearsal, its first attack, task and protocol, and every defence, are those that are
            rehearsed.
        folder: What relative paths in it are relative to.
        path: The file to write, new.
        steps: Of the training.
        rehearse: Batches of public films that the audit's first attack reconstructs, under each defence in turn.
        progress: Told the share that is done, of the training.

    Raises:
        BadInput: the films cannot be opened, a public patient is a victim or in the gallery, the file exists, or a
            checkpoint of other settings lies beside it.
    """
    require_new(path, "restorer")
    films = open_public_films(spec, folder)
    pixels = torch.from_numpy(films.public.read())
    patients = [record.patient for record in films.public.records]
    out = held_out(patients, spec.seeds[0])
    generator = stream(spec.seeds[0], "restorer")
    asked = (spec.seeds[0], steps, rehearse, tuple(pixels.shape), spec.attacks[0], spec.defences)
    unfinished = Unfinished.of(path, "restorer", *asked)
    checkpoint = unfinished.read()
    rehearsal = None
    if rehearse:
        kept = checkpoint["rehearsal"] if checkpoint else None
        rehearsal = Rehearsal(**kept) if kept else rehearsed(spec, folder, films, out, rehearse)
    started = perf_counter()

    def save(state: Checkpoint) -> None:
        kept = None if rehearsal is None else {"outputs": rehearsal.outputs, "films": rehearsal.films}
        unfinished.save({**state, "rehearsal": kept})

    network = fit_film_network(pixels[~out], rehearsal, steps, generator, checkpoint, save, progress)
    seconds = perf_counter() - started
    bare = FilmPrior(network=network, image_shape=planar_shape(films.dataset), card={})
    trained = [patient for patient, is_out in zip(patients, out.tolist(), strict=True) if not is_out]
    others = pixels[out][torch.randperm(int(out.sum()), generator=generator)[:MOST_HELD_OUT]]
    degraded, restored, mean_film, near = _measured(bare, pixels[~out], others, generator)
    quality = RestorerQuality(
        films=len(trained),
        patients=len(set(trained)),
        steps=steps,
        seed=spec.seeds[0],
        rehearsed=0 if rehearsal is None else len(rehearsal.films),
        seconds=seconds,
        held_out_films=len(others),
        degraded_psnr=degraded,
        restored_psnr=restored,
        mean_film_psnr=mean_film,
        sampled_near_trained=near,
    )
    prior = FilmPrior(network=network, image_shape=bare.image_shape, card=asdict(quality))
    write_file(path, pack_film_prior(prior, trained, secrets.token_bytes(32)))
    unfinished.remove()
    return quality


def rehearsed(spec: Spec, folder: Path, films: AuditFilms, out: Tensor, batches: int) -> Rehearsal:
    """What the audit's first attack returns for public films, whose updates the attacker makes itself.

    Batches are drawn from the films that are trained on; the defences take turns, with a fresh network each time.
    """
    builder, size = Builder(folder=folder), spec.victims.size
    attack = build_attack(builder, spec.attacks[0])
    protocol = builder.make("protocol", spec.protocol[0])
    places = (~out).nonzero().flatten()
    order = places[torch.randperm(len(places), generator=stream(spec.seeds[0], "rehearsal"))]
    batches = min(batches, len(order) // size)
    outputs, truth = [], []
    for batch in range(batches):
        seed = spec.seeds[0] + 1 + batch
        task = builder.make("task", spec.task[0], planar_shape(films.dataset), seed)
        defence = builder.chain(spec.defences[batch % len(spec.defences)])
        chosen = [films.public.records[place] for place in order[batch * size : (batch + 1) * size].tolist()]
        selection = type(films.public)(dataset=films.public.dataset, records=tuple(chosen))
        private = Batch(torch.from_numpy(selection.read()), torch.from_numpy(selection.labels))
        sent, state = attack.plant(task, task.state())
        (seen, *_) = client_rounds(sent, state, private, protocol, defence, seed, "rehearsal")
        known = films.public_examples
        observation = observe(sent, *seen, protocol, defence, spec.threat, private.targets, public=known)
        found = attack(observation, stream(seed, "rehearsal", "attack"), lambda _: None)
        outputs.append(found.images[match(found.images, private.images)])
        truth.append(private.images)
    return Rehearsal(torch.cat(outputs), torch.cat(truth))


def _measured(
    prior: FilmPrior, trained: Tensor, others: Tensor, generator: torch.Generator
) -> tuple[float, float, float, float]:
    seen = degrade(others, others.roll(1, dims=0), generator)
    equal = trained[torch.randperm(len(trained), generator=generator)[: len(others)]]
    near = share_nearer(prior.sample(SAMPLES, generator), equal, others)
    mean = trained.mean(dim=0, keepdim=True).expand_as(others)
    quality = [float(decibels(images, others).mean()) for images in (seen, prior.restore(seen), mean)]
    return quality[0], quality[1], quality[2], near
