"""Everything that can be refused before an audit runs, and what the run is built from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import label, prepare, stack_label
from gradiograph.audit.films import AuditFilms, Selection, masks_of, open_films, planar_shape
from gradiograph.audit.grid import GridCell, ceiling_cells, cells
from gradiograph.audit.privacy import calibrated_chain
from gradiograph.audit.trainings import PlannedTraining, federation, judged_records, planned_trainings
from gradiograph.core import registry
from gradiograph.core.defence import Chain
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.example_gradients import require_separate_examples
from gradiograph.core.fitted import require_disjoint
from gradiograph.data.sites import assign_clients
from gradiograph.metrics import require_stranger
from gradiograph.utility import CASE_MEASURES, MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradiograph.audit.client import CapturedRound
    from gradiograph.audit.spec import Films, Spec
    from gradiograph.audit.utility_spec import Utility
    from gradiograph.core.attack import Attack
    from gradiograph.core.protocol import Protocol
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
    _require_distinct(spec)
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
    grid = (*cells(spec), *ceiling_cells(spec, _searches(attacks, shape)))
    made = Plan(spec=prepared, builder=builder, films=films, cells=grid, trainings=planned_trainings(spec))
    _require_frequencies(spec, shape)
    for config in spec.task:
        task = made.task(config, spec.seeds[0])
        for protocol in spec.protocol:
            _require_fit(made, task, builder.make("protocol", protocol), label(config))
            _require_examples_apart(made, task, builder.make("protocol", protocol))
        for attack in attacks.values():
            attack.check(task)
    _require_trainable(made)
    _require_sums(made)
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
    if "judge" in spec.networks:
        require_stranger(folder / spec.networks["judge"], patients)


def fitted_files(config: Mapping[str, Any]) -> list[Path]:
    """The files of an attack, and of one inside it, that were fitted to patients' films."""
    _, settings = registry.check("attack", config)
    files = [settings[name] for name in ("prior", "restorer", "denoiser") if isinstance(settings.get(name), Path)]
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


def _require_distinct(spec: Spec) -> None:
    lists = {
        "task": [label(config) for config in spec.task if "use" in config],
        "protocol": [label(config) for config in spec.protocol if "use" in config],
        "defences": [stack_label(stack) for stack in spec.defences if all("use" in config for config in stack)],
        "attacks": [label(config) for config in spec.attacks if "use" in config],
    }
    for key, labels in lists.items():
        twice = [entry for entry in labels if labels.count(entry) > 1]
        if twice:
            msg = f"'{twice[0]}' stands twice in {key}; give each once."
            raise BadSetting(msg)


def _require_knowledge(spec: Spec, builder: Builder) -> None:
    for config in _attack_configs(spec):
        spec.threat.require(config["use"], *build_attack(builder, config).requires)


def _searches(attacks: Mapping[str, Attack], image_shape: tuple[int, int, int]) -> frozenset[str]:
    """The labels of the attacks that search, so that the ceiling can begin them near the truth."""
    grey = torch.full((1, *image_shape), 0.5)
    return frozenset(name for name, attack in attacks.items() if attack.started_at(grey) is not None)


def _require_trainable(made: Plan) -> None:
    """Every federation can be put together, its engine is installed, and there are test films of every class."""
    if made.trainings and made.utility.engine.use == "flower":
        import_module("gradiograph.flower")
    for planned in made.trainings:
        if not planned.defence and planned.seed == made.spec.seeds[0]:
            federation(made, planned)
    classes = made.films.dataset.classes
    if made.trainings and made.foreign is not None and not made.foreign.records:
        msg = "utility.foreign has no films in its split; take another split."
        raise DataProblem(msg)
    if made.trainings and {record.label for record in judged_records(made)} != set(range(len(classes))):
        msg = (
            f"utility: split '{made.utility.test}' has no films of some of the {len(classes)} classes beside the "
            "attacked patients. Take another split, or attack fewer patients."
        )
        raise DataProblem(msg)


def _require_frequencies(spec: Spec, image_shape: tuple[int, int, int]) -> None:
    asked, (_, height, width) = spec.ceiling.jacobian if spec.ceiling else 0, image_shape
    if asked > height * width:
        msg = f"ceiling.jacobian = {asked}, but images of {height} x {width} have {height * width} frequencies at most."
        raise BadSetting(f"{msg} Lower it.")


def _require_fit(made: Plan, task: Task, protocol: Protocol, name: str) -> None:
    dataset = made.films.dataset
    if task.segments != made.segments:
        msg = f"task '{name}' and the first task are of two kinds: one segments, one classifies. Audit each by itself."
        raise BadSetting(msg)
    score = made.spec.utility and made.spec.utility.score
    if score and (score in CASE_MEASURES) != task.segments:
        kind, right = ("segments", CASE_MEASURES) if task.segments else ("classifies", MEASURES)
        msg = f"utility.score = '{score}' does not judge task '{name}', which {kind}. Choose {', '.join(right)}."
        raise BadSetting(msg)
    if task.segments:
        masks_of(dataset, dataset.records[:1])
    what, classes = ("structures", dataset.mask_classes) if task.segments else ("classes", dataset.classes)
    if task.num_classes != len(classes):
        msg = (
            f"task '{name}' has num_classes = {task.num_classes}, the data has {len(classes)} {what}: "
            f"{', '.join(classes)}. Set task.num_classes = {len(classes)}."
        )
        raise BadSetting(msg)
    protocol.num_steps(made.spec.victims.size)


def _require_examples_apart(made: Plan, task: Task, protocol: Protocol) -> None:
    """Where a defence acts on examples, the task keeps them apart and the attack's replay knows the variance."""
    if any(made.builder.chain(stack).example_stage for stack in made.spec.defences):
        require_separate_examples(task)
        protocol.noise_gain(made.spec.victims.size)


def _require_sums(made: Plan) -> None:
    """A defence whose noise is whole only in a sum goes with an observer of that sum, and all its clients train."""
    for stage in (stage for stack in made.spec.defences for stage in made.builder.chain(stack).stages):
        if stage.sum_of is None:
            continue
        utility = made.spec.utility
        trained = utility.sites if utility and utility.clients_per_round is None else None
        seen = made.spec.threat.clients if made.spec.threat.observer == "aggregate" else 1
        if seen != stage.sum_of or (utility and trained != stage.sum_of):
            msg = (
                f"A defence spreads its noise over {stage.sum_of} clients, and the server sees "
                f"{'each by itself' if seen == 1 else f'sums over {seen}'}: the noise in what is seen is not what is "
                f"accounted for. Set threat.observer = 'aggregate' and threat.clients = {stage.sum_of}"
                + (f", and utility.sites = {stage.sum_of} without clients_per_round." if utility else ".")
            )
            raise BadSetting(msg)
