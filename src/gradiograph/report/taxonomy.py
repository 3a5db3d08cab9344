"""Where an audit's attacker and its attacks stand in the taxonomies of the literature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


PARADIGMS = {
    "iteration-based": {
        "dlg",
        "gradient_matching",
        "idlg",
        "inverting_gradients",
        "latent_matching",
        "map",
        "restored",
        "rog",
    },
    "recursion-based": {
        "analytic",
        "april",
        "conv_unmixing",
        "fishing",
        "imprint",
        "mask_differencing",
        "r_gap",
        "spear",
        "trap_weights",
        "unmixing",
    },
}
"""Zhang et al. 2022, arXiv 2206.07284: attacks that search for images, and attacks that solve for them."""


class ThreatClass(NamedTuple):
    """A threat model of Carletti et al. 2025: its letter, its name, and what of ours puts the audit there."""

    letter: str
    name: str
    why: str


def threat_class(threat: Mapping[str, Any]) -> ThreatClass:
    """The weakest of the threat models A to H of Carletti et al. that grants what this audit grants.

    Carletti et al. 2025, "SoK: Gradient Inversion Attacks in Federated Learning", USENIX Security 25: A sees updates, B
    has basic knowledge of the data, C knows the details of local training, D has surrogate data, E the clients'
    statistics too; F manipulates the model, G does so with surrogate data, H chooses the clients as well.

    Args:
        threat: The fields of a `ThreatModel`.
    """
    active, public = threat.get("server") == "malicious", bool(threat.get("public_data"))
    if active:
        return (
            ThreatClass("G", "Data-Enhanced Manipulator", "it may change the model that it sends, and has public films")
            if public
            else ThreatClass("F", "Active Manipulator", "it may change the model that it sends")
        )
    if public:
        return ThreatClass("D", "Data-Enhanced Eavesdropper", "it has public films of other patients")
    if threat.get("knows_protocol"):
        return ThreatClass("C", "Parameter-Aware Eavesdropper", "it knows how the clients train")
    return ThreatClass("B", "Informed Eavesdropper", "it knows the model and what images look like")


def paradigms(attacks: Iterable[str]) -> str:
    """Which of the paradigms of Zhang et al. an audit's attacks are of; a user's own attacks are in neither.

    Args:
        attacks: Their labels.

    >>> paradigms(["map(steps=5)", "unmixing", "mine"])
    'iteration-based (map) and recursion-based (unmixing)'
    """
    names = {attack.partition("(")[0] for attack in attacks}
    found = {kind: sorted(names & known) for kind, known in PARADIGMS.items()}
    return " and ".join(f"{kind} ({', '.join(members)})" for kind, members in found.items() if members)


def beyond(threat: Mapping[str, Any]) -> str:
    """What this audit grants that the taxonomy does not speak of; empty where that is nothing."""
    granted = {
        "knows_labels": "the labels of the films",
        "knows_batch_order": "the order of the mini-batches",
        "knows_augmentation": "the augmentation as drawn",
    }
    found = [words for name, words in granted.items() if threat.get(name)]
    return f"Granted on top: {', '.join(found)}." if found else ""
