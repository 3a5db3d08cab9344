"""Training an audit's federations on Flower, from the process that runs the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.audit.trainings import FEDERATED
from gradiograph.core.errors import TrainingFailed
from gradiograph.flower.run import run_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gradiograph.audit.plan import Plan
    from gradiograph.log import Log

LOG = "flower.log"
"""Flower's own messages, in the run's folder."""
_APP = "gradiograph.audit.flower_app"


def train_on_flower(made: Plan, folder: Path, log: Log, progress: Callable[[int, int, float, str], None]) -> None:
    """Train what the log does not have; a training that cannot go on is written as such, as in process.

    Args:
        made: The checked audit.
        folder: What relative paths in it are relative to.
        log: The run's log, which the Flower app writes.
        progress: Called while Flower trains.

    Raises:
        TrainingFailed: Flower's run ended before all trainings were done; `--resume` goes on from their checkpoints.
    """
    federated = [planned.id for planned in made.trainings if planned.arm == FEDERATED]
    total = len(made.trainings) + len(made.cells)

    def missing() -> list[str]:
        return [training for training in federated if not log.trainings.has(training)]

    if not missing():
        return
    run_app(
        {"serverapp": f"{_APP}:server", "clientapp": f"{_APP}:client"},
        {"run": str(log.directory.resolve()), "folder": str(folder.resolve())},
        nodes=made.utility.sites,
        superlink=made.utility.engine.superlink,
        log=log.directory / LOG,
        waiting=lambda: progress(len(federated) - len(missing()), total, 0.0, "training on Flower"),
    )
    left = missing()
    if left:
        msg = (
            f"Flower's run ended with {len(left)} of {len(federated)} trainings not done; {LOG} in the run's folder "
            "says why. Mend it and continue with --resume."
        )
        raise TrainingFailed(msg)
