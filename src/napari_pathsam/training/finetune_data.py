"""Painted pixels as targets on the network's cells; the ways a tile is turned and stained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.training.augment import AugmentConfig, draw_stain, stained
from napari_pathsam.training.class_data import IGNORE
from napari_pathsam.training.finetune_run import BACKGROUND, Frozen, RunImage, RunLabels


@dataclass(frozen=True)
class TilePixels:
    """The painted level-0 pixels of a tile, in no particular order.

    Attributes
    ----------
    y, x
        ``(n,)`` float32, their centres in cells of the tile.
    channel
        ``(n,)`` int16.
    held
        ``(n,)`` whether they are held out.
    own
        ``(n,)`` whether they belong to this tile, where tiles overlap: each pixel to one.
    index
        ``(n,)`` where they are in the image's labels, flattened.
    """

    y: NDArray[np.float32]
    x: NDArray[np.float32]
    channel: NDArray[np.int16]
    held: NDArray[np.bool_]
    own: NDArray[np.bool_]
    index: NDArray[np.int64]

    def only(self, mask: NDArray[np.bool_]) -> TilePixels:
        """Some of them."""
        return TilePixels(
            self.y[mask],
            self.x[mask],
            self.channel[mask],
            self.held[mask],
            self.own[mask],
            self.index[mask],
        )

    def target(
        self, grid_yx: tuple[int, int], cells_yx: tuple[int, int], n_channels: int
    ) -> NDArray[np.int16]:
        """What is trained on, on a level's grid over the tile's ``cells_yx``: ``(h, w)``.

        A cell has the channel most of its painted pixels have; :data:`IGNORE` where there is none.
        """
        scale = [n / cells for n, cells in zip(grid_yx, cells_yx, strict=True)]
        use = ~self.held
        rows = np.clip((self.y[use] * scale[0]).astype(np.int64), 0, grid_yx[0] - 1)
        columns = np.clip((self.x[use] * scale[1]).astype(np.int64), 0, grid_yx[1] - 1)
        n = grid_yx[0] * grid_yx[1]
        flat = self.channel[use].astype(np.int64) * n + rows * grid_yx[1] + columns
        counts = np.bincount(flat, minlength=n_channels * n).reshape(n_channels, n)
        found = np.where(counts.any(axis=0), counts.argmax(axis=0), IGNORE)
        return found.reshape(grid_yx).astype(np.int16)


def channel_table(frozen: Frozen) -> NDArray[np.int16]:
    """Label id → channel of the model; :data:`IGNORE` for what is not painted."""
    settings = frozen.run.settings
    table = np.full(256, IGNORE, np.int16)
    for channel, info in enumerate(settings.model_classes, start=1):
        table[info.id] = channel
    if settings.background_id:
        table[settings.background_id] = 0
    if settings.zero == "background":
        table[BACKGROUND] = 0
    return table


def tile_pixels_of(frozen: Frozen) -> list[list[TilePixels]]:
    """The painted pixels of every tile of every image."""
    table = channel_table(frozen)
    return [
        _of_image(image, labels, table)
        for image, labels in zip(frozen.run.images, frozen.labels, strict=True)
    ]


def _of_image(image: RunImage, known: RunLabels, table: NDArray[np.int16]) -> list[TilePixels]:
    ys, xs = np.nonzero(known.labels)
    channel, held = table[known.labels[ys, xs]], known.held[ys, xs]
    (sy, sx), at = image.grid.cell_level0_yx, image.labels_at
    y = ((ys + at.y + 0.5) / sy).astype(np.float64)
    x = ((xs + at.x + 0.5) / sx).astype(np.float64)
    regions = [box.region for box in image.tiles]
    # A pixel belongs to the tile in which it lies deepest.
    depth = np.stack([_depth(y, x, tile) for tile in regions])
    owner = depth.argmax(axis=0)
    found = []
    for i, tile in enumerate(regions):
        inside = depth[i] >= 0
        found.append(
            TilePixels(
                (y[inside] - tile.y).astype(np.float32),
                (x[inside] - tile.x).astype(np.float32),
                channel[inside],
                held[inside],
                owner[inside] == i,
                (ys * known.labels.shape[1] + xs)[inside],
            )
        )
    return found


def _depth(y: NDArray[np.float64], x: NDArray[np.float64], tile: Region) -> NDArray[np.float64]:
    """Cells to the nearest side of a tile, below 0 outside; a little less than 0 is inside."""
    sides = (y - tile.y, tile.y + tile.height - y, x - tile.x, tile.x + tile.width - x)
    least: NDArray[np.float64] = np.minimum.reduce(sides)
    return np.where(least > -1e-6, np.maximum(least, 0), least)


@dataclass(frozen=True)
class Look:
    """One way a tile is seen: turned by so many quarters, mirrored, in other colours (a seed)."""

    quarters: int = 0
    mirrored: bool = False
    colours: int | None = None

    def pixels(self, pixels: NDArray[np.uint8], stain: float) -> NDArray[np.uint8]:
        """``(h, w, 3)`` as it is seen; the sides change places with an odd number of quarters."""
        if self.colours is not None and stain:
            rng = np.random.default_rng(self.colours)
            config = AugmentConfig(stain=stain, brightness=stain / 2)
            pixels = stained(pixels, draw_stain(rng, config))
        return np.ascontiguousarray(self.target(pixels))

    def target(self, target: NDArray) -> NDArray:
        """``(h, w, …)`` turned in the same way."""
        turned = np.rot90(target, self.quarters)
        return turned[:, ::-1] if self.mirrored else turned


def looks(n: int, tile: int, seed: int) -> list[Look]:
    """``n`` ways to see a tile, the first one as it is; all eight orientations come first."""
    rng = np.random.default_rng([seed, 13, tile])
    ways = [(q, m) for m in (False, True) for q in range(4)][1:]
    order = [ways[i] for i in rng.permutation(len(ways))]
    found = [Look()]
    for i in range(1, n):
        quarters, mirrored = order[(i - 1) % len(order)]
        found.append(Look(quarters, mirrored, int(rng.integers(1 << 31))))
    return found
