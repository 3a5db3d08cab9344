"""What was done right, by category, and what was not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Failure:
    """One thing that was not done right.

    Attributes:
        category: Of what.
        file: The original's place in the key's list of files; -1: no original is known.
        place: The element, the text or the field.
        note: What is wrong.
    """

    category: str
    file: int
    place: str
    note: str


@dataclass
class Tally:
    """Counts of right and of all, and the failures."""

    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    total: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[Failure] = field(default_factory=list)

    def add(self, category: str, *, right: bool, file: int, place: str = "", note: str = "") -> None:
        """Count one."""
        self.total[category] += 1
        self.right[category] += right
        if not right:
            self.failures.append(Failure(category, file, place, note))

    def count(self, category: str, right: int, total: int) -> None:
        """Count many, such as pixels, of which none is worth a line."""
        self.total[category] += total
        self.right[category] += right

    def share(self, *prefixes: str) -> float | None:
        """The share done right in all categories that begin so; None where there is nothing."""
        chosen = [name for name in self.total if name.startswith(prefixes)]
        total = sum(self.total[name] for name in chosen)
        return sum(self.right[name] for name in chosen) / total if total else None
