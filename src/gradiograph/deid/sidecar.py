"""JSON beside volumes: the entries that a reader needs stay, all others go."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import tag_for_keyword

from gradiograph.core.errors import DataProblem
from gradiograph.deid.descriptions import clean_text
from gradiograph.deid.identifiers import looks_identifying
from gradiograph.deid.options import Option
from gradiograph.deid.profile import Action

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradiograph.deid.profile import Profile

_CONTAINERS: Final = frozenset({"global", "const", "slices", "samples"})
_TECHNICAL: Final = frozenset(
    """
    BIDSVersion ConversionSoftware ConversionSoftwareVersion DwellTime EffectiveEchoSpacing EchoTime1 EchoTime2
    EstimatedEffectiveEchoSpacing ImageOrientationText ImageOrientationPatientDICOM
    InPlanePhaseEncodingDirectionDICOM IntendedFor MTState MultibandAccelerationFactor
    NonlinearGradientCorrection NumberShots ParallelReductionFactorInPlane PartialFourier PhaseEncodingAxis
    PhaseEncodingDirection PhaseEncodingSteps PixelBandwidth PulseSequenceType RawImage ReconMatrixPE
    RepetitionTimeExcitation RepetitionTimeInversion SkullStripped SliceEncodingDirection SliceTiming
    SpoilingState TotalReadoutTime Units VendorReportedEchoSpacing labels modality numTest numTraining
    tensorImageSize
    """.split()  # noqa: SIM905 - forty quoted words would hide the list
)
_LISTS: Final = frozenset({"training", "test", "validation"})
_DEEPEST = 20
_SHORT_CODE = re.compile(r"[A-Za-z]{1,3}[+-]?")


def deidentify_sidecar(content: bytes, profile: Profile, rename: Callable[[str], str]) -> tuple[bytes, Counter[str]]:
    """De-identify a sidecar of BIDS or dcm2niix, or the `dataset.json` of the Medical Segmentation Decathlon.

    An entry stays where it is a DICOM attribute that the profile keeps or a technical term of BIDS, and its value is a
    number, a code, or text without the form of an identifier.

    Args:
        content: The file.
        profile: The profile and its options.
        rename: Gives a file its new name, for lists of files.

    Returns:
        The new file, and how many entries were kept (`K`), cleaned (`C`), or removed (`X`).

    Raises:
        DataProblem: it is not a JSON object.
    """
    try:
        entries = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        msg = "Not a JSON file."
        raise DataProblem(msg) from None
    if not isinstance(entries, dict):
        msg = "The JSON file is not the description of a volume or of a data set."
        raise DataProblem(msg)
    counts: Counter[str] = Counter()
    made = _object(entries, profile, rename, counts, 0)
    return (json.dumps(made, indent=1) + "\n").encode(), counts


def _object(
    entries: dict[str, Any], profile: Profile, rename: Callable[[str], str], counts: Counter[str], depth: int
) -> dict[str, object]:
    made: dict[str, object] = {}
    for name, value in entries.items():
        if name in _CONTAINERS and isinstance(value, dict) and depth < _DEEPEST:
            made[name] = _object(value, profile, rename, counts, depth + 1)
            continue
        if name in _LISTS and isinstance(value, list):
            made[name] = [_listed(item, rename) for item in value]
            counts["C"] += 1
            continue
        done, kept = _entry(name, value, profile)
        counts[done] += 1
        if done != "X":
            made[name] = kept
    return made


def _entry(name: str, value: object, profile: Profile) -> tuple[str, object]:
    tag = tag_for_keyword(name)
    if tag is None and name not in _TECHNICAL:
        return "X", None
    action = None if tag is None else profile.action(tag, "")
    if action in (None, Action.KEEP):
        return ("K", value) if _is_harmless(value) else ("X", None)
    cleans = action is Action.CLEAN and Option.CLEAN_DESCRIPTORS in profile.options
    if cleans and isinstance(value, str) and (words := clean_text(value)):
        return "C", words
    return "X", None


def _is_harmless(value: object) -> bool:
    if isinstance(value, dict):  # labels: numbers and what they stand for
        return all(name.isdecimal() and _is_harmless(inner) for name, inner in value.items())
    if isinstance(value, list):
        return all(_is_harmless(inner) for inner in value)
    if isinstance(value, str):
        return bool(_SHORT_CODE.fullmatch(value)) or not looks_identifying(value)
    return True


def _listed(item: object, rename: Callable[[str], str]) -> object:
    if isinstance(item, str):
        return rename(item)
    if isinstance(item, dict):
        return {name: _listed(path, rename) for name, path in item.items() if name in ("image", "label")}
    return None
