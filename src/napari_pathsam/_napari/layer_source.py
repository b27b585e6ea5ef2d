"""An image layer as the workspace sees it: RGB pixels of one plane, as displayed.

A :class:`LayerSource` is a snapshot. It holds the arrays and the display settings, not the layer,
so a worker can read it while the layer is renamed, recoloured or removed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam._napari.pixel_sizes import kept_mpp_of
from napari_pathsam._napari.plane import Plane, level_0, microns_per_pixel, plane_index, plane_of
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._pyramid import slide_behind

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_pathsam.io.slides import Slide

RGB = NDArray[np.uint8]

OWN = "napari-pathsam"
"""Key in ``layer.metadata`` that marks the layers this plugin made."""


@dataclass(frozen=True)
class Channel:
    """One image layer: its pyramid (finest first) and how it is shown."""

    levels: tuple[Any, ...]
    plane: tuple[int, ...]
    rgb: bool
    limits: tuple[float, float] = (0.0, 1.0)
    gamma: float = 1.0
    opacity: float = 1.0
    colors: NDArray[np.float32] | None = None  # (256, 3), the colormap's table

    @property
    def shape_yx(self) -> tuple[int, int]:
        axes = self.levels[0].shape[len(self.plane) : len(self.plane) + 2]
        return (int(axes[0]), int(axes[1]))

    def read(self, region: Region, shape_yx: tuple[int, int]) -> NDArray[np.float32]:
        """``(h, w, 3)`` float, 0 … 255: the region from the coarsest level fine enough."""
        from PIL import Image as Picture

        level = self._level_for(region.height / shape_yx[0])
        pixels, box = self._pixels(level, region)
        shown = _rgb_shown(pixels) if self.rgb else self._mapped(pixels)
        picture = Picture.fromarray(shown)
        box = _inside(box, picture.size)
        resized = picture.resize(
            (shape_yx[1], shape_yx[0]), Picture.Resampling.BILINEAR, box=box, reducing_gap=3.0
        )
        return np.asarray(resized, np.float32) * self.opacity

    def _level_for(self, downsample: float) -> int:
        height = self.shape_yx[0]
        axis = len(self.plane)
        fits = [
            i
            for i, level in enumerate(self.levels)
            if height / level.shape[axis] <= downsample * 1.05
        ]
        return fits[-1] if fits else 0

    def _pixels(self, level: int, region: Region) -> tuple[NDArray, tuple[float, ...]]:
        """A level's pixels round the region, and where in them the region lies (x0, y0, x1, y1)."""
        array = self.levels[level]
        axis = len(self.plane)
        size = np.asarray(array.shape[axis : axis + 2])
        ratio = np.asarray(self.shape_yx) / size
        start = np.array([region.y, region.x]) / ratio
        stop = np.array([region.y + region.height, region.x + region.width]) / ratio
        low = np.floor(start).astype(int).clip(0, size - 1)
        high = np.maximum(np.ceil(stop - 1e-6).astype(int).clip(1, size), low + 1)
        at = (*self.plane, slice(low[0], high[0]), slice(low[1], high[1]))
        box = (start[1] - low[1], start[0] - low[0], stop[1] - low[1], stop[0] - low[0])
        return np.asarray(array[at]), tuple(float(b) for b in box)

    def _mapped(self, values: NDArray) -> RGB:
        """Single-channel values through contrast limits, gamma and colormap."""
        low, high = self.limits
        unit = (values.astype(np.float32) - low) / max(high - low, 1e-12)
        unit = np.nan_to_num(unit, nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1) ** self.gamma
        assert self.colors is not None
        table = (self.colors * 255).round().astype(np.uint8)
        mapped: RGB = table[(unit * 255).round().astype(np.uint8)]
        return mapped


