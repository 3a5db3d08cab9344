"""The lint on an audit: what the epsilon of each of its defence stacks rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from gradiograph.accounting import Lint, Setup, account, lint
from gradiograph.audit.catalogue import stack_label
from gradiograph.audit.privacy import exposures
from gradiograph.audit.trainings import site_records

if TYPE_CHECKING:
    from gradiograph.audit.plan import Plan
    from gradiograph.core.defence import Defence
    from gradiograph.core.privacy import PrivacyEvent

NOISES = ("gaussian_noise", "laplace_noise")
"""The defences that add noise to the whole update."""
_CONTRACTING = ("clip", "top_k")
"""Defences that never lengthen an update, so that a clip before them still bounds what comes after."""


def lint_audit(made: Plan) -> Lint:
    """Judge every defence stack of an audit; see `gradiograph.accounting.lint`.

    A defence of another package is read by what it says of itself: whether it acts on examples, and its guarantee.
    """
    stacks = [(place, stack) for place, stack in enumerate(made.spec.defences) if stack]
    return lint(_setup(made, f"defences[{place}] {stack_label(stack)}", stack) for place, stack in stacks)


def _setup(made: Plan, where: str, stack: Sequence[Mapping[str, Any]]) -> Setup:
    names = [config["use"] for config in stack]
    chain = made.builder.chain(stack)
    if chain.example_stage is not None:
        return Setup(where=where, **{**_shared(made), **_on_examples(made, chain.example_stage)})
    private = next((stage for stage in chain.stages if stage.budget is not None or _spent(made, stage)), None)
    if private is not None:
        return Setup(where=where, **{**_shared(made), **_on_clients(made, private)})
    noises = [place for place, name in enumerate(names) if name in NOISES]
    if noises:
        return Setup(where=where, unit="client", **_shared(made), **_on_update(stack, noises[0]))
    return Setup(where=where, noiseless=() if chain.guarantee else tuple(names))


def _shared(made: Plan) -> dict[str, Any]:
    """What is so of every noise of this audit: it is on all values and from the run's own generators.

    BatchNorm in train mode sends its statistics, which no defence touches, and every update its number of examples.
    """
    return {
        "noise_on": "all",
        "noiseless": (),
        "ranges": (),
        "counts": (),
        "sends_size": True,
        "statistics": _batch_norms(made),
        "rounds": made.spec.utility.rounds if made.spec.utility else made.spec.victims.rounds,
        "accountant": "kept",
        "formula": "exact",
        "fixed_seed": False,
    }


def _batch_norms(made: Plan) -> tuple[str, ...]:
    tasks = (made.task(config, made.spec.seeds[0]) for config in made.spec.task)
    return tuple(
        f"{task.name}: {name}"
        for task in tasks
        if task.mode == "train"
        for name, layer in task.model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats
    )


def _on_examples(made: Plan, stage: Defence) -> dict[str, Any]:
    """DP-SGD: the steps clip every unit and draw it by its own coin, or all of them."""
    spent = _spent(made, stage)
    if not spent and stage.budget is None:
        return {"noiseless": ("clipping",)}
    by_patient = stage.unit == "patient"
    record = "slice" if made.films.dataset.unit in ("slice", "patch") else "image"
    most, fewest = _patients(made, by_patient=by_patient)
    return {
        "unit": "patient" if by_patient else record,
        "images_per_patient": most,
        "units": fewest,
        "sampling": "poisson",
        "accounted_sampling": "poisson",
        "clipped": True,
        "sensitivity_follows_clip": True,
        "neighbours": "add_or_remove",
        "noise_divided_by": "denominator",
        "weighting": "equal",
        **_claim(stage, spent),
    }


def _on_clients(made: Plan, stage: Defence) -> dict[str, Any]:
    """A guarantee for all data of a client; what the aggregator sees before its noise does not leave it."""
    return {
        "unit": "client",
        "sampling": "all",
        "accounted_sampling": "all",
        "clipped": True,
        "sensitivity_follows_clip": True,
        "noise_divided_by": "denominator",
        "weighting": "capped",
        "sends_size": stage.placed == "client",
        **_claim(stage, _spent(made, stage)),
    }


def _claim(stage: Defence, spent: Sequence[PrivacyEvent]) -> dict[str, Any]:
    """What is claimed; where the noise is given beside it, and not found for it, also what it is."""
    if stage.budget is not None:
        return dict(zip(("epsilon", "delta"), stage.budget, strict=True))
    claimed, delta = spent[0].claimed, spent[0].delta
    accounted = None if claimed is None else max(one.epsilon for one in account(spent))
    return {"epsilon": claimed, "delta": delta, "accounted": accounted}


def _spent(made: Plan, stage: Defence) -> list[PrivacyEvent]:
    """What the defence costs each site, under the first protocol."""
    protocol = made.builder.make("protocol", made.spec.protocol[0])
    costs = (stage.privacy(exposed) for exposed in exposures(made, protocol))
    return [event for event in costs if event is not None]


def _patients(made: Plan, *, by_patient: bool) -> tuple[int | None, int]:
    """The most images of a patient, None where the source does not say whose they are; the fewest units of a site."""
    spec = made.spec
    sites = site_records(made) if spec.utility else [made.films.dataset.select(split=spec.victims.split)]
    counts = [Counter(record.patient for record in records) for records in sites]
    known = made.films.dataset.privacy_unit == "patient"
    most = max((max(count.values(), default=1) for count in counts), default=1)
    units = [len(count) if by_patient else count.total() for count in counts]
    return (most if known else None), (min(units) if spec.utility else spec.victims.size)


def _on_update(stack: Sequence[Mapping[str, Any]], noise: int) -> dict[str, Any]:
    """Noise on the whole update: whether a clip before it bounds what it is scaled to."""
    clips = [place for place in range(noise) if stack[place]["use"] == "clip"]
    bounded = bool(clips) and all(config["use"] in _CONTRACTING for config in stack[clips[-1] : noise])
    given = stack[noise].get("clip_norm")
    by_snr = stack[noise].get("snr") is not None
    return {
        "clipped": bounded,
        "sensitivity_per_clip": given / stack[clips[-1]]["norm"] if bounded and given else None,
        "sensitivity_follows_clip": False if by_snr else None,
    }
