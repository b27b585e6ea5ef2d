"""Where next: what a model is unsure of, and which regions are worth painting first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.blending import Blend
from napari_pathsam.inference.class_maps import plan_segmenting, tile_embedding
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.working_grid import TileSource, WorkingGrid

if TYPE_CHECKING:
    from napari_pathsam.models.pathsam import PathSam

WINDOW_CELLS = 24
"""Side of a suggested region in cells of the network, four of its pixels each."""
PAINTED = 0.05
"""A window of which this part is painted is known; less counts less."""
TOUCHED = 0.02
"""A window of which this part is painted is not suggested again."""
TRUSTED = 8
"""When so many windows are painted, the model's doubt weighs half."""
WIDTH = 0.5
"""Likeness is 1/e at so many median squared distances between windows."""
KINDS = 512
"""Windows that stand for all of a large region when likeness is compared."""
CANDIDATES = 1024
"""At most so many windows, evenly spread over a large region, are compared with those."""


@dataclass(frozen=True)
class Suggestion:
    """A level-0 region worth painting, and the two classes the model wavers between.

    ``score``: the part of everything, weighed by how unsure it is, that lies in windows like this
    one, and not like those painted or suggested before it.
    """

    region: Region
    score: float
    classes: tuple[str, str]


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
    uncertainty
        ``(h, w)`` float16 from 0 to 1: entropy of the class probabilities, as a part of its most.
    suggestions
        Of everything seen so far, best first.
    """

    done: int
    total: int
    region: Region
    cells: Region
    cell_yx: tuple[float, float]
    uncertainty: NDArray[np.float16]
    suggestions: tuple[Suggestion, ...]


@dataclass(frozen=True)
class _Window:
    """A candidate: cells, mean uncertainty, painted part, mean features, class probabilities."""

    cells: Region
    uncertainty: float
    painted: float
    features: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @property
    def n_cells(self) -> int:
        """Of a window that a tile's side cuts, fewer."""
        return self.cells.height * self.cells.width


