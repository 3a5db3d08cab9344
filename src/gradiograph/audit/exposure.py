"""How often a site's films are used in a training, and what that costs under a defence."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradiograph.core.privacy import Exposure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradiograph.core.defence import Chain
    from gradiograph.core.privacy import PrivacyEvent
    from gradiograph.core.protocol import Protocol
    from gradiograph.core.records import Record
    from gradiograph.core.rounds import RoundRecord


def exposure(site: str, records: Sequence[Record], protocol: Protocol, rounds: int) -> Exposure:
    """How the films of one site are used in this many rounds."""
    images = Counter(record.patient for record in records)
    return Exposure(
        site=site,
        images=len(records),
        patients=len(images),
        most_images=max(images.values()),
        sample_rate=protocol.sample_rate(len(records)),
        steps=protocol.num_steps(len(records)),
        rounds=rounds,
    )


def events(chain: Chain, exposed: Sequence[Exposure]) -> tuple[PrivacyEvent, ...]:
    """What the stages with a formal guarantee cost in these exposures."""
    found = (stage.privacy(one) for stage in chain.stages for one in exposed)
    return tuple(event for event in found if event is not None)


def recorded(
    chain: Chain, sites: Sequence[Sequence[Record]], protocol: Protocol, history: Sequence[RoundRecord], failed: int = 0
) -> tuple[PrivacyEvent, ...]:
    """What a training cost at each site, by the rounds that the site had a part in.

    Args:
        chain: The clients' defence.
        sites: The films of each site.
        protocol: What clients do in a round.
        history: The rounds that were.
        failed: Rounds after them that failed: what was sent in them was seen.
    """
    rounds = Counter(outcome.client for record in history for outcome in record.outcomes)
    taking_part = [(site, rounds[site] + failed) for site in range(len(sites)) if rounds[site] + failed]
    return events(chain, [exposure(f"site {site}", sites[site], protocol, count) for site, count in taking_part])
