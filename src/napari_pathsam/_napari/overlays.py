"""What the dock draws over the image: the candidate, and the outline of the encoded field."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.plane import Plane, own_layer_place
from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_pathsam.workspace import Candidate

CANDIDATE_NAME, FIELD_NAME, SWIPE_NAME = "PathSAM candidate", "PathSAM field", "PathSAM swipe"
FILL = 105  # alpha of 255
INNER, OUTER = (255, 255, 255, 255), (20, 20, 20, 200)
NOTHING = np.zeros((1, 1, 4), np.uint8)
SILENT = ("data", "set_data", "scale", "translate", "extent", "thumbnail")
"""Events of a layer whose pixels are replaced. At each of the first ones the viewer measures all
layers, at others it paints the whole layer list, and an overlay lies within its image anyway."""


def painted(mask: NDArray[np.bool_], color: str, width: int) -> NDArray[np.uint8]:
    """``(h + 2 w, w + 2 w, 4)``: the mask filled, outlined white inside and dark outside.

    The double line shows on pale and on dark tissue alike. ``width`` is that of the inner line and
    of the margin.
    """
    padded = np.pad(mask, width)
    inner = ~padded
    for _ in range(width):
        inner = _grown(inner)
    outer = padded
    for _ in range(max(1, width // 2)):
        outer = _grown(outer)
    kinds = np.where(padded, np.where(inner, 2, 1), np.where(outer, 3, 0)).astype(np.uint8)
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    table = np.array([(0, 0, 0, 0), (red, green, blue, FILL), INNER, OUTER], np.uint8)
    return table.view(np.uint32)[kinds, 0].view(np.uint8).reshape(*kinds.shape, 4)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel larger to the four sides: whole-array steps, ten times as fast as scipy's."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


class Overlay:
    """One layer of ours that is made when needed and comes back when deleted."""

    def __init__(self, viewer: Viewer, name: str) -> None:
        self._viewer = viewer
        self._name = name
        self._image: Image | None = None
        self._plane: Plane | None = None
        self.layer: Image | None = None

    def open(self, image: Image, plane: Plane) -> None:
        """Draw over this image from now on."""
        self.close()
        self._image, self._plane = image, plane

    def close(self) -> None:
        """Remove the layer."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = self._image = self._plane = None

    def place(self, plane: Plane) -> None:
        """The image was moved or scaled."""
        self._plane = plane
        if self.layer is not None and self._image is not None:
            place = own_layer_place(plane, self._image)
            ratio = np.asarray(self.layer.metadata["ratio"])
            self.layer.affine, self.layer.units = place["affine"], place["units"]
            self.layer.scale = place["scale"] * ratio
            self.layer.translate = place["scale"] * np.asarray(self.layer.metadata["at"])

    @property
    def shown(self) -> bool:
        """Whether there is something to see."""
        return self.layer is not None and self.layer.visible and self.layer.data is not NOTHING

    def hide(self) -> None:
        """Show nothing; the layer stays, for making one, or turning it on, takes longer."""
        if self.layer is not None and self.layer.data is not NOTHING:
            self._replace(NOTHING)

    def _show(self, pixels: NDArray[np.uint8], at_yx: Any, ratio_yx: Any) -> None:
        """Show RGBA pixels, each ``ratio_yx`` image pixels large, the first one at ``at_yx``."""
        if self._image is None or self._plane is None:
            return
        if self.layer is None or self.layer not in self._viewer.layers:
            self.layer = self._add(pixels)
        layer = self.layer
        scale = np.asarray(own_layer_place(self._plane, self._image)["scale"])
        wanted_scale, wanted_at = scale * ratio_yx, scale * np.asarray(at_yx)
        layer.metadata.update(ratio=tuple(ratio_yx), at=tuple(at_yx))
        self._replace(pixels, wanted_scale, wanted_at)
        if not layer.visible:
            layer.visible = True

    def _replace(self, pixels: NDArray[np.uint8], scale: Any = None, at: Any = None) -> None:
        """Other pixels, elsewhere: the canvas is told once, and nobody else."""
        layer = self.layer
        assert layer is not None
        with ExitStack() as quiet:
            for name in SILENT:
                quiet.enter_context(layer.events[name].blocker())
            if scale is not None and not np.allclose(layer.scale, scale):
                layer.scale = scale
            if at is not None and not np.allclose(layer.translate, at):
                layer.translate = at
            layer.data = pixels
        layer.events.set_data()

    def _add(self, pixels: NDArray[np.uint8]) -> Any:
        from napari.layers import Image

        assert self._image is not None
        assert self._plane is not None
        layer = Image(
            pixels,
            rgb=True,
            name=self._name,
            metadata={OWN: "overlay", "ratio": (1, 1), "at": (0, 0)},
            blending="translucent_no_depth",
            **own_layer_place(self._plane, self._image),
        )
        active = self._viewer.layers.selection.active
        index = self._viewer.layers.index(self._image) + 1
        for i, other in enumerate(self._viewer.layers):
            if other.metadata.get(OWN) in ("instances", "classes", "overlay", "preview"):
                index = max(index, i + 1)
        self._viewer.layers.insert(index, layer)
        self._viewer.layers.selection.active = active  # a new layer never takes the tool away
        return layer


