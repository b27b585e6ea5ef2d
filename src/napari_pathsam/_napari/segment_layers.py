"""The layers of a segmentation: classes, objects, probabilities, uncertainty.

Each result has layers of its own, never the person's. What a person paints in them is theirs: it is
reported, and the result guards it.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.label_colors import LabelColors, features_of
from napari_pathsam._napari.label_layers import painted_pixels, redraw_regions
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.map_colors import uncertainty_colors
from napari_pathsam._napari.plane import Plane, own_layer_place
from napari_pathsam._napari.segment_pyramids import PyramidLayers
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.segment_slide import SlideResult

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_pathsam.workspace.segment_result import CellMaps, SegmentResult
    from napari_pathsam.workspace.segmenting import Result

UNSURE, UNSURE_COLOR = 255, "#9aa0a6"
SEGMENTATION = "segmentation"
"""``layer.metadata[OWN]`` of these layers."""
AT_ITS_CORNER = {OWN: SEGMENTATION, "at": (0, 0), "ratio": (1, 1)}
"""``layer.metadata`` of what begins at the image's corner, pixel by pixel."""
STRIP_PX = 1_500_000
"""So many pixels are redrawn in one turn of the event loop."""


@dataclass(eq=False)  # each is itself, and arrays are not compared
class _Shown:
    """A result, and the layers that show it."""

    result: Result
    image: Image
    plane: Plane
    layers: dict[str, Any] = field(default_factory=dict)
    slots: list[tuple[Any, Any]] = field(default_factory=list)
    colors: LabelColors = field(default_factory=lambda: LabelColors(grows=True))
    hidden: list[Any] = field(default_factory=list)  # by us, while another plane is shown