def where_next(
    model: PathSam,
    source: TileSource,
    *,
    mpp: float | None,
    region: Region | None = None,
    first: Region | None = None,
    labels: NDArray | None = None,
    labels_at: Region | None = None,
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

    Parameters
    ----------
    model
        Knows classes.
    mpp, region, first
        As for :func:`~napari_pathsam.inference.class_maps.segment_tiles`, whose tiles are used.
    labels, labels_at
        ``(h, w)`` what is painted (not 0), and the level-0 region it covers (None: the image).
    n
        How many suggestions.
    cache
        Where embeddings are found.

    Raises
    ------
    BadImageError, BadWeightsError
        See :func:`~napari_pathsam.inference.class_maps.segment_tiles`.
    """
    plan = plan_segmenting(model, source, mpp=mpp, region=region, first=first)
    grid, names = plan.grid, ("background", *model.classes.names)
    blend = Blend(len(names), plan.cover)
    painted = _painted_cells(grid, plan.cover, labels, labels_at)
    most = float(np.log(len(names)))
    windows: dict[tuple[int, int], _Window] = {}
    for done, tile in enumerate(plan.tiles, start=1):
        embedding, _ = tile_embedding(model, source, grid, tile.region, cache=cache)
        logits = model.decode_classes(embedding).logits
        size = grid.encoded_cells(tile.region)
        if logits.shape[-2:] != size:
            logits = functional.interpolate(logits[None], size, mode="bilinear")[0]
        height, width = tile.region.shape_yx
        blend.add(tile, logits[:, :height, :width].float().cpu())
        probabilities = blend.mean(tile.region).softmax(0)
        entropy = -(probabilities * probabilities.clamp(min=1e-12).log()).sum(0) / most
        seen = embedding.image_embed  # of a network without SAM only its pixels are known
        seen = seen if seen.shape[1] else embedding.trunk[0]
        features = functional.interpolate(seen.float(), size, mode="nearest")
        features = features[0, :, :height, :width].cpu()
        for window in _windows(tile.region, probabilities, entropy, features, painted, plan.cover):
            place = (window.cells.y // WINDOW_CELLS, window.cells.x // WINDOW_CELLS)
            if place not in windows or window.n_cells >= windows[place].n_cells:
                windows[place] = window
        yield Seen(
            done=done,
            total=len(plan.tiles),
            region=grid.level0_of(tile.region),
            cells=tile.region,
            cell_yx=grid.cell_level0_yx,
            uncertainty=entropy.half().numpy(),
            suggestions=_ranked([*windows.values()], grid, plan.region, names, n),
        )


def _painted_cells(
    grid: WorkingGrid, cover: Region, labels: NDArray | None, labels_at: Region | None
) -> NDArray[np.bool_]:
    """``(h, w)`` the cells of the cover that hold a painted pixel."""
    cells = np.zeros(cover.shape_yx, bool)
    if labels is None:
        return cells
    ys, xs = np.nonzero(labels)
    at = labels_at or Region.of(grid.shape_yx)
    (sy, sx) = grid.cell_level0_yx
    rows = ((ys + at.y + 0.5) / sy).astype(int) - cover.y
    columns = ((xs + at.x + 0.5) / sx).astype(int) - cover.x
    inside = (rows >= 0) & (columns >= 0) & (rows < cover.height) & (columns < cover.width)
    cells[rows[inside], columns[inside]] = True
    return cells


def _windows(
    tile: Region,
    probabilities: Tensor,
    entropy: Tensor,
    features: Tensor,
    painted: NDArray[np.bool_],
    cover: Region,
) -> Iterator[_Window]:
    """The windows of a lattice over the whole image that lie in a tile, most of them at least."""
    side = WINDOW_CELLS
    for top in range(tile.y // side * side, tile.y + tile.height, side):
        for left in range(tile.x // side * side, tile.x + tile.width, side):
            cells = Region(top, left, side, side).intersection(tile)
            if cells is None or cells.height * cells.width < side * side / 2:
                continue
            at = Region(cells.y - tile.y, cells.x - tile.x, *cells.shape_yx).slices
            known = painted[Region(cells.y - cover.y, cells.x - cover.x, *cells.shape_yx).slices]
            free = torch.from_numpy(~known)
            if not bool(free.any()):
                free = torch.ones_like(free)
            yield _Window(
                cells=cells,
                uncertainty=float(entropy[at][free].mean()),
                painted=float(known.mean()),
                features=features[:, *at].mean((1, 2)).numpy(),
                probabilities=probabilities[:, *at][:, free].mean(1).numpy(),
            )


def _ranked(
    windows: Sequence[_Window],
    grid: WorkingGrid,
    region: Region,
    names: Sequence[str],
    n: int,
) -> tuple[Suggestion, ...]:
    """The best windows, one after the other, each unlike those before it."""
    if not windows:
        return ()
    part = np.array([w.painted for w in windows])
    unsure = np.array([w.uncertainty for w in windows])
    n_painted = np.count_nonzero(part >= TOUCHED)
    trust = n_painted / (n_painted + TRUSTED)
    weight = (1 - trust) / len(windows) + trust * unsure / max(1e-12, unsure.sum())
    features = np.stack([w.features for w in windows]).astype(np.float64)
    kinds = slice(None, None, -(-len(windows) // KINDS))
    stands_for = weight[kinds] / weight[kinds].sum()
    of_kinds = _squared_distance(features[kinds], features[kinds])
    width = WIDTH * max(float(np.median(of_kinds)), 1e-12)
    painted = np.flatnonzero(part)[-CANDIDATES:]
    known = np.minimum(1.0, part[painted, None] / PAINTED)
    likeness = np.exp(-_squared_distance(features[painted], features[kinds]) / width)
    covered = (likeness * known).max(axis=0, initial=0.0)
    free = np.flatnonzero(part < TOUCHED)
    chosen_from = free[:: max(1, -(-len(free) // CANDIDATES))]
    alike = np.exp(-_squared_distance(features[chosen_from], features[kinds]) / width)
    found: list[Suggestion] = []
    while len(found) < min(n, len(chosen_from)):
        gain = np.maximum(alike - covered, 0) @ stands_for
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        covered = np.maximum(covered, alike[best])
        window = windows[chosen_from[best]]
        at = grid.level0_of(window.cells).intersection(region)
        first, second = np.argsort(-window.probabilities)[:2]
        if at is not None:
            classes = (names[int(first)], names[int(second)])
            found.append(Suggestion(at, float(gain[best]), classes))
    return tuple(found)


def _squared_distance(
    ones: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``(m, n)``, of every row of one to every row of the other."""
    between = (ones**2).sum(1)[:, None] + (others**2).sum(1) - 2 * ones @ others.T
    found: NDArray[np.float64] = np.maximum(between, 0)
    return found
