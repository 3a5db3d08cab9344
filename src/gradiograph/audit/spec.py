"""The audit file: what it may say, checked before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gradiograph.audit.utility_spec import Engine, Partition, Policy, Utility
from gradiograph.core.errors import BadSetting, nearest
from gradiograph.core.threat import ThreatModel

Config = dict[str, Any]
Stack = list[Config]


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _named(value: object) -> object:
    return {"use": value} if isinstance(value, str) else value


OneOrMore = Annotated[list[Config], BeforeValidator(_listed), Field(min_length=1)]
Metric = Annotated[Config, BeforeValidator(_named)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Victims(_Strict):
    """Whose updates are attacked: batches of films of one client each, no patient twice."""

    split: Literal["train", "val", "test"] | None = "test"
    batches: int = Field(default=2, ge=2, description="at least 2: the mismatched control attacks one for another")
    size: int = Field(default=4, ge=1)
    clients: int = Field(default=1, ge=1)
    rounds: int = Field(default=1, ge=1, description="successive rounds that each client trains on the same films")
    min_films: int = Field(default=1, ge=1, description="of each patient: 2 to ask whether another film finds them")
    dirichlet: float | None = Field(default=None, gt=0)
    by_site: bool = Field(default=False, description="clients are the sites that the source names")
    seed: int = 0


class Films(BaseModel):
    """Films of a split, of the audit's data or of another source (then the keys of a data component as well)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    split: Literal["train", "val", "test"] | None = None
    limit: int | None = Field(default=None, ge=1)

    @property
    def source(self) -> Config | None:
        """The data component, None for the audit's own data."""
        return dict(self.model_extra) if self.model_extra else None


class Defended(_Strict):
    """A smaller grid wherever a defence is in place; what is not given is as in the undefended part."""

    batches: int | None = Field(default=None, ge=2)
    seeds: list[int] | None = Field(default=None, min_length=1)
    attacks: list[Config] | None = Field(default=None, min_length=1)


class Ceiling(_Strict):
    """The oracle control: each search begun near the truth, and which directions of each film the update shows.

    `blends` are the shares of another film in the starting point, told apart in whole percent.
    """

    blends: list[Annotated[float, Field(ge=0.01, le=1)]] = [0.1, 0.3, 1.0]
    batches: int = Field(default=1, ge=1, description="of the attacked batches, from the first")
    seeds: list[int] | None = Field(default=None, min_length=1, description="of the audit's; default: the first")
    jacobian: int = Field(default=64, ge=0, description="how many low frequencies the spectrum spans; 0: no spectrum")


class Membership(_Strict):
    """Whether each update tells that a film took part, beside films that did not: see `audit.membership`."""

    films: int = Field(default=150, ge=99, description="of each class that took no part, at most; from the gallery")


class Planted(_Strict):
    """A round of the same app on films that are known and can be replayed: whether the audit describes the app.

    The films, a data component, are at most one mini-batch.
    """

    originals: Config
    before: Path
    after: Path


class Captured(_Strict):
    """What is known of an update that was captured elsewhere; for `run --update BEFORE AFTER`.

    The originals, a data component, are needed: without them nothing can be scored, and the tool would only attack.
    """

    num_examples: int = Field(ge=1)
    defence: Stack = []
    originals: Config
    planted: Planted | None = None


