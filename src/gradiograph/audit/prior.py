"""A prior on films, learned from an audit's public ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gradiograph.attacks.eigen import fit_eigen, save_prior, variance_explained
from gradiograph.attacks.mask_prior import fit_masks
from gradiograph.audit.catalogue import prepare
from gradiograph.audit.films import AuditFilms, open_films
from gradiograph.audit.plan import located
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import numpy_stream

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from gradiograph.audit.spec import Spec

FEW_PATIENTS = 4
"""Below so many patients per component, a component could be one patient."""

_HELD_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class PriorSummary:
    """What a prior was fitted to, and how much of films it holds.

    Attributes:
        films: Public films that it was fitted to.
        patients: Their patients.
        components: Principal components.
        explained: Share of these films' variance that the components hold, in [0, 1].
        held_out_films: A tenth of the patients is held out for `explained_held_out`: their films.
        held_out_patients: And how many patients that is.
        explained_held_out: The same share on these, of a prior fitted to the other patients only.
        mask_components: Principal components of their masks; 0 where they have none.
    """

    films: int
    patients: int
    components: int
    explained: float
    held_out_films: int
    held_out_patients: int
    explained_held_out: float
    mask_components: int = 0

    @property
    def patients_per_component(self) -> float:
        """Patients divided by components."""
        return self.patients / self.components


def train_prior(spec: Spec, folder: Path, path: Path, components: int = 256) -> PriorSummary:
    """Fit the principal components of the audit's public films and write them; see `attacks.eigen`.

    Args:
        spec: The audit; its attacks may already name the prior, they are not looked at.
        folder: What relative paths in it are relative to.
        path: The file to write, new.
        components: How many; at most the public films of nine tenths of their patients, less one.

    Raises:
        BadInput: the films cannot be opened, a public patient is a victim or in the gallery, there are too few films
            for these components, or the file exists or cannot be written.
    """
    require_new(path, "prior")
    films = open_public_films(spec, folder)
    pixels = torch.from_numpy(films.public.read())
    patients = [record.patient for record in films.public.records]
    out = held_out(patients, spec.seeds[0])
    others = fit_eigen(pixels[~out], components)
    left_out = variance_explained(others, pixels[out])
    prior = fit_eigen(pixels, components)
    structures = len(films.dataset.mask_classes)
    masks = fit_masks(torch.from_numpy(films.public.read_masks()), structures) if _masked(films) else None
    save_prior(prior, path, patients, masks)
    return PriorSummary(
        mask_components=0 if masks is None else len(masks.std),
        films=len(patients),
        patients=len(set(patients)),
        components=components,
        explained=variance_explained(prior, pixels),
        held_out_films=int(out.sum()),
        held_out_patients=len({patient for patient, is_out in zip(patients, out.tolist(), strict=True) if is_out}),
        explained_held_out=left_out,
    )


def _masked(films: AuditFilms) -> bool:
    return films.dataset.read_masks is not None and films.public.dataset.mask_classes == films.dataset.mask_classes


def require_new(path: Path, what: str) -> None:
    """Refuse a file that exists or whose folder cannot be made, before any work is done for it.

    Args:
        path: The file; its folder is made, owner-only, where it is missing.
        what: What it would hold.

    Raises:
        BadSetting: it exists, or its folder cannot be made.
    """
    if path.exists():
        msg = f"The file for the {what} exists; name another with --out, or remove it."
        raise BadSetting(msg)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The {what} cannot be written ({error.strerror}). Give a file in a folder that you own."
        raise BadSetting(msg) from None


def open_public_films(spec: Spec, folder: Path) -> AuditFilms:
    """The films of an audit, without a look at its attacks, whose prior may not be there yet.

    Raises:
        BadInput: they cannot be opened, or a public patient is a victim or in the gallery.
    """
    sources = {
        "data": prepare("data", spec.data, folder),
        "public": located(spec.public, folder),
        "gallery": spec.gallery and located(spec.gallery, folder),
    }
    films = open_films(spec.model_copy(update=sources))
    public = {record.patient for record in films.public.records}
    for role, selections in (("victims", films.victims), ("gallery", (films.gallery,))):
        shared = public & {record.patient for selection in selections for record in selection.records}
        if shared:
            msg = (
                f"{len(shared)} of the {len(public)} public patients are among the {role} too: the attacker would own "
                "what it attacks. Give public another split or another source; if two sources number different "
                "patients alike, rename those of one."
            )
            raise DataProblem(msg)
    return films


def share_nearer(drawn: Tensor, trained: Tensor, others: Tensor) -> float:
    """The share of images (n, ...) that are nearer to one of some trained films than to one of as many others."""
    near = [torch.cdist(drawn.flatten(1), films.flatten(1)).min(dim=1).values for films in (trained, others)]
    return float((near[0] < near[1]).double().mean())


def held_out(patients: list[str], seed: int) -> Tensor:
    """Which films (n,) are of the tenth of the patients that is held out.

    Raises:
        DataProblem: there are too few patients to hold one out.
    """
    distinct = sorted(set(patients))
    if len(distinct) < 3:
        msg = f"The public films are of {len(distinct)} patients; a prior needs 3 or more. Give more public films."
        raise DataProblem(msg)
    order = numpy_stream(seed, "prior", "held-out patients").permutation(len(distinct))
    chosen = {distinct[place] for place in order[: max(1, round(_HELD_OUT * len(distinct)))]}
    return torch.tensor([patient in chosen for patient in patients])
