"""How a 2D plane of a napari layer lies in the scene, and which part of it is in view.

napari's own ``event.position`` and ``corner_pixels`` are not used: the first is in the smallest
unit of all layers while ``world_to_data`` ignores units, the second is the loaded region. Where
the camera stands and how large the canvas is say the same without either trap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


@dataclass(frozen=True)
class Plane:
    """Affine map of a plane's pixels ``(y, x)`` to world coordinates of its two axes.

    ``linear @ yx + offset`` is the place in the layer's own unit. napari's scene may use a
    smaller unit, ``scene_units``; ``scene_unit`` of them make one of the layer's.
    """

    linear: NDArray[np.float64]
    offset: NDArray[np.float64]
    scene_unit: NDArray[np.float64]
    scene_units: tuple[Any, ...] | None = None

    def to_world(self, yx: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels ``(…, 2)`` to world coordinates in the layer's unit."""
        return np.asarray(yx, float) @ self.linear.T + self.offset

    def to_data(self, world: NDArray[np.floating]) -> NDArray[np.float64]:
        """World coordinates in the layer's unit ``(…, 2)`` to pixels."""
        return (np.asarray(world, float) - self.offset) @ np.linalg.inv(self.linear).T

    def pixels_of(self, other: Plane, yx: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels of this plane under pixels ``(…, 2)`` of another one, units included."""
        return self.to_data(other.to_world(yx) * other.scene_unit / self.scene_unit)

    @property
    def pixel_size_yx(self) -> NDArray[np.float64]:
        """Length of a pixel's two edges in the layer's unit."""
        return np.hypot(*self.linear)

    def same_place(self, other: Plane) -> bool:
        """Whether both planes put the same pixel at the same place of the scene."""
        mine, others = self.in_scene, other.in_scene
        return all(np.allclose(a, b) for a, b in zip(mine, others, strict=True))

    @property
    def in_scene(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``linear`` and ``offset`` in units of the scene."""
        return self.linear * self.scene_unit[:, None], self.offset * self.scene_unit


def plane_of(layer: Layer, viewer: Viewer | None = None) -> Plane:
    """Where the last two axes of a layer lie, at the position of its other axes."""
    origin = np.zeros(layer.ndim)
    if viewer is not None and layer.ndim > 2:
        origin[:-2] = plane_index(layer, viewer)
    zero = np.asarray(layer.data_to_world(origin), float)[-2:]
    columns = []
    for axis in (-2, -1):
        step = origin.copy()
        step[axis] = 1
        columns.append(np.asarray(layer.data_to_world(step), float)[-2:] - zero)
    units = None if viewer is None else viewer.layers.extent.units
    linear = np.stack(columns, axis=1)
    if units is None:
        return Plane(linear, zero, np.ones(2))
    return Plane(linear, zero, scene_unit(layer, units[-2:]), tuple(units[-2:]))


def plane_index(layer: Layer, viewer: Viewer) -> tuple[int, ...]:
    """Index of the displayed plane in the layer's leading axes; empty for a 2D layer."""
    if layer.ndim <= 2:
        return ()
    point = np.asarray(viewer.dims.point, float)[-layer.ndim :]
    index = np.round(np.asarray(layer.world_to_data(point)))[:-2].astype(int)
    if type(layer).__name__ not in ("Points", "Shapes"):  # which end nowhere
        index = np.clip(index, 0, np.asarray(level_0(layer).shape[: layer.ndim - 2]) - 1)
    return tuple(int(i) for i in index)


def level_0(layer: Layer) -> Any:
    """The finest array of a layer, multiscale or not."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def scene_unit(layer: Layer, units: tuple[Any, ...]) -> NDArray[np.float64]:
    """How many of these units make one of the layer's, for its last two axes."""
    pairs = zip(layer.units[-2:], units, strict=True)
    return np.array([float((1 * own).to(of_scene).magnitude) for own, of_scene in pairs])


def canvas_to_data(viewer: Viewer, plane: Plane, pos_xy: Any) -> NDArray[np.float64]:
    """Canvas pixels ``(x, y)`` to pixels ``(y, x)`` of the plane."""
    camera = viewer.scene.camera
    pos_yx = np.asarray(pos_xy, float)[..., 1::-1]
    from_centre = (pos_yx - np.asarray(viewer.canvas.size, float) / 2) / camera.zoom
    scene = np.asarray(camera.center, float)[-2:] + from_centre * _directions(camera)
    return plane.to_data(scene / plane.scene_unit)


def data_to_canvas(viewer: Viewer, plane: Plane, yx: Any) -> NDArray[np.float64]:
    """Pixels ``(y, x)`` of the plane to canvas pixels ``(x, y)``."""
    camera = viewer.scene.camera
    scene = plane.to_world(np.asarray(yx, float)) * plane.scene_unit
    from_centre = (scene - np.asarray(camera.center, float)[-2:]) * _directions(camera)
    return (from_centre * camera.zoom + np.asarray(viewer.canvas.size, float) / 2)[..., ::-1]


def _directions(camera: Any) -> NDArray[np.float64]:
    """+1 where an axis runs as arrays do (down, right), -1 where the user turned it round."""
    vertical, horizontal = (str(getattr(d, "value", d)) for d in camera.orientation2d)
    return np.array([1.0 if vertical == "down" else -1.0, 1.0 if horizontal == "right" else -1.0])


def view_of(viewer: Viewer, plane: Plane, shape_yx: tuple[int, int]) -> tuple[Region, float] | None:
    """What of the plane is in view, and screen pixels per image pixel; None when nothing is."""
    height, width = viewer.canvas.size
    corners = canvas_to_data(viewer, plane, [(0, 0), (width, 0), (0, height), (width, height)])
    low = np.floor(corners.min(axis=0) + 0.5).astype(int).clip(0)
    high = np.ceil(corners.max(axis=0) + 0.5).astype(int).clip(None, shape_yx)
    if (high <= low).any():
        return None
    screen_px = float(np.mean(plane.pixel_size_yx * plane.scene_unit)) * viewer.scene.camera.zoom
    return Region(int(low[0]), int(low[1]), *(int(v) for v in high - low)), screen_px


def own_layer_place(plane: Plane, image: Layer) -> dict[str, Any]:
    """Keyword arguments that put a new 2D layer on an image's plane, pixel upon pixel.

    The layer has the image's scale, so that brushes are as wide as they look; the rest is its
    affine. A ``translate`` of ``offset_px * scale`` then moves it by whole image pixels.

    Its unit is that of the scene: napari hands the mouse's place to a layer in the smallest unit
    of all layers, whatever the layer's own is.
    """
    linear, offset = plane.in_scene
    scale = np.asarray(image.scale, float)[-2:] * plane.scene_unit
    affine = np.eye(3)
    affine[:2, :2] = linear / scale
    affine[:2, 2] = offset
    return {"scale": scale, "affine": affine, "units": plane.scene_units or image.units[-2:]}


def put_layer(layer: Layer, **place: Any) -> None:
    """Set what differs of ``scale``, ``translate``, ``affine`` and ``units``.

    napari maps a layer's pixels anew after each, also where nothing changed.
    """
    for name, wanted in place.items():
        now = getattr(layer, name)
        now = now.affine_matrix if name == "affine" else now
        if name == "units" or not np.array_equal(now, wanted):  # equal units napari knows itself
            setattr(layer, name, wanted)


def microns_per_pixel(layer: Layer, plane: Plane) -> float | None:
    """The pixel size in µm, where the layer's unit is a length; None where nobody said."""
    sizes = []
    for unit, size in zip(layer.units[-2:], plane.pixel_size_yx, strict=True):
        if not unit.is_compatible_with("meter"):
            return None
        sizes.append(float((size * unit).to("micrometer").magnitude))
    return float(np.sqrt(sizes[0] * sizes[1]))
