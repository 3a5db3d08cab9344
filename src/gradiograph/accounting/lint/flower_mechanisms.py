"""The private mechanisms of a Flower app, read off its source: its strategies, its mods, DP-SGD in its clients."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from gradiograph.accounting.lint.own_mechanisms import own_mechanisms
from gradiograph.accounting.lint.replies import replies, reports_a_constant
from gradiograph.accounting.lint.setup import Setup
from gradiograph.accounting.lint.syntax import Module, Source, argument, assignments, calls, evaluate, name_of, words

CLIPPING_MODS = {"Fixed": "fixedclipping_mod", "Adaptive": "adaptiveclipping_mod"}
"""The mod that clips on the client, by what the strategy's name says of its clip."""
SECURED: dict[str, Any] = {
    "clipped": True,
    "sensitivity_per_clip": 1.0,
    "noise_on": "all",
    "statistics": (),
    "ranges": (),
    "noiseless": (),
    "formula": "exact",
}
"""What Flower's own mechanisms and Opacus do right."""
_ACCOUNTANTS = ("RDPAccountant", "PRVAccountant", "GaussianAccountant", "create_accountant")
_POISSON = {"DPDataLoader", "UniformWithReplacementSampler", "poisson"}
_SLICES = re.compile(r"slice(s$|_|[A-Z])|_slice$|[a-z]Slice$")
_UNWEIGHTED = ("FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan")


def mechanisms(source: Source) -> tuple[Setup, ...]:
    """The set-ups that an app's source holds."""
    found = (*_strategies(source), *_local_mods(source), *_dp_sgd(source), *_own_accountants(source))
    return (*found, *own_mechanisms(source))


def _strategies(source: Source) -> Iterator[Setup]:
    names = [f"DifferentialPrivacy{side}Side{clip}Clipping" for side in ("Server", "Client") for clip in CLIPPING_MODS]
    for module, call in source.calls(*names):
        name = name_of(call)
        mod = CLIPPING_MODS["Fixed" if "Fixed" in name else "Adaptive"]
        unclipped = "ClientSide" in name and "ClientApp" in source.words and mod not in source.words
        accounted = _is_given(argument(call, "accountant"))
        known: dict[str, Any] = {"weighting": "equal" if accounted else _weighting(source, call)}
        if accounted:  # Flower then refuses unequal weights, and composes its rounds without amplification
            known |= {"accountant": "kept", "sampling": "all", "accounted_sampling": "all", **_budget(source)}
        yield Setup(
            where=f"{module.at(call)} {name}",
            unit="client",
            noise_divided_by="clients",
            clients=_whole(source.value(argument(call, "num_sampled_clients", 3 if "Fixed" in name else 2))),
            neighbours="add_or_remove",
            counts=replies(source)["counts"],  # what the server needs and keeps, such as sizes, does not leave it
            sends_size=False,
            fixed_seed=_seeded(module, "numpy"),
            rounds=_rounds(source),
            **{**SECURED, **known, "clipped": not unclipped},
        )


def _is_given(node: ast.expr | None) -> bool:
    return node is not None and not (isinstance(node, ast.Constant) and node.value is None)


def _budget(source: Source) -> dict[str, Any]:
    """What the settings of Flower's own accountant say: delta, and of how many clients."""
    for _, call in source.calls("PrivacyConfig"):
        delta, clients = (source.value(argument(call, name)) for name in ("target_delta", "population_size"))
        return {"delta": _number(delta), "units": _whole(clients)}
    return {}


def _weighting(source: Source, call: ast.Call) -> Any:  # noqa: ANN401 - one of the literals of `Setup`
    inner = argument(call, "strategy", 0)
    made = [
        value for module in source.modules for name, value in assignments(module.tree) if name == name_of(inner or call)
    ]
    kinds = {name_of(value) for value in [inner, *made] if isinstance(value, ast.Call)}
    kinds = {kind for kind in kinds if not kind.startswith("DifferentialPrivacy")}
    if not kinds or kinds & set(_UNWEIGHTED) or not all(kind.startswith("Fed") for kind in kinds):
        return None
    return "equal" if reports_a_constant(source) else "reported"


