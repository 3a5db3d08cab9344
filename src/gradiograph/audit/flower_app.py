"""The Flower app that trains an audit's federations. Flower imports it, on the server and on every node.

The run's settings are `run`, the folder of the run, and `folder`, what relative paths in the audit are relative to. A
node has settings of its own: `partition-id`, its site; on another machine `audit`, its copy of the audit file; and
`own-films`, where the training films that its copy names are all its own, and none of another site's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from gradiograph.audit.plan import Plan, plan
from gradiograph.audit.spec import load_spec, parse_spec
from gradiograph.audit.trainings import FEDERATED, POOLED, federation, run_training
from gradiograph.core.errors import BadSetting
from gradiograph.federation import send
from gradiograph.flower.client import client_app
from gradiograph.flower.server import server_app
from gradiograph.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradiograph.core.defence import Defence
    from gradiograph.core.tensors import Update
    from gradiograph.federation import Federation
    from gradiograph.flower.client import Asked, Settings
    from gradiograph.flower.server import Fleet


def _answer(settings: Settings, asked: Asked) -> tuple[Update, Defence]:
    places = (_text(settings, key) for key in ("audit", "run", "folder"))
    trained = _federation(*places, asked.training, own_films=bool(settings.get("own-films")))
    update = send(trained, asked.state, asked.number, asked.client)
    if update is None:
        msg = f"Client {asked.client} sends nothing."
        raise BadSetting(msg)
    return update, trained.defence


def _train(nodes: Callable[[float], Fleet], settings: Settings) -> None:
    made, log = _opened("", _text(settings, "run"), _text(settings, "folder")), Log.open(Path(_text(settings, "run")))
    fleet = nodes(made.utility.engine.timeout)
    for planned in made.trainings:
        if planned.arm == FEDERATED:
            trainable = made.task(planned.task, planned.seed).trainable
            run_training(made, log, planned, lambda _: None, partial(fleet.collect, planned.id, trainable))


@cache
def _opened(audit: str, run: str, folder: str) -> Plan:
    if audit:
        return plan(load_spec(Path(audit)), Path(audit).parent)
    return plan(parse_spec(Log.open(Path(run)).header["spec"]), Path(folder))


@cache
def _federation(audit: str, run: str, folder: str, training: str, *, own_films: bool) -> Federation:
    made = _opened(audit, run, folder)
    planned = next((planned for planned in made.trainings if planned.id == training), None)
    if planned is None:
        msg = "This node's audit file has no such training: give every node the same file as the server's."
        raise BadSetting(msg)
    if not own_films:
        return federation(made, planned)
    whole = federation(made, replace(planned, arm=POOLED))
    return replace(whole, sites=whole.sites * made.utility.sites)


def _text(settings: Settings, key: str) -> str:
    return str(settings.get(key, ""))


client = client_app(_answer)
server = server_app(_train)
