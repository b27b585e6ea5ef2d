"""Export of what was accepted: QuPath GeoJSON and label images, written in a worker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog, QMenu, QSizePolicy, QToolButton, QWidget

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseArray
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.store_sparse import write_sparse_labels
from napari_pathsam.workspace import Workspace

FORMATS = {
    "geojson": ("Objects for QuPath (GeoJSON)…", "objects.geojson", "GeoJSON (*.geojson)"),
    "instances": ("Label image, one number per object…", "objects.tif", "Images (*.tif *.png)"),
    "classes": ("Label image, one number per class…", "classes.tif", "Images (*.tif *.png)"),
}
OF_SLIDES = {
    "geojson": FORMATS["geojson"],
    "instances": ("Label pyramid, one number per object…", "objects.ome.tif", "OME-TIFF (*.tif)"),
    "classes": ("Label pyramid, one number per class…", "classes.ome.tif", "OME-TIFF (*.tif)"),
    "ngff": ("Label pyramids, all (OME-Zarr)…", "labels.zarr", "OME-Zarr (*.zarr)"),
}
"""What is offered where a label image would not fit into memory."""


@dataclass(frozen=True)
class Labels:
    """A copy of a workspace's labels: what is exported does not change while it is written.

    Only of the part that was ever labelled, ``at`` in the ``shape_yx`` of the whole: copying all
    of a large image takes a second, and the person waits for it.
    """

    instances: NDArray[np.int32]
    class_map: NDArray[np.uint8]
    at: Region
    shape_yx: tuple[int, int]
    class_of: dict[int, int]
    classes: ClassTable

    @classmethod
    def of(cls, workspace: Workspace) -> Labels:
        at = workspace.labelled or Region(0, 0, 1, 1)
        return cls(
            np.array(workspace.instances[at.slices]),
            np.array(workspace.class_map[at.slices]),
            at,
            (workspace.instances.shape[0], workspace.instances.shape[1]),
            {o.id: o.class_id for o in workspace.objects.values()},
            workspace.classes,
        )

    def whole(self, part: NDArray[np.integer]) -> NDArray[np.integer]:
        """One of the two maps at its full size."""
        array = np.zeros(self.shape_yx, part.dtype)
        array[self.at.slices] = part
        return array


@dataclass(frozen=True)
class SlideLabels:
    """A copy of the labels of a slide; in memory is what is labelled."""

    instances: SparseArray
    class_map: SparseArray
    class_of: dict[int, int]
    classes: ClassTable
    mpp: float | None

    def stores(self, path: Path, *, areas: bool = False) -> dict[str, LabelStore]:
        """Write them as label pyramids; ``areas``: what is no object once more, by itself."""
        maps = {"objects": self.instances, "classes": self.class_map}
        if areas:
            maps["areas"] = self.class_map.copy()
            for piece in self.instances.pieces():
                free = self.instances[piece.slices] == 0
                maps["areas"][piece.slices] = self.class_map[piece.slices] * free
        return write_sparse_labels(
            path, maps, mpp=self.mpp, classes=self.classes, class_of=self.class_of
        )


def labels_of(workspace: Workspace) -> Labels | SlideLabels:
    """A copy of a workspace's labels as they are now."""
    instances, class_map = workspace.instances, workspace.class_map
    if isinstance(instances, np.ndarray) or isinstance(class_map, np.ndarray):
        return Labels.of(workspace)
    class_of = {o.id: o.class_id for o in workspace.objects.values()}
    return SlideLabels(
        instances.copy(), class_map.copy(), class_of, workspace.classes, workspace.mpp
    )


def write(kind: str, path: Path, labels: Labels | SlideLabels) -> Path:
    """Write one of the ``FORMATS``, or of a slide one of ``OF_SLIDES``."""
    if isinstance(labels, SlideLabels):
        return _write_slide(kind, path, labels)
    if kind == "geojson":
        from napari_pathsam.io.annotations import write_geojson

        write_geojson(
            path, labels.instances, class_of=labels.class_of, class_map=labels.class_map,
            classes=labels.classes, offset_yx=(labels.at.y, labels.at.x),
        )  # fmt: skip
    else:
        from napari_pathsam.io.images import write_labels

        array = labels.instances if kind == "instances" else labels.class_map
        write_labels(path, labels.whole(array), labels.classes if kind == "classes" else None)
    return path


def _write_slide(kind: str, path: Path, labels: SlideLabels) -> Path:
    if kind == "ngff":
        labels.stores(path)
        return path
    with tempfile.TemporaryDirectory(prefix="pathsam-") as folder:
        stores = labels.stores(Path(folder) / "labels.zarr", areas=kind == "geojson")
        if kind == "geojson":
            from napari_pathsam.io.store_geojson import write_store_geojson

            for _ in write_store_geojson(
                path, stores["objects"], stores["classes"], areas=stores["areas"]
            ):
                pass
        else:
            from napari_pathsam.io.store_tiff import write_store_tiff

            write_store_tiff(path, stores["objects" if kind == "instances" else "classes"])
    return path


class ExportButton(QToolButton):
    """A button with a menu of formats; ``export(kind, path)`` does the rest."""

    def __init__(self, export: Callable[[str, Path], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._export = export
        self.setText("Export")
        self.setToolTip("Write the accepted objects: GeoJSON that QuPath opens, or label images")
        self.setPopupMode(QToolButton.InstantPopup)
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Fixed)
        self.setMinimumHeight(26)
        self.setStyleSheet("QToolButton { border-radius: 2px; background: #414851; }")
        self.setMenu(QMenu(self))
        self.offer(FORMATS)

    def offer(self, formats: dict[str, tuple[str, str, str]]) -> None:
        """Put these into the menu: :data:`FORMATS`, or of a slide :data:`OF_SLIDES`."""
        self._formats = formats
        self.menu().clear()
        for kind, (title, _, _) in formats.items():
            action = self.menu().addAction(title)
            action.triggered.connect(lambda _=False, kind=kind: self._ask(kind))

    def _ask(self, kind: str) -> None:
        title, name, pattern = self._formats[kind]
        path, _ = QFileDialog.getSaveFileName(self, title.rstrip("…"), name, pattern)
        if path:
            self._export(kind, Path(path))
