"""Export of what was accepted: QuPath GeoJSON and label images, written in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QFileDialog, QMenu, QSizePolicy, QToolButton, QWidget

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace import Workspace

FORMATS = {
    "geojson": ("Objects for QuPath (GeoJSON)…", "objects.geojson", "GeoJSON (*.geojson)"),
    "instances": ("Label image, one number per object…", "objects.tif", "Images (*.tif *.png)"),
    "classes": ("Label image, one number per class…", "classes.tif", "Images (*.tif *.png)"),
}


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


def write(kind: str, path: Path, labels: Labels) -> Path:
    """Write one of the ``FORMATS``."""
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
        menu = QMenu(self)
        for kind, (title, _, _) in FORMATS.items():
            menu.addAction(title).triggered.connect(lambda _=False, kind=kind: self._ask(kind))
        self.setMenu(menu)

    def _ask(self, kind: str) -> None:
        title, name, pattern = FORMATS[kind]
        path, _ = QFileDialog.getSaveFileName(self, title.rstrip("…"), name, pattern)
        if path:
            self._export(kind, Path(path))
