"""Colours and names of a labels layer by class, where new objects come by the second.

Another colormap makes napari map every pixel of the layer anew, which takes seconds on a large one.
An object of a class that is there already needs no other colormap, only one more id in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable

if TYPE_CHECKING:
    from napari.layers import Labels

STROKE_COLOR = "#ffffff"  # of labels painted with ids that are no object yet
KINDS = ("classes", "instances")


def class_colormap(colors: Mapping[int, str], unknown: str = "transparent") -> Any:
    """A colormap of class ids; what has no colour is ``unknown``."""
    from napari.utils.colormaps import DirectLabelColormap

    shown: dict[int | None, str] = {None: unknown, 0: "transparent"}
    return DirectLabelColormap(color_dict=shown | dict(colors))


def object_features(
    ids: NDArray[np.integer], classes: NDArray[np.integer], names: Mapping[int, str]
) -> Any:
    """A table of objects ``(n,)`` and the name of each one's class, with a row of background.

    Names are kept once: half a million strings would keep the viewer waiting.
    """
    from pandas import Categorical, DataFrame

    words = [*dict.fromkeys(["background", "", *names.values()])]
    word_of = np.full(max(0, *names, int(classes.max(initial=0))) + 1, 1)
    for class_id, name in names.items():
        word_of[class_id] = words.index(name)
    codes = np.concatenate([[0], word_of[classes]])
    index = np.concatenate([[0], ids])
    return DataFrame({"index": index, "class": Categorical.from_codes(codes, words)})


def features_of(class_of: Mapping[int, int], names: Mapping[int, str]) -> Any:
    """The same of ids and their classes."""
    ids, classes = (
        np.fromiter(some, np.int64, len(class_of)) for some in (class_of.keys(), class_of.values())
    )
    return object_features(ids, classes, names)


class LabelColors:
    """What a layer's colormap holds, and the least change to bring it up to date.

    ``grows``: the layer's ids are objects, of which there will be more.
    """

    def __init__(self, *, grows: bool) -> None:
        self._grows = grows
        self._layer: Any = None
        self._by_class: dict[int, str] = {}
        self._class_of: dict[int, int] = {}

    def show(self, layer: Labels, by_class: Mapping[int, str], class_of: Mapping[int, int]) -> None:
        """Give each id the colour of its class.

        Pixels of ids that are new or changed are not redrawn here; all are when classes changed.
        """
        if layer is not self._layer or by_class != self._by_class:
            self._set_all(layer, by_class, class_of)
            return
        changed = {i: c for i, c in class_of.items() if self._class_of.get(i) != c}
        if not changed:
            return
        if self._learn(changed):
            self._class_of.update(changed)
        else:
            self._set_all(layer, by_class, class_of)

    def _set_all(
        self, layer: Labels, by_class: Mapping[int, str], class_of: Mapping[int, int]
    ) -> None:
        from napari.utils.colormaps import label_colormap

        from napari_pathsam._napari.object_colors import object_colormap

        self._layer, self._by_class, self._class_of = layer, dict(by_class), dict(class_of)
        try:
            layer.colormap = (
                object_colormap(by_class, class_of, STROKE_COLOR)
                if self._grows
                else class_colormap(by_class, STROKE_COLOR)
            )
        except RuntimeError:  # ids above 65,536 and no numba: napari has no colours of one's own
            layer.colormap = label_colormap()

    def _learn(self, changed: Mapping[int, int]) -> bool:
        """Tell the colormap of more ids; False when it cannot learn."""
        from napari_pathsam._napari.object_colors import LARGEST_ID, ObjectColormap

        colormap = self._layer.colormap
        if not isinstance(colormap, ObjectColormap) or max(changed) > LARGEST_ID:
            return False
        colormap.learn(changed)
        return True


class LabelLook:
    """Colours and names of a layer of classes and of one of objects."""

    def __init__(self) -> None:
        self._colors = {kind: LabelColors(grows=kind == "instances") for kind in KINDS}
        self._named: dict[Any, tuple[Mapping[int, int], dict[int, str]]] = {}

    def show(
        self,
        layers: Mapping[str, Labels],
        classes: ClassTable,
        class_of: Mapping[int, int],
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        """Colour classes and the outlines of their objects; hidden classes are transparent."""
        shown = {c.id: "transparent" if c.id in hidden else c.color for c in classes}
        names = {c.id: c.name for c in classes}
        for layer in layers.values():
            layer.metadata["classes"] = classes  # the writers keep their ids, names and colours
        if (layer := layers.get("classes")) is not None:
            self._colors["classes"].show(layer, shown, {i: i for i in shown})
            self._name(layer, {i: i for i in names}, names)
        if (layer := layers.get("instances")) is not None:
            self._colors["instances"].show(layer, shown, class_of)
            self._name(layer, class_of, names)

    def forget(self) -> None:
        """The layers are others from now on."""
        self._named = {}

    def _name(self, layer: Labels, class_of: Mapping[int, int], names: dict[int, str]) -> None:
        """Say the class of each id: in napari's status bar, and to what saves the layer."""
        if self._named.get(layer) != (class_of, names):
            self._named[layer] = (class_of, names)
            layer.features = features_of(class_of, names)
