"""Seconds that each attack takes, beside ROG's search written out plainly (`plain_rog.py`).

The first table: seconds of a step. The second, `equal_quality.py`: seconds until the films are found as well. All
contestants run in one process, with the same type and threads, on the same weights and update; in the first table they
take turns, so that a busy minute hits them all. Run on an idle machine: `python benchmarks/bench.py`, or `--help` for
smaller runs.
"""

from __future__ import annotations

import argparse
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import torch

from cases import BATCH, CASES, PLAIN, SEED, Case, Round, clock, observed
from equal_quality import compare, print_quality
from federation_cost import print_memory, print_seconds
from gradiograph.attacks import GradientMatching, MaximumAPosteriori
from gradiograph.attacks.optimisers import LBFGS
from gradiograph.core import registry
from gradiograph.core.errors import BadInput
from gradiograph.core.random import stream

if TYPE_CHECKING:
    from gradiograph.core.attack import Attack, Observation

Contestant = Callable[[int], list[float]]
"""The seconds of each of the first n steps of a run."""


class EnoughSteps(Exception):
    """Ends an attack from its progress call, so that it is timed as it runs by default and not with fewer steps."""


def attack_steps(attack: Attack, observation: Observation, count: int) -> list[float]:
    """The seconds of each of the attack's first `count` steps; the first includes setting up."""
    times = [clock()]

    def progress(_: float) -> None:
        times.append(clock())
        if len(times) > count:
            raise EnoughSteps

    try:
        attack(observation, stream(SEED, "attack"), progress)
    except EnoughSteps:
        return [after - before for before, after in pairwise(times)]
    msg = f"The attack ended after {len(times) - 1} steps; {count} were to be timed: {attack}"
    raise RuntimeError(msg)


STEPWISE = {"map": {"optimiser": "adam", "replay": "midpoint"}}
"""Settings with which each step is one gradient, as the plain search's is."""


def contestants(a_round: Round) -> dict[str, Contestant]:
    """The plain search first, then every registered attack that searches by steps; `map` by its midpoint."""
    entered: dict[str, Contestant] = {PLAIN: lambda count: list(a_round.plain(timed_steps=count).seconds)}
    for name in a_round.case.attacks or [entry.name for entry in registry.components("attack")]:
        try:
            attack = registry.build("attack", {"use": name, **STEPWISE.get(name, {})})
        except BadInput as missing:  # it is made of another attack, or reads a file
            print(f"{name}: not timed. {missing}")
            continue
        if not isinstance(attack, GradientMatching | MaximumAPosteriori):
            print(f"{name} does not search by steps: not timed")
            continue
        label = name
        if isinstance(attack, GradientMatching) and isinstance(attack.optimiser, LBFGS):
            label = f"{name} (an iteration, a step has {attack.optimiser.inner_steps})"
            attack = replace(attack, optimiser=replace(attack.optimiser, inner_steps=1))
        entered[label] = lambda count, attack=attack: attack_steps(attack, a_round.observation, count)  # type: ignore[misc]
    return entered


def measure(a_round: Round, repeats: int, steps: int) -> dict[str, list[float]]:
    """Seconds a step of every contestant, who take turns."""
    entered, warm_up = contestants(a_round), a_round.case.warm_up
    seconds: dict[str, list[float]] = {name: [] for name in entered}
    for _ in range(repeats):
        for name, run in entered.items():
            seconds[name] += run(warm_up + steps)[warm_up:]
    return seconds


def report(case: Case, size: int, seconds: dict[str, list[float]], *, comparable: bool) -> None:
    """Print the table of a case; where times from elsewhere are no measure of this machine, without a word of them."""
    yardstick = median(seconds[PLAIN])
    print(f"\n{case.task}, FedAvg of {case.local_steps} steps, batch {BATCH}, 3 x {size} x {size}: seconds a step")
    print(f"{'attack':<48}{'median':>9}{'least':>9}{'most':>9}{'n':>4}{'plain / median':>16}")
    for name, values in seconds.items():
        middle = median(values)
        print(
            f"{name:<48}{middle:>9.3f}{min(values):>9.3f}{max(values):>9.3f}{len(values):>4}{yardstick / middle:>16.1f}"
        )
    if size == 128 and comparable:
        least, most = case.released
        seen = f"{least}" if least == most else f"{least} to {most}"
        verdict = "is not slower than that" if yardstick <= most else "is slower than that here"
        print(f"ROG's released code was seen to take {seen} s a step; {PLAIN} {verdict} ({yardstick:.2f} s).")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=[case.task for case in CASES], help="default: all")
    parser.add_argument("--repeats", type=int, help="turns of each contestant; default: 3 for lenet, 2 for the other")
    parser.add_argument("--steps", type=int, default=1, help="steps that count in each turn; 0: no first table")
    parser.add_argument("--threads", type=int, help="default: as torch chooses")
    parser.add_argument("--device", default="cpu", help="of the attacks: cpu, or cuda")
    parser.add_argument("--size", type=int, default=128, help="height and width of the images, divisible by 4")
    parser.add_argument("--plain-steps", type=int, default=100, help="of the second table; 0: no second table")
    parser.add_argument("--federation-rounds", type=int, default=5, help="of the last tables; 0: none of these")
    parser.add_argument("--public-patients", type=int, default=400, help="to whose films the prior is fitted")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {torch.get_default_dtype()}, {where}", flush=True)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = load > cores / 4
    if busy:
        print(
            f"Other work is running (load {load:.1f} on {cores} cores): trust the ratios, not the seconds.", flush=True
        )
    for case in CASES:
        if options.tasks and case.task not in options.tasks:
            continue
        a_round = observed(case, options.size, options.device)
        if options.steps:
            repeats = options.repeats or case.repeats
            report(
                case,
                options.size,
                measure(a_round, repeats, options.steps),
                comparable=not busy and options.device == "cpu",
            )
        if options.plain_steps:
            print_quality(case, options.size, compare(a_round, options.plain_steps, options.public_patients))
    if options.federation_rounds:
        print_memory()
        print_seconds(options.federation_rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the process: {peak:.1f} GiB")


if __name__ == "__main__":
    main()
