"""What the dock draws over the image: the candidate, and the outline of the encoded field."""

from __future__ import annotations

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


class Frame(Overlay):
    """A rectangle in lines that are as wide on screen at every zoom."""

    COLOR = "#ffd54a"

    def hide(self) -> None:
        """Show nothing; the line goes too."""
        if self.layer is not None:
            self.layer.bounding_box.visible = False
        super().hide()

    def close(self) -> None:
        """Remove the layer, and its line before it: drawn without its layer it ends the process."""
        self.hide()
        super().close()

    def frame(self, corner_yx: Any, shape_yx: Any) -> None:
        """Draw it round these image pixels; what is between its lines is clear."""
        shape = np.asarray(shape_yx) / 2
        at = np.asarray(corner_yx) + (shape - 1) / 2
        self._show(np.zeros((2, 2, 4), np.uint8), at, shape)
        if self.layer is not None:
            box = self.layer.bounding_box
            box.line_color, box.line_thickness, box.points = self.COLOR, 2, False
            box.visible = True
            # napari makes the line when it is first seen, half a pixel (a quarter of the field)
            # from its place until the layer is placed once more.
            self.layer.events.affine()


class FieldOutline(Frame):
    """A line round the encoded field, when it is less than what is in view."""

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
        self.frame((region.y, region.x), region.shape_yx)


class SwipeLine(Frame):
    """Where one field ends and another begins: a frame without width."""

    COLOR = "#ffffff"
    WIDTH_PX = 1e-3

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, SWIPE_NAME)

    def show(self, region: Region, column: int) -> None:
        """Left of this column of a region of image pixels."""
        self.frame((region.y, region.x + column), (region.height, self.WIDTH_PX))
