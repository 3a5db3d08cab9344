"""The films of an audit: the victims, the attacker's public films, the gallery that identification searches."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from gradiograph.audit.catalogue import prepare
from gradiograph.audit.victims import choose_victims
from gradiograph.core import registry
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.seeds import numpy_stream
from gradiograph.core.tensors import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from gradiograph.audit.spec import Films, Spec
    from gradiograph.core.records import Dataset, Record
    from gradiograph.core.task import Task


Listed = TypeVar("Listed")

EXAMPLES = 32
"""Public films of each class that an attack may look at."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Some records of a data set."""

    dataset: Dataset
    records: tuple[Record, ...]

    def read(self) -> NDArray[np.float32]:
        """The films as (n, C, H, W) in [0, 1]."""
        return self.dataset.read([record.index for record in self.records])

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels (n,)."""
        return np.array([record.label for record in self.records], dtype=np.int64)

    def read_masks(self) -> NDArray[np.int64]:
        """The masks (n, H, W).

        Raises:
            DataProblem: the source has none.
        """
        return masks_of(self.dataset, self.records)

    def targets(self, task: Task) -> Tensor:
        """What the task is trained to say of these films: int64, labels (n,) or masks (n, H, W)."""
        return torch.from_numpy(self.read_masks() if task.segments else self.labels)

    def count_by_class(self) -> dict[str, int]:
        """Films by class name."""
        count = Counter(record.label for record in self.records)
        return {name: count[label] for label, name in enumerate(self.dataset.classes)}


@dataclass(frozen=True, kw_only=True)
class AuditFilms:
    """All films of one audit; no patient is in two of the three roles."""

    victims: tuple[Selection, ...]
    public: Selection
    gallery: Selection

    @property
    def dataset(self) -> Dataset:
        """The audited data."""
        return self.victims[0].dataset

    @property
    def refused(self) -> tuple[str, ...]:
        """A line for each file of the sources that could not be used."""
        sources = (self.dataset, self.public.dataset, self.gallery.dataset)
        return tuple(dict.fromkeys(line for source in sources for line in source.refused))

    @cached_property
    def public_examples(self) -> Batch | None:
        """Some public films of each class with their labels; None where a class has none."""
        by_class = [
            evenly_spaced([record for record in self.public.records if record.label == label], EXAMPLES)
            for label in range(len(self.dataset.classes))
        ]
        if not all(by_class):
            return None
        chosen = replace(self.public, records=tuple(record for records in by_class for record in records))
        return Batch(torch.from_numpy(chosen.read()), torch.from_numpy(chosen.labels))

    def mean_film(self) -> NDArray[np.float32]:
        """The mean public film (C, H, W), summed in blocks so that any number of films fits."""
        indices = [record.index for record in self.public.records]
        blocks = [indices[start : start + 256] for start in range(0, len(indices), 256)]
        total = sum(self.public.dataset.read(block).sum(axis=0, dtype=np.float64) for block in blocks)
        return np.asarray(total / len(indices), dtype=np.float32)

    def usual_mask(self) -> NDArray[np.int64]:
        """The structure that most public films have at each pixel (H, W)."""
        count = np.zeros((len(self.dataset.mask_classes), *self.dataset.image_shape[1:]), dtype=np.int64)
        for start in range(0, len(self.public.records), 256):
            masks = masks_of(self.public.dataset, self.public.records[start : start + 256])
            count += np.stack([(masks == structure).sum(axis=0) for structure in range(len(count))])
        return np.asarray(count.argmax(axis=0))

    def other_films(self, batch: int) -> tuple[tuple[int, ...], Selection]:
        """Another film of the same patient, of its class where there is one, which no batch holds.

        Returns:
            The places in the batch of the victims whose patient has such a film, and these films.
        """
        victims = self.victims[batch]
        attacked = {record.index for one in self.victims if one.dataset is victims.dataset for record in one.records}
        patients = {record.patient for record in victims.records}
        others = defaultdict(list)
        for record in victims.dataset.records:
            if record.patient in patients and record.index not in attacked:
                others[record.patient].append(record)
        found = {
            place: min(others[victim.patient], key=lambda other: (other.label != victim.label, other.index))
            for place, victim in enumerate(victims.records)
            if others[victim.patient]
        }
        return tuple(found), replace(victims, records=tuple(found.values()))

    def stock_films(self, batch: int, seed: int) -> Selection:
        """For each victim of a batch a public film of its class, drawn at random."""
        rng = numpy_stream(seed, "stock film", batch)
        labels = self.public.labels
        drawn = (rng.choice(np.flatnonzero(labels == label)) for label in self.victims[batch].labels)
        return replace(self.public, records=tuple(self.public.records[place] for place in drawn))


def masks_of(dataset: Dataset, records: Sequence[Record]) -> NDArray[np.int64]:
    """The masks (n, *spatial) of these records.

    Raises:
        DataProblem: the source has none.
    """
    if dataset.read_masks is None:
        msg = (
            f"data '{dataset.name}' has no masks, which a task that segments needs. Take a source with masks, such as "
            "'decathlon', 'nifti' with masks, or 'ct_phantom'."
        )
        raise DataProblem(msg)
    return dataset.read_masks([record.index for record in records])


def open_data(spec: Spec, folder: Path) -> Dataset:
    """The data of an audit by themselves; relative paths are relative to the folder.

    Raises:
        BadInput: they cannot be read.
    """
    dataset: Dataset = registry.build("data", prepare("data", spec.data, folder))
    return dataset


def open_films(spec: Spec) -> AuditFilms:
    """Open the data, choose the victims, and set the public films and the gallery apart from them.

    Raises:
        BadInput: a source cannot be read, holds volumes, has too few patients, or its classes or sizes differ from the
            data's.
    """
    dataset = registry.build("data", spec.data)
    planar_shape(dataset)
    victims = tuple(
        Selection(dataset=dataset, records=records)
        for records in choose_victims(dataset, spec.victims, spec.threat.clients)
    )
    hidden = {record.patient for batch in victims for record in batch.records}
    if spec.public.source is None and spec.public.split in (None, spec.victims.split):
        msg = (
            f"public.split = {spec.public.split!r} holds the victims' patients too (victims.split = "
            f"{spec.victims.split!r}): the attacker would own what it attacks. Give it another split or another source."
        )
        raise BadSetting(msg)
    public = _open(spec.public, dataset, exclude=hidden)
    gallery_source = spec.gallery or spec.public.model_validate({"split": spec.victims.split})
    gallery = _open(gallery_source, dataset, exclude=hidden | {record.patient for record in public.records})
    _require_classes(public, victims, "public films")
    return AuditFilms(victims=victims, public=public, gallery=gallery)


def _open(films: Films, dataset: Dataset, exclude: Iterable[str]) -> Selection:
    source = dataset if films.source is None else registry.build("data", films.source)
    require_same_form(source, dataset, "A film source")
    hidden = set(exclude) if source is dataset else set()
    records = tuple(record for record in source.select(split=films.split) if record.patient not in hidden)
    return Selection(dataset=source, records=tuple(evenly_spaced(records, films.limit)))


def evenly_spaced(listed: Sequence[Listed], limit: int | None) -> Sequence[Listed]:
    """At most so many: sources list class after class, and each keeps its share.

    >>> evenly_spaced("aaaabb", 3)
    ['a', 'a', 'b']
    """
    if limit is None or limit >= len(listed):
        return listed
    return [listed[place * len(listed) // limit] for place in range(limit)]


def planar_shape(dataset: Dataset) -> tuple[int, int, int]:
    """The shape of the images, (C, H, W).

    Raises:
        BadSetting: the records are volumes or patches, which no task takes yet.
    """
    if len(dataset.image_shape) != 3:
        msg = (
            f"The data's records are of unit '{dataset.unit}' with the shape {dataset.image_shape}; tasks and attacks "
            "take images (C, H, W). Set data.unit = 'slice'."
        )
        raise BadSetting(msg)
    channels, height, width = dataset.image_shape
    return channels, height, width


def require_same_form(source: Dataset, dataset: Dataset, name: str) -> None:
    """Raise `DataProblem` where a source's classes or image shape differ from the audited data's."""
    if (source.classes, source.image_shape) != (dataset.classes, dataset.image_shape):
        msg = (
            f"{name} has classes {source.classes} and shape {source.image_shape}, the audited data "
            f"{dataset.classes} and {dataset.image_shape}. Both must agree."
        )
        raise DataProblem(msg)


def _require_classes(selection: Selection, victims: Sequence[Selection], role: str) -> None:
    count = selection.count_by_class()
    needed = {selection.dataset.classes[label] for batch in victims for label in batch.labels}
    empty = sorted(name for name in needed if not count[name])
    if empty:
        msg = f"There are no {role} of class '{empty[0]}', which the victims have. Choose another split or source."
        raise DataProblem(msg)
