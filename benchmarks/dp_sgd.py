"""What a private step costs: time and memory of each way to gradients per example, over those of a plain step.

Run: python benchmarks/dp_sgd.py [--batch 32] [--repeats 5]. One thread. "plain" is the mean loss's gradient;
"functorch" what `dp_sgd` does (torch.func in blocks, `core.local_steps`); "hooks" and "ghost" are Opacus's. Each way is
checked against one example at a time before it is timed. Times are the fastest of the repeats, alternating with plain
steps so that both meet the same load; memory is the peak of a step in a process of its own (Linux).
"""

import argparse
import copy
import multiprocessing
import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from time import process_time

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping

import gradiograph.tasks  # noqa: F401 - registers the tasks
from gradiograph.core.defence import Chain
from gradiograph.core.local_steps import private_steps, step_gradient
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.task import Task, mean_gradient
from gradiograph.core.tensors import Batch, Tensors, global_norm
from gradiograph.defences import DPSGD

CASES = (
    ("small_cnn", 1, 64),
    ("lenet", 1, 64),
    ("resnet18_groupnorm", 1, 64),
    ("resnet_wide_head", 1, 64),
    ("unet", 1, 32),
    ("dilated_net", 1, 32),
    ("monai_unet", 1, 32),
)
CLIP = 1.0
CHAIN = Chain(stages=(DPSGD(clip_norm=CLIP, noise_multiplier=0.0),))


def plain(task: Task, state: Tensors, batch: Batch) -> Tensors:
    return mean_gradient(task, state, batch)


def functorch(task: Task, state: Tensors, batch: Batch) -> Tensors:
    steps = private_steps(task, batch, CHAIN, len(batch), stream(0, "client"))
    return step_gradient(task, state, batch, torch.arange(len(batch)), steps)


def hooks(task: Task, state: Tensors, batch: Batch) -> Tensors:
    model = copy.deepcopy(task.model)
    task.loss(GradSampleModule(model, loss_reduction="sum")(batch.images), batch.targets).sum().backward()
    gradients = {name: parameter.grad_sample for name, parameter in model.named_parameters()}
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0).sqrt()
    factors = (CLIP / norms).clamp_max(1.0) / len(batch)
    return {name: torch.einsum("u,u...->...", factors, g) for name, g in gradients.items()}


def ghost(task: Task, state: Tensors, batch: Batch) -> Tensors:
    model = copy.deepcopy(task.model)
    wrapped = GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=CLIP, use_ghost_clipping=True
    )
    losses = task.loss(wrapped(batch.images), batch.targets)
    losses.sum().backward(retain_graph=True)
    factors = wrapped.get_norm_sample().clamp_min(CLIP).reciprocal() * CLIP
    wrapped.disable_hooks()
    model.zero_grad()
    (losses * factors.detach()).sum().backward()
    return {name: parameter.grad / len(batch) for name, parameter in model.named_parameters()}


WAYS: tuple[Callable[[Task, Tensors, Batch], Tensors], ...] = (functorch, hooks, ghost)


def case(name: str, channels: int, side: int, size: int) -> tuple[Task, Tensors, Batch]:
    task = build("task", {"use": name}, (channels, side, side), 0)
    images = torch.rand(size, channels, side, side, generator=stream(0, "films"))
    targets = torch.arange(size * prod(task.target_shape)).reshape(size, *task.target_shape) % 2
    return task, task.state(), Batch(images, targets)


def is_right(way: Callable[[Task, Tensors, Batch], Tensors], task: Task, state: Tensors, batch: Batch) -> bool:
    # In double precision: in single, rounding alone moves a max pooling or a ReLU to its other side.
    task.model.double()
    state, batch = (
        {name: tensor.double() for name, tensor in state.items()},
        Batch(batch.images.double(), batch.targets),
    )
    alone = [mean_gradient(task, state, batch.part(slice(place, place + 1))) for place in range(len(batch))]
    factors = [min(1.0, CLIP / float(global_norm(gradient))) / len(batch) for gradient in alone]
    expected = {n: sum(f * g[n] for f, g in zip(factors, alone, strict=True)) for n in task.trainable}
    found = way(task, state, batch)
    error = global_norm({n: found[n] - expected[n] for n in expected}) / global_norm(expected)
    return float(error) < 1e-3


def seconds(way: Callable[[Task, Tensors, Batch], Tensors], task: Task, state: Tensors, batch: Batch) -> float:
    started = process_time()
    way(task, state, batch)
    return process_time() - started


def megabytes(place: int, way: str, size: int, answers: multiprocessing.Queue) -> None:
    prepare()
    task, state, batch = case(*CASES[place], size)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _status("VmRSS")
    globals()[way](task, state, batch)
    answers.put((_status("VmHWM") - before) / 1024)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def peak(place: int, way: str, size: int) -> float:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=megabytes, args=(place, way, size, answers))
    process.start()
    process.join()
    return float(answers.get())


def prepare() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="one network")
    asked = parser.parse_args()
    prepare()
    print("| network | way | right | time over plain | memory over plain |\n|---|---|---|---|---|", flush=True)
    for place, (name, channels, side) in enumerate(CASES):
        if asked.only not in ("", name):
            continue
        task, state, batch = case(name, channels, side, asked.batch)
        base = peak(place, "plain", asked.batch)
        for way in WAYS:
            right = is_right(way, *case(name, channels, side, 4))
            pairs = [
                (seconds(way, task, state, batch), seconds(plain, task, state, batch)) for _ in range(asked.repeats)
            ]
            private, clean = (min(times) for times in zip(*pairs, strict=True))
            memory = peak(place, way.__name__, asked.batch)
            told = f"{private / clean:.2f} ({1000 * private:.0f} / {1000 * clean:.0f} ms)"
            kept = f"{memory / max(base, 1):.1f} ({memory:.0f} / {base:.0f} MB)"
            print(f"| {name} | {way.__name__} | {right} | {told} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