def _rgb_shown(pixels: NDArray) -> RGB:
    """RGB or RGBA of any type as napari shows it; transparency lies on white, as on a slide."""
    if pixels.dtype == np.uint8:
        shown = pixels
    elif pixels.dtype == bool:
        shown = pixels.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(pixels.dtype, np.integer):
        shown = (pixels.astype(np.float32) / np.iinfo(pixels.dtype).max * 255).astype(np.uint8)
    else:
        finite = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
        shown = (finite.clip(0, 1) * 255).round().astype(np.uint8)
    if shown.shape[-1] == 4:
        alpha = shown[..., 3:].astype(np.float32) / 255
        shown = (shown[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    return np.ascontiguousarray(shown)


def _inside(box: tuple[float, ...], size_xy: tuple[int, int]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    x1, y1 = min(x1, size_xy[0]), min(y1, size_xy[1])
    return (max(0.0, min(x0, x1 - 0.01)), max(0.0, min(y0, y1 - 0.01)), x1, y1)


@dataclass(frozen=True)
class LayerSource:
    """One plane of one image layer, or of all channels shown together with it."""

    key: str
    name: str
    channels: tuple[Channel, ...]
    plane: Plane
    mpp: float | None = None
    index: tuple[int, ...] = field(default=())

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self.channels[0].shape_yx

    @property
    def slide(self) -> Slide | None:
        """The slide whose pixels are shown as they are; None: it is none, or shown otherwise."""
        first, *others = self.channels
        as_it_is = first.rgb and first.opacity == 1 and not first.plane and not others
        return slide_behind(first.levels[0]) if as_it_is else None

    def read(self, region: Region, shape_yx: tuple[int, int]) -> RGB:
        """``(h, w, 3)`` pixels of a region of level-0 pixels, resampled, as displayed."""
        total = np.zeros((*shape_yx, 3), np.float32)
        for channel in self.channels:
            total += channel.read(region, shape_yx)
        out: RGB = total.round().clip(0, 255).astype(np.uint8)
        return out

    def looks_like(self, other: LayerSource) -> bool:
        """Whether both show the same pixels in the same colours."""
        return self.key == other.key and [_look(c) for c in self.channels] == [
            _look(c) for c in other.channels
        ]


class ShownSource:
    """The open image for the workspace: stays the same while its display settings change."""

    def __init__(self, now: LayerSource) -> None:
        self.now = now

    @property
    def key(self) -> str:
        return self.now.key

    @property
    def name(self) -> str:
        return self.now.name

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self.now.shape_yx

    @property
    def mpp(self) -> float | None:
        return self.now.mpp

    @property
    def slide(self) -> Slide | None:
        return self.now.slide

    def read(self, region: Region, shape_yx: tuple[int, int]) -> RGB:
        """Pixels as displayed now; called in a worker."""
        return self.now.read(region, shape_yx)


def _look(channel: Channel) -> tuple:
    colors = b"" if channel.colors is None else channel.colors.tobytes()
    levels = tuple(id(level) for level in channel.levels)
    return (levels, channel.plane, channel.limits, channel.gamma, channel.opacity, colors)


def source_of(layer: Image, viewer: Viewer, known: LayerSource | None = None) -> LayerSource:
    """Snapshot of an image layer as the viewer shows it now.

    ``known`` is an earlier one, whose key holds while the arrays are the same: making it reads
    pixels, which may be far away.

    Raises
    ------
    BadImageError
        When the layer has no pixels, or the viewer shows it in 3D or with its axes exchanged.
    """
    array = level_0(layer)
    index = plane_index(layer, viewer)
    if 0 in array.shape:
        raise BadImageError(
            f"The layer “{layer.name}” has the shape {tuple(array.shape)}: it holds no pixels. "
            "Choose an image of at least 1 × 1 pixel."
        )
    displayed = tuple(viewer.dims.displayed)
    if viewer.dims.ndisplay != 2 or displayed != tuple(sorted(viewer.dims.order)[-2:]):
        raise BadImageError(
            f"The viewer shows “{layer.name}” in 3D or with its axes exchanged; objects are drawn "
            "on its last two axes. Switch back to 2D with the buttons below the layer list."
        )
    plane = plane_of(layer, viewer)
    layers = [layer] if layer.rgb else _shown_together(layer, viewer)
    channels = tuple(_channel(each, viewer) for each in layers)
    same = (
        known is not None
        and known.index == index
        and [id(a) for a in known.channels[0].levels] == [id(a) for a in channels[0].levels]
    )
    return LayerSource(
        key=known.key if known is not None and same else content_key(layer, index),
        name=layer.name,
        channels=channels,
        plane=plane,
        mpp=microns_per_pixel(layer, plane) or kept_mpp_of(layer),
        index=index,
    )


def _shown_together(layer: Image, viewer: Viewer) -> list[Image]:
    """The layer and, when channels are added up, the other visible ones over the same pixels."""
    wanted, shape = plane_of(layer, viewer), level_0(layer).shape[-2:]
    return (
        [layer]
        + [
            other
            for other in viewer.layers
            if other != layer
            and getattr(other, "rgb", True) is False  # only Image layers can say so
            and other.visible
            and "additive" in (str(other.blending), str(layer.blending))
            and not other.metadata.get(OWN)
            and level_0(other).shape[-2:] == shape
            and plane_of(other, viewer).same_place(wanted)
        ]
    )


def _channel(layer: Image, viewer: Viewer) -> Channel:
    levels = tuple(layer.data) if layer.multiscale else (layer.data,)
    plane = plane_index(layer, viewer)
    if layer.rgb:
        return Channel(levels, plane, rgb=True)
    table = np.asarray(layer.colormap.map(np.linspace(0, 1, 256)), np.float32)[:, :3]
    low, high = (float(v) for v in layer.contrast_limits)
    return Channel(
        levels, plane, rgb=False, limits=(low, high), gamma=float(layer.gamma),
        opacity=float(layer.opacity), colors=np.ascontiguousarray(table),
    )  # fmt: skip


def content_key(layer: Image, index: tuple[int, ...]) -> str:
    """A name for these pixels that stays when the file is moved or the layer renamed.

    From the shape, the type, the plane and a sample of the pixels; the sample is small, for it is
    read while the user waits.
    """
    levels = list(layer.data) if layer.multiscale else [layer.data]
    coarse = levels[-1][index] if index else levels[-1]
    digest = hashlib.sha256(repr((tuple(levels[0].shape), str(levels[0].dtype), index)).encode())
    for block in _samples(coarse):
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()[:32]


def _samples(array: Any, *, side: int = 64, grid: int = 5) -> list[NDArray]:
    height, width = array.shape[:2]
    if isinstance(array, np.ndarray) or height * width <= 1024**2:
        step = max(1, int(np.ceil(max(height, width) / 512)))
        return [np.asarray(array[::step, ::step])]
    rows = np.linspace(0, max(0, height - side), grid).astype(int)
    columns = np.linspace(0, max(0, width - side), grid).astype(int)
    return [np.asarray(array[y : y + side, x : x + side]) for y in rows for x in columns]
