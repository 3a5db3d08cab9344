"""Rules about what leaves: how the noise is scaled, where it is, and what goes around it."""

from __future__ import annotations

from gradiograph.accounting.lint.rule import rule


@rule(
    "DP03",
    "noise over clients, mean over sizes",
    severity="error",
    reference="McMahan et al. 2018, arXiv 1710.06963, section 3",
)
def noise_over_clients(
    *, noise_divided_by: str, weighting: str, clients: int | None = None, largest_weight: float | None = None
) -> str | None:
    """The noise is divided by the number of clients, and the mean weighs them by sizes that they report themselves."""
    if noise_divided_by != "clients" or weighting != "reported":
        return None
    if clients and largest_weight:
        short = f"{clients * largest_weight:.3g} times ({clients} x {largest_weight:.3g})"
    else:
        short = "m times the largest weight"
    return (
        "The noise is divided by the number m of clients, but the mean weighs them by sizes that they report: it is "
        f"too small by {short}, up to twice that if the weights are renormalised to sum to one. Weigh all the same, or "
        "cap the weights and divide by a fixed denominator."
    )


@rule(
    "DP04",
    "sensitivity not tied to the clip",
    severity="error",
    reference="Dwork and Roth 2014, definition 3.8; Abadi et al. 2016, arXiv 1607.00133, algorithm 1",
)
def sensitivity_not_tied(
    *,
    clipped: bool,
    sensitivity_per_clip: float | None = None,
    sensitivity_follows_clip: bool | None = None,
    neighbours: str | None = None,
) -> str | None:
    """The noise is scaled to a sensitivity that no clip enforces."""
    if not clipped:
        return (
            "Nothing bounds what one unit contributes, so no noise gives it an epsilon. Clip each contribution to a "
            "norm, and scale the noise to that norm."
        )
    needed = 2 if neighbours == "replace" else 1
    if sensitivity_per_clip is not None and sensitivity_per_clip < needed * (1 - 1e-9):
        how = "replacing an input moves the update by up to 2 clips" if needed == 2 else "the clip alone bounds it"
        return (
            f"The noise is scaled to {sensitivity_per_clip:.3g} clips, but {how}: epsilon is computed for noise "
            f"that is {needed / max(sensitivity_per_clip, 1e-9):.3g} times as large. Set the sensitivity to {needed} x "
            "the clip."
        )
    if sensitivity_per_clip is None and sensitivity_follows_clip is False:
        return (
            "The noise does not depend on the norm that contributions are clipped to: changing either makes epsilon "
            "wrong. Compute the noise from the clip."
        )
    return None


@rule(
    "DP07",
    "statistics of normalisation leave",
    severity="error",
    reference="Yousefpour et al. 2021, arXiv 2109.12298, section 2",
)
def statistics_leave(*, statistics: tuple[str, ...]) -> str | None:
    """BatchNorm mixes the examples of a batch and sends their mean and variance without noise."""
    if not statistics:
        return None
    return (
        f"{_listed(statistics)}: means and variances of the patients' films leave without noise, and clipping one "
        "example's gradient does not bound its part in another's. Use GroupNorm, or keep the statistics fixed."
    )


@rule("DP08", "ranges and norms leave", severity="error", reference="Andrew et al. 2021, arXiv 1905.03871")
def ranges_leave(*, ranges: tuple[str, ...]) -> str | None:
    """A range, norm or scale that was computed from the data leaves without noise."""
    if not ranges:
        return None
    return (
        f"{_listed(ranges)} computed from the data leave without noise, outside the claimed epsilon. Fix them before "
        "training, or release them with noise and account for that."
    )


@rule(
    "DP09",
    "counts and metrics leave",
    severity="error",
    reference="Ponomareva et al. 2023, arXiv 2303.00654, section 5",
)
def counts_leave(*, counts: tuple[str, ...]) -> str | None:
    """A count or a metric of the training data leaves without noise."""
    if not counts:
        return None
    return (
        f"{_listed(counts)} of the training data leave without noise, outside the claimed epsilon. Leave them out, "
        "fix them beforehand, or release them with noise and account for that."
    )


@rule("DP15", "number of examples leaves", severity="warning", reference="Dwork and Roth 2014, section 2.3")
def size_leaves(*, sends_size: bool, neighbours: str | None = None) -> str | None:
    """The exact number of examples leaves with the update, and epsilon is for one example more or less."""
    if not sends_size or neighbours == "replace":
        return None
    return (
        "Every update tells its exact number of examples, which one more or less would change: the epsilon holds for "
        "replacing one at most, where the sensitivity is two clips. Fix or round the number, and cap the weights."
    )


@rule(
    "DP10",
    "noise on selected coordinates",
    severity="error",
    reference="Lyu et al. 2017, arXiv 1603.01699",
)
def noise_on_selection(*, noise_on: str) -> str | None:
    """Noise is added only where the data said so, and the selection itself leaves without noise."""
    if noise_on != "data":
        return None
    return (
        "Only the coordinates that the data selected get noise: which they are, and that the others are zero, leaves "
        "without any, so there is no epsilon. Select privately and account for it, select at random, or add noise to "
        "all."
    )


@rule(
    "DP11",
    "transformation sold as privacy",
    severity="warning",
    reference="Dwork and Roth 2014, definition 2.4; Zhu et al. 2019, arXiv 1906.08935, section 5",
)
def transformation_sold(*, noiseless: tuple[str, ...]) -> str | None:
    """A percentile, top-k, sign or quantisation stands for privacy: without noise there is no epsilon."""
    if not noiseless:
        return None
    return (
        f"{_listed(noiseless)} without noise has no (epsilon, delta), whatever its name: two patients' updates that "
        "differ still differ. Call it compression, and judge it by attack; for a guarantee clip and add noise."
    )


@rule(
    "DP14",
    "noise from a fixed seed",
    severity="error",
    reference="Garfinkel and Leclerc 2020, arXiv 2009.03777",
)
def noise_from_fixed_seed(*, fixed_seed: bool) -> str | None:
    """The noise is drawn from a generator whose seed stands in the code: who has the code can subtract it."""
    if not fixed_seed:
        return None
    return (
        "The generator that the noise comes from is seeded with a value that stands in the code: whoever knows the "
        "code draws the same noise and subtracts it. Seed it from the operating system's entropy."
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
