"""The privacy budget of an audit: the noise that it asks for, and what trainings and attacked updates spend of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradiograph.accounting import (
    Account,
    account,
    calibrated_noise,
    identification_bound,
    meaning,
    membership_advantage,
    spends,
)
from gradiograph.audit.catalogue import label, stack_label
from gradiograph.audit.exposure import events, exposure
from gradiograph.audit.trainings import site_records
from gradiograph.core.privacy import Exposure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradiograph.audit.plan import Plan
    from gradiograph.core.defence import Chain, Defence
    from gradiograph.core.privacy import PrivacyEvent
    from gradiograph.core.protocol import Protocol

_BEFORE_THE_NOISE = "The server sees each update before the noise: against the server nothing is promised."


def calibrated_chain(made: Plan, protocol: Mapping[str, Any], stack: Sequence[Mapping[str, Any]]) -> Chain:
    """A defence stack as one channel, with the noise that its budget asks for.

    The budget is that of the whole training at the site that needs most noise, in every round; without a training, that
    of the attacked client. The attacked client uses the same noise.

    Raises:
        BadInput: a component does not exist or fit, or no noise has the budget.
    """
    chain = made.builder.chain(stack)
    if not any(stage.budget for stage in chain.stages):
        return chain
    exposed = exposures(made, made.builder.make("protocol", dict(protocol)))
    return replace(chain, stages=tuple(_with_noise(stage, exposed) for stage in chain.stages))


def exposures(made: Plan, protocol: Protocol) -> tuple[Exposure, ...]:
    """How the sites' data is used in the whole training; without one, how the attacked client's is."""
    if made.spec.utility is None:
        return (attacked(made, protocol),)
    rounds = made.utility.rounds
    return tuple(
        exposure(f"site {site}", records, protocol, rounds)
        for site, records in enumerate(site_records(made))
        if records
    )


def attacked(made: Plan, protocol: Protocol) -> Exposure:
    """How the films behind the attacked updates are used; no patient is twice among them."""
    size = made.spec.victims.size
    return Exposure(
        site="attacked client",
        images=size,
        patients=size,
        sample_rate=protocol.sample_rate(size),
        steps=protocol.num_steps(size),
        rounds=made.spec.victims.rounds,
    )


def statements(made: Plan) -> Iterator[dict[str, Any]]:
    """For every protocol and every protection with a formal guarantee: what is spent, and what it means.

    Two budgets, which differ: that of the training, and that of the attacked update by itself, whose films are known to
    take part. The bound on identification is for the latter, because that is what the attacks see: among as many films
    as the smallest class of the gallery has, and the film itself.
    """
    films = min(made.films.gallery.count_by_class().values()) + 1
    for config in made.spec.protocol:
        protocol: Protocol = made.builder.make("protocol", config)
        for stack in made.spec.defences:
            chain = calibrated_chain(made, config, stack)
            spent = events(chain, [attacked(made, protocol)])
            if spent:
                trained = events(chain, exposures(made, protocol)) if made.spec.utility else ()
                hidden = any(stage.placed == "aggregator" for stage in chain.stages)
                yield _statement(config, stack, () if hidden else spent, trained or spent, films)


def _statement(
    protocol: Mapping[str, Any],
    stack: Sequence[Mapping[str, Any]],
    seen: Sequence[PrivacyEvent],
    trained: Sequence[PrivacyEvent],
    films: int,
) -> dict[str, Any]:
    """One protection; nothing of it is in what the server sees where the noise comes later."""
    told = list(meaning(account(seen)[0], spends(seen), films)) if seen else [_BEFORE_THE_NOISE]
    return {
        "protocol": label(dict(protocol)),
        "defence": stack_label([dict(config) for config in stack]),
        "noise_multiplier": trained[0].noise_multiplier,
        "trained": [entry(one) for one in account(trained)],
        "attacked": [entry(one) for one in account(seen)],
        "films": films,
        "identification_bound": identification_bound(spends(seen), films) if seen else 1.0,
        "membership_advantage": membership_advantage(spends(seen)) if seen else 1.0,
        "meaning": told,
    }


def entry(one: Account) -> dict[str, Any]:
    """An account as JSON."""
    fields = ("site", "unit", "delta", "epsilon", "kind", "values", "difference", "group", "group_epsilon", "claimed")
    return {name: getattr(one, name) for name in fields}


def _with_noise(stage: Defence, exposed: Sequence[Exposure]) -> Defence:
    if stage.budget is None:
        return stage
    epsilon, delta = stage.budget
    costs = [stage.with_noise(1.0).privacy(one) for one in exposed]
    return stage.with_noise(max(calibrated_noise(spends([cost]), epsilon, delta) for cost in costs if cost))
