"""The tables `utility` and `policy` of the audit file: what is trained, and what a protection must hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gradiograph.core.errors import nearest
from gradiograph.utility import CASE_MEASURES, MEASURES


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Partition(_Strict):
    """Which patients are at which site: at random, in mixtures drawn from Dirichlet(A), or as in the source."""

    dirichlet: float | None = Field(default=None, gt=0)
    by_site: bool = False
    seed: int = 0


def _partition(value: object) -> object:
    if isinstance(value, str):
        if value not in ("iid", "by_site"):
            msg = f"no such partition. {nearest(value, ['iid', 'by_site'])} Or {{ dirichlet = 0.3 }}"
            raise ValueError(msg)
        return {"by_site": value == "by_site"}
    return value


class Engine(_Strict):
    """Where the federations train: in this process, or on Flower, its simulation unless a SuperLink is named."""

    use: Literal["in_process", "flower"] = "in_process"
    superlink: str | None = Field(default=None, min_length=1, description="a connection in Flower's configuration")
    timeout: float = Field(default=3600.0, gt=0, description="seconds after which a round closes without the missing")

    @model_validator(mode="after")
    def _belongs_to_flower(self) -> Engine:
        """Only Flower has settings."""
        if self.use != "flower" and self.model_fields_set - {"use"}:
            keys = ", ".join(sorted(self.model_fields_set - {"use"}))
            msg = f"engine '{self.use}' has no {keys}; write engine = {{ use = 'flower', ... }}"
            raise ValueError(msg)
        return self


def _named(value: object) -> object:
    return {"use": value} if isinstance(value, str) else value


class Foreign(BaseModel):
    """A site that trains with nobody: the keys of a data component, and which class of the audit each of its is.

    `classes` maps every class of the source; it may be left out where the names are the audit's own.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    split: Literal["train", "val", "test"] | None = None
    classes: dict[str, str] = {}

    @property
    def source(self) -> dict[str, Any]:
        """The data component."""
        return dict(self.model_extra or {})


class Utility(_Strict):
    """Training every protection for real, to see what it costs the model, and later rounds to attack."""

    rounds: int = Field(ge=1)
    attack_rounds: list[Annotated[int, Field(ge=1)]] = Field(default=[1], min_length=1)
    score: str = "auroc"
    sites: int = Field(default=3, ge=1)
    partition: Annotated[Partition, BeforeValidator(_partition)] = Partition()
    clients_per_round: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    min_clients: int = Field(default=1, ge=1)
    server: Annotated[dict[str, Any], BeforeValidator(_named)] = {"use": "sgd"}
    engine: Annotated[Engine, BeforeValidator(_named)] = Engine()
    train: Literal["train", "val", "test"] = "train"
    watch: Literal["train", "val", "test"] | None = Field(default="val", description="scored after every round")
    test: Literal["train", "val", "test"] = "test"
    foreign: Foreign | None = Field(default=None, description="a site on whose films every model is judged too")
    references: list[Literal["pooled", "alone"]] = ["pooled", "alone"]

    @field_validator("score")
    @classmethod
    def _is_a_measure(cls, value: str) -> str:
        if value not in MEASURES | CASE_MEASURES:
            msg = f"no such measure. {nearest(value, [*MEASURES, *CASE_MEASURES])}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Utility:
        """Attacked rounds are trained ones, given once; the test films are not those that train."""
        late = [number for number in self.attack_rounds if number > self.rounds]
        if late:
            msg = f"attack_rounds has {late[0]}, but rounds = {self.rounds}; attack rounds 1 to {self.rounds}"
            raise ValueError(msg)
        if len(set(self.attack_rounds)) < len(self.attack_rounds):
            msg = f"attack_rounds = {self.attack_rounds} has a round twice; give each once"
            raise ValueError(msg)
        if self.test == self.train:
            msg = f"test = '{self.test}' is also what trains; take another split"
            raise ValueError(msg)
        return self


class Policy(_Strict):
    """What every protection of the audit must hold; `gradiograph run` ends with exit code 1 where one does not.

    `max_identification` bounds the upper 95 % limit of the share of films identified beyond the mismatched control,
    `max_loss` the loss of `utility.score` against no protection.
    """

    max_identification: float = Field(ge=0, le=1)
    max_loss: float | None = Field(default=None, ge=0, le=1)
