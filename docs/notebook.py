"""Write and execute docs/notebook.ipynb: python docs/notebook.py. Its cells are here; its outputs are what they printed."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).with_suffix(".ipynb")

CELLS = (
    (
        "markdown",
        """# An update, step by step

What `gradiograph run` does for one client, in Python: a client trains, a server looks, and every number gets its control.
All films are computed; no patient is in them. Execute it again with `python docs/notebook.py`.""",
    ),
    (
        "code",
        """import matplotlib.pyplot as plt
import torch

from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.core.random import stream
from gradiograph.core.tensors import Batch
from gradiograph.core.threat import ThreatModel
from gradiograph.data.phantom import phantom
from gradiograph.audit.client import client_rounds, observe
from gradiograph.testing import load_rooms

load_rooms()
films = phantom(image_size=32, patients=60)
images = torch.from_numpy(films.read(range(8)))
labels = torch.tensor([record.label for record in films.records[:8]])
images.shape, films.classes""",
    ),
    ("markdown", "A model, and a protocol: five local steps of FedAvg on four films."),
    (
        "code",
        """task = registry.build("task", {"use": "lenet"}, tuple(images.shape[1:]), 7)
protocol = registry.build("protocol", {"use": "fedavg", "local_steps": 5, "learning_rate": 1e-3})


def seen_by_the_server(batch, *defences):
    \"\"\"One round of a client, and all that the server is granted of it: no label is.\"\"\"
    defence = Chain(stages=tuple(registry.build("defence", one) for one in defences))
    ((state, update),) = client_rounds(task, task.state(), batch, protocol, defence, 7)
    return observe(task, state, update, protocol, defence, ThreatModel(), batch.targets)


first, second = Batch(images[:4], labels[:4]), Batch(images[4:], labels[4:])
((_, update),) = seen_by_the_server(first).rounds
{name: tuple(tensor.shape) for name, tensor in update.tensors.items()}""",
    ),
    (
        "markdown",
        """An attack takes an observation and returns pictures. `unmixing` solves for the batch from the gradient of a dense
layer; it needs no label. The control: the same attack on *another* client's update, scored against this client's films.""",
    ),
    (
        "code",
        """from gradiograph.metrics import match

attack = registry.build("attack", {"use": "unmixing"})


def read_back(batch, *defences):
    \"\"\"What the attack makes of this client's update.\"\"\"
    return attack(seen_by_the_server(batch, *defences), stream(7, "attack"), lambda share: None).images


def psnr(found, truth):
    \"\"\"Of each film in dB, the reconstructions in the order that fits the films best.\"\"\"
    errors = (found[match(found, truth)] - truth).square().flatten(1).mean(1)
    return [round(float(-10 * error.clamp_min(1e-10).log10()), 1) for error in errors]


own, other = read_back(first), read_back(second)
print("own update:           ", psnr(own, first.images))
print("another client's:     ", psnr(other, first.images))""",
    ),
    (
        "code",
        """def show(**rows):
    \"\"\"Films below each other, four in a row.\"\"\"
    figure, axes = plt.subplots(len(rows), 4, figsize=(6, 1.6 * len(rows)), layout="constrained")
    for line, (title, pictures) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(title.replace("_", " "), fontsize=8)
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture.mean(0).numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])


show(films=first.images, read_back=own[match(own, first.images)], control=other[match(other, first.images)])""",
    ),
    (
        "markdown",
        """A protection is a channel: it knows how to apply itself, and how likely a seen update is given a clean one. The
attacker is told its settings, not its draws.""",
    ),
    (
        "code",
        """for defence in ({"use": "uniform_quantisation", "bits": 8}, {"use": "gaussian_noise", "snr": 0.01}):
    own, other = read_back(first, defence), read_back(second, defence)
    print(defence, psnr(own, first.images), "control", psnr(other, first.images))""",
    ),
    (
        "markdown",
        """Decibels are not identities. An audit asks whether the reconstruction is nearer to the attacked film than to every
other patient's of the same class, with intervals and the worst patient first. The same audit as a file is in
[Audit your own model](tutorial.md); from Python:""",
    ),
    (
        "code",
        """from pathlib import Path
from tempfile import mkdtemp

from gradiograph import audit, report

spec = audit.parse_spec(
    {
        "name": "notebook",
        "purpose": "learning the tool",
        "authorised_by": "nobody: the phantom has no patients",
        "data": {"use": "phantom", "image_size": 32, "patients": 200, "fractions": [0.4, 0.0, 0.6]},
        "victims": {"batches": 2, "size": 4},
        "task": {"use": "lenet"},
        "protocol": {"use": "fedavg", "local_steps": 5, "learning_rate": 1e-3},
        "defences": [[], [{"use": "gaussian_noise", "snr": 0.01}]],
        "attacks": [{"use": "unmixing"}],
        "metrics": [{"use": "identification", "distance": "pixels", "min_gallery": 30}, "psnr"],
    }
)
folder = Path(mkdtemp()) / "run"
log = audit.run(spec, Path.cwd(), folder)
for verdict in report.judge(report.Results.read(log)).verdicts:
    print(f"{verdict.defence}: {verdict.status}. {verdict.sentence}")
print(report.write_html(folder).name)""",
    ),
)


def main() -> None:
    """Execute and write."""
    cells = [getattr(nbformat.v4, f"new_{kind}_cell")(source) for kind, source in CELLS]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute()
    notebook["metadata"] = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(notebook, PATH)


if __name__ == "__main__":
    main()
