"""Choosing the image layer: all the set-up there is."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_pathsam._napari.layer_source import OWN

if TYPE_CHECKING:
    from napari.viewer import Viewer


class LayerChooser(QComboBox):
    """Edits one layer of the given types; follows layers that come, go and are renamed.

    ``nothing`` is the text of the entry for “none”; our own layers are listed where ``nothing``
    stands for them, so they are left out unless ``own``.
    """

    value_changed = Signal(object)

    def __init__(
        self,
        viewer: Viewer,
        types: tuple[str, ...],
        nothing: str,
        parent: QWidget | None = None,
        *,
        own: bool = False,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._types = types
        self._nothing = nothing
        self._own = own
        self._layers: list[Any] = []
        self._value: Any = None
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        viewer.layers.events.inserted.connect(self._on_layers)
        viewer.layers.events.removed.connect(self._on_layers)
        viewer.layers.events.reordered.connect(self._on_layers)
        self._show()
        self._on_layers()
        self.currentIndexChanged.connect(self._on_index)

    def value(self) -> Any:
        return self._value

    def set_value(self, layer: Any) -> None:
        """Choose a layer, or None; emits nothing."""
        self._value = layer if layer in self._layers else None
        self._show()

    def candidates(self) -> list[Any]:
        """The layers to choose from, top one first."""
        return list(self._layers)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(self._on_layers)
        for layer in self._layers:
            with suppress(ValueError, TypeError, RuntimeError):
                layer.events.name.disconnect(self._show)

    def _listed(self, made_as: str | None) -> bool:
        return made_as is None or (self._own and made_as not in ("preview", "overview"))

    def _on_layers(self, *_: Any) -> None:
        layers = [
            layer
            for layer in reversed(self._viewer.layers)
            if type(layer).__name__ in self._types and self._listed(layer.metadata.get(OWN))
        ]
        if layers == self._layers:
            return
        for layer in layers:
            if layer not in self._layers:
                layer.events.name.connect(self._show)
        self._layers = layers
        if self._value is not None and self._value not in layers:
            self._value = None
        self._show()

    def _show(self, *_: Any) -> None:
        self.blockSignals(True)
        self.clear()
        self.addItem(self._nothing)
        for layer in self._layers:
            self.addItem(layer.name)
        index = self._layers.index(self._value) + 1 if self._value in self._layers else 0
        self.setCurrentIndex(index)
        self.blockSignals(False)

    def _on_index(self, index: int) -> None:
        self._value = self._layers[index - 1] if index > 0 else None
        self.value_changed.emit(self._value)
