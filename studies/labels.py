"""How many films of each class, and which is which: python studies/labels.py FILE OUT.csv [WEIGHTS].

Batches of 4, 8 and 16 films of test patients whose number of each class is drawn evenly, so that guessing it is right
once in B + 1 times. The count by `infer_labels` (bias method and LLG), its offset measured on noise and on 64 public
films, on fresh networks and, where WEIGHTS are given, on a trained one; the assignment by `unmixing`, whose films are
matched to the truth before their labels are compared. Always guessing the class of the more films is its control.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.attacks import infer_labels
from gradiograph.audit import Plan, load_spec, plan
from gradiograph.audit.client import client_rounds, observe
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.metrics import match

if TYPE_CHECKING:
    from gradiograph.core.attack import Attack, Observation

SIZES = (4, 8, 16)
BATCHES = 32
ATTACKED = 2
KEYS = ("network", "protocol", "films", "batch")
FIELDS = (*KEYS, "true_count", "count", "count_public", "assigned", "majority")
PUBLIC = 32
"""Public films of each class on which the count is measured in place of noise."""


def main(file: Path, out: Path, weights: Path | None = None) -> None:
    """Write a row for each batch; rows that are there already are kept."""
    spec = load_spec(file, ())
    made = plan(spec, file.parent)
    attack = made.builder.make("attack", spec.attacks[0])
    networks = {"fresh": spec.task[0], **({"trained": {**spec.task[0], "weights": str(weights)}} if weights else {})}
    public, done = _public(made), _done(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", newline="") as sheet:
        writer = csv.DictWriter(sheet, FIELDS)
        if not done:
            writer.writeheader()
        for network, protocol, size, batch in product(networks, spec.protocol, SIZES, range(BATCHES)):
            key = (network, str(protocol["use"]), str(size), str(batch))
            if key not in done:
                values = _row(made, networks[network], protocol, attack, public, size, batch)
                writer.writerow(dict(zip(FIELDS, (*key, *values), strict=True)))
                sheet.flush()


def _done(out: Path) -> set[tuple[str, ...]]:
    if not out.exists():
        return set()
    with out.open(newline="") as sheet:
        return {tuple(row[field] for field in KEYS) for row in csv.DictReader(sheet)}


def _row(
    made: Plan,
    config: dict[str, Any],
    protocol_config: dict[str, Any],
    attack: Attack,
    public: Batch,
    size: int,
    batch: int,
) -> tuple[object, ...]:
    seed = made.spec.seeds[0] + batch
    private = _films(made, size, seed)
    positive = int(private.targets.sum())
    protocol, open_channel = made.builder.make("protocol", protocol_config), made.builder.chain([])
    task = made.task(config, seed)
    (seen,) = client_rounds(task, task.state(), private, protocol, open_channel, seed, "labels")
    observation = observe(task, *seen, protocol, open_channel, made.spec.threat, None, public=public)
    blind = replace(observation, public=None)
    counts = [int(infer_labels(on, stream(seed, "count")).sum()) for on in (blind, observation)]
    assigned = _assigned(attack, observation, private, seed) if batch < ATTACKED else ""
    return positive, *counts, assigned, f"{max(positive, size - positive) / size:.4f}"


def _films(made: Plan, size: int, seed: int) -> Batch:
    """Films of the gallery, of which any number is of the last class."""
    films, generator = made.films.gallery, stream(seed, "labels", size)
    classes = torch.from_numpy(films.labels)
    positive = int(torch.randint(size + 1, (1,), generator=generator))
    chosen = []
    for label, count in ((0, size - positive), (1, positive)):
        of_class = (classes == label).nonzero().flatten()
        chosen.append(of_class[torch.randperm(len(of_class), generator=generator)[:count]])
    records = tuple(films.records[place] for place in torch.cat(chosen).tolist())
    batch = type(films)(dataset=films.dataset, records=records)
    return Batch(torch.from_numpy(batch.read()), torch.from_numpy(batch.labels))


def _public(made: Plan) -> Batch:
    """The first public films of each class."""
    films = made.films.public
    places = [place for label in (0, 1) for place in (films.labels == label).nonzero()[0][:PUBLIC]]
    part = type(films)(dataset=films.dataset, records=tuple(films.records[place] for place in places))
    return Batch(torch.from_numpy(part.read()), torch.from_numpy(part.labels))


def _assigned(attack: Attack, observation: Observation, private: Batch, seed: int) -> str:
    """The share of films that the attack gives their own label."""
    found = attack(observation, stream(seed, "attack"), lambda _: None)
    if found.targets is None:
        return "none"
    labels = found.targets[match(found.images, private.images)]
    return f"{float((labels == private.targets).double().mean()):.4f}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
