"""Damaged files: refused with a reason or de-identified, and nothing that was planted comes out."""

import io
import warnings
from functools import cache

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gradiograph import deid
from gradiograph.core.errors import DataProblem
from mutations import mutate, seeds

KEY = deid.Pseudonyms(bytes(range(32)))
KEEPING = frozenset({deid.Option.UIDS, deid.Option.PATIENT, deid.Option.INSTITUTION, deid.Option.DEVICE})
CLEANING = frozenset(deid.Option) - KEEPING - {deid.Option.FULL_DATES, deid.Option.CLEAN_FACES}
PLANTED = ("villanueva", "55512345", "acc998877", "okonkwo", "westhof", "19610430")
FIELDS = ("PatientName", "PatientID", "AccessionNumber", "ReferringPhysicianName", "InstitutionName", "OperatorsName")
OWN = 40  # of the pool: small files full of names, beside pydicom's


@cache
def pool():
    """Whole files, each with what identifies in it: texts of 8 bytes or more."""
    own = [(_film(syntax), PLANTED) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    return [*own * (OWN // 2), *((content, _identifying(content)) for content in seeds())]


def _film(syntax):
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = CTImageStorage, "1.2.3.4.5.6", "1.2.3.4"
    made.Modality, made.ImageType, made.BodyPartExamined = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "CHEST"
    made.PatientName, made.PatientID, made.PatientBirthDate = "VILLANUEVA^XIMENA", "MRN-55512345", "19610430"
    made.AccessionNumber, made.InstitutionName = "ACC998877", "Spital Westhof"
    made.ReferringPhysicianName, made.StudyDescription = "OKONKWO^EMEKA", "CT Thorax VILLANUEVA Dr Okonkwo"
    made.ScanOptions, made.ConvolutionKernel, made.KVP, made.SliceThickness = "HELICAL", "B30f", "120", "2.5"
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepDescription = "ACC998877", "Thorax VILLANUEVA"
    made.RequestAttributesSequence = Sequence([item])
    made.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "VILLANUEVA^XIMENA")
    made.Rows = made.Columns = 8
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 16, 12, 11, 0, 1
    made.PhotometricInterpretation, made.PixelSpacing = "MONOCHROME2", [0.5, 0.5]
    made.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def _identifying(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = pydicom.dcmread(io.BytesIO(content))
        texts = {str(read.get(field) or "").lower() for field in FIELDS}
    return tuple(text for text in texts if len(text) >= 8 and len(set(text)) >= 6)


def survives(numbers, seed):
    """How many damaged files came through; fails at the first that leaks or raises anything but a reason."""
    done = 0
    for number in numbers:
        content, planted = pool()[number % len(pool())]
        options = frozenset() if number % 3 else CLEANING
        try:
            made = deid.deidentify_dicom(mutate(content, number, seed), deid.Profile(options), KEY, None)
        except DataProblem:
            continue
        lowered = made.content.lower()
        left = [text for text in planted if text.encode("utf-8", "ignore") in lowered]
        assert not left, f"mutation {number} of seed {seed} leaks"
        done += 1
    return done


def test_damaged_files_neither_crash_nor_leak():
    assert survives(range(2000), 20261125) > 200


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_damaged_files_neither_crash_nor_leak():
    assert survives(range(100_000), 71) > 10_000