class ResultLayers(QObject):
    """Shows results over their images."""

    painted = Signal(object)  # a result in which a person painted
    gone = Signal(object)  # a result whose class layer a person removed or gave other pixels

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._shown: list[_Shown] = []
        self._made: list[tuple[Image, Any]] = []  # all, those let go of too
        self._waiting: deque[tuple[_Shown, Region]] = deque()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._redraw_next)
        self._pyramids = PyramidLayers(self)
        viewer.layers.events.removed.connect(self._on_removed)

    def layer(self, result: Result, kind: str = "classes") -> Any:
        """The layer of a result, or None."""
        found = self._find(result)
        return None if found is None else found.layers.get(kind)

    # --- showing ---

    def show(self, result: Result, image: Image, plane: Plane) -> list[str]:
        """Show a result over its image, from now on; those of other models are hidden.

        Their colours stand for other classes than the legend's. Returns the names of their layers.
        """
        hidden = self._hide_others(result, image)
        shown = self._find(result)
        if shown is None:
            shown = _Shown(result, image, plane)
            self._shown.append(shown)
            if isinstance(result, SlideResult):
                self._make_pyramid(shown, result)
            else:
                self._make_labels(shown, result, "classes")
        if not isinstance(result, SlideResult):
            kept = ("classes", "objects") if result.request.options.instances else ("classes",)
            self._remove(shown, [kind for kind in shown.layers if kind not in kept])
            self.redraw(result, result.window)
            self._show_objects(shown, result)
        for kind in {"classes", "objects"} & set(shown.layers):
            shown.layers[kind].visible = True
        return hidden

    def _hide_others(self, result: Result, image: Image) -> list[str]:
        """Hide what other models found on the same plane of an image; the layers' names."""
        others = [s for s in self._shown if s.image == image
                  and s.result.image_key == result.image_key
                  and s.result.request.model != result.request.model]  # fmt: skip
        found = [layer for one in others for layer in one.layers.values() if layer.visible]
        for layer in found:
            layer.visible = False
        return [layer.name for layer in found]

    def redraw(self, result: Result, region: Region) -> None:
        """The class map changed in place in this level-0 region."""
        shown = self._find(result)
        if shown is None:
            return
        if isinstance(result, SlideResult):
            self._pyramids.landed(shown.layers["classes"])
            return
        at = result.to_array(region)
        rows = max(1, STRIP_PX // at.width)
        for y in range(at.y, at.y + at.height, rows):
            height = min(rows, at.y + at.height - y)
            self._waiting.append((shown, Region(y, at.x, height, at.width)))
        self._redraw_next()

    def finish(self, result: Result) -> None:
        """Objects, probabilities and uncertainty are there, where they were asked for."""
        shown = self._find(result)
        if shown is None:
            return
        if isinstance(result, SlideResult):
            self._finish_pyramids(shown, result)
            return
        self._show_objects(shown, result)
        for layer in shown.layers.values():
            layer.refresh(data_displayed=False, highlight=False, extent=False)  # its thumbnail
        options = result.request.options
        wanted = (options.probabilities, options.uncertainty)
        if any(wanted) and not any(k.startswith(("P(", "unc")) for k in shown.layers):
            for n, maps in enumerate(result.maps):
                self._add_maps(shown, maps, n, *wanted)

    def place(self, image: Image, plane: Plane) -> None:
        """The image was moved or scaled."""
        for shown in self._shown:
            if shown.image == image:
                shown.plane = plane
                for layer in shown.layers.values():
                    self._place(shown, layer)

    def show_only(self, image: Image, image_key: str) -> None:
        """Of the results of one image layer, show those of this plane."""
        for shown in self._shown:
            if shown.image != image:
                continue
            if shown.result.image_key == image_key:
                for layer in shown.hidden:
                    layer.visible = True
                shown.hidden = []
            elif not shown.hidden:
                shown.hidden = [x for x in shown.layers.values() if x.visible]
                for layer in shown.hidden:
                    layer.visible = False

    def release(self, image: Image | None = None) -> None:
        """Leave the layers to the person, as ordinary ones: of one image, or all."""
        for shown in [s for s in self._shown if image is None or s.image == image]:
            self._let_go(shown)

    def let_go(self, result: Result) -> None:
        """Leave the layers of one result to the person."""
        if (shown := self._find(result)) is not None:
            self._let_go(shown)

    def drop(self, result: Result) -> None:
        """Take the layers of a result away; it is shown anew."""
        if (shown := self._find(result)) is not None:
            self._let_go(shown)
            self._remove(shown, list(shown.layers))

    def close(self) -> None:
        """The dock goes; the layers stay."""
        self._timer.stop()
        with suppress(ValueError, TypeError, RuntimeError):
            self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._pyramids.close()
        self.release()

    # --- making ---

    def _make_pyramid(self, shown: _Shown, result: SlideResult) -> None:
        layer = self._pyramids.labels(
            result, name=f"PathSAM {result.title}", opacity=0.45,
            metadata={**AT_ITS_CORNER, "label_kind": "classes"},
            **own_layer_place(shown.plane, shown.image),
        )  # fmt: skip
        color_classes(layer, result.classes)
        self._add(shown, "classes", layer)

    def _finish_pyramids(self, shown: _Shown, result: SlideResult) -> None:
        """All has landed; further maps are shown."""
        self._pyramids.landed(shown.layers["classes"])
        if len(shown.layers) == 1:
            for name, layer in self._pyramids.maps(result).items():
                layer.metadata.update(AT_ITS_CORNER)
                self._add(shown, name, layer)
            if result.has_objects:
                layer = self._pyramids.objects(
                    result, name=f"PathSAM {result.title} objects",
                    metadata={**AT_ITS_CORNER},
                )  # fmt: skip
                self._add(shown, "objects", layer)

    def _make_labels(self, shown: _Shown, result: SegmentResult, kind: str) -> None:
        from napari.layers import Labels

        is_classes = kind == "classes"
        array = result.class_map.shown if is_classes else result.new_objects().shown
        layer = Labels(
            array,
            name=f"PathSAM {result.title}" + ("" if is_classes else " objects"),
            opacity=0.45 if is_classes else 1.0,
            metadata={**AT_ITS_CORNER, "label_kind": "classes" if is_classes else "instances"},
            **own_layer_place(shown.plane, shown.image),
        )
        if is_classes:
            color_classes(layer, result.classes)
            layer.selected_label = result.classes.classes[0].id
        else:
            layer.contour = 2
        slots = (
            (layer.events.paint, lambda event: self._on_paint(result, kind, event)),
            (layer.events.data, lambda event: self._on_data(shown, result, kind)),
        )
        self._add(shown, kind, layer)
        for emitter, slot in slots:
            emitter.connect(slot)
            shown.slots.append((emitter, slot))

    def _show_objects(self, shown: _Shown, result: SegmentResult) -> None:
        if result.objects is None or not result.request.options.instances:
            return
        if "objects" not in shown.layers:
            self._make_labels(shown, result, "objects")
        layer: Labels = shown.layers["objects"]
        by_class = {c.id: c.color for c in result.classes}
        names = {c.id: c.name for c in result.classes}
        shown.colors.show(layer, by_class, result.class_of)
        layer.features = features_of(result.class_of, names)
        layer.refresh(extent=False, thumbnail=False)

    def _add_maps(
        self, shown: _Shown, maps: CellMaps, n: int, probabilities: bool, uncertainty: bool
    ) -> None:
        """Image layers at the network's own resolution."""
        more = f" [{n + 1}]" if n else ""
        title = shown.result.title
        if probabilities and maps.probabilities is not None:
            for k, info in enumerate(shown.result.classes, start=1):
                self._add_map(shown, maps, maps.probabilities[k], f"P({info.name}){more}",
                              f"P({info.name}) {title}{more}", visible=False)  # fmt: skip
        if uncertainty:
            self._add_map(shown, maps, maps.uncertainty, f"uncertainty{more}",
                          f"Uncertainty {title}{more}", visible=True)  # fmt: skip

    def _add_map(
        self, shown: _Shown, maps: CellMaps, values: Any, kind: str, name: str, *, visible: bool
    ) -> None:
        from napari.layers import Image

        cell = np.asarray(maps.cell_yx)
        start = np.array([maps.cells.y, maps.cells.x]) * cell + (cell - 1) / 2
        layer = Image(
            np.asarray(values, np.float32), name=name, rgb=False, visible=visible, opacity=0.7,
            colormap=uncertainty_colors() if kind.startswith("unc") else "viridis",
            contrast_limits=(0, 1),
            interpolation2d="linear",
            metadata={OWN: SEGMENTATION, "at": tuple(start), "ratio": tuple(cell)},
        )  # fmt: skip
        self._add(shown, kind, layer)

    def _add(self, shown: _Shown, kind: str, layer: Any) -> None:
        """Above the image and all results over it; the active layer stays active."""
        self._place(shown, layer)
        layers = self._viewer.layers
        active = layers.selection.active
        below = [x for image, x in self._made if image == shown.image and x in layers]
        below += [shown.image] if shown.image in layers else []
        index = max((layers.index(x) for x in below), default=len(layers) - 1) + 1
        shown.layers[kind] = layer
        self._made.append((shown.image, layer))
        layers.insert(index, layer)
        layers.selection.active = active

    def _place(self, shown: _Shown, layer: Any) -> None:
        place = own_layer_place(shown.plane, shown.image)
        window, (at_y, at_x) = shown.result.window, layer.metadata["at"]
        if type(layer).__name__ == "Labels":
            at_y, at_x = window.y, window.x
            layer.metadata["offset_yx"] = (window.y, window.x)  # the writers add it
        layer.affine, layer.units = place["affine"], place["units"]
        layer.scale = place["scale"] * np.asarray(layer.metadata["ratio"])
        layer.translate = place["scale"] * np.asarray([at_y, at_x])

    # --- the person ---

    def _on_paint(self, result: SegmentResult, kind: str, event: Any) -> None:
        array = result.class_map if kind == "classes" else result.objects
        for atom in event.value:
            rows, columns, _, _ = painted_pixels(atom)
            if array is not None:
                array.protect(rows, columns)
        self.painted.emit(result)

    def _on_data(self, shown: _Shown, result: SegmentResult, kind: str) -> None:
        """Other pixels were given to the layer: it is the person's from now on."""
        array = result.class_map if kind == "classes" else result.objects
        if shown in self._shown and array is not None:
            if shown.layers[kind].data is array.shown:
                return
            self._let_go(shown)
            self.gone.emit(result)

    def _on_removed(self, event: Any) -> None:
        self._made = [made for made in self._made if event.value not in made]
        for shown in list(self._shown):
            for kind, layer in list(shown.layers.items()):
                if layer != event.value:
                    continue
                del shown.layers[kind]
                shown.hidden = [x for x in shown.hidden if x != layer]
                if kind == "classes":
                    self._let_go(shown)
                    self.gone.emit(shown.result)

    def _let_go(self, shown: _Shown) -> None:
        if shown in self._shown:
            self._shown.remove(shown)
        self._waiting = deque(w for w in self._waiting if w[0] is not shown)
        for emitter, slot in shown.slots:
            with suppress(ValueError, TypeError, RuntimeError):
                emitter.disconnect(slot)
        for layer in shown.layers.values():
            layer.metadata.pop(OWN, None)
            if type(layer).__name__ == "Labels":
                layer.refresh(extent=False, thumbnail=False)

    def _remove(self, shown: _Shown, kinds: list[str]) -> None:
        for kind in kinds:
            layer = shown.layers.pop(kind)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _find(self, result: Result) -> _Shown | None:
        return next((s for s in self._shown if s.result is result), None)

    def _redraw_next(self) -> None:
        """One strip at a time, so that the event loop gets round to other things."""
        if not self._waiting:
            return
        shown, at = self._waiting.popleft()
        layer = shown.layers.get("classes")
        if layer is not None and layer.visible:
            redraw_regions(layer, [at])
        if self._waiting:
            self._timer.start()


def warm_up() -> None:
    """What napari does before its first labels layer with colours of one's own: it takes seconds.

    It imports pandas and lets numba compile; called in the worker, the person need not wait for it.
    """
    import pandas  # noqa: F401
    from napari.utils.colormaps import DirectLabelColormap

    colormap = DirectLabelColormap(color_dict={None: "#ffffff", 0: "transparent", 1: "#ff0000"})
    for dtype in (np.uint8, np.int32):
        colormap.map(np.zeros((2, 2), dtype))


def color_classes(layer: Labels, classes: ClassTable, bare: str = "background") -> None:
    """Colours and names of classes, of 0 and of “unsure”, for a layer whose ids are classes."""
    from napari.utils.colormaps import DirectLabelColormap

    colors: dict[int | None, str] = {None: "#ffffff", 0: "transparent", UNSURE: UNSURE_COLOR}
    colors |= {c.id: c.color for c in classes}
    layer.colormap = DirectLabelColormap(color_dict=colors)
    layer.features = {
        "index": [0, *(c.id for c in classes), UNSURE],
        "class": [bare, *(c.name for c in classes), "unsure"],
    }
