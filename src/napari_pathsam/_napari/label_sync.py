"""The labels layers show what the workspace holds, and what is painted in them reaches it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_pathsam._napari.label_layers import LabelLayers
from napari_pathsam._napari.label_window import LabelWindow
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_pathsam._napari.plane import Plane
    from napari_pathsam.workspace import Workspace


class LabelSync(QObject):
    """Keeps :class:`LabelLayers` and a workspace in step.

    ``own_doing()`` is entered while layers come and go because the workspace says so.
    """

    def __init__(
        self,
        viewer: Viewer,
        workspace: Workspace,
        own_doing: Callable[[], AbstractContextManager[None]],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._workspace, self._own_doing = workspace, own_doing
        self.shown = LabelLayers(viewer, self)
        self._viewer = viewer
        self._open = False
        self._where: tuple[Image, Plane] | None = None
        self.window: LabelWindow | None = None  # of slides
        self._hidden: frozenset[int] = frozenset()
        self._changed: list[Region] = []  # where labels are still to be redrawn
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self.redraw)
        self.shown.stroke.connect(self._on_stroke)
        self.shown.replaced.connect(self._on_replaced)
        for signal, slot in self._slots():
            signal.connect(slot)

    def open(self, image: Image, plane: Plane) -> None:
        """Show the labels of the open image."""
        self._open = True
        self._where = (image, plane)
        maps = self._maps()
        sparse = {kind: m for kind, m in maps.items() if isinstance(m, SparseLabels)}
        if sparse:
            self.window = LabelWindow(self._viewer, self.shown, sparse, image, plane, self)
            self.window.too_far.connect(self._on_too_far)
        else:
            self.shown.open(image, plane, maps, (0, 0))

    def look(self, view: Region, screen_px: float) -> None:
        """Follow the view: a part of the image, at so many screen pixels an image pixel."""
        if self.window is None:
            self.shown.set_contour(screen_px)
        else:
            with self._own_doing():
                self.window.look(view)

    def place(self, plane: Plane) -> None:
        """The image was moved or scaled."""
        if self._where is not None:
            self._where = (self._where[0], plane)
        self.shown.place(plane)
        if self.window is not None:
            self.window.place(plane)

    def close_image(self, *, keep: bool) -> None:
        """The image goes; ``keep`` leaves its labels to the person, as ordinary layers."""
        keep = keep and self._workspace.has_labels
        if self.window is not None:
            self.window.close(keep=keep)
            self.window = None
        else:
            self.shown.close(keep=keep)
        self._open, self._where, self._changed = False, None, []

    def close(self) -> None:
        """The dock goes."""
        self._timer.stop()
        for signal, slot in self._slots():
            signal.disconnect(slot, missing_ok=True)

    def set_hidden(self, hidden: frozenset[int]) -> None:
        """Classes whose objects are not shown."""
        self._hidden = hidden
        self.redraw()

    def redraw(self) -> None:
        """Colours, then pixels, once for all that changed in one turn of the event loop."""
        if not self._open:
            return
        told = self._told()
        changed, self._changed = self._changed, []
        if self.window is not None:
            changed = self.window.bring(changed)
            self.window.show(*told)
        self.shown.set_colors(*told)
        self.shown.redraw(changed)
        self.shown.select(class_id=self._workspace.active_class)

    def _told(self) -> tuple[ClassTable, dict[int, int], frozenset[int]]:
        """The classes, the class of each object, and which classes are not seen."""
        class_of = {i: found.class_id for i, found in self._workspace.objects.items()}
        return self._workspace.classes, class_of, self._hidden

    def _slots(self) -> tuple[tuple[Any, Callable], ...]:
        w = self._workspace
        return (
            (w.labels_changed, self._on_labels),
            (w.labels_moved, self._on_moved),
            (w.classes_changed, self._soon),
            (w.objects_changed, self._soon),
            (w.active_class_changed, self._on_active_class),
        )

    def _maps(self) -> dict[str, Any]:
        return {"classes": self._workspace.class_map, "instances": self._workspace.instances}

    def _soon(self, *_: Any) -> None:
        self._timer.start()

    def _on_labels(self, region: Region) -> None:
        if self._open:
            with self._own_doing():
                self.shown.ensure()
            self._changed.append(region)
            self._timer.start()

    def _on_moved(self) -> None:
        self._changed = []
        if self._open and self._where is not None:
            told = self._told()
            with self._own_doing():
                if self.window is not None:
                    self.window.show_maps(self._maps(), *told)
                # What an id is comes before its pixels, which are mapped only once.
                self.shown.set_colors(*told)
                if self.window is None:
                    self.shown.set_arrays(self._maps(), (0, 0))
            self._timer.start()

    def _on_active_class(self, class_id: int) -> None:
        self.shown.select(class_id=class_id)

    def _on_stroke(self, kind: str, indices: tuple, old: NDArray, new: NDArray) -> None:
        origin = self.shown.origin_yx
        at = tuple(part + start for part, start in zip(indices, origin, strict=True))
        self._workspace.record_stroke(kind, at, old, new)  # type: ignore[arg-type]

    def _on_replaced(self, kind: str, labels: NDArray) -> None:
        """Somebody gave one of our layers other pixels: they are imported, or refused in words."""
        arrays = {**self.shown.arrays, kind: labels}
        window = None if self.window is None else self.window.window
        if self.window is not None and window is None:
            self._on_too_far()
            return
        self._workspace.import_labels(arrays["instances"], arrays["classes"], region=window)

    def _on_too_far(self) -> None:
        self._workspace.failed.emit(
            "So much of the slide is in view that it cannot be painted in. Zoom in until the "
            "view is about 4,000 pixels wide; accepting and deleting objects work at any zoom."
        )
