"""Numbers, metrics and assumptions in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradiograph.report.statistics import Interval, Summary


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a metric is shown: its title, what it says, its number format, factor and unit."""

    title: str
    meaning: str
    form: str
    factor: float = 1.0
    unit: str = ""


_SHARE: Mapping[str, Any] = {"form": ".0f", "factor": 100.0, "unit": " %"}


MEMBERSHIP_MEANING = (
    "A server that has a film asks whether it took part: at most 1 % of films that did not may be taken for members."
)


def _ranked(name: str, titles: tuple[str, str, str], meanings: tuple[str, str, str]) -> dict[str, Measure]:
    """Top-1, top-5 and rank in a gallery, by one distance."""
    formats: tuple[Mapping[str, Any], ...] = (_SHARE, _SHARE, {"form": ".0f"})
    return {
        f"{name}_{suffix}": Measure(title=title, meaning=meaning, **shown)
        for suffix, title, meaning, shown in zip(("top1", "top5", "rank"), titles, meanings, formats, strict=True)
    }


_MEASURES = {
    **_ranked(
        "identification",
        ("Identified", "Among the nearest five", "Rank"),
        (
            "The reconstruction is nearer to the attacked film than to every other patient's film of the same "
            "class in the gallery. 0 or 1 per film, so the mean is a share of films.",
            "The attacked film is among the five films of the gallery that are nearest to the reconstruction.",
            "Place of the attacked film among the gallery's films; 1 is identified.",
        ),
    ),
    **_ranked(
        "reidentification",
        ("Re-identified", "Re-identified among five", "Matcher's rank"),
        (
            "As identified, but a matcher of radiographs judges, which knows a film again through blur and noise.",
            "To the matcher the attacked film is among the five films of the gallery nearest to the reconstruction.",
            "Place of the attacked film among the gallery's films, to the matcher.",
        ),
    ),
    **_ranked(
        "patient_identification",
        ("Patient found", "Patient among five", "Patient's rank"),
        (
            "The reconstruction is nearer to another film of the same patient than to every film of other patients of "
            "the class in the gallery: the patient is found by a picture that the attacker already has.",
            "That other film is among the five of the gallery that are nearest to the reconstruction.",
            "Place of the patient's other film among the gallery's films.",
        ),
    ),
    **_ranked(
        "patient_reidentification",
        ("Patient re-identified", "Patient re-identified among five", "Patient's rank to the matcher"),
        (
            "As patient found, but a matcher of radiographs judges.",
            "To the matcher the patient's other film is among the five of the gallery nearest to the reconstruction.",
            "Place of the patient's other film among the gallery's films, to the matcher.",
        ),
    ),
    "nearer_told": Measure(
        title="Nearer than two patients",
        meaning="The reconstruction is nearer to its film than all but 1 % of pairs of films of two patients.",
        **_SHARE,
    ),
    "member_told": Measure(title="Told as a member", meaning=MEMBERSHIP_MEANING, **_SHARE),
    "member_rank": Measure(
        title="Members before strangers",
        meaning="How often a film that took part scores higher than one of its class that did not; 0.5 is a coin.",
        form=".2f",
    ),
    "mask_dice": Measure(
        title="Mask read back",
        meaning="Dice of the mask that the attack read and the one that the client trained on, the mean over the "
        "structures that either shows.",
        form=".3f",
    ),
    "finding_agreement": Measure(
        title="Same finding",
        meaning="A network that was not attacked reads the same finding from the reconstruction as from the film.",
        **_SHARE,
    ),
    "finding_distance": Measure(
        title="Finding distance",
        meaning="How far the reading network's belief moves between film and reconstruction, from 0 to 1.", form=".2f",
    ),
    "feature_distance": Measure(
        title="Feature distance",
        meaning="Distance as a network trained on radiographs sees it; 0 is the same film.", form=".2f",
    ),
    "lpips": Measure(
        title="LPIPS", meaning="Perceptual distance as a neural network sees it; 0 is the same picture.", form=".3f"
    ),
    "lpips_squeeze": Measure(
        title="LPIPS, SqueezeNet", meaning="The same by another network, on a scale of its own.", form=".3f"
    ),
    "ssim": Measure(title="SSIM", meaning="Similarity of local structure; 1 is the same picture.", form=".2f"),
    "ms_ssim": Measure(
        title="MS-SSIM", meaning="Similarity of structure over several scales; 1 is the same picture.", form=".2f"
    ),
    "psnr": Measure(
        title="PSNR", meaning="Ratio of full brightness to error; above about 30 dB two films look alike.",
        form=".1f", unit=" dB",
    ),
    "mse": Measure(title="MSE", meaning="Mean squared error of the pixels; 0 is the same picture.", form=".3g"),
    "variance_explained": Measure(
        title="Variance explained",
        meaning="How much of what tells this film from the mean film was recovered: 100 % is the film itself, 0 % no "
        "better than the mean film, negative is worse.",
        form=".0f", factor=100.0, unit=" %",
    ),
}  # fmt: skip


_MINUS = "\N{MINUS SIGN}"


_ENDINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "_top1": ("first of the gallery", _SHARE),
    "_top5": ("among the first five", _SHARE),
    "_rank": ("rank", {"form": ".0f"}),
    "_agreement": ("the same", _SHARE),
    "_distance": ("distance", {"form": ".2f"}),
}
"""What scores that an audit gave a name of its own are about."""


