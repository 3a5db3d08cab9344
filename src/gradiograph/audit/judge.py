"""A judge from an audit's public films, with its quality on patients that it was not trained on."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradiograph.audit.prior import held_out, open_public_films, require_new
from gradiograph.core.random import stream
from gradiograph.log.atomic import write_file
from gradiograph.metrics import Judge, fit_judge, pack_judge, view
from gradiograph.utility import MEASURES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from gradiograph.audit.spec import Spec


@dataclass(frozen=True, kw_only=True)
class JudgeQuality:
    """How good a judge is on patients that it was not trained on; chance is 0.5.

    Attributes:
        films: Public films that it was trained on.
        patients: Their patients.
        steps: Of its training.
        seed: Of its training.
        held_out_films: Films of other public patients, which the rest is measured on.
        same_patient_pairs: Pairs of two films of one patient among these.
        same_patient: AUROC of their likeness against that of two patients' films of one class; None without pairs.
        same_film: The same for two views of one film, of which one is moved, blurred and noisy.
        finding: AUROC of the last class against the others; None where a class is missing.
    """

    films: int
    patients: int
    steps: int
    seed: int
    held_out_films: int
    same_patient_pairs: int
    same_patient: float | None
    same_film: float
    finding: float | None


def train_judge(
    spec: Spec, folder: Path, path: Path, steps: int, progress: Callable[[float], None] = lambda _: None
) -> JudgeQuality:
    """Train a judge on nine tenths of the public patients, measure it on the rest, and write it.

    Args:
        spec: The audit; its attacks and metrics are not looked at.
        folder: What relative paths in it are relative to.
        path: The file to write, new.
        steps: Of the training.
        progress: Told the share that is done.

    Raises:
        BadInput: the films cannot be opened, a public patient is a victim or in the gallery, or the file exists.
    """
    require_new(path, "judge")
    films = open_public_films(spec, folder)
    pixels, labels = torch.from_numpy(films.public.read()), torch.from_numpy(films.public.labels)
    patients = [record.patient for record in films.public.records]
    numbers = {patient: number for number, patient in enumerate(sorted(set(patients)))}
    owners, out = torch.tensor([numbers[patient] for patient in patients]), held_out(patients, spec.seeds[0])
    generator, classes = stream(spec.seeds[0], "judge"), tuple(films.dataset.classes)
    network = fit_judge(pixels[~out], labels[~out], owners[~out], len(classes), steps, generator, progress)
    bare = Judge(network=network, classes=classes, card={})
    quality = JudgeQuality(
        **_measured(bare, pixels[out], labels[out], owners[out], generator),
        films=int((~out).sum()),
        patients=len(set(owners[~out].tolist())),
        steps=steps,
        seed=spec.seeds[0],
    )
    trained = [patient for patient, is_out in zip(patients, out.tolist(), strict=True) if not is_out]
    judge = Judge(network=network, classes=bare.classes, card=asdict(quality))
    write_file(path, pack_judge(judge, trained, secrets.token_bytes(32)))
    return quality


def _measured(
    judge: Judge, films: Tensor, labels: Tensor, owners: Tensor, generator: torch.Generator
) -> dict[str, Any]:
    """What the films of patients that are left out say of the judge."""
    whose, beliefs = judge.look(films)
    alike = whose @ whose.T
    strangers = (owners[:, None] != owners) & (labels[:, None] == labels)
    others = alike[strangers]
    pairs = [(a, b) for a, b in combinations(range(len(owners)), 2) if owners[a] == owners[b]]
    same = torch.stack([alike[a, b] for a, b in pairs]) if pairs else None
    again = (judge.look(view(films.mean(dim=1, keepdim=True), generator))[0] * whose).sum(dim=1)
    last = labels == len(judge.classes) - 1
    both = bool(last.any() and (~last).any())
    return {
        "held_out_films": len(films),
        "same_patient_pairs": len(pairs),
        "same_patient": None if same is None else auroc(same, others),
        "same_film": auroc(again, others),
        "finding": auroc(beliefs[last, -1], beliefs[~last, -1]) if both else None,
    }


def auroc(positive: Tensor, negative: Tensor) -> float:
    """The chance that one of `positive` (n,) is above one of `negative` (m,), ties half.

    >>> auroc(torch.tensor([0.9, 0.5]), torch.tensor([0.5, 0.1]))
    0.875
    """
    scores = torch.cat([positive, negative]).double().numpy()
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    return float(MEASURES["auroc"].compute(labels, np.stack([-scores, scores], axis=1), np.ones((1, len(scores))))[0])
