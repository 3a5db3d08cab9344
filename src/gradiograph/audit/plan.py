"""Everything that can be refused before an audit runs, and what the run is built from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import label, prepare
from gradiograph.audit.device import require_device
from gradiograph.audit.films import AuditFilms, Selection, open_films, planar_shape
from gradiograph.audit.grid import GridCell, ceiling_cells, cells, membership_cells
from gradiograph.audit.privacy import calibrated_chain
from gradiograph.audit.requirements import (
    require_distinct,
    require_examples_apart,
    require_fit,
    require_frequencies,
    require_sums,
    require_trainable,
)
from gradiograph.audit.trainings import PlannedTraining, planned_trainings
from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.fitted import require_disjoint
from gradiograph.data.sites import assign_clients
from gradiograph.metrics import require_stranger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradiograph.audit.client import CapturedRound
    from gradiograph.audit.spec import Films, Spec
    from gradiograph.audit.utility_spec import Utility
    from gradiograph.core.attack import Attack
    from gradiograph.core.records import Dataset, Record
    from gradiograph.core.task import Task


@dataclass(frozen=True, kw_only=True)
class Builder:
    """Builds components from an audit file whose relative paths are relative to `folder`."""

    folder: Path

    def make(self, kind: str, config: Mapping[str, Any], *context: object) -> Any:  # noqa: ANN401 - the kind's type
        """The component of this configuration; raises `BadInput` where it does not exist or fit."""
        return registry.build(kind, prepare(kind, dict(config), self.folder), *context)

    def chain(self, stack: Sequence[Mapping[str, Any]]) -> Chain:
        """A defence stack as one channel."""
        return Chain(stages=tuple(self.make("defence", config) for config in stack))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An audit that has passed every check that needs no attack."""

    spec: Spec
    builder: Builder
    films: AuditFilms
    cells: tuple[GridCell, ...] = field(repr=False)
    captured: CapturedRound | None = None
    trainings: tuple[PlannedTraining, ...] = field(default=(), repr=False)

    @property
    def utility(self) -> Utility:
        """The table `utility`, of an audit that has one."""
        if self.spec.utility is None:
            msg = "This audit trains nothing: it has no table `utility`."
            raise BadSetting(msg)
        return self.spec.utility

    @cached_property
    def segments(self) -> bool:
        """Whether the tasks segment: all do, or none."""
        return self.task(self.spec.task[0], self.spec.seeds[0]).segments

    @property
    def reads_masks(self) -> bool:
        """Whether attacks read masks beside the images: the tasks segment, and masks are not granted as labels."""
        return self.segments and not self.spec.threat.knows_labels

    @cached_property
    def sites(self) -> Dataset:
        """The audited data with every patient at a site of the federation."""
        partition = self.utility.partition
        return assign_clients(
            self.films.dataset,
            self.utility.sites,
            partition.seed,
            alpha=partition.dirichlet,
            by_site=partition.by_site,
        )

    def chain(self, protocol: Mapping[str, Any], stack: Sequence[Mapping[str, Any]]) -> Chain:
        """A defence stack as one channel, with the noise that its budget asks for under this protocol."""
        return calibrated_chain(self, protocol, stack)

    @cached_property
    def foreign(self) -> Selection | None:
        """The films of the foreign site with the audit's classes for their own; None where there is none.

        Raises:
            DataProblem: they have another size, or a class that stands for none of the audit's.
        """
        asked = self.utility.foreign
        if asked is None:
            return None
        source: Dataset = registry.build("data", prepare("data", asked.source, self.builder.folder))
        own = self.films.dataset
        if source.image_shape != own.image_shape:
            shapes = f"films of {source.image_shape}, the audited data of {own.image_shape}"
            msg = f"utility.foreign has {shapes}. Both must agree."
            raise DataProblem(msg)
        meant = [asked.classes.get(name, name) for name in source.classes]
        unknown = [name for name, known in zip(source.classes, meant, strict=True) if known not in own.classes]
        if unknown:
            msg = (
                f"utility.foreign: class '{unknown[0]}' stands for none of {', '.join(own.classes)}. Say which in "
                f"utility.foreign.classes = {{ {unknown[0]} = '{own.classes[0]}', ... }}."
            )
            raise DataProblem(msg)
        if self.segments and source.mask_classes != own.mask_classes:
            msg = (
                f"utility.foreign has masks of {', '.join(source.mask_classes) or 'nothing'}, the audited data of "
                f"{', '.join(own.mask_classes)}. Both must agree."
            )
            raise DataProblem(msg)
        records = source.select(split=asked.split)
        renamed = tuple(replace(record, label=own.classes.index(meant[record.label])) for record in records)
        return Selection(dataset=source, records=renamed)

    def task(self, config: Mapping[str, Any], seed: int) -> Task:
        """The task with the initial weights of this seed."""
        made: Task = self.builder.make("task", config, self.films.dataset.image_shape, seed)
        return made


