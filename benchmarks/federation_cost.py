"""What a federation costs in this process: peak memory by the number of clients, seconds by defence and capture.

`python benchmarks/federation_cost.py` prints both tables; `make bench` does it too.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import torch

import gradiograph.defences
import gradiograph.protocols
import gradiograph.tasks  # noqa: F401 - importing a room registers its components
from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.federation import SGD, Federation, Rounds, Site, capture, train

SIZE, FILMS, SEED = 64, 4, 7
FEW, MANY, MOST = 10, 1000, 1.2
"""Clients of the two runs, and how many times the memory of the first the second may take."""
DEFENCES: tuple[tuple[dict[str, Any], ...], ...] = (
    (),
    ({"use": "gaussian_noise", "std": 1e-3},),
    ({"use": "laplace_noise", "std": 1e-3},),
    ({"use": "clip", "norm": 1e-2},),
    ({"use": "qsgd", "levels": 16},),
    ({"use": "uniform_quantisation", "bits": 3},),
    ({"use": "sign_sgd"},),
    ({"use": "top_k", "sparsity": 0.99},),
    ({"use": "random_k", "sparsity": 0.99},),
    ({"use": "dp_sgd", "clip_norm": 1.0, "noise_multiplier": 1.0},),
)


def federation(clients: int, stack: Sequence[dict[str, Any]] = (), rounds: int = 1) -> Federation:
    """Clients with a few random films each, drawn when they are read; one local step on all of them."""

    def site(place: int) -> Site:
        def read() -> Batch:
            images = torch.rand(FILMS, 1, SIZE, SIZE, generator=stream(SEED, "films", place))
            return Batch(images, torch.arange(FILMS) % 2)

        return Site(num_examples=FILMS, read=read)

    return Federation(
        task=registry.build("task", {"use": "small_cnn"}, (1, SIZE, SIZE), SEED),
        sites=tuple(site(place) for place in range(clients)),
        protocol=registry.build("protocol", {"use": "fedavg", "local_steps": 1, "learning_rate": 0.01}),
        defence=Chain(stages=tuple(registry.build("defence", config) for config in stack)),
        server=SGD(),
        rounds=Rounds(rounds=rounds),
        seed=SEED,
    )


def peak(clients: int) -> float:
    """The peak memory, in MiB, of a process of its own that trains one round with this many clients."""
    command = [sys.executable, __file__, "--peak-of", str(clients)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)  # noqa: S603


def print_memory() -> bool:
    """The table of peak memory; whether many clients take little more than few."""
    few, many = peak(FEW), peak(MANY)
    print(f"\nOne round of FedAvg, small_cnn, {FILMS} films of {SIZE} x {SIZE} a client: peak memory of the process")
    print(f"{FEW:>6} clients {few:>8.0f} MiB\n{MANY:>6} clients {many:>8.0f} MiB, {many / few:.2f} times")
    within = many <= MOST * few
    print(f"At most {MOST} times: {'yes' if within else 'NO'}.")
    return within


def seconds(stack: Sequence[dict[str, Any]], rounds: int) -> float:
    """The median over the rounds, of ten clients; the first round, which also sets up, does not count."""
    history = train(federation(10, stack, rounds + 1)).history
    return median(record.seconds for record in history[1:])


def print_seconds(rounds: int) -> None:
    """The table of defences, then what capturing one client's update takes."""
    print(f"\nThe same with 10 clients: seconds of a round, the median of {rounds}")
    plain = seconds((), rounds)
    for stack in DEFENCES:
        name = " + ".join(config["use"] for config in stack) or "no protection"
        taken = seconds(stack, rounds) if stack else plain
        print(f"{name:<24}{taken:>8.3f}{taken / plain:>8.2f} times")
    trained = federation(10)
    training = train(trained)
    times = []
    for client in range(rounds + 1):
        started = perf_counter()
        capture(trained, training, 1, client % 10)
        times.append(perf_counter() - started)
    print(f"Capture: nothing while it trains; {median(times[1:]):.3f} s to make one client's update again.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak-of", type=int, help="clients: print this process's peak memory in MiB and end")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds under each defence; 0: no such table")
    options = parser.parse_args(arguments)
    if options.peak_of:
        train(federation(options.peak_of))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
        return
    print_memory()
    if options.rounds:
        print_seconds(options.rounds)


if __name__ == "__main__":
    main()
