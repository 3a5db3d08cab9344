"""Rules about what an epsilon is computed from: rounds, sampling, unit, delta, formula."""

from __future__ import annotations

from math import log, sqrt

from gradiograph.accounting.exact_gaussian import gaussian_epsilon, gaussian_noise_multiplier
from gradiograph.accounting.lint.rule import rule


@rule(
    "DP01",
    "accountant restarted",
    severity="error",
    reference="Abadi et al. 2016, arXiv 1607.00133, section 3.2",
)
def accountant_restarted(*, accountant: str, rounds: int | None = None) -> str | None:
    """The accountant begins anew in every round, so that its epsilon is that of one round."""
    if accountant != "restarted" or rounds == 1:
        return None
    many = f"{rounds} rounds" if rounds else "all rounds"
    return (
        f"The accountant begins anew in every round: its epsilon is that of one round, and {many} cost more. "
        "Keep its state from round to round, or compose the rounds' events."
    )


@rule(
    "DP02",
    "shuffling claimed as Poisson",
    severity="error",
    reference="Chua et al. 2024, arXiv 2403.17673; Lebeda et al. 2024, arXiv 2405.20769",
)
def shuffling_as_poisson(*, sampling: str, accounted_sampling: str) -> str | None:
    """The account assumes Poisson sampling, and the examples are drawn in another way."""
    if accounted_sampling != "poisson" or sampling == "poisson":
        return None
    drawn = {"shuffled": "shuffled and cut into batches of equal size", "all": "all taken in every step"}[sampling]
    return (
        f"The account assumes that every example is in a step by its own coin (Poisson), but they are {drawn}: "
        "the true epsilon can be far larger. Draw by Poisson sampling, or account without amplification."
    )


@rule(
    "DP05",
    "classical formula, too quiet",
    severity="error",
    reference="Balle and Wang 2018, arXiv 1805.06530, section 2",
)
def classical_too_quiet(*, formula: str, epsilon: float | None = None, delta: float | None = None) -> str | None:
    """The noise is computed by sqrt(2 ln(1.25 / delta)), where that is too little for the claimed epsilon."""
    if formula != "classical" or epsilon is None or delta is None:
        return None
    classical, exact, true = _classical(epsilon, delta)
    if true <= epsilon:
        return None
    return (
        f"sqrt(2 ln(1.25 / delta)) / epsilon is proven for epsilon below 1 only: at epsilon = {epsilon:g}, "
        f"delta = {delta:g} it gives {classical:.3g} times the sensitivity, which is epsilon = {true:.3g}. "
        f"{exact:.3g} times is needed (exact formula)."
    )


@rule(
    "DP06",
    "classical formula, needlessly noisy",
    severity="warning",
    reference="Balle and Wang 2018, arXiv 1805.06530, section 2",
)
def classical_needlessly_noisy(*, formula: str, epsilon: float | None = None, delta: float | None = None) -> str | None:
    """The noise is computed by sqrt(2 ln(1.25 / delta)), where less is enough, or where epsilon is not known."""
    if formula != "classical":
        return None
    advice = "Compute the noise exactly: `gradiograph.accounting.gaussian_noise_multiplier`."
    if epsilon is None or delta is None:
        return (
            "sqrt(2 ln(1.25 / delta)) / epsilon is proven for epsilon below 1 only: it is needlessly noisy for a small "
            f"epsilon, too quiet for a large one. {advice}"
        )
    classical, exact, true = _classical(epsilon, delta)
    if true > epsilon:
        return None
    return (
        f"At epsilon = {epsilon:g}, delta = {delta:g} the classical formula gives {classical:.3g} times the "
        f"sensitivity, {exact:.3g} times is enough. {advice}"
    )


@rule(
    "DP12",
    "unit is not the patient",
    severity="warning",
    reference="Dwork and Roth 2014, theorem 2.2; Levy et al. 2021, arXiv 2102.11845",
)
def unit_below_patient(*, unit: str, images_per_patient: int, epsilon: float | None = None) -> str | None:
    """The epsilon hides one image or one slice, and a patient has more of them."""
    if unit not in ("image", "slice") or images_per_patient <= 1:
        return None
    grown = f" ({images_per_patient} x {epsilon:g} = {images_per_patient * epsilon:g})" if epsilon is not None else ""
    return (
        f"The epsilon hides one {unit}, and a patient has up to {images_per_patient}: the patient's own is up to "
        f"{images_per_patient} times as large{grown}, and delta grows more. Clip all that a patient gives together."
    )


@rule("DP16", "claim below the account", severity="error", reference="Dwork and Roth 2014, section 3.5")
def claim_below_account(*, epsilon: float, accounted: float) -> str | None:
    """The noise is too little for the claimed epsilon over all steps and rounds."""
    if accounted <= 1.01 * epsilon:
        return None
    return (
        f"Claimed is epsilon = {epsilon:g}, and the noise makes it {accounted:.4g} over all steps and rounds. Leave "
        "noise_multiplier out, so that it is found for the budget, or claim what it is: `gradiograph account`."
    )


@rule("DP13", "delta too large", severity="warning", reference="Dwork and Roth 2014, section 2.3")
def delta_too_large(*, delta: float, units: int) -> str | None:
    """Delta is 1/n or more: publishing one record of n in full would satisfy it."""
    if delta < 1 / units:
        return None
    return (
        f"delta = {delta:g} is not below 1/n = {1 / units:.3g} for n = {units}: publishing one of them in full "
        "satisfies it. Take delta well below 1/n."
    )


def _classical(epsilon: float, delta: float) -> tuple[float, float, float]:
    """The classical noise multiplier, the one that is needed, and the epsilon that the classical one has."""
    classical = sqrt(2 * log(1.25 / delta)) / epsilon
    return classical, gaussian_noise_multiplier(epsilon, delta), gaussian_epsilon(classical, delta)
