"""The prompt layers: points and shapes in which a person says what the object is.

They speak image pixels ``(y, x)`` to the outside whatever the layers' own transforms are, and show
what the workspace holds: after an undo the marker goes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place, plane_index, plane_of
from napari_pathsam.core.prompts import Box, Prompts

if TYPE_CHECKING:
    from napari.layers import Image, Layer, Points, Shapes
    from napari.viewer import Viewer

POSITIVE, NEGATIVE = "positive", "negative"
GREEN, RED = "#2ecc40", "#ff4136"
POINTS_NAME, SHAPES_NAME = "PathSAM points", "PathSAM boxes and strokes"
MODES = {"point": "add", "box": "add_rectangle", "scribble": "add_path",
         "lasso": "add_polygon_lasso", "refine": "pan_zoom"}  # fmt: skip


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
        """Set what the next marker is; only where it differs, for napari recolours a lot then."""
        label, color = (POSITIVE, GREEN) if positive else (NEGATIVE, RED)
        points, shapes = self.points, self.shapes
        if points is not None and points.feature_defaults["label"][0] != label:
            _set_default(points, label)
        if shapes is not None and shapes.metadata.get(OWN) and self._edge_color != color:
            shapes.current_edge_color = self._edge_color = color

    # --- what the workspace holds ---

    def show(self, prompts: Prompts, *, force: bool = False) -> None:
        """Show these prompts; layers that already do are left alone."""
        self._shown = prompts
        if self._plane is None or self.points is None or self.shapes is None:
            return
        if force or self._read_points() != (prompts.points_yx, prompts.positive):
            self._write_points(prompts)
        # A shapes layer of the person's own is a drawing of theirs: nothing in it is touched.
        if self.shapes.metadata.get(OWN) and (
            force
            or self._read_box() != prompts.box
            or len(self.shapes.data) != (prompts.box is not None)
        ):
            self._write_box(prompts.box)

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
            features=_no_signs(),
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
            self._dress(layer)
        self.points = layer
        layer.events.data.connect(self._on_points, position="first")  # the answer begins at once
        layer.mouse_drag_callbacks.insert(0, self._on_press)
        self._apply_sign(self._positive)

    def _dress(self, layer: Any) -> None:
        """Give the person's own points signs and their colours; other features stay."""
        features = layer.features.copy()
        said = list(features["label"]) if "label" in features else []
        signs = {POSITIVE, NEGATIVE}.issuperset(said)
        if said and not signs:
            features["label before"] = said
        positive = [s != NEGATIVE for s in said] if said and signs else [True] * len(layer.data)
        features["label"] = _signs(positive)["label"].to_numpy()
        with self._quiet():
            layer.features = features
            _set_default(layer, POSITIVE)
            layer.face_color_cycle = [GREEN, RED]
            layer.face_color = "label"

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
        if layer.mode == "add":
            self._apply_sign(self._positive and not shift)
            return
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if layer.mode == "pan_zoom" and np.hypot(*(np.asarray(event.pos) - start)) < 5:
            from napari_pathsam._napari.plane import canvas_to_data

            assert self._plane is not None
            y, x = canvas_to_data(self._viewer, self._plane, event.pos)
            self.clicked.emit(float(y), float(x))

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

    def _on_shapes(self, event: Any) -> None:
        if self._mirroring or self._plane is None or self.shapes is None:
            return
        action = str(getattr(event.action, "value", event.action))
        if action == "removed" and not len(self.shapes.data):
            self.box_drawn.emit(None)
        elif action in ("added", "changed") and len(self.shapes.data):
            index = event.data_indices[-1] if event.data_indices else -1
            kind = self.shapes.shape_type[index]
            path = self._to_image(self.shapes.data[index], self.shapes)
            # Not within napari's own event: the answer replaces the layer's shapes.
            QTimer.singleShot(0, lambda: self._emit_shape(str(kind), path))

    def _emit_shape(self, kind: str, path_yx: NDArray[np.float64]) -> None:
        if self._plane is None:
            return
        if kind == "rectangle":
            self.box_drawn.emit(_box_of(path_yx))
        elif kind in ("path", "line"):
            self.scribble_drawn.emit(path_yx, self._positive)
        else:
            self.lasso_drawn.emit(path_yx)
        self.show(self._shown)

    # --- reading and writing ---

    def _to_image(self, data: Any, layer: Any) -> NDArray[np.float64]:
        yx = np.asarray(data, float).reshape(-1, layer.ndim)[:, -2:]
        assert self._plane is not None
        return yx if layer.metadata.get(OWN) else self._plane.pixels_of(
            plane_of(layer, self._viewer), yx
        )  # fmt: skip

    def _to_layer(self, yx: NDArray[np.floating], layer: Any) -> NDArray[np.float64]:
        assert self._plane is not None
        if layer.metadata.get(OWN):
            return np.asarray(yx, float)
        own = plane_of(layer, self._viewer).pixels_of(self._plane, yx)
        leading = np.asarray(self._viewer.dims.point)[-layer.ndim : -2] if layer.ndim > 2 else ()
        return np.hstack([np.tile(leading, (len(own), 1)), own])

    def _read_points(self) -> tuple[tuple, tuple]:
        assert self.points is not None
        here = self._here(self.points)
        yx = self._to_image(np.asarray(self.points.data)[here], self.points)
        points = tuple((float(y), float(x)) for y, x in yx)
        signs = self.points.features["label"][here]
        return points, tuple(str(s) != NEGATIVE for s in signs)

    def _here(self, layer: Any) -> NDArray[np.bool_]:
        """Which points of a layer lie on the plane that is shown; of a 2D layer all do."""
        leading = np.round(np.asarray(layer.data, float)[:, :-2])
        here: NDArray[np.bool_] = (leading == plane_index(layer, self._viewer)).all(axis=1)
        return here

    def _read_box(self) -> Box | None:
        assert self.shapes is not None
        if len(self.shapes.data) == 1 and self.shapes.shape_type[0] == "rectangle":
            return _box_of(self._to_image(self.shapes.data[0], self.shapes))
        return None

    def _write_points(self, prompts: Prompts) -> None:
        layer = self.points
        assert layer is not None
        yx = np.asarray(prompts.points_yx, float).reshape(-1, 2)
        with self._quiet():
            layer.selected_data = set()
            signs, here = list(prompts.positive), self._here(layer)
            if not here.all():  # points of other planes stay as they are, and come first
                old = layer.features
                signs = [s != NEGATIVE for s in old["label"][~here]] + signs
                placed = np.vstack([layer.data[~here], self._to_layer(yx, layer)])
                layer.data = np.vstack([layer.data[~here], layer.data[here]])
                layer.features = old.iloc[np.argsort(here, kind="stable")].reset_index(drop=True)
                layer.data = placed
            else:
                layer.data = self._to_layer(yx, layer)
            features = _signs(signs)
            if not layer.metadata.get(OWN):
                features = layer.features.assign(label=features["label"].to_numpy())
            layer.features = features
            layer.refresh_colors()
            if layer.metadata.get(OWN):
                layer.size = self._size
        self._apply_sign(self._positive)

    def _write_box(self, box: Box | None) -> None:
        layer = self.shapes
        assert layer is not None
        with self._quiet():
            if len(layer.data):
                layer.selected_data = set(range(len(layer.data)))
                layer.remove_selected()
            if box is not None:
                y0, x0, y1, x1 = np.asarray(box) - 0.5
                corners = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
                layer.add_rectangles(
                    self._to_layer(corners, layer), edge_color=GREEN,
                    face_color="transparent", edge_width=self._size / 5,
                )  # fmt: skip
                layer.selected_data = set()


def _box_of(corners_yx: NDArray[np.float64]) -> Box:
    """Half-open pixel box of a drawn rectangle, whose corners are points in the image."""
    (y0, x0), (y1, x1) = corners_yx.min(axis=0) + 0.5, corners_yx.max(axis=0) + 0.5
    return tuple(round(float(v), 3) for v in (y0, x0, y1, x1))  # type: ignore[return-value]


def _set_default(layer: Any, label: str) -> None:
    """The sign of the next point; what else the person's points say stays."""
    defaults = layer.feature_defaults
    layer.feature_defaults = {**{c: defaults[c].iloc[0] for c in defaults}, "label": label}


def _no_signs() -> Any:
    return _signs(())


def _signs(positive: Any) -> Any:
    import pandas as pd

    labels = [POSITIVE if p else NEGATIVE for p in positive]
    return pd.DataFrame({"label": pd.Categorical(labels, categories=[POSITIVE, NEGATIVE])})
