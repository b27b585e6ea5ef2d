"""The layers of a browsed image: its pixels, its labels, and what the model said of it.

They stay while one goes from image to image, and so does how they are shown. What a person paints
in the labels is theirs: the layer then stays behind under another name, and a new one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_pathsam.datasets import LabelKind
    from napari_pathsam.workspace.browsing_work import Answered, BrowsedImage

Which = Literal["labels", "answer"]
NOT_LABELLED, NOT_LABELLED_COLOR = 255, "#9aa0a6"
ANSWER_COLOR = "#00e5ff"
"""Outlines of objects the model found."""


class BrowseLayers:
    """Shows one image of a data set in the viewer."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.image: Image | None = None
        self.labels: Labels | None = None
        self.answer: Labels | None = None
        self._as_read: dict[str, NDArray] = {}

    def show(self, browsed: BrowsedImage) -> None:
        """Show an image with its labels, and no answer yet."""
        from napari.layers import Image

        self.show_answer(None, browsed)
        name = browsed.sample.name
        if self.image is None or self.image not in self._viewer.layers:
            self.image = Image(browsed.image, name=name, rgb=True, **_place(browsed.mpp))
            self._viewer.layers.append(self.image)
        else:
            self.image.data = browsed.image
            _move(self.image, browsed.mpp)
        self.image.name = name
        self.image.metadata = {
            "path": str(browsed.sample.image_path), "mpp": browsed.mpp, "data set": True
        }  # fmt: skip
        labels = _whole_numbers(browsed.labels)
        self.labels = self._labels(
            "labels", self.labels, labels, f"{name}: labels", browsed, browsed.kind
        )
        self._viewer.layers.selection.active = self.image
        self._viewer.fit_to_view()

    def show_answer(self, answer: Answered | None, browsed: BrowsedImage) -> None:
        """Show what the model said; None: nothing yet."""
        kind: LabelKind = browsed.kind
        if answer is not None:
            prediction, kind = answer.prediction, answer.kind
        elif self.answer is None or self.answer not in self._viewer.layers:
            return
        else:
            prediction = np.zeros(browsed.labels.shape, self.answer.data.dtype)
        active = self._viewer.layers.selection.active
        title = f"{browsed.sample.name}: model"
        self.answer = self._labels("answer", self.answer, prediction, title, browsed, kind)
        self._viewer.layers.selection.active = active

    def _labels(
        self,
        which: Which,
        layer: Labels | None,
        data: NDArray,
        name: str,
        browsed: BrowsedImage,
        kind: LabelKind,
    ) -> Labels:
        """The layer with these ids in it; a new one where there is none of ours."""
        from napari.layers import Labels

        if layer is not None and layer in self._viewer.layers and self._edited(which):
            layer.name = f"{layer.name} (yours)"
            layer = None
        if layer is None or layer not in self._viewer.layers:
            opacity = 0.45 if which == "labels" else 1.0
            layer = Labels(data, name=name, opacity=opacity, **_place(browsed.mpp))
            if which == "answer":
                layer.contour = 2
            self._viewer.layers.append(layer)
        else:
            layer.data = data
            _move(layer, browsed.mpp)
        self._as_read[which] = data.copy()
        layer.name = name
        _color(layer, which, browsed, kind)
        return layer

    def _edited(self, which: Which) -> bool:
        layer = self.labels if which == "labels" else self.answer
        assert layer is not None
        return not np.array_equal(layer.data, self._as_read[which])


def _place(mpp: float | None) -> dict[str, Any]:
    """Where an image of this pixel size lies: from the origin on."""
    scale, unit = (1.0, "pixel") if mpp is None else (float(mpp), "um")
    return {"scale": (scale, scale), "units": (unit, unit)}


def _move(layer: Any, mpp: float | None) -> None:
    for name, value in _place(mpp).items():
        setattr(layer, name, value)
    layer.translate = (0.0, 0.0)


def _color(layer: Labels, which: Which, browsed: BrowsedImage, kind: LabelKind) -> None:
    """Names and colours of classes; objects have colours by turns, the model's are outlined."""
    from napari.utils.colormaps import DirectLabelColormap, label_colormap

    classes = browsed.classes
    objects = kind == "instances"
    layer.metadata = {
        "label_kind": "instances" if objects else "classes", "classes": classes, "data set": True
    }  # fmt: skip
    if objects:
        ids = np.unique(layer.data)
        noun = classes.names[0] if len(classes) == 1 else "object"
        layer.features = {
            "index": ids, "class": [noun if i else "background" for i in ids]
        }  # fmt: skip
        layer.colormap = (
            label_colormap()
            if which == "labels"
            else DirectLabelColormap(color_dict={None: ANSWER_COLOR, 0: "transparent"})
        )
        return
    colors: dict[int | None, str] = {
        None: "#ffffff", 0: "transparent", NOT_LABELLED: NOT_LABELLED_COLOR
    }  # fmt: skip
    names = {0: "background", NOT_LABELLED: "not labelled"}
    for info in _meant(classes, browsed, which):
        colors[info[0]], names[info[0]] = info[2], info[1]
    layer.colormap = DirectLabelColormap(color_dict=colors)
    layer.features = {"index": list(names), "class": list(names.values())}


def _meant(classes: ClassTable, browsed: BrowsedImage, which: Which) -> list[tuple[int, str, str]]:
    """Ids with the name and colour of their class; any id of binary labels is of the only class."""
    if browsed.kind == "binary" and which == "labels":
        first = classes.classes[0]
        return [(int(i), first.name, first.color) for i in np.unique(browsed.labels) if i]
    return [(info.id, info.name, info.color) for info in classes]


def _whole_numbers(labels: NDArray) -> NDArray:
    """As napari takes them, and can be painted in."""
    return labels.astype(np.uint8 if labels.dtype == bool else labels.dtype)
