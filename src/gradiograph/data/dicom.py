"""DICOM files in a folder: X-ray images and frames, or series as slices, patches and volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from gradiograph.core.errors import BadSetting
from gradiograph.core.records import Dataset
from gradiograph.core.registry import register
from gradiograph.data.cuts import Plane
from gradiograph.data.dicom_display import Window
from gradiograph.data.dicom_films import Films, film_dataset
from gradiograph.data.dicom_listing import Who, list_dicom
from gradiograph.data.dicom_series import assemble
from gradiograph.data.index import Columns
from gradiograph.data.volume_cuts import Size, Spacing, make_cut
from gradiograph.data.volume_reader import VolumePlan
from gradiograph.data.volume_records import volume_dataset
from gradiograph.data.volumes import Preparation
from gradiograph.data.windows import level_and_width


@register("data", "dicom")
def dicom(
    *,
    path: Path,
    unit: Literal["image", "study", "slice", "patch", "volume"] = "image",
    image_size: Annotated[int, Field(ge=8)] | None = None,
    size: Size | None = None,
    plane: Plane = "axial",
    every: Annotated[int, Field(ge=1)] = 1,
    spacing: Spacing | None = None,
    window: Window = "file",
    channels: Literal[1, 3] = 1,
    label: str = "folder",
    patient: str = "PatientID",
    site: str = "",
    modalities: list[str] | None = None,
    index: Path | None = None,
    file_column: str = "file",
    label_column: str = "label",
    patient_column: str = "patient",
    split_column: str = "split",
    site_column: str = "site",
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    split_seed: int = 0,
    upsample: bool = False,
    verify: bool = True,
) -> Dataset:
    """DICOM files below a folder, at any depth: CR, DX, CT, MR and others; images, studies, or series as volumes.

    Values are rescaled to the units of the modality, then windowed; MONOCHROME1 is turned. Uncompressed, RLE, JPEG,
    JPEG-LS and JPEG 2000 are read. Series are put together by where their slices lie in the patient, and turned
    to RAS+. Files that cannot be used are refused with a line each, and the others go on. Nothing is de-identified.

    Args:
        path: The folder.
        unit: What a record is. "image": every image, and every frame of a multi-frame file. "study": the first image of
            each study, by series number, then instance number. "slice", "patch", "volume": of the CT and MR series; see
            `nifti`. The unit of privacy is the patient, always.
        image_size: Pixels of a side of an image or slice; an image is cropped at the centre to its short edge and
            resized.
        size: Voxels (D, H, W) of a patch or volume.
        plane: Which slices of a series.
        every: Every how-manieth slice.
        spacing: Millimetres along x, y, z to resample series to.
        window: "file": the file's own table or first window, else the range of its values (for series: else the 0.5th
            to 99.5th percentile); "range": of its values; a CT preset; or [level, width].
        channels: 1: colours become luma. 3: grey is repeated.
        label: "folder": the first folder below `path`; "none": one class; or the keyword of an element, such as
            BodyPartExamined. A column of the index comes first.
        patient: The keyword of the element with the patient. A column of the index comes first.
        site: "scanner": manufacturer, model, serial number and station; or a keyword, such as InstitutionName. A column
            of the index comes first.
        modalities: Those to take, such as ["CR", "DX"]; none takes all.
        index: A CSV with a header line and a row for each file; only the file's column is needed.
        file_column: The column with the file, relative to `path`.
        label_column: The column with the class, used when the index has it; so are the next three.
        patient_column: The column with the patient.
        split_column: The column with the split.
        site_column: The column with the hospital or scanner.
        fractions: Shares of train, val and test, where the source has no split; by patient.
        split_seed: Seed of that split.
        upsample: Allow images smaller than `image_size`.
        verify: Decode every image once now, so that damaged ones are refused and the others go on.

    Returns:
        Records sorted by file, then by frame or place. Files and series that cannot be used are in `refused`.

    Raises:
        BadSetting: settings that contradict each other.
        DataProblem: a folder or an index that cannot be used, or no file that can.
    """
    columns = Columns(file_column, label_column, patient_column, split_column, site_column, mask=None)
    if index is None and columns != Columns(mask=None):
        msg = "The settings ..._column are of an index, but `index` is not set. Set it."
        raise BadSetting(msg)
    who = Who(label=label, patient=patient, site=site, modalities=tuple(modalities or ()))
    if unit in ("image", "study"):
        if image_size is None or size is not None or spacing is not None:
            msg = f"unit = '{unit}' takes image_size, and neither size nor spacing. Mend them."
            raise BadSetting(msg)
        films = Films(
            image_size=image_size,
            channels=channels,
            window=window,
            one_per_study=unit == "study",
            upsample=upsample,
            verify=verify,
            fractions=fractions,
            split_seed=split_seed,
        )
        return film_dataset(list_dicom(path.expanduser(), index and index.expanduser(), columns, who), films)
    cut = make_cut(unit, image_size=image_size, size=size, plane=plane, every=every, upsample=upsample, spacing=spacing)
    listing = list_dicom(path.expanduser(), index and index.expanduser(), columns, who)
    shown = window if window in ("file", "range") else level_and_width(window)  # type: ignore[arg-type]
    cases, refused = assemble(listing.found, listing.total, shown)
    plan = VolumePlan(
        preparation=Preparation(spacing),
        cut=cut,
        unit=unit,
        channels=channels,
        verify=verify,
        fractions=fractions,
        split_seed=split_seed,
    )
    card = f"DICOM series, put together of {len(listing.found)} files."
    return volume_dataset("dicom", cases, listing.total, plan, refused=(*listing.refused, *refused), card=card)
