"""What a step of an attack on a segmentation network costs, over a plain loop of the published search.

Run: python benchmarks/segmentation.py [--steps 20]. One thread, one slice of the CT phantom, mask unknown. "plain" is
Zhu et al. 2019 written out: the gradient with its graph, the squared distance to the one seen, Adam on pixels and mask.
For private training see `dp_sgd.py`, which has the same networks.
"""

import argparse
import resource
from time import process_time

import torch

import gradiograph.data
import gradiograph.protocols
import gradiograph.tasks  # noqa: F401 - importing a room registers its components
from gradiograph.attacks.map import MaximumAPosteriori
from gradiograph.audit.client import client_update, observe
from gradiograph.core.attack import Attack, Observation
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.registry import build
from gradiograph.core.task import Task
from gradiograph.core.tensors import Batch, Update
from gradiograph.core.threat import ThreatModel

NETWORKS = ("monai_unet", "unet", "dilated_net")
SIDE = 32


def plain(task: Task, update: Update, steps: int) -> float:
    """Seconds a step of the search as published."""
    images = torch.rand(1, *task.image_shape, generator=stream(0, "start")).requires_grad_()
    masks = torch.randn(1, task.num_classes, *task.target_shape, generator=stream(0, "mask")).requires_grad_()
    adam = torch.optim.Adam([images, masks], lr=0.1)
    parameters, seen = list(task.model.parameters()), [update.tensors[name] for name in task.trainable]
    started = process_time()
    for _ in range(steps):
        adam.zero_grad()
        loss = task.loss(task.model(images), masks.softmax(dim=1)).mean()
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        sum((ours - theirs).square().sum() for ours, theirs in zip(gradients, seen, strict=True)).backward()
        adam.step()
    return (process_time() - started) / steps


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    films = build("data", {"use": "ct_phantom", "image_size": SIDE})
    batch = Batch(torch.from_numpy(films.read([0])), torch.from_numpy(films.read_masks([0])))
    print("| network | parameters | plain | map | ratio | peak memory |\n|---|---|---|---|---|---|")
    for name in NETWORKS:
        config = {"use": name, "num_classes": len(films.mask_classes)}
        task, protocol = build("task", config, films.image_shape, 0), build("protocol", {"use": "fedsgd"})
        update = client_update(task, task.state(), batch, protocol, Chain(), 0)
        seen = observe(task, task.state(), update, protocol, Chain(), ThreatModel(knows_labels=False), None)
        once, more = (_seconds(MaximumAPosteriori(steps=n, optimiser="adam"), seen) for n in (1, 1 + steps))
        ours, theirs = (more - once) / steps, plain(task, update, steps)
        count = sum(parameter.numel() for parameter in task.model.parameters())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {name} | {count:,} | {theirs:.4f} s | {ours:.4f} s | {theirs / ours:.2f} | {peak:.0f} MiB |")


def _seconds(attack: Attack, seen: Observation) -> float:
    """Of one thread, so that other work on the machine counts for neither."""
    started = process_time()
    attack(seen, stream(0, "attack"), lambda _: None)
    return process_time() - started


if __name__ == "__main__":
    main()
