"""The labels layers show what the workspace holds, and what is painted in them reaches it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_pathsam._napari.label_layers import LabelLayers
from napari_pathsam.core.geometry import Region

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
        self._open = False
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
        self.shown.open(image, plane, self._arrays(), self._workspace.labels_origin_yx)

    def close_image(self, *, keep: bool) -> None:
        """The image goes; ``keep`` leaves its labels to the person, as ordinary layers."""
        self.shown.close(keep=keep and self._workspace.has_labels)
        self._open, self._changed = False, []

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
        workspace = self._workspace
        self.shown.set_colors(workspace.classes, workspace.objects.values(), self._hidden)
        changed, self._changed = self._changed, []
        self.shown.redraw(changed)
        self.shown.select(class_id=workspace.active_class)

    def _slots(self) -> tuple[tuple[Any, Callable], ...]:
        w = self._workspace
        return (
            (w.labels_changed, self._on_labels),
            (w.labels_moved, self._on_moved),
            (w.classes_changed, self._soon),
            (w.objects_changed, self._soon),
            (w.active_class_changed, self._on_active_class),
        )

    def _arrays(self) -> dict[str, NDArray]:
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
        if self._open and self.shown.layers:
            with self._own_doing():
                self.shown.set_arrays(self._arrays(), self._workspace.labels_origin_yx)
            self._timer.start()

    def _on_active_class(self, class_id: int) -> None:
        self.shown.select(class_id=class_id)

    def _on_stroke(self, kind: str, indices: tuple, old: NDArray, new: NDArray) -> None:
        self._workspace.record_stroke(kind, indices, old, new)  # type: ignore[arg-type]

    def _on_replaced(self, kind: str, labels: NDArray) -> None:
        """Somebody gave one of our layers other pixels: they are imported, or refused in words."""
        arrays = self._arrays()
        arrays[kind] = labels
        self._workspace.import_labels(arrays["instances"], arrays["classes"])
