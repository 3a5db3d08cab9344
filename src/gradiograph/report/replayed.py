"""What a planted round says of a captured update: whether the audit describes the app that sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Told(NamedTuple):
    """Whether the app was found to be another than the audit says, and a sentence for the reader."""

    differs: bool
    sentence: str


def replayed(header: Mapping[str, Any]) -> Told:
    """What a log's header says of the planted round; nothing where no update was captured."""
    if "replayed" not in header:
        return Told(differs=False, sentence="")
    found = header["replayed"]
    if found is None:
        sentence = (
            "Whether the audit describes the app that sent this update was not checked: an attack that failed may have "
            "replayed another protocol. Plant known films (captured.planted)."
        )
        return Told(differs=False, sentence=sentence)
    if found["agrees"]:
        hidden = f", as far as its noise shows ({found['noise']:.0%} of the update)" if found["noise"] else ""
        return Told(differs=False, sentence=f"On planted films our replay gives what the app sent{hidden}.")
    sentence = (
        f"The replay of the planted films does not give the update that the app sent: relative error "
        f"{found['error']:.2g}. {found['differs']} So nothing was attacked: correct the audit file and run again."
    )
    return Told(differs=True, sentence=sentence)
