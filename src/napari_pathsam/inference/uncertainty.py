"""Where next: what a model is unsure of, over an image or a slide of any size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile, spread_out
from napari_pathsam.inference.blending import Blend
from napari_pathsam.inference.class_maps import (
    OVERLAP,
    TIMED_TILES,
    cells_of_tiles,
    tile_embedding,
    why_too_large,
)
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.suggestions import WINDOW_CELLS, Suggestion, Window, Windows
from napari_pathsam.inference.tissue import Tissue, tissue_of
from napari_pathsam.inference.working_grid import (
    TileSource,
    WorkingGrid,
    checked_grid,
    checked_mpp,
    checked_region,
)

if TYPE_CHECKING:
    from napari_pathsam.models.pathsam import PathSam

CACHED_TILES = 256
"""So many embeddings of a run are kept for others; a slide's would push all else out."""
PARTS = 256
"""Rows and columns in which it is counted how much of an image was looked at."""


@dataclass(frozen=True)
class Seen:
    """A tile that was looked at.

    Attributes
    ----------
    done, total
        Tiles.
    region
        The level-0 pixels of the tile.
    cells, cell_yx
        The cells of ``uncertainty``, and level-0 pixels per cell.
    cover
        The cells between which all tiles lie.
    uncertainty
        ``(h, w)`` float16 from 0 to 1: entropy of the class probabilities, as a part of its most.
    suggestions
        Of everything seen so far, best first.
    share
        How much of what is to be looked at was, from 0 to 1; of its tissue, where ``tissue``.
    tissue
        Only tiles with tissue are looked at.
    seconds_left
        Estimated from the last tiles.
    """

    done: int
    total: int
    region: Region
    cells: Region
    cell_yx: tuple[float, float]
    cover: Region
    uncertainty: NDArray[np.float16]
    suggestions: tuple[Suggestion, ...]
    share: float
    tissue: bool
    seconds_left: float


