"""What scores the pictures of an audit: its metrics, and the films that they compare with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.audit.catalogue import label
from gradiograph.audit.scoring import build_metrics, scoring_context, to_rows
from gradiograph.core.records import PATIENT
from gradiograph.metrics import JUDGE, Metric, judge_available, lpips_available, mask_dice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from gradiograph.audit.films import AuditFilms
    from gradiograph.audit.plan import Plan
    from gradiograph.audit.spec import Spec
    from gradiograph.core.records import Row
    from gradiograph.core.scoring import Score, ScoringContext

SEARCH = "identification"
"""The metric that searches the gallery."""
READING = "finding_agreement"
"""The metric that reads findings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attacked:
    """The films of a batch, as pictures are scored against them.

    Attributes:
        images: (B, C, H, W) in [0, 1].
        labels: int64 (B,).
        names: The pseudonym of each.
        places: Of those whose patient has another film.
        others: These other films (n, C, H, W).
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    places: tuple[int, ...] = ()
    others: Tensor | None = None

    @classmethod
    def of(cls, films: AuditFilms, batch: int, names: Sequence[str]) -> Attacked:
        """Those of an audit's batch."""
        victims, (places, others) = films.victims[batch], films.other_films(batch)
        return cls(
            images=torch.from_numpy(victims.read()),
            labels=torch.from_numpy(victims.labels),
            names=tuple(names),
            places=places,
            others=torch.from_numpy(others.read()) if places else None,
        )


@dataclass(frozen=True, kw_only=True)
class Judges:
    """What scores a cell.

    Attributes:
        metrics: Compare a picture with the attacked film.
        pairwise: Those of them that say how near two pictures are, and look at no other film.
        of_patients: Compare it with another film of the same patient, where there is one.
        context: The gallery, the mean film, and the networks.
        not_measured: The optional metrics that need a download: {"what", "why"}.
    """

    metrics: tuple[Metric, ...]
    pairwise: tuple[Metric, ...]
    of_patients: tuple[Metric, ...]
    context: ScoringContext
    not_measured: tuple[dict[str, str], ...] = field(default=())

    @classmethod
    def of(
        cls,
        configs: Sequence[Mapping[str, Any]],
        context: ScoringContext,
        not_measured: Sequence[dict[str, str]] = (),
    ) -> Judges:
        """The judges that these metrics ask for."""
        return cls(
            metrics=build_metrics(configs),
            pairwise=build_metrics([config for config in configs if config["use"] not in (SEARCH, READING)]),
            of_patients=build_metrics(of_patients(configs)),
            context=context,
            not_measured=tuple(not_measured),
        )

    def check(self, made: Plan) -> list[Score]:
        """Score victims against themselves: a metric without its weights fails now, not hours later."""
        films = made.films
        found: dict[str, Score] = {}
        # The first batch, and the first that holds a patient with another film.
        known = next((batch for batch in range(len(films.victims)) if films.other_films(batch)[0]), 0)
        for batch in dict.fromkeys((0, known)):
            victims = films.victims[batch]
            attacked = Attacked.of(films, batch, [str(place) for place in range(len(victims.records))])
            found |= {score.name: score for score, _ in self.scores(attacked.images, attacked)}
        if made.reads_masks:
            masks = films.victims[0].read_masks()
            dice = mask_dice(masks, masks)
            found[dice.name] = dice
        return list(found.values())

    def scores(self, guess: Tensor, attacked: Attacked) -> list[tuple[Score, tuple[str, ...]]]:
        """Every score, each with the pseudonyms of the films that it is of.

        Args:
            guess: Pictures (B, C, H, W) in the order of the attacked films.
            attacked: These films.
        """
        found = [
            (score, attacked.names)
            for metric in self.metrics
            for score in metric(guess, attacked.images, attacked.labels, self.context)
        ]
        if attacked.others is None:
            return found
        places = list(attacked.places)
        names, labels = tuple(attacked.names[place] for place in places), attacked.labels[places]
        return found + [
            (score, names)
            for metric in self.of_patients
            for score in metric(guess[places], attacked.others, labels, self.context)
        ]

    def rows(self, guess: Tensor, attacked: Attacked, key: Mapping[str, Any]) -> tuple[Row, ...]:
        """One row per score and film of a cell with these labels."""
        return tuple(row for score, names in self.scores(guess, attacked) for row in to_rows([score], names, key))


def judges(made: Plan) -> Judges:
    """The metrics of an audit: those it asks for, and of the optional ones those that need no download."""
    optional, missing = _available(made.spec)
    asked = [*made.spec.metrics, *optional]
    context = scoring_context(made.films, made.spec.networks, b"")
    return Judges.of(asked, context, not_measured=missing)


def of_patients(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The searches of the gallery among these metrics, as those for another film of the patient.

    >>> of_patients([{"use": "lpips"}, {"use": "identification", "distance": "pixels"}])
    [{'use': 'identification', 'distance': 'pixels', 'scores': 'patient_identification'}]
    """
    searches = [config for config in configs if config["use"] == SEARCH]
    return [{**config, "scores": PATIENT + config.get("scores", SEARCH)} for config in searches]


def _available(spec: Spec) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The optional metrics that can be had without a download, and why the others cannot."""
    found: list[dict[str, Any]] = []
    missing = []
    for config in spec.metrics_if_available:
        judge = config.get("distance", "lpips") if config["use"] == SEARCH else config["use"]
        reason = None
        if judge == "lpips":
            reason = lpips_available(config.get("network", "alex"), spec.networks)
        elif judge in (JUDGE, READING, "feature_distance"):
            reason = judge_available(spec.networks, config.get("judge", JUDGE))
        if reason is None:
            found.append(config)
        else:
            missing.append({"what": label(config), "why": reason})
    return found, missing
