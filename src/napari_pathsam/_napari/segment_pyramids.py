"""The layers of a segmented slide: what is in its label pyramids now, read-only, at any zoom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_pathsam._napari.label_colors import object_features
from napari_pathsam._napari.map_colors import uncertainty_colors
from napari_pathsam._napari.store_levels import coarsest_of, levels_of
from napari_pathsam.workspace.segment_slide import objects_of

if TYPE_CHECKING:
    from napari_pathsam.io.label_store import LabelStore
    from napari_pathsam.workspace.segment_slide import SlideResult

REFRESH_MS = 400
"""Blocks that land meanwhile are shown together."""


class PyramidLayers(QObject):
    """Makes the layers of :class:`SlideResult` and shows what has landed in their pyramids."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._stores: dict[Any, LabelStore] = {}
        self._stale: list[Any] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self._refresh)

    def close(self) -> None:
        """Refresh no more."""
        self._timer.stop()
        self._stores, self._stale = {}, []

    def labels(self, result: SlideResult, **how: Any) -> Any:
        """A labels layer of the classes."""
        from napari.layers import Labels

        store = result.stores["classes"]
        layer = Labels(levels_of(store), multiscale=True, cache=False, **how)
        layer.metadata["classes"] = result.classes  # the writers keep their ids and names
        layer.metadata["store"] = str(result.path)
        self._stores[layer] = store
        return layer

    def objects(self, result: SlideResult, **how: Any) -> Any:
        """A labels layer of the objects, once they are there, with the class of each."""
        from napari.layers import Labels

        names = {c.id: c.name for c in result.classes}
        how["features"] = object_features(*result.class_of(), names)
        layer = Labels(levels_of(objects_of(result)), multiscale=True, cache=False, **how)
        layer.contour = 2
        layer.metadata.update(
            classes=result.classes, store=str(result.path), label_kind="instances"
        )
        return layer

    def maps(self, result: SlideResult) -> dict[str, Any]:
        """An image layer of each other pyramid, by name."""
        from napari.layers import Image

        made = {}
        for name, store in result.stores.items():
            if name != "classes":
                made[name] = layer = Image(
                    levels_of(store), multiscale=True, cache=False, rgb=False, opacity=0.7,
                    name=f"{name.replace('-', ' ')} {result.title}".capitalize(),
                    visible=name == "uncertainty", contrast_limits=(0, 255),
                    colormap=uncertainty_colors() if name == "uncertainty" else "viridis",
                )  # fmt: skip
                self._stores[layer] = store
        return made

    def landed(self, layer: Any) -> None:
        """Something new is in a layer's pyramid."""
        if layer not in self._stale:
            self._stale.append(layer)
        if not self._timer.isActive():
            self._timer.start()

    def _refresh(self) -> None:
        stale, self._stale = self._stale, []
        for layer in stale:
            if (store := self._stores.get(layer)) is not None:
                layer.data[-1][...] = coarsest_of(store)
                layer.refresh(extent=False, highlight=False)
