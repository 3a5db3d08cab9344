"""What a de-identified image must still say: the elements that readers and models need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gradiograph.deid.synthetic.elements import code

if TYPE_CHECKING:
    import numpy as np

    from gradiograph.deid.synthetic.anatomy import Modality

STORAGE: dict[Modality, str] = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.3.1",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}
"""The SOP class of each modality's images."""

_BODY: dict[Modality, tuple[str, str, str]] = {
    "CR": ("CHEST", "T-D3000", "Chest"),
    "CT": ("CHEST", "T-D3000", "Chest"),
    "MR": ("HEAD", "T-D1100", "Head"),
    "US": ("ABDOMEN", "T-D4000", "Abdomen"),
    "OT": ("CHEST", "T-D3000", "Chest"),
}


def describe(dataset: Dataset, modality: Modality, spacing: str, rng: np.random.Generator) -> None:
    """Add the elements that must be kept, none of them in Table E.1-1.

    Args:
        dataset: Where.
        modality: Which elements.
        spacing: The pixel spacing, of which each image of a set has its own: the score finds the image again by it.
        rng: Their values.
    """
    part, value, meaning = _BODY[modality]
    dataset.Modality, dataset.BodyPartExamined = modality, part
    dataset.AnatomicRegionSequence = Sequence([code(meaning, value)])
    dataset.Manufacturer, dataset.ManufacturerModelName = "Nobody Imaging", f"Model {rng.integers(1, 9)}"
    dataset.SoftwareVersions = ["VB1.2", "VB1.2.1"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientOrientation = ["L", "F"]
    if modality in ("CR", "OT"):
        dataset.ImagerPixelSpacing = [spacing, spacing]
    else:
        dataset.PixelSpacing = [spacing, spacing]
    for keyword, made in _DETAILS[modality](rng).items():
        setattr(dataset, keyword, made)


def _film(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "ViewPosition": str(rng.choice(["PA", "AP", "LL"])),
        "KVP": f"{rng.integers(60, 130)}",
        "ExposureTime": f"{rng.integers(2, 40)}",
        "XRayTubeCurrent": f"{rng.integers(50, 300)}",
        "Laterality": "",
        "DistanceSourceToDetector": "1800",
        "ExposureControlModeDescription": "Automatic, three chambers",
    }


def _slice(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [f"{rng.uniform(-200, -100):.3f}" for _ in range(3)],
        "PatientPosition": "HFS",
        "SliceThickness": f"{rng.choice([1.0, 2.5, 5.0])}",
        "SliceLocation": f"{rng.uniform(-200, 200):.2f}",
        "PositionReferenceIndicator": "SN",
    }


def _ct(rng: np.random.Generator) -> dict[str, Any]:
    return _slice(rng) | {
        "KVP": f"{rng.choice([80, 100, 120])}",
        "ConvolutionKernel": str(rng.choice(["B30f", "B60f"])),
        "XRayTubeCurrent": f"{rng.integers(50, 500)}",
        "GantryDetectorTilt": "0",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "FilterType": "BODY FILTER",
        "CTDIvol": float(rng.integers(1, 20)),
    }


def _mr(rng: np.random.Generator) -> dict[str, Any]:
    return _slice(rng) | {
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTime": f"{rng.integers(5, 120)}",
        "RepetitionTime": f"{rng.integers(400, 6000)}",
        "EchoTrainLength": "9",
        "FlipAngle": f"{rng.integers(5, 180)}",
        "MagneticFieldStrength": str(rng.choice(["1.5", "3"])),
        "SequenceName": "tse2d1_9",
        "SpacingBetweenSlices": f"{rng.integers(3, 9)}.3",
    }


def _scan(rng: np.random.Generator) -> dict[str, Any]:
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 399, 299
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = float(rng.integers(1, 9)) / 100
    return {"SequenceOfUltrasoundRegions": Sequence([region]), "TransducerData": ["C5-1", "", ""]}


def _capture(rng: np.random.Generator) -> dict[str, Any]:
    return {"ConversionType": "WSD"}


_DETAILS = {"CR": _film, "CT": _ct, "MR": _mr, "US": _scan, "OT": _capture}
