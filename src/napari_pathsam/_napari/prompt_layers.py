"""The prompt layers: points and shapes in which a person says what the object is.

They speak image pixels ``(y, x)`` to the outside whatever the layers' own transforms are, and show
what the workspace holds: after an undo the marker goes too.

A click in our points layer goes out before its marker is drawn: napari takes as long to make one as
the small model takes to answer, and Python runs only one of them at a time. ``show`` draws it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, canvas_to_data, own_layer_place
from napari_pathsam._napari.prompt_marks import (
    GREEN,
    NEGATIVE,
    POSITIVE,
    RED,
    PointMarks,
    ShapeMarks,
    Signed,
    box_of,
    features_of,
    set_default,
)
from napari_pathsam.core.prompts import YX, Prompts

if TYPE_CHECKING:
    from napari.layers import Image, Layer, Points, Shapes
    from napari.viewer import Viewer

POINTS_NAME, SHAPES_NAME = "PathSAM points", "PathSAM boxes and strokes"
MODES = {"point": "add", "box": "add_rectangle", "scribble": "add_path",
         "lasso": "add_polygon_lasso", "refine": "pan_zoom"}  # fmt: skip
CLICK_PX = 5
"""The mouse moved farther between press and release: that was a drag, as for napari."""


class PromptLayers(QObject):
    """Two layers and the current sign; what is drawn in them goes out in image pixels."""

    points_drawn = Signal(object, object)  # points_yx, positive
    box_drawn = Signal(object)  # Box | None
    scribble_drawn = Signal(object, bool)  # path (n, 2), positive
    lasso_drawn = Signal(object)  # path (n, 2)
    clicked = Signal(float, float)  # with the refine tool

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._image: Image | None = None
        self._plane: Plane | None = None
        self._shown = Prompts()
        self._late: Signed = ((), ())
        """Points that went out and are not drawn yet."""
        self._mirroring = False
        self._positive = True
        self._size = 10.0
        self._edge_color = GREEN
        self.points: Points | None = None
        self.shapes: Shapes | None = None

    # --- the layers ---

    def open(self, image: Image, plane: Plane) -> None:
        """Make the layers for an image, empty; the user's own ones are let go."""
        self.close()
        self._image, self._plane, self._shown = image, plane, Prompts()
        self.ensure()

    def ensure(self) -> None:
        """Make the layers that are missing: at the start, or when a person deleted them."""
        if self._image is None or self._plane is None:
            return
        if self.shapes is None or self.shapes not in self._viewer.layers:
            self._attach_shapes(self._make_shapes())
        if self.points is None or self.points not in self._viewer.layers:
            self._attach_points(self._make_points())
        self.show(self._shown, force=True)

    def close(self) -> None:
        """Remove our layers and let go of the user's."""
        self._image = self._plane = None
        for layer in (self.points, self.shapes):
            self._detach(layer)
            if layer is not None and layer.metadata.get(OWN) and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.points = self.shapes = None

    def use(self, layer: Layer) -> None:
        """Take prompts from one of the user's own points or shapes layers."""
        is_points = type(layer).__name__ == "Points"
        old = self.points if is_points else self.shapes
        if layer == old:
            return
        self._detach(old)
        if old is not None and old.metadata.get(OWN) and old in self._viewer.layers:
            self._viewer.layers.remove(old)
        if is_points:
            self._attach_points(layer)
            self._on_points()
        else:
            self._attach_shapes(layer)

    def use_own(self, *, points: bool) -> None:
        """Let go of the user's points or shapes layer; ours comes back."""
        layer = self.points if points else self.shapes
        if layer is not None and not layer.metadata.get(OWN):
            self._detach(layer)
            if points:
                self.points = None
            else:
                self.shapes = None
            self.ensure()

    def place(self, plane: Plane) -> None:
        """The image was moved or scaled: our layers move along."""
        if self._image is None:
            return
        self._plane = plane
        place = own_layer_place(plane, self._image)
        for layer in self.own():
            for name, value in place.items():
                setattr(layer, name, value)

    def own(self) -> list[Any]:
        """Those of the two layers that are ours."""
        layers = [layer for layer in (self.shapes, self.points) if layer is not None]
        return [layer for layer in layers if layer.metadata.get(OWN)]

    def layer_for(self, tool_id: str | None) -> Any:
        """The layer a tool draws in."""
        return self.points if tool_id in ("point", "refine", None) else self.shapes

    def activate(self, tool_id: str | None) -> None:
        """Make a tool's layer the active one, in the mode that draws; None: pan and zoom."""
        self.ensure()
        layer = self.layer_for(tool_id)
        if layer is None:
            return
        if tool_id is not None:
            self._viewer.layers.selection.active = layer
        layer.mode = MODES[tool_id] if tool_id else "pan_zoom"
        for other in (self.points, self.shapes):
            if other is not None and other != layer:
                other.mode = "pan_zoom"

    # --- the sign ---

    def sign(self) -> bool:
        return self._positive

    def set_sign(self, positive: bool) -> None:
        """Whether the next point or scribble lies on the object."""
        self._positive = positive
        self._apply_sign(positive)

    def _apply_sign(self, positive: bool) -> None:
        """Set what the next marker is."""
        label, color = (POSITIVE, GREEN) if positive else (NEGATIVE, RED)
        points, shapes = self.points, self.shapes
        if points is not None:
            set_default(points, label)
        if shapes is not None and shapes.metadata.get(OWN) and self._edge_color != color:
            shapes.current_edge_color = self._edge_color = color

    # --- what the workspace holds ---

    def show(self, prompts: Prompts, *, force: bool = False) -> None:
        """Show these prompts; layers that already do are left alone."""
        self._shown, self._late = prompts, ((), ())
        if self._plane is None or self.points is None or self.shapes is None:
            return
        self._show_points(prompts, force=force)
        # A shapes layer of the person's own is a drawing of theirs: nothing in it is touched.
        boxes = self._marks(self.shapes, ShapeMarks)
        if boxes.own and (force or not boxes.shows(prompts.box)):
            with self._quiet():
                boxes.write(prompts.box, self._size)

    def _show_points(self, prompts: Prompts, *, force: bool) -> None:
        marks = self._marks(self.points, PointMarks)
        (yx, signs), n = marks.read(), len(prompts.points_yx)
        if not force and (yx, signs) == (prompts.points_yx, prompts.positive):
            return
        with self._quiet():
            if not force and n and (yx, signs) == (prompts.points_yx[:-1], prompts.positive[:-1]):
                marks.add(prompts.points_yx[-1], positive=prompts.positive[-1])
            else:
                marks.write(prompts, self._size)
        self._apply_sign(self._positive)

    def _marks(self, layer: Any, kind: type[Any]) -> Any:
        assert self._plane is not None
        return kind(layer, self._viewer, self._plane)

    def set_point_size(self, size_px: float) -> None:
        """Marker diameter in image pixels, so that it looks the same at every zoom."""
        self._size = size_px
        if self.points is not None and self.points.metadata.get(OWN):
            with self._quiet():
                self.points.size = size_px
                self.points.current_size = size_px
        if self.shapes is not None and self.shapes.metadata.get(OWN):
            with self._quiet():
                self.shapes.current_edge_width = size_px / 5
                if len(self.shapes.data):
                    self.shapes.edge_width = size_px / 5

    # --- making and attaching ---

    def _make_points(self) -> Points:
        from napari.layers import Points

        assert self._image is not None
        assert self._plane is not None
        layer = Points(
            np.empty((0, 2)),
            ndim=2,
            name=POINTS_NAME,
            features=features_of(()),
            feature_defaults={"label": POSITIVE},
            face_color="label",
            face_color_cycle=[GREEN, RED],
            border_color="white",
            border_width=0.15,
            size=self._size,
            metadata={OWN: "points"},
            **own_layer_place(self._plane, self._image),
        )
        return self._viewer.add_layer(layer)

    def _make_shapes(self) -> Shapes:
        from napari.layers import Shapes

        assert self._image is not None
        assert self._plane is not None
        self._edge_color = GREEN
        layer = Shapes(
            ndim=2,
            name=SHAPES_NAME,
            face_color="transparent",
            edge_color=GREEN,
            edge_width=self._size / 5,
            metadata={OWN: "shapes"},
            **own_layer_place(self._plane, self._image),
        )
        return self._viewer.add_layer(layer)

    def _attach_points(self, layer: Any) -> None:
        if not layer.metadata.get(OWN):
            with self._quiet():
                self._marks(layer, PointMarks).dress()
        self.points = layer
        layer.events.data.connect(self._on_points, position="first")  # the answer begins at once
        layer.mouse_drag_callbacks.insert(0, self._on_press)
        if layer.metadata.get(OWN):
            layer.events.mode.connect(self._on_mode)
            self._on_mode()
        self._apply_sign(self._positive)

    def _on_mode(self, *_: Any) -> None:
        """Clicks in our layer are ours: napari's own callback would draw the marker first."""
        assert self.points is not None
        callbacks = self.points.mouse_drag_callbacks
        for callback in [c for c in callbacks if _adds_points(c)]:
            callbacks.remove(callback)

    def _attach_shapes(self, layer: Any) -> None:
        self.shapes = layer
        layer.events.data.connect(self._on_shapes)
        self._apply_sign(self._positive)

    def _detach(self, layer: Any) -> None:
        if layer is None:
            return
        for slot in (self._on_points, self._on_shapes):
            with suppress(ValueError, TypeError, RuntimeError):
                layer.events.data.disconnect(slot)
        with suppress(ValueError, TypeError, RuntimeError, AttributeError):
            layer.events.mode.disconnect(self._on_mode)
        if self._on_press in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._on_press)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self._mirroring = self._mirroring, True
        try:
            yield
        finally:
            self._mirroring = before

    # --- events of the layers ---

    def _on_press(self, layer: Any, event: Any) -> Iterator[None]:
        """Shift makes this one point negative; with the refine tool a click asks for an object."""
        if event.button != 1:
            return
        shift = "Shift" in {getattr(m, "name", str(m)) for m in event.modifiers}
        adds, positive = layer.mode == "add", self._positive and not shift
        if adds:
            self._apply_sign(positive)
        start, ours = np.asarray(event.pos), not any(map(_adds_points, layer.mouse_drag_callbacks))
        yield
        while event.type == "mouse_move":
            if adds and np.hypot(*(np.asarray(event.pos) - start)) < CLICK_PX:
                event.handled = True  # a hand that trembles does not move the image
            yield
        if np.hypot(*(np.asarray(event.pos) - start)) >= CLICK_PX or self._plane is None:
            return
        if adds and ours:
            y, x = (float(v) for v in np.asarray(layer.world_to_data(event.position))[-2:])
            self._say_point((y, x), positive)
        elif layer.mode == "pan_zoom":
            y, x = canvas_to_data(self._viewer, self._plane, event.pos)
            self.clicked.emit(float(y), float(x))

    def _say_point(self, yx: YX, positive: bool) -> None:
        """One more point goes out; whoever hears it shows the prompts, when there is time."""
        late_yx, late_signs = self._late
        self._late = ((*late_yx, yx), (*late_signs, positive))
        QTimer.singleShot(0, lambda: self._apply_sign(self._positive))
        self.points_drawn.emit(*self._read_points())

    def _on_points(self, event: Any = None) -> None:
        if self._mirroring or self._plane is None:
            return
        if event is not None and str(getattr(event.action, "value", event.action)) not in (
            "added", "removed", "changed",
        ):  # fmt: skip
            return
        QTimer.singleShot(0, lambda: self._apply_sign(self._positive))
        points, positive = self._read_points()
        if (points, positive) != (self._shown.points_yx, self._shown.positive):
            self.points_drawn.emit(points, positive)

    def _read_points(self) -> Signed:
        """The points of the layer, and those that are still to be drawn."""
        (yx, signs), (late_yx, late_signs) = self._marks(self.points, PointMarks).read(), self._late
        return yx + late_yx, signs + late_signs

    def _on_shapes(self, event: Any) -> None:
        if self._mirroring or self._plane is None or self.shapes is None:
            return
        action = str(getattr(event.action, "value", event.action))
        if action == "removed" and not len(self.shapes.data):
            self.box_drawn.emit(None)
        elif action in ("added", "changed") and len(self.shapes.data):
            index = event.data_indices[-1] if event.data_indices else -1
            kind = self.shapes.shape_type[index]
            path = self._marks(self.shapes, ShapeMarks).to_image(self.shapes.data[index])
            # Not within napari's own event: the answer replaces the layer's shapes.
            QTimer.singleShot(0, lambda: self._emit_shape(str(kind), path))

    def _emit_shape(self, kind: str, path_yx: NDArray[np.float64]) -> None:
        if self._plane is None:
            return
        if kind == "rectangle":
            self.box_drawn.emit(box_of(path_yx))
        elif kind in ("path", "line"):
            self.scribble_drawn.emit(path_yx, self._positive)
        else:
            self.lasso_drawn.emit(path_yx)


def _adds_points(callback: Any) -> bool:
    """Whether this is napari's own answer to a click in add mode."""
    module = getattr(callback, "__module__", "") or ""
    return getattr(callback, "__name__", "") == "add" and module.startswith("napari.layers.points")
