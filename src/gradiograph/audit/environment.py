"""The header of a run's log: what was asked for, on what, with which versions."""

from __future__ import annotations

import platform
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import label, stack_label
from gradiograph.audit.device import device_name
from gradiograph.audit.privacy import statements
from gradiograph.audit.trainings import site_records
from gradiograph.core import registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradiograph.audit.plan import Plan
    from gradiograph.audit.spec import Spec
    from gradiograph.core.scoring import Score
    from gradiograph.core.task import Task

PACKAGES = ("gradiograph", "torch", "torchvision", "numpy", "scipy", "monai", "lpips", "pillow")


def header(
    plan: Plan, asked: Spec, scores: Sequence[Score], not_measured: Sequence[Mapping[str, str]], command: str
) -> dict[str, Any]:
    """The content of `audit.json` at the start of a run.

    Args:
        plan: The checked audit.
        asked: The audit file as given.
        scores: One score of each metric, for names, units and directions.
        not_measured: What could not be measured: {"what", "why"}.
        command: The command line.
    """
    spec, films = plan.spec, plan.films
    content = asked.model_dump(mode="json", exclude_unset=True)
    return {
        "status": "running",
        "error": None,
        "name": spec.name,
        "purpose": spec.purpose,
        "authorised_by": spec.authorised_by,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": content,
        "defaults": _defaults(asked, content),
        "environment": {**environment(), "device": device_name(spec.device)},
        "data": {
            "victims": films.dataset.card,
            "public": films.public.dataset.card,
            "gallery": films.gallery.dataset.card,
            "films_per_class": films.public.count_by_class(),
            "gallery_per_class": films.gallery.count_by_class(),
            "classes": list(films.dataset.classes),
            "refused": list(films.refused),
        },
        "threat": spec.threat.model_dump(),
        "tasks": [_task_entry(config, plan.task(config, spec.seeds[0])) for config in spec.task],
        "protocols": [_entry("protocol", config) for config in spec.protocol],
        "defences": [
            {
                "label": stack_label(stack),
                "family": " + ".join(config["use"] for config in stack) or "none",
                "detail": " Then: ".join(_entry("defence", config)["detail"] for config in stack) or "No protection.",
                "guarantee": " ".join(filter(None, (s.guarantee for s in plan.builder.chain(stack).stages))) or None,
            }
            for stack in spec.defences
        ],
        "privacy": list(statements(plan)),
        "attacks": [_entry("attack", config) for config in _attacks(spec)],
        "metrics": [
            {"name": score.name, "unit": score.unit, "larger_leaks_more": score.larger_leaks_more} for score in scores
        ],
        "not_measured": [dict(entry) for entry in not_measured],
        "cells_total": len(plan.cells),
        "trainings_total": len(plan.trainings),
        "utility": _utility(plan),
    }


def _utility(plan: Plan) -> dict[str, Any] | None:
    """How the protections were trained, and what each site has; None where they were not."""
    if plan.spec.utility is None:
        return None
    utility, classes = plan.spec.utility, plan.sites.classes
    counts = [Counter(record.label for record in records) for records in site_records(plan)]
    return {
        **utility.model_dump(mode="json"),
        "foreign": _foreign(plan),
        "films_per_site": [{name: count[place] for place, name in enumerate(classes)} for count in counts],
    }


def _foreign(plan: Plan) -> dict[str, Any] | None:
    """What the foreign site is, and for which of the audit's classes each of its stands."""
    if plan.utility.foreign is None or plan.foreign is None:
        return None
    source, told = plan.foreign.dataset, plan.utility.foreign.classes
    return {
        "card": source.card,
        "films": len(plan.foreign.records),
        "classes": {name: told.get(name, name) for name in source.classes},
    }


def environment() -> dict[str, Any]:
    """Versions and threads; no name of a machine or user."""
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "threads": torch.get_num_threads(),
        **{package: version(package) for package in PACKAGES},
    }


def _attacks(spec: Spec) -> list[dict[str, Any]]:
    entries = [*spec.attacks, *(spec.defended.attacks or [])]
    return list({label(config): config for config in entries}.values())


def _entry(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    component = registry.component(kind, config["use"])
    return {"label": label(config), "detail": component.summary, "paper": component.paper}


def _task_entry(config: dict[str, Any], task: Task) -> dict[str, Any]:
    state = task.state()
    return {
        "label": label(config),
        "detail": f"{task.name} on images of {' x '.join(map(str, task.image_shape))}, {task.num_classes} classes",
        "mode": task.mode,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "trainable_parameters": sum(state[name].numel() for name in task.trainable),
    }


def _defaults(asked: Spec, given: Mapping[str, Any]) -> list[str]:
    """Top-level settings, and those of the tables, that the file leaves to their defaults."""
    full = asked.model_dump(mode="json")
    lines = []
    for key, value in full.items():
        if key not in given:
            lines.append(f"{key} = {value}")
        elif isinstance(value, dict) and key in {"victims", "threat"}:
            lines += [f"{key}.{inner} = {default}" for inner, default in value.items() if inner not in given[key]]
    return lines
