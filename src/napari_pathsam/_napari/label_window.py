"""Labels of a slide in a viewer: a window that can be painted in, and an overview of the whole.

napari paints in plain arrays only, and shows large ones slowly. So the labels layers hold a copy of
the labels in view; where the view goes beyond it, two read-only multiscale layers show them, until
the view rests. What is painted is in the workspace when the stroke ends: a window holds nothing
that is not there, and may go at any time but during a stroke.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.label_colors import LabelLook
from napari_pathsam._napari.label_layers import CONTOURS, NAMES, OPACITY, WHOLE, LabelLayers
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place, put_layer
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

LARGEST_WINDOW_PX = 12_000_000
"""What is in view can be painted in up to so many pixels; more would take seconds to show."""
COMFORTABLE_PX = 4_000_000
"""A window reaches beyond what is in view as far as it has no more pixels than this."""
REST_MS = 200
"""A window is made when the view has rested for so long."""


def window_for(view: Region, shape_yx: tuple[int, int]) -> Region | None:
    """What of an image to copy into plain arrays for a view; None: too much is in view.

    Half the view's sides beyond it, or as much as :data:`COMFORTABLE_PX` allow.
    """
    pixels = view.height * view.width
    if pixels > LARGEST_WINDOW_PX:
        return None
    grown = min(2.0, max(1.0, (COMFORTABLE_PX / pixels) ** 0.5))
    height, width = (round(n * grown) for n in view.shape_yx)
    y, x = view.y - (height - view.height) // 2, view.x - (width - view.width) // 2
    return Region(y, x, height, width).intersection(Region.of(shape_yx))


class LabelWindow(QObject):
    """Keeps the labels layers where the view is, and the overview where they are not."""

    too_far = Signal()  # somebody wants to paint, but so much is in view that nobody can

    def __init__(
        self,
        viewer: Viewer,
        shown: LabelLayers,
        maps: Mapping[str, SparseLabels],
        image: Image,
        plane: Plane,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._shown, self._maps = viewer, shown, dict(maps)
        self._image, self._plane = image, plane
        self._shape = next(iter(self._maps.values())).shape
        self._look = LabelLook()
        self.view: Region | None = None
        self._busy = False
        self._slots: list[tuple[Any, Any]] = []
        self.window: Region | None = None
        self.overview: dict[str, Any] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self.settle)
        self._shown.open(image, plane, self._nothing(), (0, 0))
        self.ensure()
        viewer.mouse_drag_callbacks.insert(0, self._on_press)

    def close(self, *, keep: bool) -> None:
        """Take the layers away; ``keep`` leaves the overview to the person, as ordinary layers."""
        self._timer.stop()
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
        self.window = None
        self._mirror()
        for emitter, slot in self._slots:
            emitter.disconnect(slot)
        self._slots = []
        for layer in self.overview.values():
            if keep:
                layer.metadata.pop(OWN, None)
            elif layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.overview = {}
        self._shown.close()

    def show_maps(
        self,
        maps: Mapping[str, SparseLabels],
        classes: ClassTable,
        class_of: Mapping[int, int],
        hidden: frozenset[int],
    ) -> None:
        """Other labels of the same image, and their colours, in the layers that are there.

        Layers that come and go keep everybody waiting for seconds; so would pixels that are mapped
        for the labels, the classes and the objects each, and not once for all.
        """
        self._maps = dict(maps)
        if self.window is not None:
            self.window = None
            self._timer.start()
        self._shown.set_arrays(self._nothing(), self._shown.origin_yx)
        self._see(False)
        for kind, layer in self.overview.items():
            layer.data = list(self._maps[kind].levels)
        self.show(classes, class_of, hidden)
        self._mirror()

    def place(self, plane: Plane) -> None:
        """The image was moved or scaled."""
        self._plane = plane
        for layer in self.overview.values():
            put_layer(layer, **own_layer_place(plane, self._image))

    # --- where the view is ---

    def look(self, view: Region) -> None:
        """Follow the view."""
        self.view = view
        if self.window is not None and view.intersection(self.window) == view:
            self._timer.stop()
            return
        if self.window is not None and not self._painting():
            self._leave()
        self._timer.start()

    def settle(self) -> None:
        """The view rests: what is in it can be painted in."""
        self._timer.stop()
        if self._painting():
            self._timer.start()
            return
        wanted = None if self.view is None else window_for(self.view, self._shape)
        if wanted is None or wanted == self.window:
            return
        if self.window is not None:
            self._leave()
        self.window = wanted
        arrays = {kind: labels[wanted.slices] for kind, labels in self._maps.items()}
        self._shown.set_arrays(arrays, (wanted.y, wanted.x))
        self._mirror()

    def _leave(self) -> None:
        """Nothing can be painted in; the overview shows all."""
        self.window = None
        self._shown.set_arrays(self._nothing(), self._shown.origin_yx)
        self._mirror()

    def _nothing(self) -> dict[str, np.ndarray]:
        return {kind: np.zeros((1, 1), labels.dtype) for kind, labels in self._maps.items()}

    def _painting(self) -> bool:
        """Whether a stroke or a polygon is half-drawn; napari has no public word for that."""
        for layer in self._shown.layers.values():
            polygon = getattr(layer, "_overlays", {}).get("polygon")
            if getattr(layer, "_block_history", False) or getattr(polygon, "points", None):
                return True
        return False

    def _on_press(self, _viewer: Any, event: Any) -> None:
        """Before napari begins a stroke: it must have something to paint in."""
        active = self._viewer.layers.selection.active
        if active not in self._shown.layers.values() or str(active.mode) in ("pan_zoom", "pick"):
            return
        if self.window is None:
            self.settle()
            if self.window is None:
                self.too_far.emit()

    # --- what has changed ---

    def bring(self, regions: Iterable[Region]) -> list[Region]:
        """Labels changed in these level-0 regions; the parts of them that are in the window."""
        regions = list(regions)
        if not regions:
            return []
        parts = [] if self.window is None else [r.intersection(self.window) for r in regions]
        changed = [part for part in parts if part is not None]
        if self.window is not None:
            for part in changed:
                at = Region(part.y - self.window.y, part.x - self.window.x, *part.shape_yx)
                for kind, array in self._shown.arrays.items():
                    array[at.slices] = self._maps[kind][part.slices]
        for layer in self.overview.values():
            layer.refresh(extent=False, highlight=False)
        return changed

    def show(
        self, classes: ClassTable, class_of: Mapping[int, int], hidden: frozenset[int]
    ) -> None:
        """Colour the overview."""
        self.ensure()
        self._look.show(self.overview, classes, class_of, hidden)

    # --- the overview ---

    def ensure(self) -> None:
        """Make the layers that are missing."""
        self._shown.ensure()
        for kind in NAMES:
            if self.overview.get(kind) not in self._viewer.layers:
                self._make(kind)
            self._shown.layers[kind].metadata[WHOLE] = self.overview[kind]

    def _make(self, kind: str) -> None:
        from napari.layers import Labels

        layer = Labels(
            list(self._maps[kind].levels),
            multiscale=True,
            name=f"{NAMES[kind]} (overview)",
            opacity=OPACITY[kind],
            metadata={OWN: "overview"},
            visible=self.window is None and self._shown.layers[kind].visible,
            **own_layer_place(self._plane, self._image),
        )
        if kind == "instances":
            layer.contour = CONTOURS[0]
        layers = self._viewer.layers
        active = layers.selection.active
        layers.insert(layers.index(self._shown.layers[kind]), layer)
        layers.selection.active = active
        self.overview[kind] = layer
        for emitter, slot in (
            (layer.events.visible, self._on_overview_eye),
            (self._shown.layers[kind].events.visible, self._mirror),
        ):
            emitter.connect(slot)
            self._slots.append((emitter, slot))

    def _on_overview_eye(self, *_: Any) -> None:
        """A person hid or showed an overview: its labels layer goes with it."""
        if self._busy:
            return
        for kind, layer in self.overview.items():
            if self.window is None or layer.visible:
                self._shown.layers[kind].visible = layer.visible
        self._mirror()

    def _mirror(self, *_: Any) -> None:
        """Where the window is not, the overview is seen if the labels are."""
        self._see(self.window is None)

    def _see(self, overview: bool) -> None:
        self._busy = True
        for kind, layer in self.overview.items():
            wanted = overview and self._shown.layers[kind].visible
            if layer.visible != wanted:
                layer.visible = wanted
        self._busy = False
