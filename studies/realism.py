"""Climb the ladder of realism: python studies/realism.py RUNS [--rung NAME] [--workers N].

Each rung is studies/realism.toml with the changes of this file, on top of those of the rungs below; its run is in
RUNS/NAME. What is done stays, so that a ladder which was killed goes on where it was. `gradiograph run` runs one rung
by hand: --command prints how.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from gradiograph import audit
from gradiograph.log import Log
from train_network import main as train_network

FILE = Path(__file__).with_suffix(".toml")
PRETRAINED = Path("runs/networks/nih-small-cnn.pt")
PRETRAINING = (
    'data={ use = "folder", path = "../../shared/data/cxr_nih", index = "../../shared/data/cxr_nih/index.csv", '
    'patient_column = "patient_id", split_column = "patient_split", image_size = 64, channels = 1 }',
    'task=[{ use = "small_cnn", norm = "batch" }]',
)
EPOCH = "local_epochs = 1, batch_size = 8"
AUGMENTED = 'augmentation = ["flip", "shift", "rotate"]'


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: Of its run's folder.
        title: What it changes, in the chart.
        changes: `--set` of `gradiograph run`, on top of those of the rungs before; the last of a key counts.
    """

    name: str
    title: str
    changes: tuple[str, ...] = ()


def kept(trainable: str) -> str:
    """A network trained elsewhere, its BatchNorm's statistics kept, of which only a part trains."""
    weights = f'weights = "../{PRETRAINED.as_posix()}"'
    return f'task=[{{ use = "small_cnn", norm = "batch", mode = "eval", trainable = {trainable}, {weights} }}]'


RUNGS = (
    Rung("textbook", "FedSGD, one film", ("victims.batches=8",)),
    Rung("batch", "a batch of 4", ("victims.size=4", "victims.batches=4")),
    Rung(
        "fedavg",
        "FedAvg, 5 steps",
        (
            'protocol=[{ use = "fedavg", local_steps = 5, batch_size = 4, learning_rate = 0.01 }]',
            'utility.server={ use = "sgd" }',
        ),
    ),
    Rung("cnn", "a network with pooled features", ('task=[{ use = "small_cnn" }]',)),
    Rung(
        "epoch",
        "an epoch over 64 films, augmented",
        (
            f'protocol=[{{ use = "fedavg", {EPOCH}, learning_rate = 0.03, {AUGMENTED} }}]',
            "victims.size=64",
            "victims.batches=3",
        ),
    ),
    Rung(
        "adamw",
        "AdamW",
        (
            f'protocol=[{{ use = "fedavg", {EPOCH}, learning_rate = 1e-3, optimiser = "adamw", {AUGMENTED} }}]',
            "attacks.0.steps=5",  # DLG is the dearest, and identifies none on the rungs below
        ),
    ),
    Rung("batchnorm", "BatchNorm in train mode", ('task=[{ use = "small_cnn", norm = "batch" }]',)),
    Rung("late", "round 20", ("utility.attack_rounds=[20]",)),
    Rung("head", "head only, pretrained elsewhere", ("utility.attack_rounds=[1]", kept('"head"'))),
    Rung("lora", "LoRA, pretrained elsewhere", (kept("{ lora = 4 }"),)),
    Rung(
        "aggregate",
        "secure aggregation of 4 clients",
        (
            'task=[{ use = "small_cnn", norm = "batch" }]',
            'threat.observer="aggregate"',
            "threat.clients=4",
            "victims.size=16",
        ),
    ),
)


def overrides(name: str) -> list[str]:
    """What `--set` says for a rung: its own changes and those of the rungs below."""
    values: dict[str, str] = {}
    for rung in RUNGS:
        values |= {key: value for key, _, value in (change.partition("=") for change in rung.changes)}
        if rung.name == name:
            return [f"{key}={value}" for key, value in values.items()]
    msg = f"No rung '{name}'; there are {', '.join(rung.name for rung in RUNGS)}."
    raise SystemExit(msg)


def climb(name: str, folder: Path, workers: int) -> None:
    """Run a rung, or what is left of it."""
    out = folder / name
    if (out / "audit.json").exists() and Log.open(out).header["status"] == "complete":
        return
    spec = audit.load_spec(FILE, overrides(name))
    audit.run(spec, FILE.parent, out, resume=out.exists(), workers=workers, command=command(name))


def command(name: str) -> str:
    """The command line that runs this rung alone."""
    changes = " ".join(f"--set '{change}'" for change in overrides(name))
    return f"gradiograph run studies/realism.toml {changes}".strip()


def main() -> None:
    """Run all rungs, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rung", action="append", choices=[rung.name for rung in RUNGS])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--command", action="store_true", help="print the command line of each rung; run nothing")
    options = parser.parse_args()
    names = options.rung or [rung.name for rung in RUNGS]
    if options.command:
        sys.stdout.writelines(f"{command(name)}\n" for name in names)
        return
    if not PRETRAINED.exists():
        train_network(FILE, PRETRAINED, 20, *PRETRAINING)
    for name in names:
        print(f"rung {name}", flush=True)
        climb(name, options.folder, options.workers)


if __name__ == "__main__":
    main()