def where_next(
    model: PathSam,
    source: TileSource,
    *,
    mpp: float | None,
    region: Region | None = None,
    first: Region | None = None,
    painted: Iterable[tuple[Region, NDArray]] = (),
    n: int = 10,
    cache: EmbeddingCache | None = None,
) -> Iterator[Seen]:
    """Look through a region tile by tile for what painting would teach most.

    A window counts for all windows that look like it and are like nothing painted or suggested
    yet, by their weight: what is common and unsure comes before a rarity, and no kind comes twice.
    That is greedy facility location (Wei et al., Submodularity in Data Subset Selection and Active
    Learning, ICML 2015): the next window *j* has the largest ``Σᵢ wᵢ max(0, kᵢⱼ − maxₚ kᵢₚ)`` over
    the windows *p* painted or chosen. Likeness ``k = exp(−d² / (WIDTH m))`` is of the distance *d*
    of mean features, *m* the median of ``d²``. Coverage first, doubt later: the weight ``wᵢ =
    (1 − λ) / n + λ uᵢ / Σu`` is of the entropy *u* as far as λ = painted / (painted + TRUSTED)
    trusts the model; a model of few strokes is unsure in the wrong places (Hacohen et al., Active
    Learning on a Budget, ICML 2022).

    Of more than :func:`~napari_pathsam.inference.class_maps.segment_tiles` takes at once only the
    tiles with tissue are looked at, each by itself, without what its neighbours say of its sides,
    and glass is not suggested; memory does not grow with the slide. Whoever stops early has seen
    the region in view, what was painted, and an even sample of the rest.

    Parameters
    ----------
    model
        Knows classes.
    mpp
        Microns per level-0 pixel.
    region
        Level-0 pixels; by default all.
    first
        What is looked at first, then what is painted, then the rest; of each of these margins of
        the tissue last, and each next tile the one farthest from all before it. By default they
        come row by row.
    painted
        Level-0 regions, and what is painted (not 0) on their pixels, ``(h, w)``.
    n
        How many suggestions.
    cache
        Where embeddings are found.

    Raises
    ------
    BadImageError, BadWeightsError
        See :func:`~napari_pathsam.inference.slide_plan.plan_slide`; without tissue all tiles are
        looked at.
    """
    wanted, _ = checked_region(model, source, region)
    mpp, _ = checked_mpp(model, mpp, name=source.name)
    grid = checked_grid(model, source, mpp)
    tiles = grid.tiles(OVERLAP, grid.cells_of(wanted), None)
    cover = cells_of_tiles(tiles)
    blend, tissue = None, None
    names = ("background", *model.classes.names)
    if why_too_large(model, grid, wanted):
        tissue = tissue_of(source, mpp, wanted)  # without any, everything is looked at
        tiles = [t for t in tiles if tissue is None or tissue.touches(_pixels(grid, t))]
    else:
        blend = Blend(len(names), cover)
    strokes = _Strokes(grid, painted)
    left = _Left([_pixels(grid, tile) for tile in tiles], source.shape_yx, tissue)
    most = float(np.log(len(names)))
    windows = Windows()
    times: deque[float] = deque(maxlen=TIMED_TILES)
    for done, tile in enumerate(_in_order(tiles, grid, first, strokes, left), start=1):
        started = perf_counter()
        kept = cache if done <= CACHED_TILES else None
        embedding, _ = tile_embedding(model, source, grid, tile.region, cache=kept)
        logits = model.decode_classes(embedding).logits
        size = grid.encoded_cells(tile.region)
        if logits.shape[-2:] != size:
            logits = functional.interpolate(logits[None], size, mode="bilinear")[0]
        height, width = tile.region.shape_yx
        logits = logits[:, :height, :width].float().cpu()
        if blend is not None:
            blend.add(tile, logits)
            logits = blend.mean(tile.region)
        probabilities = logits.softmax(0)
        entropy = -(probabilities * probabilities.clamp(min=1e-12).log()).sum(0) / most
        seen = embedding.image_embed  # of a network without SAM only its pixels are known
        seen = seen if seen.shape[1] else embedding.trunk[0]
        features = functional.interpolate(seen.float(), size, mode="nearest")
        features = features[0, :, :height, :width].cpu()
        known = strokes.over(tile.region)
        found = _windows(tile.region, probabilities, entropy, features, known)
        windows.add(w for w in found if left.holds(grid.level0_of(w.cells)))
        suggestions = windows.best(grid, wanted, names, n)
        times.append(perf_counter() - started)
        yield Seen(
            done=done,
            total=len(tiles),
            region=grid.level0_of(tile.region),
            cells=tile.region,
            cell_yx=grid.cell_level0_yx,
            cover=cover,
            uncertainty=entropy.half().numpy(),
            suggestions=suggestions,
            share=left.without(_pixels(grid, tile)),
            tissue=tissue is not None,
            seconds_left=float(np.mean(times)) * (len(tiles) - done),
        )


class _Strokes:
    """Which cells hold a painted pixel's middle, where there are any."""

    def __init__(self, grid: WorkingGrid, painted: Iterable[tuple[Region, NDArray]]) -> None:
        self._pieces: list[tuple[Region, NDArray[np.bool_]]] = []
        for at, labels in painted:
            marked = labels != 0
            indices = []
            for axis, (start, n, size) in enumerate(
                zip((at.y, at.x), marked.shape, grid.cell_level0_yx, strict=True)
            ):
                cells = ((np.arange(n) + start + 0.5) / size).astype(int)
                own, begins = np.unique(cells, return_index=True)
                marked = np.logical_or.reduceat(marked, begins, axis=axis)
                indices.append(own)
            if marked.any():
                (y, x), (bottom, right) = ([int(own[i]) for own in indices] for i in (0, -1))
                cells_at = Region(y, x, bottom - y + 1, right - x + 1)
                found = np.zeros(cells_at.shape_yx, bool)
                found[np.ix_(indices[0] - y, indices[1] - x)] = marked
                self._pieces.append((cells_at, found))

    def over(self, cells: Region) -> NDArray[np.bool_]:
        """``(h, w)``, of these cells."""
        out = np.zeros(cells.shape_yx, bool)
        for at, found in self._pieces:
            if (both := at.intersection(cells)) is not None:
                to = Region(both.y - cells.y, both.x - cells.x, *both.shape_yx).slices
                out[to] |= found[Region(both.y - at.y, both.x - at.x, *both.shape_yx).slices]
        return out


