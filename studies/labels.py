"""How many films of each class, and which is which: python studies/labels.py FILE OUT.csv [WEIGHTS].

Batches of 4, 8 and 16 films of test patients whose number of each class is drawn evenly, so that guessing it is right
once in B + 1 times. The count by `infer_labels` (bias method and LLG), on fresh networks and, where WEIGHTS are given,
on a trained one; the assignment by `unmixing`, whose films are matched to the truth before their labels are compared.
Always guessing the class of the more films is the control of the assignment.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch

from gradiograph.attacks import Unmixing, infer_labels
from gradiograph.audit import load_spec, plan
from gradiograph.audit.client import client_rounds, observe
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.metrics import match

SIZES = (4, 8, 16)
BATCHES = 32
ATTACKED = 4
FIELDS = ("network", "protocol", "films", "batch", "seed", "true_count", "count", "assigned", "majority")


def main(file: Path, out: Path, weights: Path | None = None) -> None:
    """Write a row for each batch; rows that are there already are kept."""
    spec = load_spec(file, ())
    made = plan(spec, file.parent)
    done = set()
    if out.exists():
        with out.open(newline="") as stream_in:
            done = {tuple(row[field] for field in FIELDS[:5]) for row in csv.DictReader(stream_in)}
    films = made.films.gallery
    pixels, classes = torch.from_numpy(films.read()), torch.from_numpy(films.labels)
    attack = made.builder.make("attack", spec.attacks[0])
    assert isinstance(attack, Unmixing)  # noqa: S101 - the study's own file
    networks = {"fresh": spec.task[0], **({"trained": {**spec.task[0], "weights": str(weights)}} if weights else {})}
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", newline="") as sheet:
        writer = csv.DictWriter(sheet, FIELDS)
        if not done:
            writer.writeheader()
        for network, config in networks.items():
            for protocol_config in spec.protocol:
                protocol = made.builder.make("protocol", protocol_config)
                for size in SIZES:
                    for batch in range(BATCHES):
                        seed = spec.seeds[0] + batch
                        key = (network, str(protocol_config["use"]), str(size), str(batch), str(seed))
                        if key in done:
                            continue
                        generator = stream(seed, "labels", size)
                        positive = int(torch.randint(size + 1, (1,), generator=generator))
                        chosen = torch.cat(
                            [
                                torch.randperm(int((classes == label).sum()), generator=generator)[:count]
                                + (int((classes == 0).sum()) if label else 0)
                                for label, count in ((0, size - positive), (1, positive))
                            ]
                        )
                        order = classes.argsort(stable=True)[chosen]
                        private = Batch(pixels[order], classes[order])
                        task = made.task(config, seed)
                        seen = client_rounds(
                            task, task.state(), private, protocol, made.builder.chain([]), seed, "labels"
                        )
                        observation = observe(task, *seen[0], protocol, made.builder.chain([]), spec.threat, None)
                        count = int(infer_labels(observation, stream(seed, "count")).sum())
                        assigned = ""
                        if batch < ATTACKED:
                            found = attack(observation, stream(seed, "attack"), lambda _: None)
                            if found.targets is not None:
                                labels = found.targets[match(found.images, private.images)]
                                assigned = f"{float((labels == private.targets).double().mean()):.4f}"
                        majority = max(positive, size - positive) / size
                        row = (*key, positive, count, assigned, f"{majority:.4f}")
                        writer.writerow(dict(zip(FIELDS, row, strict=True)))
                        sheet.flush()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
