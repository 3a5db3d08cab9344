"""The scan of an audit's inputs for identifiers: identified data is refused unless the audit file allows it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gradiograph.core.errors import DataProblem
from gradiograph.deid import residue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradiograph.audit.plan import Plan
    from gradiograph.audit.spec import Config, Spec

READ_PIXELS = 16
"""Files of a DICOM source whose pixels are read for text; `gradiograph scan` reads them all."""

EVIDENCE = "deidentification.json"
_TOLD = ("profile", "codes", "files", "deidentified", "actions", "warnings", "not_checked")


def scan_inputs(made: Plan) -> list[dict[str, Any]]:
    """What the scan finds in the folders and indices that the audit reads, for its log: no value, no path.

    Args:
        made: The checked audit.

    Raises:
        DataProblem: a folder holds identifiers and the audit file does not say `allow_identified = true`.
    """
    spec = made.spec
    entries = [_entry(role, config, path) for role, config, path in _places(spec, made.builder.folder)]
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


def _places(spec: Spec, folder: Path) -> Iterator[tuple[str, Config, Path]]:
    """Each folder and each index once, with the first role in which the audit reads it."""
    sources = {
        "data": spec.data,
        "public": spec.public.source,
        "gallery": spec.gallery and spec.gallery.source,
        "captured.originals": spec.captured and spec.captured.originals,
    }
    seen = set()
    for role, config in sources.items():
        for key, suffix in (("path", ""), ("index", ".index")):
            path = folder / str(config[key]) if config and config.get(key) else None
            if config and path and path.exists() and path not in seen:
                seen.add(path)
                yield role + suffix, config, path


def _entry(role: str, config: Config, path: Path) -> dict[str, Any]:
    reads = config.get("use") == "dicom" and find_spec("rapidocr_onnxruntime") is not None
    found = residue.scan(path, pixels=READ_PIXELS if reads else 0)
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
        "deidentification": _evidence(path),
    }


def _evidence(path: Path) -> dict[str, Any] | None:
    """What `gradiograph deidentify` wrote of its run beside its output; None where there is nothing of that form."""
    try:
        content = json.loads((path / EVIDENCE).read_text(encoding="utf-8"))
        return {key: content[key] for key in _TOLD}
    except (OSError, ValueError, KeyError, TypeError):
        return None
