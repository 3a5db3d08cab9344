"""What every registered component promises, whatever its kind."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING

from gradiograph.core.errors import BadSetting
from gradiograph.testing.contract import run_checks

if TYPE_CHECKING:
    from gradiograph.core.registry import Component


def check_component(component: Component) -> None:
    """Check the entry in the registry: docstring, settings, frozen dataclass.

    Args:
        component: As `gradiograph.core.registry.component` returns it.

    Raises:
        ContractBroken: a promise is broken.
    """
    run_checks(component, _CHECKS, f"{component.kind} '{component.name}'")


def _summary(component: Component) -> None:
    """The docstring's first line is a sentence."""
    # A dataclass without a docstring is given its signature as one.
    assert component.summary, "there is no docstring"
    assert not component.summary.startswith(f"{component.build.__name__}("), "there is no docstring"
    assert component.summary.endswith("."), f"'{component.summary}' does not end with a full stop"


def _settings(component: Component) -> None:
    """Every keyword-only parameter is annotated so that pydantic can validate it."""
    unannotated = [
        name
        for name, parameter in inspect.signature(component.build).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.annotation is parameter.empty
    ]
    assert not unannotated, f"no annotation: {unannotated}"
    component.settings.model_json_schema()


def _documented(component: Component) -> None:
    """The docstring names every setting."""
    doc = inspect.getdoc(component.build) or ""
    missing = [name for name in component.settings.model_fields if f"{name}:" not in doc]
    assert not missing, f"not in the docstring: {missing}"


def _defaults(component: Component) -> None:
    """Every default passes its own validation."""
    defaults = {
        name: field.default for name, field in component.settings.model_fields.items() if not field.is_required()
    }
    try:
        component.check(defaults)
    except BadSetting as error:
        # A setting without a default is missing here and no news; anything else is.
        if "is refused" in str(error) or "has no setting" in str(error):
            raise


def _unknown_key(component: Component) -> None:
    """A key that it does not take is refused by name."""
    message = ""
    try:
        component.check({"no_such_setting": 1})
    except BadSetting as error:
        message = str(error)
    assert message, "the key 'no_such_setting' was accepted"
    assert "no_such_setting" in message, f"the message does not name the key: {message}"


def _frozen(component: Component) -> None:
    """A component that is a class is a frozen dataclass."""
    build = component.build
    if inspect.isclass(build):
        frozen = dataclasses.is_dataclass(build) and build.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert frozen, f"{build.__name__} is not a frozen dataclass"


_CHECKS = (_summary, _settings, _documented, _defaults, _unknown_key, _frozen)
