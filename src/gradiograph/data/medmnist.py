"""MedMNIST, from a local file or through its package."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from gradiograph.core.errors import BadSetting, DataProblem, nearest
from gradiograph.core.records import Dataset, Record, Split
from gradiograph.core.registry import register
from gradiograph.data.images import LUMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[np.uint8]"]
MAX_BYTES = 2**32
CACHE = Path("~/.medmnist")


@register("data", "medmnist", paper="Yang et al. 2023, Scientific Data 10:41, arXiv 2110.14795")
def medmnist(
    *,
    name: str,
    path: Path | None = None,
    size: Literal[28, 64, 128, 224] = 28,
    channels: Literal[1, 3] = 1,
    download: bool = False,
) -> Dataset:
    """A set of MedMNIST v2, 2-D or 3-D, with its own splits. It does not say whose image is whose.

    So each image is taken for a patient of its own: the unit of privacy is the image, a patient may be in several
    splits, and what is said of patients elsewhere holds for images here.

    Args:
        name: Such as "pneumoniamnist" or "organmnist3d".
        path: Its .npz file, or the folder with it under the name that MedMNIST gives it; none: the package's own
            folder, `~/.medmnist`.
        size: Pixels of a side: which of the set's files it is.
        channels: 1: colours become luma. 3: grey is repeated.
        download: Have the package `medmnist` (an extra) fetch the file from Zenodo where it is not there.

    Returns:
        Records in the order train, val, test; volumes are (C, D, H, W).

    Raises:
        BadSetting: the package is needed and is not installed, or it knows no such set.
        DataProblem: the file is not there, is damaged, too large, of another size, or has several labels an image.
    """
    file = _locate(name, path, size, download=download)
    arrays = _read(file)
    splits: tuple[Split, ...] = get_args(Split)
    images = np.concatenate([arrays[f"{split}_images"] for split in splits])
    labels = np.concatenate([_labels(arrays, split) for split in splits])
    colour = images.ndim == 4 and images.shape[-1] == 3
    spatial = images.shape[1:3] if colour else images.shape[1:]
    if set(spatial) != {size} or len(images) != len(labels):
        msg = f"The file has images of {' x '.join(map(str, spatial))}, but size = {size}. Set the size that it has."
        raise DataProblem(msg)
    classes = _classes(name, int(labels.max()) + 1)
    where = [split for split in splits for _ in range(len(arrays[f"{split}_images"]))]
    return Dataset(
        name="medmnist",
        classes=classes,
        records=tuple(
            Record(index=index, label=int(label), patient=f"{name}-{index:06d}", split=split)
            for index, (label, split) in enumerate(zip(labels, where, strict=True))
        ),
        image_shape=(channels, *spatial),
        read=_reader(images, channels, colour=colour),
        card=(
            f"MedMNIST v2, {name}. A record is one {'image' if len(spatial) == 2 else 'volume'} (there are "
            f"{len(labels)}); it does not say whose, so the unit of privacy is the image too, and its own splits may "
            "share a patient."
        ),
        unit="image" if len(spatial) == 2 else "volume",
        privacy_unit="image",
    )


def _locate(name: str, path: Path | None, size: int, *, download: bool) -> Path:
    folder = (path or CACHE).expanduser()
    file = folder if folder.suffix == ".npz" else folder / f"{name}{'' if size == 28 else f'_{size}'}.npz"
    if file.is_file():
        return file
    if not download:
        msg = "The .npz file of this set is not there. Check `path`, or set download = true (needs the extra medmnist)."
        raise DataProblem(msg)
    package, known = _package(), _known()
    if package is None or name not in known:
        missing = "the package medmnist is not installed: pip install 'gradiograph[medmnist]'"
        reason = missing if package is None else f"it has no set '{name}'. {nearest(name, known)}"
        msg = f"download = true, but {reason}"
        raise BadSetting(msg)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        getattr(package, known[name]["python_class"])(split="val", download=True, root=str(file.parent), size=size)
    except (RuntimeError, AssertionError, OSError):
        msg = f"The download of '{name}' at size {size} failed. Check the network, or give the file as `path`."
        raise DataProblem(msg) from None
    return file.parent / f"{name}{'' if size == 28 else f'_{size}'}.npz"


def _package() -> Any:  # noqa: ANN401 - a module without types, or None
    if find_spec("medmnist") is None:
        return None
    import medmnist as package  # here, because it takes seconds to import

    return package


def _known() -> Mapping[str, Any]:
    package = _package()
    return {} if package is None else package.INFO


def _read(file: Path) -> Arrays:
    names = [f"{split}_{what}" for split in get_args(Split) for what in ("images", "labels")]
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_BYTES:
            msg = f"The file unpacks to {size / 2**30:.1f} GiB; read are {MAX_BYTES // 2**30}. Take a smaller size."
            raise DataProblem(msg)
        with np.load(file, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in names}
    except DataProblem:
        raise
    except Exception:  # zipfile, zlib and numpy each have their own way to say that a file is damaged.
        msg = "The .npz file is damaged or is none of MedMNIST (train_images, train_labels, ...). Download it again."
        raise DataProblem(msg) from None
    if any(array.dtype != np.uint8 or not array.size for array in arrays.values()):
        msg = "The .npz file has empty arrays, or other than 8-bit ones. Download it again."
        raise DataProblem(msg)
    return arrays


def _labels(arrays: Arrays, split: Split) -> NDArray[np.uint8]:
    labels = arrays[f"{split}_labels"]
    if labels.ndim == 2 and labels.shape[1] != 1:
        msg = f"This set has {labels.shape[1]} labels an image, and a record has one. Take a set with one."
        raise DataProblem(msg)
    return labels.reshape(-1)


def _classes(name: str, count: int) -> tuple[str, ...]:
    """The package's names of the classes; their numbers where it is not installed."""
    named = _known().get(name, {}).get("label", {})
    return tuple(str(named.get(str(number), number)) for number in range(max(count, len(named))))


def _reader(
    images: NDArray[np.uint8], channels: int, *, colour: bool
) -> Callable[[Sequence[int]], NDArray[np.float32]]:
    def read(indices: Sequence[int]) -> NDArray[np.float32]:
        chosen = images[np.asarray(indices, int)].astype(np.float32) / 255
        if not colour:
            return np.repeat(chosen[:, None], channels, axis=1)
        planes = (chosen @ LUMA)[:, None].clip(0, 1) if channels == 1 else np.moveaxis(chosen, -1, 1)
        return np.array(planes, np.float32)

    return read
