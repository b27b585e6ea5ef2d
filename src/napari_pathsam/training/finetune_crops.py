"""Crops of embeddings round painted cells: what a fine-tuning step is made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pathsam.inference.class_maps import pixels_embedding
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.embedding_entry import half
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.class_features import reads_of, stacked
from napari_pathsam.training.finetune_config import FineTuneConfig
from napari_pathsam.training.finetune_data import Look, TilePixels, looks
from napari_pathsam.training.finetune_run import Frozen

STRIDE = 16
"""Network pixels to a cell of the image embedding, each way."""
VIEWS_BYTES = 2**30
"""Views held in memory; those not used for longest go first, and come back from the cache."""


@dataclass(frozen=True)
class Crop:
    """A window of a view: which tile, look and magnification, and embedding cells of it."""

    tile: int
    look: int
    level: int
    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class Wish:
    """A crop before its window is known: random numbers stand for the cell and its place in it."""

    tile: int
    look: int
    level: int
    channel: int
    cell: float
    place: tuple[float, float]


@dataclass(frozen=True)
class View:
    """One magnification of a tile in one look: embedding in half precision, and its targets.

    ``cells`` are the flat indices of the trained cells of each channel; ``fine`` of them go to a
    cell of the image embedding, each way.
    """

    embedding: ImageEmbedding
    target: NDArray[np.int16]
    cells: dict[int, NDArray[np.int64]]
    fine: int

    @property
    def grid_yx(self) -> tuple[int, int]:
        """Rows and columns of the image embedding."""
        return (self.embedding.image_embed.shape[-2], self.embedding.image_embed.shape[-1])

    @property
    def nbytes(self) -> int:
        """Memory held, nearly."""
        return self.embedding.nbytes + self.target.nbytes

    def cut(self, crop: Crop, device: torch.device) -> tuple[ImageEmbedding, Tensor]:
        """The embedding of a window, in single precision, and its ``(h, w)`` target."""
        rows, columns = (crop.y, crop.height), (crop.x, crop.width)
        height, width = self.grid_yx

        def window(tensor: Tensor) -> Tensor:
            up, across = tensor.shape[-2] / height, tensor.shape[-1] / width
            ys = slice(round(rows[0] * up), round((rows[0] + rows[1]) * up))
            xs = slice(round(columns[0] * across), round((columns[0] + columns[1]) * across))
            return tensor[..., ys, xs].to(device).float()

        made = self.embedding
        target = self.target[
            crop.y * self.fine : (crop.y + crop.height) * self.fine,
            crop.x * self.fine : (crop.x + crop.width) * self.fine,
        ]
        cut = replace(
            made,
            image_embed=window(made.image_embed),
            high_res=tuple(window(t) for t in made.high_res),
            trunk=tuple(window(t) for t in made.trunk),
            pathology=None if made.pathology is None else window(made.pathology),
        )
        return cut, torch.from_numpy(target.astype(np.int64)).to(device)


class Crops:
    """The painted tiles of a run, encoded when they are needed, and crops drawn from them."""

    def __init__(
        self,
        model: ClassModel,
        frozen: Frozen,
        config: FineTuneConfig,
        tiles: Sequence[Sequence[TilePixels]],
        cache: EmbeddingCache,
    ) -> None:
        self.model, self.config, self._cache = model, config, cache
        self.reads: Any = reads_of(model, config.parts)
        self._levels = model.config.octaves if isinstance(model, PathSam) else 1
        self._n = len(model.classes) + 1
        self._tiles: list[tuple[TilePixels, NDArray[np.uint8], tuple[int, int]]] = []
        for i, found in enumerate(tiles):
            for n, pixels in enumerate(found):
                if (~pixels.held).any():
                    record = frozen.run.images[i]
                    size = record.grid.encoded_cells(record.tiles[n].region)
                    self._tiles.append((pixels, frozen.pixels[i][n], size))
        self._looks: list[list[Look]] = [
            looks(config.variants, t, config.seed) for t in range(len(self._tiles))
        ]
        self._views: OrderedDict[tuple[int, int], list[View]] = OrderedDict()
        self._held = 0
        counts = [np.bincount(p.channel[~p.held], minlength=self._n) for p, _, _ in self._tiles]
        self.counts = np.stack(counts).astype(np.float64)
        self.encoded = 0

    def __len__(self) -> int:
        return len(self._tiles)

    def has(self, tile: int, look: int) -> bool:
        """Whether a tile is there in this look."""
        known = (tile, look) in self._views
        if known:
            self._views.move_to_end((tile, look))
        return known

    @property
    def held_bytes(self) -> int:
        """Memory of the views."""
        return self._held

    @torch.no_grad()
    def encode(self, tile: int, look: int) -> None:
        """Make a tile's views, or find its embedding in the cache."""
        pixels, image, cells_yx = self._tiles[tile]
        way = self._looks[tile][look]
        seen = way.pixels(image, self.config.stain)
        embedding, made = pixels_embedding(self.model, seen, cache=self._cache)
        self.encoded += made
        views = []
        for level in (embedding, *embedding.coarser)[: self._levels]:
            slim = self.reads.slim(self.model, replace(level, coarser=()))
            fine = STRIDE // self.model.cell_px
            rows, columns = (fine * n for n in level.image_embed.shape[-2:])
            turned = way.quarters % 2 == 1
            upright = (columns, rows) if turned else (rows, columns)
            target = np.ascontiguousarray(way.target(pixels.target(upright, cells_yx, self._n)))
            flat = target.ravel()
            trained = {c: np.flatnonzero(flat == c) for c in range(self._n)}
            cells = {c: t for c, t in trained.items() if len(t)}
            views.append(View(_halved(slim), target, cells, fine))
        self._held += sum(view.nbytes for view in views)
        self._views[tile, look] = views
        while self._held > VIEWS_BYTES and len(self._views) > self.config.batch:
            self._held -= sum(view.nbytes for view in self._views.popitem(last=False)[1])

    def planned(self, rng: np.random.Generator, epoch: int) -> list[Wish]:
        """What a step wants to see: each channel as often as any other, wherever it is painted.

        In each epoch one more look is met, until all are known.
        """
        config = self.config
        channels = np.flatnonzero(self.counts.sum(axis=0))
        first = int(rng.integers(len(channels)))
        n_looks = min(config.variants, 1 + epoch)
        wishes = []
        for i in range(config.batch):
            channel = int(channels[(first + i) % len(channels)])
            share = np.sqrt(self.counts[:, channel])
            tile = int(rng.choice(len(share), p=share / share.sum()))
            look, level = int(rng.integers(n_looks)), int(rng.integers(self._levels))
            cell, *place = rng.random(3)
            wishes.append(Wish(tile, look, level, channel, cell, (place[0], place[1])))
        return wishes

    def placed(self, wish: Wish) -> Crop:
        """A window that holds a painted cell of the channel, at a random place of it."""
        views = self._views[wish.tile, wish.look]
        level = min(wish.level, len(views) - 1)
        view = views[level]
        cells = view.cells.get(wish.channel)
        if cells is None:  # a coarse cell may belong to another class altogether
            cells = np.concatenate([*view.cells.values()])
        cell = int(cells[int(wish.cell * len(cells))])
        side = self.config.crop_px // STRIDE
        spans = []
        for at, n, share in zip(
            divmod(cell, view.target.shape[1]), view.grid_yx, wish.place, strict=True
        ):
            length = min(side, n)
            low, high = max(0, at // view.fine - length + 1), min(at // view.fine, n - length)
            start = low + int(share * (high - low + 1))
            spans.append((min(start // 2 * 2, n - length), length))
        (y, height), (x, width) = spans
        return Crop(wish.tile, wish.look, level, y, x, height, width)

    def batches(self, crops: Sequence[Crop]) -> list[tuple[ImageEmbedding, Tensor]]:
        """The crops, those of one size together: embeddings ``(B, …)``, targets ``(B, h, w)``."""
        groups: dict[tuple[int, int], list[tuple[ImageEmbedding, Tensor]]] = {}
        for crop in crops:
            view = self._views[crop.tile, crop.look][crop.level]
            cut = view.cut(crop, self.model.device)
            groups.setdefault((crop.height, crop.width), []).append(cut)
        return [
            (stacked([e for e, _ in found]), torch.stack([t for _, t in found]))
            for found in groups.values()
        ]


def _halved(made: ImageEmbedding) -> ImageEmbedding:
    return replace(
        made,
        image_embed=half(made.image_embed),
        high_res=tuple(half(t) for t in made.high_res),
        trunk=tuple(half(t) for t in made.trunk),
        pathology=None if made.pathology is None else half(made.pathology),
    )
