"""Proposals under review: a labels layer with scores, which a person prunes, accepts or rejects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place, plane_of
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.fields import MaskPrompt

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_pathsam._napari.annotate import AnnotateDock

NAME = "PathSAM proposals"
COLOR = "#ffe14a"
"""Yellow stands out from H&E and from the classes' colours."""


class Review(QObject):
    """The proposals layer. What the person erases in it is not accepted."""

    changed = Signal()
    """How many are shown, or whether there are any, changed."""

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._labels: NDArray[np.int32] = np.zeros((0, 0), np.int32)
        self._drawn: NDArray[np.int32] = self._labels
        self._scores: Mapping[int, float] = {}
        self._score = 0.0
        self.region = Region(0, 0, 1, 1)
        self.image: Image | None = None
        self.layer: Labels | None = None
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def count(self) -> int | None:
        """Proposals there are; None: no review is under way."""
        return None if self.layer is None else len(self._scores)

    @property
    def shown(self) -> NDArray[np.int32]:
        """What is on screen, the person's changes included."""
        return np.asarray(self.layer.data) if self.layer is not None else self._labels

    @property
    def n_shown(self) -> int:
        """Objects on screen."""
        return int(np.count_nonzero(np.unique(self.shown))) if self.layer is not None else 0

    def open(
        self,
        labels: NDArray[np.int32],
        scores: Mapping[int, float],
        region: Region,
        image: Image,
        plane: Plane,
    ) -> None:
        """Show proposals over a level-0 region of an image."""
        from napari.layers import Labels
        from napari.utils.colormaps import DirectLabelColormap

        self.close()
        self._labels, self._scores, self.region = labels.copy(), dict(scores), region
        self.image, self._score = image, 0.0
        self._drawn = labels.copy()
        place = own_layer_place(plane, image)
        layer = Labels(
            labels.copy(), name=NAME, opacity=1.0, metadata={OWN: "proposals"},
            features={
                "index": [0, *scores],
                "score": [float("nan"), *(round(s, 3) for s in scores.values())],
            },
            **place,
        )  # fmt: skip
        layer.translate = place["scale"] * np.array([region.y, region.x])
        layer.contour = 3
        layer.colormap = DirectLabelColormap(color_dict={None: COLOR, 0: "transparent"})
        self._viewer.add_layer(layer)
        layer.events.paint.connect(self._on_paint)
        self.layer = layer
        self.changed.emit()

    def set_score(self, score: float) -> None:
        """Leave out what has a lower score; what the person changed stays changed."""
        if self.layer is None:
            return
        self._learn()
        self._score = score
        low = [i for i, s in self._scores.items() if s < score]
        self._drawn = np.where(np.isin(self._labels, low), 0, self._labels)
        self.layer.data = self._drawn.copy()
        self.changed.emit()

    def close(self) -> None:
        """Remove the layer."""
        layer, self.layer = self.layer, None
        if layer is not None:
            layer.events.paint.disconnect(self._on_paint)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
            self.changed.emit()

    def disconnect_viewer(self) -> None:
        """The dock goes: nobody could accept the proposals any more."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self.close()

    def _learn(self) -> None:
        """Take over what the person painted or erased."""
        shown = self.shown
        edited = shown != self._drawn
        self._labels[edited] = shown[edited]
        self._drawn = shown.copy()

    def _on_paint(self, *_: Any) -> None:
        self.changed.emit()

    def _on_removed(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.layer = None
            self.changed.emit()


def examples_in(
    layer: Labels, viewer: Viewer, plane: Plane, shape_yx: tuple[int, int], only: int | None
) -> tuple[MaskPrompt, ...]:
    """Objects of a labels layer as masks over level-0 regions of an image.

    ``only`` is the one object that is wanted, None: all. The layer may lie anywhere.
    """
    from skimage.measure import regionprops

    array = np.asarray(layer.data)
    while array.ndim > 2:
        array = array[0]
    ids = array if only is None else np.where(array == only, array, 0)
    own = plane_of(layer, viewer)
    found = []
    for each in regionprops(ids):
        y0, x0, y1, x1 = each.bbox
        corners = plane.pixels_of(own, np.array([(y0, x0), (y1, x0), (y0, x1), (y1, x1)]) - 0.5)
        low = np.round(corners.min(axis=0) + 0.5).astype(int)
        high = np.maximum(np.round(corners.max(axis=0) + 0.5).astype(int), low + 1)
        at = Region(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        region = at.intersection(Region.of(shape_yx))
        if region is None:
            continue
        yx = np.indices(region.shape_yx).reshape(2, -1).T + np.array([region.y, region.x])
        places = np.round(own.pixels_of(plane, yx)).astype(int)
        inside = ((places >= 0) & (places < array.shape)).all(axis=1)
        mask = np.zeros(len(yx), bool)
        mask[inside] = ids[tuple(places[inside].T)] == each.label
        if mask.any():
            found.append(MaskPrompt(mask.reshape(region.shape_yx), region))
    return tuple(found)


def annotate_dock_of(viewer: Viewer, image: Image) -> AnnotateDock:
    """The Annotate dock of a viewer, opened if it is not, at work on this image."""
    from napari_pathsam._napari.annotate import AnnotateDock

    docks: list[Any] = list(viewer.window.dock_widgets.values())
    dock = next((d for d in docks if isinstance(d, AnnotateDock)), None)
    if dock is None:
        _, dock = viewer.window.add_plugin_dock_widget("napari-pathsam", "PathSAM: Annotate")
    assert isinstance(dock, AnnotateDock)
    if dock.session.image != image:
        dock.session.open_image(image)
    return dock


def class_of_examples(viewer: Viewer, layer: Labels, only: int | None) -> Callable[[Any], int]:
    """Which class of a workspace accepted proposals get: the examples' own, else the active one."""

    def class_in(workspace: Any) -> int:
        objects = workspace.objects
        if layer.metadata.get(OWN) == "instances" and objects:
            example = objects.get(only) if only is not None else next(iter(objects.values()))
            if example is not None:
                return int(example.class_id)
        return int(workspace.active_class)

    return class_in
