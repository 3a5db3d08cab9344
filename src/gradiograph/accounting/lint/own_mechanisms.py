"""Functions that an app's authors wrote for privacy: noise of their own, and what stands for privacy without any."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from gradiograph.accounting.lint.replies import replies
from gradiograph.accounting.lint.setup import Setup
from gradiograph.accounting.lint.syntax import (
    Function,
    Module,
    Source,
    argument,
    assignments,
    calls,
    name_of,
    reaches,
    words,
)

NOISE = (
    "normal", "randn", "randn_like", "normal_", "standard_normal", "gauss", "laplace", "Laplace", "Normal",
    "add_gaussian_noise_inplace", "add_gaussian_noise_to_params",
)  # fmt: skip
"""Functions that draw noise, or add it."""
_PRIVACY = re.compile(
    r"[pP]riva(cy|te|ti[sz]e)|[sS]ensitivity|noise_mult|(^|_)[lc]?dp(_|$)|^DP[A-Z_]|Dp[A-Z]|[aA]nonymi"
)
_BUDGET = {"epsilon", "delta"}
_CLIP = re.compile(r"clip|clamp", re.IGNORECASE)
_LOSSY = re.compile(r"^(quantile|percentile|topk|top_k|quanti[sz]e\w*|sign|sparsif\w+)_?$", re.IGNORECASE)
_SELECTION = {"topk", "argsort", "argpartition", "nonzero", "quantile", "percentile", "kthvalue", "where"}
_SCALED = ("normal", "normal_", "laplace", "gauss", "Normal", "Laplace", "add_gaussian_noise_inplace")
"""Draws that take the noise's scale as their second argument."""
_NOT_THE_BOUND = {"np", "numpy", "math", "torch", "sqrt", "log", "epsilon", "eps", "delta", "float"}
_CLIENTS = re.compile(r"^(num_|n_)?(sampled_)?clients$|^(results|replies|num_clients)$")


def own_mechanisms(source: Source) -> Iterator[Setup]:
    """A set-up for every function that speaks of privacy and draws noise, or is named after it and draws none.

    A name after privacy is needed for the latter: top-k is also a measure of accuracy. `epsilon` alone is no word of
    privacy, it is also what keeps a division finite; together with `delta` it is one.
    """
    clips = any(_CLIP.search(word) for word in source.words)
    for module in (each for each in source.modules if any(map(_PRIVACY.search, each.words)) or each.words >= _BUDGET):
        owners = _owners(module)
        for function in module.functions:
            owner = owners.get(function, function)
            named = any(_PRIVACY.search(node.name) for node in (owner, function))
            drawn = list(calls(function, *NOISE))
            if drawn and (named or _speaks_of_privacy(function)):
                yield _noisy(source, module, function, drawn[-1], clips=clips)
            lossy = tuple(sorted(word for word in words(function) if _LOSSY.match(word))) if named else ()
            if lossy and not any(calls(owner, *NOISE)):
                yield Setup(where=f"{module.at(function)} {function.name}", noiseless=lossy)


def _owners(module: Module) -> dict[ast.AST, ast.ClassDef]:
    """The class of each method."""
    classes = (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))
    return {method: owner for owner in classes for method in owner.body}


def _speaks_of_privacy(function: Function) -> bool:
    """By a word of its own, not of a function inside it."""
    inner = (node for node in ast.walk(function) if isinstance(node, Function) and node is not function)
    own = words(function) - {word for node in inner for word in words(node)}
    return any(map(_PRIVACY.search, own)) or own >= _BUDGET


def _noisy(source: Source, module: Module, function: Function, draw: ast.Call, *, clips: bool) -> Setup:
    scale = _scale(function, draw)
    deviation = {word for part in scale for word in reaches(module.tree, part)}
    sent = replies(source)
    central = any(_CLIENTS.search(word) for word in words(function))
    return Setup(
        where=f"{module.at(draw)} {function.name}",
        clipped=clips,
        sensitivity_follows_clip=_follows_clip(deviation, _bounds(function)) if clips and scale else None,
        formula="classical" if any(_is_classical(each.tree) for each in source.modules) else None,
        noise_divided_by="clients" if any(map(_CLIENTS.search, deviation)) else None,
        weighting="reported" if central and "num_examples" in words(function) else None,
        noise_on=_place(function),
        statistics=_statistics(source),
        ranges=() if central else sent["ranges"],
        counts=sent["counts"],
        sends_size=sent["sends_size"] and not central,
        fixed_seed=any(call.args and isinstance(call.args[0], ast.Constant) for call in _seeds(module)),
        noiseless=(),
    )


