"""Seconds until an attack has found the films as well as the plain search does.

The plain search (`plain_rog.py`) is watched after every step, outside its clock. The best PSNR that any of its steps
reaches is its quality. It stands twice: with the seconds of its whole run, and with those to the first step within
`CLOSE` of its best, a moment that an attacker cannot know. An attack of ours reports images at its end only. So it is
run whole, with few steps first and then with more, a rung of its ladder after the other, and counts with the seconds of
the first whole run that comes as close, from the call to the images, all set-up and the reading of the prior included.
The rungs before that are not counted: they stand for choosing the number of steps beforehand. Nor is the fitting of the
prior, done once for any number of updates, to films of patients who are not attacked; its seconds are reported apart.

PSNR is the mean over the batch's films, after the best one-to-one matching, for all contestants. The mean public film
stands beside them: what needs no update at all. Where the plain search stays below it, equal quality is no leak.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from cases import BATCH, PLAIN, SEED, Case, Round, clock, phantom
from gradiograph.attacks.eigen import fit_eigen, load_prior, save_prior
from gradiograph.core import registry
from gradiograph.core.random import stream
from gradiograph.metrics.matching import match

if TYPE_CHECKING:
    from torch import Tensor

CLOSE = 0.1
"""dB."""
COMPONENTS = 128
LADDERS: Mapping[str, tuple[Mapping[str, Any], tuple[int, ...]]] = {
    "unmixing": ({"use": "unmixing"}, (2, 5, 10, 20, 50, 100, 200)),
    "map": ({"use": "map"}, (20, 40, 100, 300)),
    "map, prior": ({"use": "map"}, (2, 5, 10, 20, 40, 100, 300)),
    "rog": ({"use": "rog"}, (25, 50, 100)),
}
"""The attacks, and the numbers of steps that are tried; "prior" in the name: with the public films' components."""


@dataclass(frozen=True)
class Run:
    """A contestant's run that counts.

    Attributes:
        steps: Of the search.
        psnr: dB, mean over the films.
        seconds: Until it was reached.
        as_good: Whether it is as good as the plain search, to `CLOSE`; if not, this is the best run of the ladder.
    """

    steps: int
    psnr: float
    seconds: float
    as_good: bool


@dataclass(frozen=True)
class Quality:
    """The second table of a case.

    Attributes:
        plain: The plain search: its best PSNR, and the first step close to it.
        whole: The plain search after its last step.
        mean_film: PSNR of the mean public film, dB.
        runs: Ours, by name.
        fitting: Seconds of reading the public films and fitting the prior, in no run's seconds.
    """

    plain: Run
    whole: Run
    mean_film: float
    runs: Mapping[str, Run]
    fitting: float


def compare(
    a_round: Round,
    plain_steps: int,
    public_patients: int,
    ladders: Mapping[str, tuple[Mapping[str, Any], tuple[int, ...]]] = LADDERS,
) -> Quality:
    """Run the plain search once and every ladder until it is as good.

    Args:
        a_round: What is attacked.
        plain_steps: Of the plain search.
        public_patients: To whose films the prior is fitted; below 2 * `COMPONENTS` it has half as many components.
        ladders: Our contestants; see `LADDERS`.
    """
    plain, whole = plain_run(a_round, plain_steps)
    told(PLAIN, plain)
    with fitted_prior(a_round.films.shape[-1], public_patients) as (path, fitting):
        mean = load_prior(path, tuple(a_round.films.shape[1:])).mean.view(a_round.films[0, 0].shape).to(a_round.films)
        runs = {}
        for name, (settings, rungs) in ladders.items():
            prior = {"prior": str(path)} if name.endswith("prior") else {}
            climb = (attack_run(a_round, {**settings, **prior}, steps, plain.psnr - CLOSE) for steps in rungs)
            runs[name] = first_as_good(told(name, run) for run in climb)
    return Quality(plain, whole, psnr(mean.expand_as(a_round.films), a_round.films), runs, fitting)


def plain_run(a_round: Round, steps: int) -> tuple[Run, Run]:
    """The plain search until it is close to its best, and the whole of it."""
    found: list[float] = []
    result = a_round.plain(steps=steps, watch=lambda images: found.append(psnr(images, a_round.films)))
    best, seconds = max(found), list(accumulate(result.seconds))
    place = next(place for place, value in enumerate(found) if value >= best - CLOSE)
    whole = Run(len(found), found[-1], seconds[-1], as_good=found[-1] >= best - CLOSE)
    return Run(place + 1, best, seconds[place], as_good=True), whole


def attack_run(a_round: Round, settings: Mapping[str, Any], steps: int, target: float) -> Run:
    """One whole run of an attack, and whether it reaches this PSNR."""
    started = clock()
    attack = registry.build("attack", {**settings, "steps": steps})
    result = attack(a_round.observation, stream(SEED, "attack"), lambda _: None)
    seconds = clock() - started
    found = psnr(result.images, a_round.films)
    return Run(steps, found, seconds, as_good=found >= target)


def told(name: str, run: Run) -> Run:
    """The run, after a line about it: rungs take minutes."""
    print(f"{name}, {run.steps} steps: {run.psnr:.2f} dB, {run.seconds:.2f} s", file=sys.stderr, flush=True)
    return run


def first_as_good(climb: Iterator[Run]) -> Run:
    """The first run that is as good, and no run after it; where there is none, the best."""
    tried = []
    for run in climb:
        if run.as_good:
            return run
        tried.append(run)
    return max(tried, key=lambda run: run.psnr)


def psnr(images: Tensor, films: Tensor) -> float:
    """Mean over the films of the PSNR in dB, matched and clamped to [0, 1]."""
    images = images.detach().to(films).clamp(0, 1)
    errors = (images[match(images, films)] - films).square().flatten(1).mean(dim=1)
    return float(-10 * errors.clamp_min(1e-10).log10().mean())


@contextmanager
def fitted_prior(size: int, patients: int) -> Iterator[tuple[Path, float]]:
    """A file with the principal components of these public patients' films, and the seconds that fitting it took."""
    started = clock()
    data = phantom(size)
    public = data.select(split="train")[:patients]
    films = torch.from_numpy(data.read([record.index for record in public]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prior.npz"
        components = min(COMPONENTS, len(public) // 2, size**2)
        save_prior(fit_eigen(films, components), path, [record.patient for record in public])
        yield path, clock() - started


def print_quality(case: Case, size: int, quality: Quality) -> None:
    """Print the second table of a case."""
    plain, whole = quality.plain, quality.whole
    print(f"\n{case.task}, FedAvg of {case.local_steps} steps, batch {BATCH}, 3 x {size} x {size}: equal quality")
    print(f"{'attack':<24}{'steps':>7}{'PSNR, dB':>10}{'seconds':>10}{'whole / ours':>14}{'best / ours':>14}")
    for name, run in {f"{PLAIN}, whole": whole, f"{PLAIN}, best moment": plain, **quality.runs}.items():
        ratios = f"{whole.seconds / run.seconds:>14.1f}{plain.seconds / run.seconds:>14.1f}"
        worse = "" if run.as_good else "  not as good"
        print(f"{name:<24}{run.steps:>7}{run.psnr:>10.2f}{run.seconds:>10.2f}{ratios}{worse}")
    print(f"The mean public film, without any update: {quality.mean_film:.2f} dB.")
    print(f"The prior: fitted once to public films in {quality.fitting:.1f} s, which no row counts.", flush=True)
