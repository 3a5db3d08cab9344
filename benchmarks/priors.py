"""What each learned prior costs: seconds and memory of its training, and of a search of `map` that uses it.

Run: python benchmarks/priors.py [--size 128] [--steps 1500]. One thread, phantom films, each measurement in a process
of its own. The search is `map` as it is, on a film alone behind a fresh `lenet`, 5 local steps.
"""

import argparse
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import torch

from cases import CASES, SEED, observed
from gradiograph import audit
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.audit import Spec
from gradiograph.core.random import stream
from gradiograph.testing import load_rooms

COMPONENTS = 256
USES = {"no prior": None, "eigen": "prior", "generator": "generator", "restorer": "denoiser"}
"""The setting of `map` that takes each kind of prior."""


def spec_of(size: int, patients: int) -> Spec:
    """An audit whose public films the priors are trained on."""
    content = {
        "name": "bench",
        "purpose": "bench",
        "authorised_by": "nobody: the phantom has no patients",
        "seeds": [SEED],
        "data": {"use": "phantom", "image_size": size, "channels": 3, "patients": patients},
        "victims": {"batches": 2, "size": 1},
        "task": {"use": "lenet"},
        "protocol": {"use": "fedsgd"},
        "attacks": [{"use": "rog"}],
    }
    return audit.parse_spec(content)


def train(kind: str, path: Path, size: int, patients: int, steps: int) -> None:
    """Train a prior of this kind with its usual settings."""
    spec = spec_of(size, patients)
    if kind == "eigen":
        audit.train_prior(spec, path.parent, path, COMPONENTS)
    elif kind == "generator":
        audit.train_generator(spec, path.parent, path, COMPONENTS, steps, ignore)
    elif kind == "restorer":
        audit.train_restorer(spec, path.parent, path, steps, 0, ignore)


def search(kind: str, path: Path, size: int) -> None:
    """One search of one film with the prior of this kind."""
    lenet = CASES[0]
    seen = observed(lenet, size, batch=1).observation
    setting = USES[kind]
    attack = MaximumAPosteriori() if setting is None else replace(MaximumAPosteriori(), **{setting: path})
    attack(seen, stream(SEED, "attack"), ignore)


def ignore(_: float) -> None:
    """No progress is shown."""


def cost(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of one thread, and the largest memory of the process in MiB."""
    torch.set_num_threads(1)
    load_rooms()
    started = process_time()
    work()
    return process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(work: Callable[[], None]) -> tuple[float, float]:
    """`cost`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(cost, work).result()


def main() -> None:
    """Print a line for each kind of prior."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--patients", type=int, default=700, help="of the phantom; a part of them is public")
    parser.add_argument("--steps", type=int, default=1500, help="of the trainings that have steps")
    options = parser.parse_args()
    print(f"3 x {options.size} x {options.size}, {options.steps} steps of training", flush=True)
    print("| prior | training | memory | a search | memory |\n|---|---|---|---|---|", flush=True)
    with TemporaryDirectory() as folder:
        for kind in USES:
            path, trained = Path(folder) / f"{kind}.npz", "| | "
            if kind != "no prior":
                work = partial(train, kind, path, options.size, options.patients, options.steps)
                trained = "| {:.0f} s | {:.0f} MiB ".format(*apart(work))
            used = "| {:.0f} s | {:.0f} MiB |".format(*apart(partial(search, kind, path, options.size)))
            print(f"| {kind} {trained}{used}", flush=True)


if __name__ == "__main__":
    main()
