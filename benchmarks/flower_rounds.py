"""What Flower costs: rounds a second beside the engine in this process, and what capture and each defence add.

The same training both times: `small_cnn` on phantom films at three sites, FedAvg of one epoch. The simulation runs as
`utility.engine = "flower"` does, one SuperNode a core. The second table calls a client's Flower app in this process,
with and without a mod, on one message, in seconds of a core; all take turns. Run on an idle machine:
`python benchmarks/flower_rounds.py`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from gradiograph.audit import parse_spec, run
from gradiograph.core import registry
from gradiograph.core.defence import Defence
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.flower import capture, protect
from gradiograph.log import Log

SITES = 3
DEFENCES: dict[str, list[dict[str, object]]] = {
    "clip": [{"use": "clip", "norm": 1.0}],
    "gaussian_noise": [{"use": "gaussian_noise", "std": 1e-3}],
    "laplace_noise": [{"use": "laplace_noise", "scale": 1e-3}],
    "uniform_quantisation, 3 bits": [{"use": "uniform_quantisation", "bits": 3}],
    "qsgd, 16 levels": [{"use": "qsgd", "levels": 16}],
    "qsgd, 16 levels, buckets of 512": [{"use": "qsgd", "levels": 16, "bucket": 512}],
    "sign_sgd": [{"use": "sign_sgd"}],
    "top_k, 0.9": [{"use": "top_k", "sparsity": 0.9}],
    "top_k, 0.99": [{"use": "top_k", "sparsity": 0.99}],
    "random_k, 0.9": [{"use": "random_k", "sparsity": 0.9}],
    "top_k 0.9 then qsgd 16": [{"use": "top_k", "sparsity": 0.9}, {"use": "qsgd", "levels": 16}],
}


def audit(size: int, patients: int, rounds: int, engine: str) -> dict[str, object]:
    """An audit that does little but train."""
    return {
        "name": "bench",
        "purpose": "benchmark",
        "authorised_by": "benchmark",
        "data": {"use": "phantom", "image_size": size, "patients": patients},
        "victims": {"batches": 2, "size": 8},
        "task": {"use": "small_cnn"},
        "protocol": {"use": "fedavg", "local_epochs": 1, "batch_size": 8, "learning_rate": 0.03},
        "attacks": [{"use": "dlg", "steps": 1}],
        "metrics": ["mse"],
        "utility": {"rounds": rounds, "sites": SITES, "references": [], "watch": None, "engine": engine},
    }


def round_seconds(size: int, patients: int, rounds: int, engine: str) -> tuple[list[float], float]:
    """The seconds of each round, and of the whole audit."""
    started = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log: Log = run(parse_spec(audit(size, patients, rounds, engine)), Path(folder), Path(folder) / "run")
        (cell,) = log.trainings.cells()
    assert not cell.failed, cell.failed
    return [record.seconds for record in cell.history], perf_counter() - started


def print_rounds(size: int, patients: int, rounds: int) -> None:
    """The first table. The first round, which starts the nodes, stands apart."""
    print(f"\nsmall_cnn, {size} x {size}, {SITES} sites, {rounds} rounds")
    print(f"{'engine':<14}{'rounds/s':>10}{'median s':>10}{'first s':>10}{'audit s':>10}")
    for engine in ("in_process", "flower"):
        seconds, whole = round_seconds(size, patients, rounds, engine)
        later = seconds[1:]
        rate = len(later) / sum(later)
        print(f"{engine:<14}{rate:>10.2f}{median(later):>10.3f}{seconds[0]:>10.2f}{whole:>10.1f}", flush=True)


def client(size: int, films: int, *mods: object) -> tuple[Callable[[], Message], float]:
    """A hospital's app with these mods, called on one message, and the size of the model's values in bytes."""
    task = registry.build("task", {"use": "small_cnn"}, (1, size, size), 0)
    settings = {"use": "fedavg", "local_epochs": 1, "batch_size": 8, "learning_rate": 0.03}
    protocol = registry.build("protocol", settings)
    batch = Batch(torch.rand(films, 1, size, size, generator=stream(0, "bench")), torch.arange(films) % 2)
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        state = dict(message.content.array_records["arrays"].to_torch_state_dict())
        change = protocol.local_update(task, state, batch, stream(0, "client")).tensors
        after = {name: tensor + change.get(name, 0) for name, tensor in state.items()}
        content = {"arrays": ArrayRecord(after), "metrics": MetricRecord({"num-examples": films})}
        return Message(RecordDict(content), reply_to=message)

    def call() -> Message:
        content = {"arrays": ArrayRecord(task.state()), "config": ConfigRecord({"server-round": 1})}
        context = Context(1, 1, {"partition-id": 0}, RecordDict(), {})
        return app(Message(RecordDict(content), 1, "train"), context)

    return call, 4.0 * sum(tensor.numel() for tensor in task.state().values())


def print_mods(size: int, films: int, repeats: int) -> None:
    """The second table: the median seconds of a call, against those without a mod."""
    with tempfile.TemporaryDirectory() as folder:
        mods: dict[str, tuple[object, ...]] = {"no mod": (), "capture": (capture(folder),)}
        for name, stack in DEFENCES.items():
            made: list[Defence] = [registry.build("defence", config) for config in stack]
            mods[name] = (protect(*made),)
        entered = {name: client(size, films, *own) for name, own in mods.items()}
        times: dict[str, list[float]] = {name: [] for name in entered}
        sizes = {}
        for _ in range(repeats):
            for name, (call, _) in entered.items():
                started = process_time()
                reply = call()
                times[name].append(process_time() - started)
                sizes[name] = sum(record.count_bytes() for record in reply.content.values())
    plain, values = median(times["no mod"]), entered["no mod"][1]
    print(f"\none client's call, small_cnn ({values / 4e6:.2f} M values), {films} films of {size} x {size}, one epoch")
    print(f"{'mod':<34}{'median s':>10}{'adds s':>10}{'adds %':>8}{'bytes':>10}{'share':>8}")
    for name, seconds in times.items():
        added = median(seconds) - plain
        own = f"{median(seconds):>10.3f}{added:>10.3f}{100 * added / plain:>8.1f}"
        print(f"{name:<34}{own}{sizes[name]:>10}{sizes[name] / sizes['no mod']:>8.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--patients", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--films", type=int, default=64, help="of the client in the second table")
    parser.add_argument("--repeats", type=int, default=9, help="calls of each in the second table")
    parser.add_argument("--only", choices=["rounds", "mods"], help="one of the tables")
    options = parser.parse_args(arguments)
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as in the processes that Flower starts
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {load:.1f} on {cores} cores", flush=True)
    if options.only != "mods":
        print_rounds(options.size, options.patients, options.rounds)
    if options.only != "rounds":
        print_mods(options.size, options.films, options.repeats)


if __name__ == "__main__":
    main()
