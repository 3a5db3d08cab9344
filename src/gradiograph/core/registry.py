"""Components by kind and name.

A component is a function or frozen dataclass. Its positional parameters are what the audit passes in; its keyword-only
parameters *are* its configuration: they make the schema of the audit file, the page of `show`, and the reference entry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from gradiograph.core.errors import BadSetting, UnknownComponent, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

KINDS = ("data", "task", "protocol", "defence", "server", "attack", "metric")

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Component:
    """A registered function or class: its kind, its name in audit files, and the paper it comes from."""

    kind: str
    name: str
    build: Callable[..., Any]
    paper: str

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]

    @property
    def documentation(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.build) or ""

    def describe_settings(self) -> tuple[tuple[str, str, str], ...]:
        """Name, what it takes and default of each setting."""
        schema = self.settings.model_json_schema().get("properties", {})
        return tuple(
            (name, _takes(schema[name]), "required" if field.is_required() else repr(field.default))
            for name, field in self.settings.model_fields.items()
        )

    @cached_property
    def settings(self) -> type[BaseModel]:
        """The keyword-only parameters as a pydantic model that refuses any other key."""
        hints = get_type_hints(self.build, include_extras=True)
        fields: dict[str, Any] = {
            p.name: (hints[p.name], ... if p.default is p.empty else p.default)
            for p in inspect.signature(self.build).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        }
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False, protected_namespaces=())
        return create_model(f"{self.name}_settings", __config__=config, **fields)

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings, validated and converted; raises `BadSetting` that names the key and the value."""
        try:
            model = self.settings.model_validate(dict(settings))
        except ValidationError as error:
            raise BadSetting(self._explain(error)) from None
        return {name: getattr(model, name) for name in type(model).model_fields}

    def _explain(self, error: ValidationError) -> str:
        lines = []
        for problem in _joined(error.errors()):
            key = ".".join(str(part) for part in problem["loc"]) or "settings"
            if problem["type"] == "extra_forbidden":
                lines.append(
                    f"{self.kind} '{self.name}' has no setting '{key}'. {nearest(key, self.settings.model_fields)}"
                )
            elif problem["type"] == "missing":
                lines.append(
                    f"{self.kind} '{self.name}' needs the setting '{key}'; "
                    f"see `gradiograph show {self.kind} {self.name}`."
                )
            else:
                lines.append(f"{self.kind} '{self.name}': {key} = {problem['input']!r} is refused: {problem['msg']}.")
        return " ".join(lines)


def _joined(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """What each of a setting's forms says of its value, as one problem of the setting."""
    found: dict[object, list[ErrorDetails]] = {}
    for problem in problems:
        name, *places = problem["loc"]
        found.setdefault(name if places and isinstance(places[0], str) else problem["loc"], []).append(problem)
    return [
        {**first, "loc": first["loc"][:1], "msg": ", or ".join(each["msg"] for each in [first, *others])}
        if others
        else first
        for first, *others in found.values()
    ]


def _takes(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words: "integer, minimum 1"."""
    if "anyOf" in schema:
        return " or ".join(_takes(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "propertyNames" in schema:
        return f"{{ {_takes(schema['propertyNames'])} = {_takes(schema['additionalProperties'])} }}"
    limits = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    words = [f"{sign} {schema[key]}" for key, sign in limits.items() if key in schema]
    kind = (
        f"list of {_takes(schema['items'])}"
        if "items" in schema
        else str(schema.get("type", schema.get("const", "any")))
    )
    return ", ".join([{"null": "nothing", "string": "text"}.get(kind, kind), *words])


_COMPONENTS: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}


def register(kind: str, name: str, *, paper: str = "") -> Callable[[T], T]:
    """Enter the decorated function or class as component `name` of `kind`.

    Args:
        kind: One of `KINDS`.
        name: The name in audit files, unique within its kind.
        paper: Authors, year and arXiv number of the method, where it has one.

    Raises:
        ValueError: the kind does not exist or the name is taken.
    """
    if kind not in _COMPONENTS:
        msg = f"No kind '{kind}'. {nearest(kind, KINDS)}"
        raise ValueError(msg)

    def enter(build: T) -> T:
        if name in _COMPONENTS[kind]:
            msg = f"{kind} '{name}' is registered twice."
            raise ValueError(msg)
        _COMPONENTS[kind][name] = Component(kind, name, build, paper)
        return build

    return enter


def components(kind: str) -> tuple[Component, ...]:
    """All components of a kind, by name.

    Raises:
        UnknownComponent: the kind does not exist.
    """
    if kind not in _COMPONENTS:
        msg = f"No kind '{kind}'. {nearest(kind, KINDS)}"
        raise UnknownComponent(msg)
    return tuple(_COMPONENTS[kind][name] for name in sorted(_COMPONENTS[kind]))


def component(kind: str, name: str) -> Component:
    """The component of this kind and name.

    Raises:
        UnknownComponent: it does not exist; the message has the nearest name that does.
    """
    found = {entry.name: entry for entry in components(kind)}
    if name not in found:
        msg = f"No {kind} '{name}'. {nearest(name, found)}"
        raise UnknownComponent(msg)
    return found[name]


def check(kind: str, config: Mapping[str, Any]) -> tuple[Component, dict[str, Any]]:
    """The component that `config["use"]` names, and its validated settings."""
    if not isinstance(config.get("use"), str):
        msg = (
            f"A {kind} needs `use = NAME`; got {dict(config)!r}. Valid: {', '.join(c.name for c in components(kind))}."
        )
        raise BadSetting(msg)
    entry = component(kind, config["use"])
    return entry, entry.check({key: value for key, value in config.items() if key != "use"})


def build(kind: str, config: Mapping[str, Any], *context: object) -> Any:  # noqa: ANN401 - its type is the kind's
    """Build the component that `config` describes, passing `context` to its positional parameters."""
    entry, settings = check(kind, config)
    return entry.build(*context, **settings)
