"""Notices that an image layer is shown in another way, lies elsewhere, or holds other pixels."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from napari.viewer import Viewer

OF_LAYER = (
    "contrast_limits", "gamma", "colormap", "opacity", "blending", "visible", "data",
    "scale", "translate", "rotate", "shear", "affine", "units",
)  # fmt: skip
CALM_MS = 250
"""A slider that is dragged sends dozens of events; one look afterwards is enough."""


class LayerWatch(QObject):
    """Sends ``changed`` once things are calm again after the watched layer or the plane changed."""

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._emitters: list[Any] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(CALM_MS)
        self._timer.timeout.connect(self.changed)

    def watch(self, layer: Any) -> None:
        """Watch this layer, and the other channels shown with it, instead of any other."""
        self.stop()
        dims = self._viewer.dims.events
        self._emitters = [dims.current_step, dims.order, dims.ndisplay]
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
        for emitter in self._emitters:
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(self._on_event)
        self._emitters = []

    def _on_event(self, *_: Any) -> None:
        self._timer.start()
