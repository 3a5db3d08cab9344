"""The scan of an audit's inputs for identifiers: identified data is refused unless the audit file allows it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiograph.core.errors import DataProblem
from gradiograph.deid import residue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradiograph.audit.spec import Config, Spec

READ_PIXELS = 16
"""Files of a DICOM source whose pixels are read for text; `gradiograph scan` reads them all."""

EVIDENCE = "deidentification.json"
_TOLD = ("profile", "codes", "files", "deidentified", "actions", "warnings", "not_checked")


def scan_inputs(spec: Spec) -> list[dict[str, Any]]:
    """What the scan finds in the folders that the audit reads, for its log: no value, no path.

    Args:
        spec: The audit, its paths absolute.

    Raises:
        DataProblem: a folder holds identifiers and the audit file does not say `allow_identified = true`.
    """
    entries = [_entry(role, config, folder) for role, config, folder in _folders(spec)]
    for entry in entries:
        if entry["identified"] and not spec.allow_identified:
            letters = ", ".join(sorted({f"{letter} ({meaning})" for letter, meaning, _, _ in entry["findings"]}))
            msg = (
                f"`{entry['role']}` is not de-identified: {entry['identified']} of {entry['files']} files hold "
                f"identifiers of HIPAA's letters {letters}. See them with `gradiograph scan DIR --out FILE`, take them "
                "out with `gradiograph deidentify IN OUT`, or set allow_identified = true in the audit file."
            )
            raise DataProblem(msg)
    return entries


def _folders(spec: Spec) -> Iterator[tuple[str, Config, Path]]:
    """Each folder once, with the first role in which the audit reads it."""
    sources = {
        "data": spec.data,
        "public": spec.public.source,
        "gallery": spec.gallery and spec.gallery.source,
        "captured.originals": spec.captured and spec.captured.originals,
    }
    seen = set()
    for role, config in sources.items():
        path = (config or {}).get("path")
        if config and path and Path(path).exists() and path not in seen:
            seen.add(path)
            yield role, config, Path(path)


def _entry(role: str, config: Config, folder: Path) -> dict[str, Any]:
    reads = config.get("use") == "dicom" and find_spec("rapidocr_onnxruntime") is not None
    found = residue.scan(folder, pixels=READ_PIXELS if reads else 0)
    return {
        "role": role,
        "component": config.get("use"),
        "files": found.files,
        "identified": found.identified_files,
        "findings": [
            [letter, residue.LETTERS[letter], where, count] for (letter, where), count in found.by_place().items()
        ],
        "declared": found.declared,
        "profiles": found.profiles,
        "not_checked": found.unchecked,
        "notices": list(found.notices),
        "deidentification": _evidence(folder),
    }


def _evidence(folder: Path) -> dict[str, Any] | None:
    """What `gradiograph deidentify` wrote of its run beside its output; None where there is nothing of that form."""
    try:
        content = json.loads((folder / EVIDENCE).read_text(encoding="utf-8"))
        return {key: content[key] for key in _TOLD}
    except (OSError, ValueError, KeyError, TypeError):
        return None
