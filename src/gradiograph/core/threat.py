"""What the attacker is assumed to know and to be. Every assumption is a field and is printed beside the number."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gradiograph.core.errors import MissingKnowledge


class ThreatModel(BaseModel):
    """The server's power and knowledge (Kerckhoffs: the protocol and the defence are known unless stated)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: Literal["honest_but_curious", "malicious"] = "honest_but_curious"
    observer: Literal["server", "aggregate"] = "server"
    clients: int = Field(default=1, ge=1, description="in the sum that is observed; 1 where each is seen by itself")
    knows_labels: bool = False
    knows_num_examples: bool = True
    knows_buffers: bool = True
    knows_protocol: bool = True
    knows_batch_order: Literal[False] = False
    knows_augmentation: Literal[False] = False
    knows_defence: bool = True
    public_data: bool = True

    @model_validator(mode="after")
    def _is_consistent(self) -> ThreatModel:
        """A sum is one of several clients."""
        if self.observer == "aggregate" and self.clients < 2:
            msg = "threat.observer = 'aggregate' sees a sum of several clients; give their number: clients = 10"
            raise ValueError(msg)
        if self.observer == "server" and self.clients > 1:
            msg = (
                f"threat.clients = {self.clients} goes with observer = 'aggregate'; 'server' sees each client by itself"
            )
            raise ValueError(msg)
        return self

    @property
    def malicious_server(self) -> bool:
        """Whether the server may change the model that it sends out, so that its update tells more."""
        return self.server == "malicious"

    def require(self, attack: str, *fields: str) -> None:
        """Raise `MissingKnowledge` unless every named field is granted."""
        missing = [field for field in fields if not getattr(self, field)]
        if missing:
            grant = 'server = "malicious"' if missing[0] == "malicious_server" else f"{missing[0]} = true"
            msg = (
                f"Attack '{attack}' needs {', '.join(missing)}, which the threat model does not grant. "
                f"Set threat.{grant}, or choose an attack that does not need it."
            )
            raise MissingKnowledge(msg)
