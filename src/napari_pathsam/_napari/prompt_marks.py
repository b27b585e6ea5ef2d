"""Prompts as marks in a napari layer: what a layer says in image pixels, and how it is told.

A layer may be ours, which lies on the image pixel upon pixel, or one of the person's own, which
lies anywhere, has planes and features of its own, and keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, plane_index, plane_of
from napari_pathsam.core.prompts import YX, Box, Prompts

if TYPE_CHECKING:
    from napari.viewer import Viewer

POSITIVE, NEGATIVE = "positive", "negative"
GREEN, RED = "#2ecc40", "#ff4136"

Signed = tuple[tuple[YX, ...], tuple[bool, ...]]
"""Points and their signs."""


class Marks:
    """A layer on the plane of an image."""

    def __init__(self, layer: Any, viewer: Viewer, plane: Plane) -> None:
        self.layer, self._viewer, self._plane = layer, viewer, plane

    @property
    def own(self) -> bool:
        return bool(self.layer.metadata.get(OWN))

    def to_image(self, data: Any) -> NDArray[np.float64]:
        """Coordinates of the layer as image pixels ``(n, 2)``."""
        layer = self.layer
        yx = np.asarray(data, float).reshape(-1, layer.ndim)[:, -2:]
        return yx if self.own else self._plane.pixels_of(plane_of(layer, self._viewer), yx)

    def to_layer(self, yx: NDArray[np.floating]) -> NDArray[np.float64]:
        """Image pixels ``(n, 2)`` as coordinates of the layer, on the plane that is shown."""
        layer = self.layer
        if self.own:
            return np.asarray(yx, float)
        placed = plane_of(layer, self._viewer).pixels_of(self._plane, yx)
        leading = np.asarray(self._viewer.dims.point)[-layer.ndim : -2] if layer.ndim > 2 else ()
        return np.hstack([np.tile(leading, (len(placed), 1)), placed])


class PointMarks(Marks):
    """Points and their signs in a points layer."""

    def read(self) -> Signed:
        here = self._here()
        yx = self.to_image(np.asarray(self.layer.data)[here])
        signs = self.layer.features["label"][here]
        return tuple((float(y), float(x)) for y, x in yx), tuple(str(s) != NEGATIVE for s in signs)

    def write(self, prompts: Prompts, size_px: float) -> None:
        """Show these points; those of other planes stay as they are, and come first."""
        layer = self.layer
        yx = np.asarray(prompts.points_yx, float).reshape(-1, 2)
        layer.selected_data = set()
        signs, here = list(prompts.positive), self._here()
        if not here.all():
            old = layer.features
            signs = [s != NEGATIVE for s in old["label"][~here]] + signs
            placed = np.vstack([layer.data[~here], self.to_layer(yx)])
            layer.data = np.vstack([layer.data[~here], layer.data[here]])
            layer.features = old.iloc[np.argsort(here, kind="stable")].reset_index(drop=True)
            layer.data = placed
        else:
            layer.data = self.to_layer(yx)
        features = features_of(signs)
        if not self.own:
            features = layer.features.assign(label=features["label"].to_numpy())
        layer.features = features
        layer.refresh_colors()
        if self.own:
            layer.size = size_px

    def add(self, yx: YX, *, positive: bool) -> None:
        """One more point, selected as after a click."""
        set_default(self.layer, POSITIVE if positive else NEGATIVE)
        with self.layer.events.thumbnail.blocker():  # the whole layer list is painted for it
            self.layer.add(self.to_layer(np.array([yx])))

    def dress(self) -> None:
        """Give the person's own points signs and their colours; other features stay."""
        layer = self.layer
        features = layer.features.copy()
        said = list(features["label"]) if "label" in features else []
        signs = {POSITIVE, NEGATIVE}.issuperset(said)
        if said and not signs:
            features["label before"] = said
        positive = [s != NEGATIVE for s in said] if said and signs else [True] * len(layer.data)
        features["label"] = features_of(positive)["label"].to_numpy()
        layer.features = features
        set_default(layer, POSITIVE)
        layer.face_color_cycle = [GREEN, RED]
        layer.face_color = "label"

    def _here(self) -> NDArray[np.bool_]:
        """Which points lie on the plane that is shown; of a 2D layer all do."""
        leading = np.round(np.asarray(self.layer.data, float)[:, :-2])
        here: NDArray[np.bool_] = (leading == plane_index(self.layer, self._viewer)).all(axis=1)
        return here


class ShapeMarks(Marks):
    """A box in a shapes layer, and shapes as boxes and outlines."""

    def read(self) -> Box | None:
        """The box, where the layer holds one rectangle and nothing else."""
        if len(self.layer.data) == 1 and self.layer.shape_type[0] == "rectangle":
            return box_of(self.to_image(self.layer.data[0]))
        return None

    def shows(self, box: Box | None) -> bool:
        """Whether the layer holds this box and nothing else."""
        return self.read() == box and len(self.layer.data) == (box is not None)

    def write(self, box: Box | None, size_px: float) -> None:
        """Show this box and nothing else."""
        layer = self.layer
        if len(layer.data):
            layer.selected_data = set(range(len(layer.data)))
            layer.remove_selected()
        if box is not None:
            y0, x0, y1, x1 = np.asarray(box) - 0.5
            corners = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
            layer.add_rectangles(
                self.to_layer(corners), edge_color=GREEN, face_color="transparent",
                edge_width=size_px / 5,
            )  # fmt: skip
            layer.selected_data = set()

    def outlines(self) -> list[NDArray[np.float64]]:
        """Each shape on the plane that is shown, as image pixels ``(n, 2)``; lines are left out."""
        index = plane_index(self.layer, self._viewer)
        found = []
        for vertices, kind in zip(self.layer.data, self.layer.shape_type, strict=True):
            vertices = np.asarray(vertices, float)
            here = (np.round(vertices[:, :-2]) == index).all()
            if here and kind not in ("path", "line"):
                found.append(self.to_image(vertices))
        return found


def box_of(corners_yx: NDArray[np.float64]) -> Box:
    """Half-open pixel box of a drawn shape, whose vertices are points in the image."""
    (y0, x0), (y1, x1) = corners_yx.min(axis=0) + 0.5, corners_yx.max(axis=0) + 0.5
    return tuple(round(float(v), 3) for v in (y0, x0, y1, x1))  # type: ignore[return-value]


def set_default(layer: Any, label: str) -> None:
    """The sign of the next point; what else the person's points say stays."""
    defaults = layer.feature_defaults
    if defaults["label"][0] != label:  # napari recolours a lot then
        layer.feature_defaults = {**{c: defaults[c].iloc[0] for c in defaults}, "label": label}


def features_of(positive: Any) -> Any:
    """A table of signs, as a points layer keeps it."""
    import pandas as pd

    labels = [POSITIVE if p else NEGATIVE for p in positive]
    return pd.DataFrame({"label": pd.Categorical(labels, categories=[POSITIVE, NEGATIVE])})