class CandidateOverlay(Overlay):
    """The mask on offer."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, CANDIDATE_NAME)

    def show(self, candidate: Candidate | None, color: str, screen_px: float) -> None:
        """Show a candidate in a class's colour; ``screen_px`` is screen pixels per image pixel."""
        if candidate is None or not candidate.mask.size:
            self.hide()
            return
        ratio = np.asarray(candidate.scale_yx, float)
        width = int(np.clip(round(2 / max(screen_px * ratio.mean(), 1e-6)), 1, 8))
        at = np.asarray(candidate.translate_yx) - width * ratio
        self._show(painted(candidate.mask, color, width), at, ratio)


class Lines(Overlay, ABC):
    """What is drawn in pixels of two screen pixels, anew when the zoom is another one.

    A layer's bounding box would be as wide at every zoom by itself, but where a layer that showed
    one was removed, the next one to show it may end the process (napari 0.9.2, ``glDrawArrays``).
    """

    WIDTH = 2.0
    """Of a line, in screen pixels."""
    ENOUGH = 1.25
    """It is drawn anew when the zoom changed by this factor."""

    def __init__(self, viewer: Viewer, name: str) -> None:
        super().__init__(viewer, name)
        self._drawn_at = 0.0

    def open(self, image: Image, plane: Plane) -> None:
        super().open(image, plane)
        self._viewer.scene.camera.events.zoom.connect(self._on_zoom)

    def close(self) -> None:
        self._viewer.scene.camera.events.zoom.disconnect(self._on_zoom)
        super().close()

    @abstractmethod
    def draw(self, width_px: float) -> None:
        """Draw it anew; a line is ``width_px`` image pixels wide."""

    def redraw(self) -> None:
        """Draw it for the zoom of now."""
        if self._plane is not None:
            self._drawn_at = self._viewer.scene.camera.zoom
            size = float(np.mean(self._plane.pixel_size_yx * self._plane.scene_unit))
            self.draw(self.WIDTH / max(size * self._drawn_at, 1e-9))

    def _on_zoom(self, *_: Any) -> None:
        zoom = self._viewer.scene.camera.zoom
        if self.shown and not 1 / self.ENOUGH < zoom / self._drawn_at < self.ENOUGH:
            self.redraw()


class FieldOutline(Lines):
    """A line round the encoded field, when it is less than what is in view."""

    COLOR = (255, 213, 74, 255)
    MOST = 1024
    """Pixels a side that are drawn at most; it is smaller than the screen when it is seen."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, FIELD_NAME)
        self._region: Region | None = None

    def show(self, region: Region | None) -> None:
        """Outline a region of image pixels; None: show nothing."""
        if region is None:
            self.hide()
            return
        if self.shown and region == self._region and self.layer in self._viewer.layers:
            return
        self._region = region
        self.redraw()

    def draw(self, width_px: float) -> None:
        if self._region is None:
            return
        shape = np.asarray(self._region.shape_yx)
        n = np.clip(np.round(shape / width_px), 3, self.MOST).astype(int)
        pixels = np.zeros((*n, 4), np.uint8)
        for side in (0, -1):
            pixels[side], pixels[:, side] = self.COLOR, self.COLOR
        ratio = shape / n
        self._show(pixels, (self._region.y, self._region.x) + (ratio - 1) / 2, ratio)


class SwipeLine(Lines):
    """Where one field ends and another begins."""

    COLOR = (255, 255, 255, 255)

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, SWIPE_NAME)
        self._where: tuple[Region, int] | None = None

    def show(self, region: Region, column: int) -> None:
        """Left of this column of a region of image pixels."""
        self._where = region, column
        self.redraw()

    def draw(self, width_px: float) -> None:
        if self._where is None:
            return
        region, column = self._where
        at = (region.y + (region.height - 1) / 2, region.x + column - 0.5)
        self._show(np.array([[self.COLOR]], np.uint8), at, (region.height, width_px))
