"""A DICOM data set, de-identified: a new one, into which only what the profile keeps is carried."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_has_tag, keyword_for_tag, repeater_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gradiograph.core.errors import DataProblem
from gradiograph.deid.dates import move_date
from gradiograph.deid.descriptions import clean_text
from gradiograph.deid.identifiers import Identifiers, looks_identifying
from gradiograph.deid.options import Option
from gradiograph.deid.profile import Action, Profile
from gradiograph.deid.safe_private import is_safe
from gradiograph.deid.source import DEEPEST, PIXELS, patient_of, readable, removed, text_of
from gradiograph.deid.values import BULK_VRS, DUMMIES, STRING_VRS, TEXT_VRS, dummy, is_well_formed, values_of

if TYPE_CHECKING:
    from gradiograph.deid.pseudonyms import Pseudonyms

_PATIENT_ID, _PATIENT_NAME = 0x00100020, 0x00100010
_CURVE, _OVERLAY = 0x50, 0x60
_OLDEST = 89  # years; Safe Harbor, letter C: all ages above are one
_WELL_KNOWN = "1.2.840.10008."
_LOCAL_SCHEME = "99"
_CODES = range(0x00080100, 0x00080124)  # of a coded concept: a standard's words, not an operator's
_OF_THE_SUBJECT = frozenset(map(str, range(121028, 121034)))  # DCM: the subject's UID, name, id, birth date, sex, age


@dataclass(frozen=True)
class Deidentified:
    """What became of a data set.

    Attributes:
        dataset: The new one.
        patient: The pseudonym of its patient.
        counts: How many elements, by what was done: an action's letter, or `unlisted`, `unknown`, `private`,
            `malformed`, `swept`.
        identifiers: What was removed and must not stand anywhere else.
    """

    dataset: Dataset
    patient: str
    counts: Counter[str]
    identifiers: Identifiers = field(repr=False)


def deidentify_dataset(source: Dataset, profile: Profile, pseudonyms: Pseudonyms) -> Deidentified:
    """A new data set with what the profile keeps; the pixel data is carried over as it is.

    Beyond the table: an attribute that the data dictionary does not know is removed, and so is a kept value that is not
    what the dictionary says, or in which something of the patient stands that was removed elsewhere.

    Args:
        source: Read from a file; it is not changed.
        profile: The profile and its options.
        pseudonyms: Under the site's key.

    Raises:
        DataProblem: sequences are nested without end.
    """
    sop_class = text_of(source, 0x00080016)
    patient = patient_of(source)
    walk = _Walk(
        profile=profile,
        pseudonyms=pseudonyms,
        sop_class=sop_class,
        patient=pseudonyms.name("patient", patient),
        days=pseudonyms.days(patient),
        identifiers=Identifiers.of(removed(source, profile, sop_class)),
    )
    made = walk.dataset(source)
    for tag, vr in ((_PATIENT_NAME, "PN"), (_PATIENT_ID, "LO")):
        made.add(DataElement(tag, vr, walk.patient))
    return Deidentified(dataset=made, patient=walk.patient, counts=walk.counts, identifiers=walk.identifiers)


@dataclass(frozen=True, kw_only=True)
class _Walk:
    profile: Profile
    pseudonyms: Pseudonyms
    sop_class: str
    patient: str
    days: int
    identifiers: Identifiers
    counts: Counter[str] = field(default_factory=Counter)

    def dataset(self, source: Dataset, sequence: str = "", depth: int = 0, *, cleaning: bool = False) -> Dataset:
        if depth > DEEPEST:
            msg = f"Sequences are nested deeper than {DEEPEST}."
            raise DataProblem(msg)
        made = Dataset()
        for tag in sorted(source.keys()):
            done, element = self._element(source, tag, sequence, depth, cleaning=cleaning)
            self.counts[done] += 1
            if element is not None:
                made.add(element)
        return made

    def _element(
        self, source: Dataset, tag: int, sequence: str, depth: int, *, cleaning: bool
    ) -> tuple[str, DataElement | None]:
        """What was done to an element, and what is left of it."""
        if tag & 0xFFFF == 0 or tag >> 16 <= 0x0002:
            return "X", None  # group lengths, which would be wrong now; commands and the file's own header
        if tag in PIXELS and not sequence:
            return "pixels", readable(source, tag)
        if tag >> 16 & 1:
            return self._private(source, tag)
        action = self.profile.action(tag, self.sop_class, sequence)
        if action is None and not (dictionary_has_tag(tag) or repeater_has_tag(tag)):
            return "unknown", None
        action = self._whole_groups(tag, action)
        if action is Action.REMOVE:
            return "X", None
        element = readable(source, tag)
        if element is None:
            return "malformed", None
        if action is None or action is Action.KEEP:
            done, kept = self._keep(element, depth, cleaning=cleaning)
            return (done or ("unlisted" if action is None else "K")), kept
        return action.value, self._change(element, action, sequence, depth)

    def _whole_groups(self, tag: int, action: Action | None) -> Action | None:
        """Of an overlay or a curve nothing is kept unless all of it is."""
        repeating = tag >> 24
        if repeating == _CURVE or (repeating == _OVERLAY and Option.CLEAN_GRAPHICS not in self.profile.options):
            return Action.REMOVE
        return action

    def _private(self, source: Dataset, tag: int) -> tuple[str, DataElement | None]:
        if Option.SAFE_PRIVATE not in self.profile.options or not is_safe(source, tag):
            return "private", None
        element = readable(source, tag)
        if element is None or element.VR == "SQ" or self._identifies(element):
            return "private", None
        return "C", element

    def _keep(self, element: DataElement, depth: int, *, cleaning: bool) -> tuple[str, DataElement | None]:
        """The element, or what is left of it; and why not all of it, empty where it is whole."""
        if element.VR == "SQ":
            return "", self._items(element, depth, cleaning=cleaning)
        if not is_well_formed(element):
            return "malformed", None
        if cleaning and element.VR in TEXT_VRS and element.tag not in _CODES:
            return "C", self._cleaned(element)
        if self._identifies(element):
            # A code's meaning must have a value; of a code itself none is right but its own.
            return "swept", _with(element, DUMMIES[element.VR] if element.VR in TEXT_VRS else None)
        if element.VR == "AS":
            return "", _with(element, _capped(str(element.value or "")))
        return "", element

    def _identifies(self, element: DataElement) -> bool:
        if element.VR in BULK_VRS:
            return self.identifiers.within_bytes(element.value or b"")
        if element.VR not in STRING_VRS:
            return False
        texts = [str(value) for value in values_of(element)]
        free = element.VR in TEXT_VRS
        return any(self.identifiers.within(text) or (free and looks_identifying(text)) for text in texts)

    def _change(self, element: DataElement, action: Action, sequence: str, depth: int) -> DataElement | None:
        if element.tag in (_PATIENT_ID, _PATIENT_NAME) and element.VR in ("LO", "PN") and action is not Action.CLEAN:
            return _with(element, self.patient)
        if action is Action.EMPTY:
            return _with(element, Sequence() if element.VR == "SQ" else None)
        if action is Action.UID:
            return self._another_uid(element, depth)
        if action is Action.DUMMY:
            return self._dummy(element, depth)
        return self._clean(element, sequence, depth) if action is Action.CLEAN else None

    def _another_uid(self, element: DataElement, depth: int) -> DataElement | None:
        if element.VR == "SQ":
            return self._items(element, depth, cleaning=False)
        if element.VR != "UI":
            return None
        return _with(element, [self._uid(str(value)) for value in values_of(element)] or None)

    def _uid(self, value: str) -> str:
        return value if value.startswith(_WELL_KNOWN) else self.pseudonyms.uid(value)

    def _dummy(self, element: DataElement, depth: int) -> DataElement:
        if element.VR == "UI":
            return _with(element, [self._uid(str(value)) for value in values_of(element)] or None)
        if element.VR != "SQ":
            return _with(element, dummy(element) if element.VR in DUMMIES else None)
        items = list(element.value)[:1]
        return _with(element, Sequence([self._dummy_item(item, depth + 1) for item in items]))

    def _dummy_item(self, item: Dataset, depth: int) -> Dataset:
        if depth > DEEPEST:
            msg = f"Sequences are nested deeper than {DEEPEST}."
            raise DataProblem(msg)
        made = Dataset()
        for tag in sorted(item.keys()):
            element = readable(item, tag) if dictionary_has_tag(tag) and not tag >> 16 & 1 else None
            if element is not None:
                made.add(self._dummy(element, depth))
        return made

    def _clean(self, element: DataElement, sequence: str, depth: int) -> DataElement | None:
        vr = element.VR
        if vr == "SQ":
            return self._items(element, depth, cleaning=True)
        if vr in ("DA", "DT"):
            moved = [move_date(str(value), self.days) for value in values_of(element)]
            return _with(element, moved if moved and all(moved) else None)
        if vr == "TM":
            return element if is_well_formed(element) else _with(element, None)
        if vr in TEXT_VRS:
            return self._cleaned(element)
        if element.tag >> 24 == _OVERLAY:
            return element
        # What cannot be cleaned is treated as without the option.
        basic = Profile().action(element.tag, self.sop_class, sequence)
        return self._change(element, basic or Action.REMOVE, sequence, depth)

    def _cleaned(self, element: DataElement) -> DataElement:
        """Free text, of which the clinical words stay; a word that is also the patient's name goes."""
        texts = [clean_text(str(value)) for value in values_of(element)]
        safe = [" ".join(word for word in text.split() if not self.identifiers.within(word)) for text in texts]
        return _with(element, safe or None)

    def _items(self, element: DataElement, depth: int, *, cleaning: bool) -> DataElement:
        keyword = keyword_for_tag(element.tag)
        items = [item for item in element.value if not (cleaning and self._is_unfit(item))]
        return _with(element, Sequence([self.dataset(item, keyword, depth + 1, cleaning=cleaning) for item in items]))

    def _is_unfit(self, item: Dataset) -> bool:
        """Whether an item of cleaned content is of somebody's own scheme, or tells who the subject is."""
        concept = readable(item, 0x0040A043) if 0x0040A043 in item else None
        codes = (
            [text_of(code, 0x00080100) for code in concept.value] if concept is not None and concept.VR == "SQ" else []
        )
        if Option.PATIENT not in self.profile.options and not _OF_THE_SUBJECT.isdisjoint(codes):
            return True
        return text_of(item, 0x00080102).startswith(_LOCAL_SCHEME)


def _with(element: DataElement, value: object) -> DataElement:
    return DataElement(element.tag, element.VR, value)


def _capped(age: str) -> str:
    return f"{_OLDEST + 1:03d}Y" if age.endswith("Y") and age[:-1].isdecimal() and int(age[:-1]) > _OLDEST else age
