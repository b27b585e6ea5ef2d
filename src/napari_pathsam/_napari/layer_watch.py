"""Notices that an image layer is shown in another way, lies elsewhere, or holds other pixels."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.layer_source import OWN

if TYPE_CHECKING:
    from napari.viewer import Viewer

OF_LAYER = (
    "contrast_limits", "gamma", "colormap", "opacity", "blending", "visible", "data",
    "scale", "translate", "rotate", "shear", "affine", "units",
)  # fmt: skip
CALM_MS = 250
"""A slider that is dragged sends dozens of events; one look afterwards is enough."""


class LayerWatch(QObject):
    """Sends ``changed`` once things are calm again after the watched layer or the plane changed.

    Also when other layers came or went: they may be channels, or bring in another unit.
    """

    changed = Signal(bool)  # whether the pixels were replaced

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._emitters: list[Any] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(CALM_MS)
        self._timer.timeout.connect(self._on_calm)
        self._layer: Any = None
        self._replaced = False

    def watch(self, layer: Any) -> None:
        """Watch this layer, and the other channels shown with it, instead of any other."""
        self.stop()
        self._layer = layer
        dims, others = self._viewer.dims.events, self._viewer.layers.events
        self._emitters = [dims.current_step, dims.order, dims.ndisplay]
        for emitter in (others.inserted, others.removed):
            emitter.connect(self._on_others)
        layers = [layer]
        if not layer.rgb:
            layers += [x for x in self._viewer.layers if getattr(x, "rgb", True) is False]
        for each in dict.fromkeys(layers):
            found = (getattr(each.events, name, None) for name in OF_LAYER)
            self._emitters += [emitter for emitter in found if emitter is not None]
        for emitter in self._emitters:
            emitter.connect(self._on_event)

    def stop(self) -> None:
        """Watch nothing."""
        self._timer.stop()
        self._layer, self._replaced = None, False
        others = self._viewer.layers.events
        for emitter in (others.inserted, others.removed):
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(self._on_others)
        for emitter in self._emitters:
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(self._on_event)
        self._emitters = []

    def _on_event(self, event: Any) -> None:
        if event.type == "data" and event.source is self._layer:
            self._replaced = True
        self._timer.start()

    def _on_others(self, event: Any) -> None:
        if self._layer is None or event.value.metadata.get(OWN):
            return
        if getattr(event.value, "rgb", True) is False:
            replaced = self._replaced
            self.watch(self._layer)
            self._replaced = replaced
        self._timer.start()

    def _on_calm(self) -> None:
        replaced, self._replaced = self._replaced, False
        self.changed.emit(replaced)
