"""Seconds that a step of each attack takes, beside ROG's search written out plainly (`plain_rog.py`).

All contestants run in one process, with the same type and threads, on the same weights and update; they take turns, so
that a busy minute hits them all. Run on an idle machine: `python benchmarks/bench.py`, or `--help` for smaller runs.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from time import perf_counter

import torch

import gradiograph.protocols
import gradiograph.tasks  # noqa: F401 - importing a room registers its components
from gradiograph.attacks import GradientMatching
from gradiograph.attacks.optimisers import LBFGS
from gradiograph.audit.client import client_update, observe
from gradiograph.core import registry
from gradiograph.core.attack import Observation
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.core.threat import ThreatModel
from plain_rog import plain_rog

SEED = 7
BATCH = 4
LOCAL_LEARNING_RATE = 1e-3
PLAIN = "plain ROG"
Contestant = Callable[[int], list[float]]
"""The seconds of each of the first n steps of a run."""


@dataclass(frozen=True)
class Case:
    """A network, the local steps behind the update, and who is timed on it.

    `released` are the seconds a step that ROG's released code was seen to take, on another day. `warm_up` steps
    are run before those that count; on a large network the first step is as good as any.
    """

    task: str
    local_steps: int
    attacks: tuple[str, ...] | None
    released: tuple[float, float]
    warm_up: int
    repeats: int


CASES = (
    Case("lenet", local_steps=5, attacks=None, released=(3.0, 5.1), warm_up=1, repeats=3),
    Case("resnet_wide_head", local_steps=10, attacks=("rog",), released=(5.6, 5.6), warm_up=0, repeats=2),
)


class EnoughSteps(Exception):
    """Ends an attack from its progress call, so that it is timed as it runs by default and not with fewer steps."""


def attack_steps(attack: GradientMatching, observation: Observation, count: int) -> list[float]:
    """The seconds of each of the attack's first `count` steps; the first includes setting up."""
    times = [perf_counter()]

    def progress(_: float) -> None:
        times.append(perf_counter())
        if len(times) > count:
            raise EnoughSteps

    try:
        attack(observation, stream(SEED, "attack"), progress)
    except EnoughSteps:
        return [after - before for before, after in pairwise(times)]
    msg = f"{attack.name} ended after {len(times) - 1} steps; {count} were to be timed."
    raise RuntimeError(msg)


def observed(case: Case, size: int) -> tuple[Observation, torch.Tensor]:
    """The observation of one undefended FedAvg round on random films, and their labels."""
    task = registry.build("task", {"use": case.task}, (3, size, size), SEED)
    settings = {"use": "fedavg", "local_steps": case.local_steps, "learning_rate": LOCAL_LEARNING_RATE}
    protocol = registry.build("protocol", settings)
    labels = torch.arange(BATCH) % task.num_classes
    films = torch.rand(BATCH, 3, size, size, generator=stream(SEED, "films"))
    state = task.state()
    update = client_update(task, state, Batch(films, labels), protocol, Chain(), SEED)
    threat = ThreatModel(knows_labels=True)
    return observe(task, state, update, protocol, Chain(), threat, labels), labels


def contestants(case: Case, size: int) -> dict[str, Contestant]:
    """The plain search first, then every registered attack that searches by steps."""
    observation, labels = observed(case, size)
    task, (_, update) = observation.task, observation.rounds[0]

    def plain(count: int) -> list[float]:
        result = plain_rog(
            task.model,
            update.tensors,
            labels,
            (3, size, size),
            stream(SEED, "attack"),
            local_steps=case.local_steps,
            local_learning_rate=LOCAL_LEARNING_RATE,
            timed_steps=count,
        )
        return list(result.seconds)

    entered: dict[str, Contestant] = {PLAIN: plain}
    for name in case.attacks or [entry.name for entry in registry.components("attack")]:
        attack = registry.build("attack", {"use": name})
        if not isinstance(attack, GradientMatching):
            print(f"{name} does not search by steps: not timed")
            continue
        label = name
        if isinstance(attack.optimiser, LBFGS):
            label = f"{name} (an iteration, a step has {attack.optimiser.inner_steps})"
            attack = replace(attack, optimiser=replace(attack.optimiser, inner_steps=1))
        entered[label] = lambda count, attack=attack: attack_steps(attack, observation, count)  # type: ignore[misc]
    return entered


def measure(case: Case, size: int, repeats: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of every contestant, who take turns."""
    entered = contestants(case, size)
    seconds: dict[str, list[float]] = {name: [] for name in entered}
    for _ in range(repeats):
        for name, run in entered.items():
            seconds[name] += run(case.warm_up + steps)[case.warm_up :]
    return seconds


def report(case: Case, size: int, seconds: dict[str, list[float]], *, busy: bool) -> None:
    """Print the table of a case; on a busy machine without a word about times from elsewhere."""
    yardstick = median(seconds[PLAIN])
    print(f"\n{case.task}, FedAvg of {case.local_steps} steps, batch {BATCH}, 3 x {size} x {size}: seconds a step")
    print(f"{'attack':<48}{'median':>9}{'least':>9}{'most':>9}{'n':>4}{'median / plain':>16}")
    for name, values in seconds.items():
        middle = median(values)
        print(
            f"{name:<48}{middle:>9.3f}{min(values):>9.3f}{max(values):>9.3f}{len(values):>4}{middle / yardstick:>16.2f}"
        )
    if size == 128 and not busy:
        least, most = case.released
        seen = f"{least}" if least == most else f"{least} to {most}"
        verdict = "is not slower than that" if yardstick <= most else "is slower than that here"
        print(f"ROG's released code was seen to take {seen} s a step; {PLAIN} {verdict} ({yardstick:.2f} s).")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[case.task for case in CASES], help="default: all")
    parser.add_argument("--repeats", type=int, help="turns of each contestant; default: 3 for lenet, 2 for the other")
    parser.add_argument("--steps", type=int, default=1, help="steps that count in each turn")
    parser.add_argument("--threads", type=int, help="default: as torch chooses")
    parser.add_argument("--size", type=int, default=128, help="height and width of the images, divisible by 4")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_default_dtype()}, {torch.get_num_threads()} threads", flush=True)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = load > cores / 4
    if busy:
        print(
            f"Other work is running (load {load:.1f} on {cores} cores): trust the ratios, not the seconds.", flush=True
        )
    for case in CASES:
        if not options.tasks or case.task in options.tasks:
            repeats = options.repeats or case.repeats
            report(case, options.size, measure(case, options.size, repeats, options.steps), busy=busy)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the process: {peak:.1f} GiB")


if __name__ == "__main__":
    main()
