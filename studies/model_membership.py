"""Does the finished model tell who it was trained on? python studies/model_membership.py FILE OUT.csv [MODELS].

Each of MODELS federations (default 16) trains the task of FILE by its protocol and `utility` on a random half of all
patients of the audit's data, spread over its sites; the other half took no part. Each in turn is the target, the others
are the attacker's shadow models. Three attacks ask each film whether its patient took part: the loss (Yeom et al.
2018), the loss against its mean over shadow models without the film (offline), and LiRA, the likelihood ratio of
normal densities with one variance for all films (Carlini et al. 2022). A row for each defence, target and attack: the
area under the curve, and the share of members told at 1 % and at 0.1 % of false alarms, the latter only with 3,000
strangers. Rows that are there are kept.
"""

from __future__ import annotations

import csv
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from gradiograph.audit import Plan, load_spec, plan
from gradiograph.audit.catalogue import stack_label
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.federation import Federation, Rounds, Site, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

FIELDS = ("defence", "target", "attack", "members", "strangers", "auc", "told_1", "told_01")
ENOUGH = 3000
"""Strangers from which on a false alarm in a thousand is measured and not guessed."""
BLOCK = 256


def main(file: Path, out: Path, models: int = 16) -> None:
    """Train and ask, for each stack of defences of the file."""
    spec = load_spec(file)
    made = plan(spec, file.parent)
    dataset = made.films.dataset
    images, labels = (
        torch.from_numpy(dataset.read(range(len(dataset.records)))),
        torch.tensor([record.label for record in dataset.records]),
    )
    patients = np.array([record.patient for record in dataset.records])
    for defence in spec.defences:
        label = stack_label(defence)
        if label in _done(out):
            continue
        halves = [_half(patients, spec.seeds[0], number) for number in range(models)]
        margins = np.stack(
            [_margins(made, defence, images, labels, patients, half, number) for number, half in enumerate(halves)]
        )
        _write(out, [row for target in range(models) for row in _asked(label, target, margins, np.stack(halves))])


def _half(patients: NDArray[np.str_], seed: int, number: int) -> NDArray[np.bool_]:
    """Which films are of the half of the patients that trains."""
    everyone = np.unique(patients)
    order = torch.randperm(len(everyone), generator=stream(seed, "members", number)).numpy()
    return np.isin(patients, everyone[order[: len(everyone) // 2]])


def _margins(
    made: Plan,
    defence: list[dict[str, object]],
    images: torch.Tensor,
    labels: torch.Tensor,
    patients: NDArray[np.str_],
    half: NDArray[np.bool_],
    number: int,
) -> NDArray[np.float64]:
    """Of a model trained on the films of `half`: log p / (1 - p) of each film's own class, over all films."""
    spec, utility = made.spec, made.utility
    protocol = spec.protocol[0]
    task = made.task(spec.task[0], number)
    members = np.unique(patients[half])
    order = torch.randperm(len(members), generator=stream(spec.seeds[0], "sites", number)).numpy()
    sites = []
    for share in np.array_split(members[order], utility.sites):
        films = np.flatnonzero(np.isin(patients, share))
        sites.append(Site(num_examples=len(films), read=_reader(images[films], labels[films], patients[films])))
    federation = Federation(
        task=task,
        sites=tuple(sites),
        protocol=made.builder.make("protocol", protocol),
        defence=made.chain(protocol, defence),
        server=made.builder.make("server", utility.server),
        rounds=Rounds(rounds=utility.rounds),
        seed=number,
    )
    state = train(federation).state
    with torch.no_grad():
        outputs = torch.cat([task.forward(dict(state), block) for block in images.split(BLOCK)])
    chances = outputs.log_softmax(dim=1).double()
    own = chances.gather(1, labels[:, None])[:, 0]
    others = chances.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)
    return (own - others).numpy()


def _reader(images: torch.Tensor, labels: torch.Tensor, patients: NDArray[np.str_]) -> Callable[[], Batch]:
    numbers = torch.from_numpy(np.unique(patients, return_inverse=True)[1])
    return lambda: Batch(images, labels, numbers)


def _asked(label: str, target: int, margins: NDArray[np.float64], halves: NDArray[np.bool_]) -> Iterator[list[object]]:
    """The three attacks on one of the models, the others as shadows."""
    member = halves[target]
    shadows = np.delete(margins, target, axis=0)
    had = np.delete(halves, target, axis=0)
    inside = np.where(had, shadows, np.nan)
    outside = np.where(had, np.nan, shadows)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a film that no shadow had, or all
        seen, unseen = np.nanmean(inside, axis=0), np.nanmean(outside, axis=0)
    spread = (np.nanstd(inside - seen), np.nanstd(outside - unseen))
    own = margins[target]
    densities = [
        -(((own - mean) / std) ** 2) / 2 - np.log(std) for mean, std in zip((seen, unseen), spread, strict=True)
    ]
    scores = {"loss": own, "offline": own - unseen, "lira": densities[0] - densities[1]}
    known = np.isfinite(seen) & np.isfinite(unseen)  # with few models a film may be in none or in all of them
    for name, score in scores.items():
        members, strangers = score[known & member], score[known & ~member]
        told = [float((members > np.quantile(strangers, 1 - rate)).mean()) for rate in (0.01, 0.001)]
        auc = roc_auc_score(member[known], score[known])
        rare = f"{told[1]:.4f}" if len(strangers) >= ENOUGH else ""
        yield [label, target, name, len(members), len(strangers), f"{auc:.4f}", f"{told[0]:.4f}", rare]


def _done(out: Path) -> set[str]:
    if not out.exists():
        return set()
    with out.open(newline="") as sheet:
        return {row["defence"] for row in csv.DictReader(sheet)}


def _write(out: Path, rows: list[list[object]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    new = not out.exists()
    with out.open("a", newline="") as sheet:
        writer = csv.writer(sheet, lineterminator="\n")
        if new:
            writer.writerow(FIELDS)
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