class _Left:
    """What is still to be looked at: a coarse mask, of the tissue where that is known.

    ``regions``, ``shape_yx``: level-0 pixels, of the tiles and of the whole.
    """

    def __init__(
        self, regions: Iterable[Region], shape_yx: tuple[int, int], tissue: Tissue | None
    ) -> None:
        self._there = np.ones((PARTS, PARTS), bool) if tissue is None else tissue.mask
        self._shape_yx = shape_yx
        self._left = np.zeros_like(self._there)
        for region in regions:
            at = self._at(region)
            self._left[at] = self._there[at]
        self._total = self._n = max(1, int(np.count_nonzero(self._left)))

    def holds(self, region: Region) -> bool:
        """Whether half of a region or more is to be looked at, once or again."""
        return bool(self._there[self._at(region)].mean() >= 0.5)

    def without(self, region: Region) -> float:
        """The share that was looked at once this region was, too."""
        part = self._left[self._at(region)]
        self._n -= int(np.count_nonzero(part))
        part[:] = False
        return 1 - self._n / self._total

    def _at(self, region: Region) -> tuple[slice, slice]:
        rows, columns = (
            slice(start * n // whole, -(-(start + length) * n // whole))
            for start, length, n, whole in zip(
                (region.y, region.x), region.shape_yx, self._there.shape, self._shape_yx,
                strict=True,
            )
        )  # fmt: skip
        return rows, columns


def _pixels(grid: WorkingGrid, tile: Tile) -> Region:
    """The level-0 pixels that are read for a tile."""
    return grid.pixels_of(tile.region)[0]


def _in_order(
    tiles: Sequence[Tile], grid: WorkingGrid, first: Region | None, strokes: _Strokes, left: _Left
) -> Iterator[Tile]:
    """What is in view, what is painted, the rest; of each margins of the tissue last; spread."""
    if first is None:
        yield from tiles
        return
    whole = Region.of(grid.shape_yx)
    view = grid.cells_of(first.intersection(whole) or whole)

    def rank(tile: Tile) -> tuple[bool, bool, bool]:
        seen = tile.region.intersection(view) is not None
        painted = bool(strokes.over(tile.region).any())
        return not seen, not (seen or painted), not left.holds(_pixels(grid, tile))

    for i in spread_out([t.region for t in tiles], [rank(t) for t in tiles], view):
        yield tiles[i]


def _windows(
    tile: Region, probabilities: Tensor, entropy: Tensor, features: Tensor,
    painted: NDArray[np.bool_],
) -> Iterator[Window]:  # fmt: skip
    """The windows of a lattice over the whole image that lie in a tile, most of them at least."""
    side = WINDOW_CELLS
    for top in range(tile.y // side * side, tile.y + tile.height, side):
        for left in range(tile.x // side * side, tile.x + tile.width, side):
            cells = Region(top, left, side, side).intersection(tile)
            if cells is None or cells.height * cells.width < side * side / 2:
                continue
            at = Region(cells.y - tile.y, cells.x - tile.x, *cells.shape_yx).slices
            known = painted[at]
            free = torch.from_numpy(~known)
            if not bool(free.any()):
                free = torch.ones_like(free)
            yield Window(
                cells=cells,
                uncertainty=float(entropy[at][free].mean()),
                painted=float(known.mean()),
                features=features[:, *at].mean((1, 2)).numpy(),
                probabilities=probabilities[:, *at][:, free].mean(1).numpy(),
            )
