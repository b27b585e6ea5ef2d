"""Colours of a labels layer by class, where new objects come by the second.

Another colormap makes napari map every pixel of the layer anew, which takes seconds on a large one.
An object of a class that is there already needs no other colormap, only one more id in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from napari_pathsam.core.classes import ClassTable

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_pathsam.workspace import AcceptedObject

STROKE_COLOR = "#ffffff"  # of labels painted with ids that are no object yet
KINDS = ("classes", "instances")
ROOM = 1000
"""So many ids above the highest one stand for the classes, to keep the colours in order."""


def class_colormap(colors: Mapping[int, str]) -> Any:
    """A colormap of class ids; what has none is not seen."""
    from napari.utils.colormaps import DirectLabelColormap

    shown: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(color_dict=shown | dict(colors))


class LabelColors:
    """What a layer's colormap holds, and the least change to bring it up to date.

    ``grows``: the layer's ids are objects, of which there will be more.
    """

    def __init__(self, *, grows: bool) -> None:
        self._grows = grows
        self._layer: Any = None
        self._by_class: dict[int, str] = {}
        self._class_of: dict[int, int] = {}
        self._reserved: dict[int, int] = {}

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
        if any(i in self._reserved for i in changed) or not self._learn(changed):
            self._set_all(layer, by_class, class_of)

    def _set_all(
        self, layer: Labels, by_class: Mapping[int, str], class_of: Mapping[int, int]
    ) -> None:
        from napari.utils.colormaps import DirectLabelColormap, label_colormap

        first = max(class_of, default=0) + ROOM
        self._layer, self._by_class, self._class_of = layer, dict(by_class), dict(class_of)
        self._reserved = {first + k: c for k, c in enumerate(by_class)} if self._grows else {}
        colors: dict[int | None, str] = {None: STROKE_COLOR, 0: "transparent"}
        for i, class_id in {**self._reserved, **class_of}.items():
            colors[i] = by_class.get(class_id, STROKE_COLOR)
        try:
            layer.colormap = DirectLabelColormap(color_dict=colors)
        except RuntimeError:  # ids above 65,536 and no numba: napari has no colours of one's own
            layer.colormap = label_colormap()

    def _learn(self, changed: Mapping[int, int]) -> bool:
        """Tell the colormap of more ids; False when napari's inside is not as it was."""
        colormap = self._layer.colormap
        example = {c: i for i, c in self._reserved.items()}
        try:
            for i, class_id in changed.items():
                colormap.color_dict[i] = colormap.color_dict[example[class_id]]
            colormap._clear_cache()
        except (AttributeError, KeyError):
            return False
        self._class_of.update(changed)
        return True


class LabelLook:
    """Colours and names of a layer of classes and of one of objects."""

    def __init__(self) -> None:
        self._colors = {kind: LabelColors(grows=kind == "instances") for kind in KINDS}
        self._named: dict[Any, dict[int, str]] = {}

    def show(
        self,
        layers: Mapping[str, Labels],
        classes: ClassTable,
        objects: Iterable[AcceptedObject],
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        """Colour classes and the outlines of their objects; hidden classes are transparent."""
        shown = {c.id: "transparent" if c.id in hidden else c.color for c in classes}
        names = {c.id: c.name for c in classes}
        class_of = {o.id: o.class_id for o in objects}
        for layer in layers.values():
            layer.metadata["classes"] = classes  # the writers keep their ids, names and colours
        if (layer := layers.get("classes")) is not None:
            self._colors["classes"].show(layer, shown, {i: i for i in shown})
            self._name(layer, {0: "background", **names})
        if (layer := layers.get("instances")) is not None:
            self._colors["instances"].show(layer, shown, class_of)
            named = {i: names.get(c, "") for i, c in class_of.items()}
            self._name(layer, {0: "background", **named})

    def forget(self) -> None:
        """The layers are others from now on."""
        self._named = {}

    def _name(self, layer: Labels, names: dict[int, str]) -> None:
        """Say the class of each id: in napari's status bar, and to what saves the layer."""
        if self._named.get(layer) != names:
            self._named[layer] = names
            layer.features = {"index": list(names), "class": list(names.values())}
