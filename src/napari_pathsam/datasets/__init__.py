"""Published data sets: their layout on disk, their official splits, and any folder of images."""

from __future__ import annotations

from pathlib import Path

from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.datasets.base import DataSet, LabelKind, Sample
from napari_pathsam.datasets.bcss import BCSS
from napari_pathsam.datasets.camelyon16 import CAMELYON16
from napari_pathsam.datasets.catch import CATCH
from napari_pathsam.datasets.coco import COCO
from napari_pathsam.datasets.conic import CONIC
from napari_pathsam.datasets.crag import CRAG
from napari_pathsam.datasets.crc_tissue import CRC_TISSUE
from napari_pathsam.datasets.cryonuseg import CRYONUSEG
from napari_pathsam.datasets.ebhi_seg import EBHI_SEG
from napari_pathsam.datasets.folder import FOLDER, folder_samples
from napari_pathsam.datasets.glas import GLAS
from napari_pathsam.datasets.layout import checked_folder
from napari_pathsam.datasets.lizard import LIZARD
from napari_pathsam.datasets.monuseg import MONUSEG
from napari_pathsam.datasets.nuinsseg import NUINSSEG
from napari_pathsam.datasets.pannuke import PANNUKE
from napari_pathsam.datasets.tnbc import TNBC

DATASETS: dict[str, DataSet] = {
    d.name: d
    for d in (
        GLAS, CRAG, EBHI_SEG, CRC_TISSUE, BCSS, CRYONUSEG, NUINSSEG, CONIC, LIZARD, MONUSEG, TNBC,
        PANNUKE, CATCH, CAMELYON16, COCO, FOLDER,
    )
}  # fmt: skip
"""Every data set by its name on the command line; the two that are anybody's come last."""

__all__ = [
    "DATASETS",
    "DataSet",
    "LabelKind",
    "Sample",
    "dataset",
    "folder_samples",
    "open_dataset",
    "recognise",
]


def dataset(name: str, target: str | None = None, root: Path | str | None = None) -> DataSet:
    """The data set of this name, its labels read as ``target`` says.

    With ``root`` it has the classes that it has in that folder.

    Raises
    ------
    UnavailableError
        There is none of this name, or it has no such target; the message lists what there is.
    """
    key = name.lower().replace("_", "-")
    if key not in DATASETS:
        raise UnavailableError(
            f"There is no reader for a data set called {name!r}; there are "
            f"{', '.join(DATASETS)}. Other images can be given as folders, with --images and "
            "--labels."
        )
    found = DATASETS[key].aiming(target)
    return found if root is None else found.at(Path(root))


def recognise(root: Path) -> DataSet:
    """The data set that lies in a folder, told by its file names."""
    checked_folder(root)
    for found in DATASETS.values():
        if found.find(root):
            return found
    raise BadFileError(
        f"{root} has the layout of none of the known data sets ({', '.join(DATASETS)}). "
        "`pathsam datasets info NAME` shows how each one must look."
    )


def open_dataset(
    name: str, root: Path | str, split: str | None = None, *, target: str | None = None
) -> list[Sample]:
    """Samples of one split of a data set (None: its default; ``"all"``: every image found)."""
    return dataset(name, target).samples(Path(root), split)
