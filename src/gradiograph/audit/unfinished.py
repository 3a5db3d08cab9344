"""The checkpoint of a training that was cut off, beside the file that it will write."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from gradiograph.core.errors import BadSetting
from gradiograph.log.atomic import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from gradiograph.attacks.network_training import Checkpoint


@dataclass(frozen=True)
class Unfinished:
    """The checkpoint of one training: `path`.part.

    Attributes:
        path: The file that the training writes at its end.
        settings: What the training depends on, by a hash of its representation.
    """

    path: Path
    settings: str

    @classmethod
    def of(cls, path: Path, *settings: Any) -> Unfinished:  # noqa: ANN401 - whatever a training depends on
        """The checkpoint of a training with these settings."""
        return cls(path.with_name(f"{path.name}.part"), sha256(repr(settings).encode()).hexdigest())

    def read(self) -> Checkpoint | None:
        """Where the training was cut off; None where it never ran.

        Raises:
            BadSetting: it is of other settings, or damaged.
        """
        if not self.path.exists():
            return None
        try:
            checkpoint: Checkpoint = torch.load(self.path, weights_only=True)  # noqa: TID251 - weights only
        except Exception:  # what a damaged file makes torch raise is not documented
            checkpoint = {}
        if checkpoint.get("settings") != self.settings:
            msg = (
                "The checkpoint beside the file to write is of a training with other settings, or damaged. Remove it, "
                "or name another file with --out."
            )
            raise BadSetting(msg)
        return checkpoint

    def save(self, state: Checkpoint) -> None:
        """Write a checkpoint in place of the last, whole or not at all, owner-only."""
        buffer = io.BytesIO()
        torch.save({**state, "settings": self.settings}, buffer)
        write_file(self.path, buffer.getvalue())

    def remove(self) -> None:
        """The training has ended."""
        self.path.unlink(missing_ok=True)