def measure(metric: str) -> Measure:
    """How this metric is shown; one that is not known here goes by its own name.

    >>> measure("subtype_agreement").title
    'Subtype, the same'
    """
    if metric in _MEASURES:
        return _MEASURES[metric]
    for ending, (title, shown) in _ENDINGS.items():
        if metric.endswith(ending):
            name = metric.removesuffix(ending).replace("_", " ").capitalize()
            return Measure(title=f"{name}, {title}", meaning="", **shown)
    return Measure(title=metric, meaning="", form=".4g")


def number(metric: str, value: float, *, unit: bool = True, sign: bool = False) -> str:
    """A value of a metric for readers.

    >>> number("psnr", 20.26), number("identification_top1", 0.5), number("mse", -0.01, sign=True)
    ('20.3 dB', '50 %', '−0.01')
    """
    shown = measure(metric)
    text = format(shown.factor * value, ("+" if sign else "") + shown.form)
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", _MINUS) + (shown.unit if unit else "")


def span(metric: str, interval: Interval, *, sign: bool = False) -> str:
    """The 95 % interval: "12 to 40 %"."""
    low = number(metric, interval.low, unit=False, sign=sign)
    return f"{low} to {number(metric, interval.high, sign=sign)}"


def gap(metric: str, interval: Interval) -> str:
    """A difference with its 95 % interval: "+30 percentage points (95 % interval +12 to +40)"."""
    values = (interval.mean, interval.low, interval.high)
    mean, low, high = (number(metric, value, unit=False, sign=True) for value in values)
    unit = measure(metric).unit.replace(" %", " percentage points")
    return f"{mean}{unit} (95 % interval {low} to {high})"


def films(count: int) -> str:
    """A count of films in words."""
    return "1 film" if count == 1 else f"{count:,} films"


def basis(num_films: int, batches: int, seeds: int) -> str:
    """What a number rests on.

    >>> basis(8, 2, 1)
    '8 films in 2 batches, 1 seed'
    """
    return f"{films(num_films)} in {batches} batch{'es' * (batches != 1)}, {seeds} seed{'s' * (seeds != 1)}"


def share(found: Summary) -> str:
    """A share in words, with what none and all of a small number of films can show.

    For one seed it is a count of films; for several, the share of all reconstructions.
    """
    low, high = span(found.metric, found.interval).split(" to ")
    mean = found.interval.mean
    if mean == 0:
        return f"0 of {films(found.films)} (so at most {high})"
    if mean == 1:
        return f"all of {films(found.films)} (so at least {low} %)"
    if found.seeds == 1:
        return f"{round(mean * found.films)} of {films(found.films)} (95 % interval {low} to {high})"
    return (
        f"{number(found.metric, mean)} of {films(found.films)} over {found.seeds} seeds (95 % interval {low} to {high})"
    )


def size(num_bytes: float) -> str:
    """A number of bytes for readers.

    >>> size(999), size(1_500_000)
    ('999 bytes', '1.5 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes:.0f} bytes"


def seconds(duration: float) -> str:
    """A duration for readers.

    >>> seconds(0.04), seconds(75), seconds(7300)
    ('0.04 s', '1.2 min', '2.0 h')
    """
    for unit, factor in (("h", 3600), ("min", 60)):
        if duration >= factor:
            return f"{duration / factor:.1f} {unit}"
    return f"{duration:.2g} s"


def chance(gallery: Mapping[str, int]) -> str:
    """The chance level of identification, 1/(N + 1), for galleries of N films per class.

    >>> chance({"a": 99, "b": 199})
    '0.5 to 1 %'
    """
    sizes = sorted({int(count) for count in gallery.values() if count}, reverse=True)
    levels = list(dict.fromkeys(f"{100 / (count + 1):.2g}" for count in sizes))
    if not levels:
        return "unknown (no gallery)"
    return f"{levels[0]} to {levels[-1]} %" if len(levels) > 1 else f"{levels[0]} %"


_ASSUMPTIONS: Mapping[str, tuple[str, Mapping[Any, str]]] = {
    "server": ("What the server does", {
        "honest_but_curious": "It follows the protocol, and studies everything it receives.",
        "malicious": "It may also send out a model that was prepared to make updates leak.",
    }),
    "observer": ("What is observed", {
        "server": "Each client's own update, as it arrives.",
        "aggregate": "Only the sum of several clients' updates (secure aggregation).",
        "released_model": "Only the trained model.",
    }),
    "clients": ("How many clients are in what is observed", {1: "One."}),
    "knows_labels": ("The diagnoses (labels) of the films", {True: "Known.", False: "Not known; guessed if needed."}),
    "knows_num_examples": ("How many films made the update", {True: "Known.", False: "Not known."}),
    "knows_buffers": ("The model's normalisation statistics", {True: "Sent along, so known.", False: "Not known."}),
    "knows_protocol": (
        "How clients train (steps, learning rate, mini-batches)", {True: "Known.", False: "Not known."}
    ),
    "knows_batch_order": ("The order in which the films were used", {True: "Known.", False: "Not known."}),
    "knows_augmentation": ("The random changes made to films in training", {True: "Known.", False: "Not known."}),
    "knows_defence": (
        "Which protection is used, with its settings (not its random numbers)", {True: "Known.", False: "Not known."}
    ),
    "public_data": (
        "Films of other patients to learn from", {True: "Available to the attacker.", False: "None available."}
    ),
}  # fmt: skip


def assumptions(threat: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Each assumption about the attacker: (question, answer, "field = value")."""
    rows = []
    for name, value in threat.items():
        question, answers = _ASSUMPTIONS.get(name, (name, {}))
        rows.append((question, answers.get(value, str(value)), f"{name} = {value}"))
    return rows