def _scale(function: Function, draw: ast.Call) -> list[ast.expr]:
    """What the noise is scaled by: the second argument of the draw, and what the draw is multiplied with."""
    named = (argument(draw, name) for name in ("scale", "std", "stddev", "std_dev"))
    given = [part for part in (*named, argument(draw, "", 1)) if part is not None]
    own = given[:1] if name_of(draw) in _SCALED else []
    drawn = {name for name, value in assignments(function) if draw in ast.walk(value)}
    for product in ast.walk(function):
        if isinstance(product, ast.BinOp) and isinstance(product.op, (ast.Mult, ast.Div)):
            for side, other in ((product.left, product.right), (product.right, product.left)):
                if draw in ast.walk(side) or (words(side) & drawn and name_of(side) in drawn):
                    own.append(other)
    return own


def _bounds(function: Function) -> set[str]:
    """The names that stand behind the first argument of a call that clips."""
    clipping = (call for call in ast.walk(function) if isinstance(call, ast.Call) and _CLIP.search(name_of(call)))
    return {word for call in clipping for part in [*call.args[1:], *call.keywords] for word in words(part)}


def _follows_clip(deviation: set[str], bounds: set[str]) -> bool | None:
    """Whether the noise is computed from the bound; None where it comes from a name that is set elsewhere."""
    if deviation & bounds or any(map(_CLIP.search, deviation)):
        return True
    return None if deviation - _NOT_THE_BOUND else False


def _seeds(module: Module) -> Iterator[ast.Call]:
    return calls(module.tree, "seed", "default_rng", "manual_seed", "PRNGKey")


def _is_classical(tree: ast.AST) -> bool:
    """Whether log(1.25 / delta) stands in a file."""
    return any(
        isinstance(call.args[0], ast.BinOp)
        and isinstance(call.args[0].left, ast.Constant)
        and call.args[0].left.value == 1.25
        for call in calls(tree, "log")
        if call.args
    )


def _place(function: Function) -> Any:  # noqa: ANN401 - one of the literals of `Setup`
    """Which values the noise is added to: `x[chosen] += noise` names what chose."""
    for node in ast.walk(function):
        target, value = _sum(node)
        if isinstance(target, ast.Subscript) and value is not None and _draws(function, value):
            chosen = reaches(function, target.slice)
            return "data" if chosen & _SELECTION or _compares(function, target.slice) else "all"
        if value is not None and any(_draws(function, factor) for factor in _masked(function, value)):
            return "data"
    return "all"


def _sum(node: ast.AST) -> tuple[ast.AST | None, ast.expr | None]:
    if isinstance(node, ast.AugAssign):
        return node.target, node.value
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        return node.targets[0], node.value
    return None, None


def _draws(function: Function, node: ast.expr) -> bool:
    """Whether an expression is noise, or a name that stands for noise."""
    used = words(node)
    for assigned in (part for part in ast.walk(function) if isinstance(part, ast.Assign)):
        name, value = name_of(assigned.targets[0]), words(assigned.value)
        if name in used and name not in value:  # not `update = update + noise`, which is an update
            used = used | (value & set(NOISE))
    return bool(used & set(NOISE))


def _masked(function: Function, node: ast.expr) -> Iterator[ast.expr]:
    """The factors that a mask which the data selected is multiplied with."""
    for product in ast.walk(node):
        if isinstance(product, ast.BinOp) and isinstance(product.op, ast.Mult):
            for mask, other in ((product.left, product.right), (product.right, product.left)):
                if not _draws(function, mask) and (reaches(function, mask) & _SELECTION or _compares(function, mask)):
                    yield other


def _compares(function: Function, node: ast.expr) -> bool:
    """Whether an expression is a comparison, or a name that one is assigned to."""
    if any(isinstance(part, ast.Compare) for part in ast.walk(node)):
        return True
    names = words(node)
    return any(
        isinstance(value, ast.Compare)
        for assigned in ast.walk(function)
        if isinstance(assigned, ast.Assign) and name_of(assigned.targets[0]) in names
        for value in ast.walk(assigned.value)
    )


def _statistics(source: Source) -> tuple[str, ...]:
    """BatchNorm layers whose state is sent while noise is added to parameters or gradients alone."""
    sends_all = "state_dict" in source.words and source.words & {"parameters", "named_parameters", "grad"}
    layers = sorted(word for word in source.words if re.match(r"(Sync)?BatchNorm", word))
    return tuple(layers) if sends_all else ()
