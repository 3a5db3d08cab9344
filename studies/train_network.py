"""Train the network of an audit file on its public films: python studies/train_network.py FILE WEIGHTS [EPOCHS [SET]].

The trained checkpoints of the studies: Adam at 1e-4, batches of 32, films in a new order each epoch, no augmentation,
on the audit's `public` films, so on no victim's patient. SET are changes of the file as `gradiograph run --set` takes
them. Prints the accuracy on the gallery after each epoch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from gradiograph.audit import load_spec, plan
from gradiograph.core.random import stream

BATCH = 32


def main(file: Path, weights: Path, epochs: int = 20, *overrides: str) -> None:
    """Train and write the state dict."""
    spec = load_spec(file, overrides)
    made = plan(spec, file.parent)
    task = made.task(spec.task[0], spec.seeds[0])
    public, gallery = made.films.public, made.films.gallery
    films, labels = torch.from_numpy(public.read()), torch.from_numpy(public.labels)
    held_out, truth = torch.from_numpy(gallery.read()), torch.from_numpy(gallery.labels)
    adam = torch.optim.Adam(task.model.parameters(), lr=1e-4)
    generator = stream(spec.seeds[0], "training")
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(films), generator=generator).split(BATCH):
            adam.zero_grad()
            loss = task.loss(task.model(films[chosen]), labels[chosen]).mean()
            loss.backward()
            adam.step()
            total += float(loss.detach()) * len(chosen)
        with torch.no_grad():
            guesses = torch.cat([task.model(block).argmax(dim=1) for block in held_out.split(BATCH)])
        accuracy = float((guesses == truth).double().mean())
        print(f"epoch {epoch + 1}: loss {total / len(films):.4f}, accuracy on the gallery {accuracy:.3f}", flush=True)
        weights.parent.mkdir(parents=True, exist_ok=True)
        torch.save(task.state(), weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]), *sys.argv[4:])