class Spec(_Strict):
    """One audit file."""

    name: str = Field(min_length=1, pattern=r"^[\w][\w .-]*$")
    purpose: str = Field(min_length=1)
    authorised_by: str = Field(min_length=1)
    retention_days: int | None = Field(default=None, ge=0, description="after which `gradiograph purge` is due")
    show_originals: bool = Field(default=False, description="originals beside their reconstructions in the report")
    seeds: list[int] = Field(default=[0], min_length=1)
    data: Config
    allow_identified: bool = Field(default=False, description="go on where the scan finds identifiers in the data")
    victims: Victims = Victims()
    public: Films = Films(split="train")
    gallery: Films | None = None
    task: OneOrMore
    protocol: OneOrMore
    threat: ThreatModel = ThreatModel()
    defences: list[Stack] = [[]]
    defended: Defended = Defended()
    attacks: list[Config] = Field(min_length=1)
    metrics: list[Metric] = Field(default=[{"use": "identification"}], min_length=1)
    metrics_if_available: list[Metric] = []
    networks: dict[str, Path] = {}
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="where attacks run; clients and metrics: the CPU")
    captured: Captured | None = None
    ceiling: Ceiling | None = None
    membership: Membership | None = None
    utility: Utility | None = None
    policy: Policy | None = None

    @property
    def batch_films(self) -> int:
        """The films behind one observation: those of all clients whose sum is seen."""
        return self.victims.size * self.threat.clients

    @model_validator(mode="after")
    def _is_consistent(self) -> Spec:
        """The grid holds the positive control, and every batch has another for the mismatched one."""
        if [] not in self.defences:
            msg = (
                "the undefended baseline [] must be in defences: it is the positive control. Write defences = [[], ...]"
            )
            raise ValueError(msg)
        smaller, batches = self.defended.batches, self.victims.batches
        if smaller is not None and smaller != batches and (smaller % 2 or smaller > batches):
            msg = f"defended.batches = {smaller} must be even and at most victims.batches = {batches}"
            raise ValueError(msg)
        repeated = [seed for seed in self.seeds if self.seeds.count(seed) > 1]
        if repeated:
            msg = f"seed {repeated[0]} stands twice in seeds; give each once"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _ceiling_is_in_the_grid(self) -> Spec:
        """The ceiling stands beside attacks that run, and no two of its blends share a name."""
        if self.ceiling is None:
            return self
        if self.ceiling.batches > self.victims.batches:
            msg = f"ceiling.batches = {self.ceiling.batches} must be at most victims.batches = {self.victims.batches}"
            raise ValueError(msg)
        foreign = [seed for seed in self.ceiling.seeds or [] if seed not in self.seeds]
        if foreign:
            msg = f"ceiling.seeds has {foreign[0]}, which is not in seeds = {self.seeds}; take from these"
            raise ValueError(msg)
        percents = [round(100 * blend) for blend in self.ceiling.blends]
        if len(percents) > len(set(percents)):
            msg = f"ceiling.blends = {self.ceiling.blends} are not told apart in whole percent; give each once"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _policy_can_be_judged(self) -> Spec:
        """What the policy bounds is measured."""
        if self.policy is None:
            return self
        if "identification" not in [config.get("use") for config in self.metrics]:
            msg = "policy.max_identification needs the metric identification; add it to metrics"
            raise ValueError(msg)
        if self.policy.max_loss is not None and self.utility is None:
            msg = f"policy.max_loss = {self.policy.max_loss} needs a table utility: without training no loss is known"
            raise ValueError(msg)
        return self


def load_spec(path: Path, overrides: Sequence[str] = ()) -> Spec:
    """Read an audit file; relative paths in it are relative to its folder.

    Args:
        path: A TOML file.
        overrides: `key=value` pairs; the key dotted (`victims.batches`, `attacks.0.steps`), the value TOML.

    Raises:
        BadSetting: the file cannot be read or says something that an audit does not take.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"The audit file cannot be read ({error.strerror}). Write one with `gradiograph init`."
        raise BadSetting(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"The audit file is not valid TOML: {error}."
        raise BadSetting(msg) from None
    for override in overrides:
        _apply(content, override)
    return parse_spec(content)


def builtin(name: str) -> dict[str, Any]:
    """The content of an audit file that the package brings, such as `demo.toml`."""
    return tomllib.loads((files("gradiograph.audit") / name).read_text(encoding="utf-8"))


def parse_spec(content: Mapping[str, Any]) -> Spec:
    """Check the content of an audit file; raises `BadSetting` with every problem in one message."""
    try:
        return Spec.model_validate(dict(content))
    except ValidationError as error:
        raise BadSetting(" ".join(_explain(problem) for problem in error.errors())) from None


def _explain(problem: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        table = _table(problem["loc"][:-1])
        return f"The audit file has no key '{where}'. {nearest(str(problem['loc'][-1]), table.model_fields)}"
    if problem["type"] == "missing":
        return f"The audit file needs '{where}'; `gradiograph init` writes a commented one."
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"The audit file: {reason}." if not where else f"The audit file: {where} = {problem['input']!r}: {reason}."


def _table(path: Sequence[int | str]) -> type[BaseModel]:
    tables: dict[tuple[str, ...], type[BaseModel]] = {
        ("victims",): Victims,
        ("threat",): ThreatModel,
        ("defended",): Defended,
        ("captured",): Captured,
        ("captured", "planted"): Planted,
        ("ceiling",): Ceiling,
        ("membership",): Membership,
        ("utility",): Utility,
        ("utility", "partition"): Partition,
        ("utility", "engine"): Engine,
        ("policy",): Policy,
    }
    return tables[tuple(map(str, path))] if path else Spec


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        msg = f"--set takes key=value; got {override!r}. Example: --set victims.batches=4"
        raise BadSetting(msg)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    place: Any = content
    *parents, last = key.strip().split(".")
    try:
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        msg = f"--set {override}: the audit file has no place '{key}'. Lists take a number, as in attacks.0.steps."
        raise BadSetting(msg) from None