def _local_mods(source: Source) -> Iterator[Setup]:
    for module, call in source.calls("LocalDpMod"):
        clip, sensitivity, epsilon, delta = (
            argument(call, name, place)
            for place, name in enumerate(("clipping_norm", "sensitivity", "epsilon", "delta"))
        )
        yield local_mod(
            where=f"{module.at(call)} LocalDpMod",
            sensitivity_per_clip=_ratio(source, sensitivity, clip),
            epsilon=_number(source.value(epsilon)),
            delta=_number(source.value(delta)),
            fixed_seed=_seeded(module, "numpy"),
            rounds=_rounds(source),
            **replies(source),
        )


def local_mod(**known: Any) -> Setup:  # noqa: ANN401 - facts
    """What is so of every `LocalDpMod`, with the facts of this one.

    Its epsilon is of one message, the noise by the classical formula, and the server sees all that is not noised.
    """
    facts: dict[str, Any] = {
        "unit": "client",
        "sampling": "all",
        "accounted_sampling": "all",
        "accountant": "restarted",
        "neighbours": "replace",
        "noise_divided_by": "denominator",
        "weighting": "equal",
    }
    return Setup(**{**SECURED, **facts, "formula": "classical", **known})


def _dp_sgd(source: Source) -> Iterator[Setup]:
    deltas = [argument(call, "delta", 0) for _, call in source.calls("get_epsilon")]
    for module, call in source.calls("make_private", "make_private_with_epsilon"):
        shuffled = source.value(argument(call, "poisson_sampling")) is False
        known = [source.value(delta) for delta in [argument(call, "target_delta"), *deltas]]
        yield Setup(
            where=f"{module.at(call)} {name_of(call)}",
            epsilon=_number(source.value(argument(call, "target_epsilon"))),
            delta=next((_number(delta) for delta in known if delta is not None), None),
            unit="slice" if any(map(_SLICES.search, source.words)) else "image",
            accountant=_lifetime(source, "PrivacyEngine"),
            rounds=_rounds(source),
            sampling="shuffled" if shuffled else "poisson",
            accounted_sampling="poisson",
            noise_divided_by="denominator",
            weighting="equal",
            fixed_seed=_seeded(module, "torch"),
            **{**SECURED, **replies(source)},
        )


def _own_accountants(source: Source) -> Iterator[Setup]:
    """Opacus's accountants without its engine: they take what they are told to be drawn by Poisson sampling."""
    loaders = [source.value(argument(call, "shuffle")) for _, call in source.calls("DataLoader")]
    for module, call in source.calls(*_ACCOUNTANTS):
        yield Setup(
            where=f"{module.at(call)} {name_of(call)}",
            accountant=_lifetime(source, *_ACCOUNTANTS),
            rounds=_rounds(source),
            sampling="poisson" if source.words & _POISSON else ("shuffled" if True in loaders else None),
            accounted_sampling="poisson",
        )


def _lifetime(source: Source, *makers: str) -> Any:  # noqa: ANN401 - one of the literals of `Setup`
    """Whether an accountant that is made inside a function gets back what was spent in the rounds before."""
    made = [function for module in source.modules for function in module.functions if any(calls(function, *makers))]
    if not made:
        return None
    loaded = any(
        isinstance(call.func, ast.Attribute) and "accountant" in words(call.func.value)
        for _, call in source.calls("load_state_dict")
    )
    restored = any(name == "history" for module in source.modules for name, _ in assignments(module.tree))
    return "kept" if loaded or restored else "restarted"


def _seeded(module: Module, library: str) -> bool:
    """Whether a file seeds the generator that a library's noise comes from with a constant."""
    wanted = ("seed", "default_rng") if library == "numpy" else ("manual_seed",)
    return any(call.args and isinstance(call.args[0], ast.Constant) for call in calls(module.tree, *wanted))


def _rounds(source: Source) -> int | None:
    given = [source.value(argument(call, "num_rounds")) for _, call in source.calls("start", "ServerConfig")]
    return next((_whole(value) for value in [*given, source.config.get("num-server-rounds")] if value), None)


def _ratio(source: Source, sensitivity: ast.expr | None, clip: ast.expr | None) -> float | None:
    """Sensitivity over clip, also where both hang on the same unknown names."""
    if sensitivity is None or clip is None:
        return None
    same = words(sensitivity) == words(clip)
    known = source.constants | (dict.fromkeys(words(clip) - set(source.constants), 1.0) if same else {})
    above, below = (_number(evaluate(node, known, source.config)) for node in (sensitivity, clip))
    return above / below if above is not None and below else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