def plan(spec: Spec, folder: Path) -> Plan:
    """Check every component and every pair of them, and open the data.

    Raises:
        BadInput: the first problem found, with the value and the next step.
    """
    builder = Builder(folder=folder)
    require_device(spec.device)
    require_distinct(spec)
    for kind, configs in _component_configs(spec):
        for config in configs:
            prepare(kind, dict(config), folder)
    _require_knowledge(spec, builder)
    prepared = spec.model_copy(
        update={
            "data": prepare("data", spec.data, folder),
            "public": located(spec.public, folder),
            "gallery": spec.gallery and located(spec.gallery, folder),
            "networks": {name: folder / path for name, path in spec.networks.items()},
        }
    )
    films = open_films(prepared)
    require_strangers(spec, folder, (record for batch in films.victims for record in batch.records))
    attacks = {label(config): build_attack(builder, config) for config in _attack_configs(spec)}
    shape = planar_shape(films.dataset)
    grid = (*cells(spec), *ceiling_cells(spec, _searches(attacks, shape)), *membership_cells(spec))
    made = Plan(spec=prepared, builder=builder, films=films, cells=grid, trainings=planned_trainings(spec))
    require_frequencies(spec, shape)
    for config in spec.task:
        task = made.task(config, spec.seeds[0])
        for protocol in spec.protocol:
            require_fit(made, task, builder.make("protocol", protocol), label(config))
            require_examples_apart(made, task, builder.make("protocol", protocol))
        for attack in attacks.values():
            attack.check(task)
    require_trainable(made)
    require_sums(made)
    return made


def build_attack(builder: Builder, config: Mapping[str, Any]) -> Attack:
    """The attack of this configuration."""
    attack: Attack = builder.make("attack", config)
    return attack


def located(films: Films, folder: Path) -> Films:
    """The same films; a source of their own with its settings checked and its paths absolute."""
    if films.source is None:
        return films
    own = {"split": films.split, "limit": films.limit}
    return films.model_validate({**own, **prepare("data", films.source, folder)})


def require_strangers(spec: Spec, folder: Path, victims: Iterable[Record]) -> None:
    """Refuse a prior or a judge that was fitted to films of a patient that is attacked.

    Raises:
        BadInput: it was, or it does not say to whose films.
    """
    patients = {record.patient for record in victims}
    for config in _attack_configs(spec):
        for file in fitted_files(config):
            require_disjoint(folder / file, patients)
    for name in sorted(set(spec.networks) - {"lpips"}):  # all others are judges
        require_stranger(folder / spec.networks[name], patients)


def fitted_files(config: Mapping[str, Any]) -> list[Path]:
    """The files of an attack, and of one inside it, that were fitted to patients' films."""
    _, settings = registry.check("attack", config)
    names = ("prior", "generator", "restorer", "denoiser")
    files = [settings[name] for name in names if isinstance(settings.get(name), Path)]
    return [*files, *(fitted_files(settings["of"]) if "of" in settings else [])]


def _component_configs(spec: Spec) -> list[tuple[str, Sequence[Mapping[str, Any]]]]:
    return [
        ("data", [spec.data]),
        ("task", spec.task),
        ("protocol", spec.protocol),
        *(("defence", stack) for stack in spec.defences),
        ("server", [spec.utility.server] if spec.utility else []),
        ("attack", _attack_configs(spec)),
        ("metric", [*spec.metrics, *spec.metrics_if_available]),
    ]


def _attack_configs(spec: Spec) -> list[dict[str, Any]]:
    return [*spec.attacks, *(spec.defended.attacks or [])]


def _require_knowledge(spec: Spec, builder: Builder) -> None:
    for config in _attack_configs(spec):
        spec.threat.require(config["use"], *build_attack(builder, config).requires)


def _searches(attacks: Mapping[str, Attack], image_shape: tuple[int, int, int]) -> frozenset[str]:
    """The labels of the attacks that search, so that the ceiling can begin them near the truth."""
    grey = torch.full((1, *image_shape), 0.5)
    return frozenset(name for name, attack in attacks.items() if attack.started_at(grey) is not None)
