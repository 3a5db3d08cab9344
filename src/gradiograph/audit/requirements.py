"""What must hold between the parts of an audit before it runs; each raises `BadInput` where it does not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gradiograph.audit.catalogue import label, stack_label
from gradiograph.audit.films import masks_of
from gradiograph.audit.trainings import federation, judged_records
from gradiograph.core.errors import BadSetting, DataProblem
from gradiograph.core.example_gradients import require_separate_examples
from gradiograph.utility import CASE_MEASURES, MEASURES

if TYPE_CHECKING:
    from gradiograph.audit.plan import Plan
    from gradiograph.audit.spec import Spec
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.task import Task


def require_distinct(spec: Spec) -> None:
    """No component stands twice in a list."""
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


def require_trainable(made: Plan) -> None:
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


def require_frequencies(spec: Spec, image_shape: tuple[int, int, int]) -> None:
    """The images have as many frequencies as the ceiling's spectrum asks for."""
    asked, (_, height, width) = spec.ceiling.jacobian if spec.ceiling else 0, image_shape
    if asked > height * width:
        msg = f"ceiling.jacobian = {asked}, but images of {height} x {width} have {height * width} frequencies at most."
        raise BadSetting(f"{msg} Lower it.")


def require_fit(made: Plan, task: Task, protocol: Protocol, name: str) -> None:
    """The task, the data and the score are of one kind, and so are their classes."""
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


def require_examples_apart(made: Plan, task: Task, protocol: Protocol) -> None:
    """Where a defence acts on examples, the task keeps them apart and the attack's replay knows the variance."""
    if any(made.builder.chain(stack).example_stage for stack in made.spec.defences):
        require_separate_examples(task)
        protocol.noise_gain(made.spec.victims.size)


def require_sums(made: Plan) -> None:
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
