"""The privacy events behind a file: those that a run recorded, those that an audit plans, or a list of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.accounting import is_ledger, load_ledger, read_ledger
from gradiograph.audit.catalogue import label, stack_label
from gradiograph.audit.exposure import events
from gradiograph.audit.plan import plan
from gradiograph.audit.privacy import calibrated_chain, exposures
from gradiograph.audit.spec import parse_spec
from gradiograph.log import Log

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.core.privacy import PrivacyEvent


def ledgers(path: Path) -> dict[str, tuple[PrivacyEvent, ...]]:
    """The events of each training, by what it is; nothing where no protection has a formal guarantee.

    Args:
        path: The folder of a run (what its trainings recorded), an audit file (what it plans), or a file of events.

    Raises:
        BadInput: it cannot be read.
    """
    if path.is_dir():
        cells = Log.open(path).trainings.cells()
        recorded = {f"{cell.defence}, {cell.protocol}, seed {cell.seed}": cell.events for cell in cells}
        return {name: found for name, found in recorded.items() if found}
    content = load_ledger(path)
    if is_ledger(content):
        return {path.stem: read_ledger(content)}
    made = plan(parse_spec(content), path.parent)
    planned = {}
    for protocol in made.spec.protocol:
        exposed = exposures(made, made.builder.make("protocol", protocol))
        for stack in made.spec.defences:
            found = events(calibrated_chain(made, protocol, stack), exposed)
            if found:
                planned[f"{stack_label(list(stack))}, {label(protocol)}"] = found
    return planned
