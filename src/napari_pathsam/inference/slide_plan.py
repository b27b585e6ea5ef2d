"""What a run over a slide does: its windows and blocks, and what must agree to go on with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile, distance
from napari_pathsam.inference.blending import grown
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.tissue import Tissue, find_tissue
from napari_pathsam.inference.views import refuse_views
from napari_pathsam.inference.working_grid import (
    CutWarning,
    MppWarning,
    TileSource,
    WorkingGrid,
    checked_grid,
    checked_mpp,
    checked_region,
)

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

OVERLAP = 0.5
"""Of the windows of a slide, unless settings say otherwise: seams are a third of those at 0.25."""
CHUNK_PX = 1024
"""Side of a chunk of the label pyramid."""
LONGEST_BLOCK_PX = 8192
BLEND_BYTES = 96 * 2**20
"""Memory for a block's logits; twice that is held for a moment."""
STRIDES = 3
"""A block is about so many windows wide: fewer are shared with its neighbours."""
LONGEST_HALO_PX = 1024
"""How far beyond a block specks and holes are followed."""
LONGEST_UNSURE_PX = 256
"""Pixels the model sees, along an area that can be unsure: a halo round a block holds all of it."""


@dataclass(frozen=True)
class SlidePlan:
    """A run over a slide; a pure function of the slide's shape, the model and the settings.

    Attributes
    ----------
    grid
        The model's cells on the slide, and the windows, anchored at the slide's corner.
    region
        The level-0 pixels that are wanted.
    settings
        How classes are found.
    block_px, chunk_px
        Side of a block, and of the chunks of the label pyramid that it is made of.
    tissue
        Where windows are run; None: everywhere.
    mpp
        Microns per level-0 pixel.
    channels
        Classes and background.
    warning
        The pixel size is not one the model was made for.
    cut
        More was asked for than there is.
    """

    grid: WorkingGrid
    region: Region
    settings: SegmentSettings
    block_px: int
    chunk_px: int
    tissue: Tissue | None
    mpp: float
    channels: int
    warning: MppWarning | None = None
    cut: CutWarning | None = None

    @cached_property
    def blocks(self) -> tuple[Region, ...]:
        """The level-0 pixels of each block that holds something to do, row by row."""
        height, width = self.grid.shape_yx
        side, r = self.block_px, self.region
        found = []
        for y in range(r.y // side * side, r.y + r.height, side):
            for x in range(r.x // side * side, r.x + r.width, side):
                block = Region(y, x, min(side, height - y), min(side, width - x))
                if self.windows(block):
                    found.append(block)
        return tuple(found)

    @cached_property
    def n_windows(self) -> int:
        """Windows that are run in all, if each is run once."""
        return len({tile.region for block in self.blocks for tile in self.windows(block)})

    def order(self, first: Region | None) -> list[int]:
        """The blocks' numbers, those in view first; a serpentine else, so that neighbours meet."""
        numbers = list(range(len(self.blocks)))
        if first is not None:
            view = first
            return sorted(numbers, key=lambda i: distance(self.blocks[i], view))
        return sorted(
            numbers,
            key=lambda i: (
                self.blocks[i].y,
                self.blocks[i].x * (-1 if self.blocks[i].y // self.block_px % 2 else 1),
            ),
        )

    def part(self, block: Region) -> Region:
        """What is wanted of a block: where a region ends, not all of it."""
        inside = block.intersection(self.region)
        assert inside is not None
        return inside

    def area(self, block: Region) -> Region:
        """What is wanted of a block, with the halo in which specks and holes are followed."""
        reach = max(self.settings.smallest_px, self.settings.fill_holes_px)
        halo = 2 * reach + 2 if reach > 1 else 0
        if self.settings.surest > 0:
            halo = max(halo, int(self.longest_unsure_px) + 2)
        halo = min(halo, LONGEST_HALO_PX)
        area = grown(self.part(block), halo).intersection(Region.of(self.grid.shape_yx))
        assert area is not None
        return area

    @property
    def longest_unsure_px(self) -> float:
        """Level-0 rows or columns beyond which an area is never unsure as a whole."""
        sizes = zip(self.grid.shape_yx, self.grid.working_yx, strict=True)
        return min(LONGEST_UNSURE_PX * max(n / w for n, w in sizes), LONGEST_HALO_PX - 2)

    def cells(self, block: Region) -> Region:
        """The cells that a block's wanted pixels, and those of their halo, lie between."""
        return self._cells_round(self.area(block))

    def windows(self, block: Region) -> list[Tile]:
        """The windows that touch what is wanted of a block and hold tissue, in grid order."""
        return self.touching(self.area(block))

    def touching(self, area: Region) -> list[Tile]:
        """The windows that touch any level-0 pixels and hold tissue, in grid order."""
        cells = self._cells_round(area)
        if self.tissue is not None:  # most of a slide is glass, and most of it far from any tissue
            whole = Region.of(self.grid.cells_yx)
            reached = grown(cells, self.grid.tile_cells).intersection(whole) or cells
            if not self.tissue.touches(self.grid.pixels_of(reached)[0]):
                return []
        tiles = self.grid.windows(overlap_of(self.settings), cells)
        if self.tissue is None:
            return tiles
        return [t for t in tiles if self.tissue.touches(self.grid.pixels_of(t.region)[0])]

    def _cells_round(self, area: Region) -> Region:
        inside = grown(self.grid.cells_of(area), 2).intersection(Region.of(self.grid.cells_yx))
        assert inside is not None
        return inside

    def tissue_mm2(self, done: Iterable[int]) -> float | None:
        """Tissue in blocks of these numbers; None: nobody looked for it, or it cannot be known."""
        if self.tissue is None or not self.tissue.measured:
            return None
        parts = (self.part(self.blocks[number]) for number in done)
        return sum(self.tissue.mm2(self.mpp, part) or 0.0 for part in parts)

    def edges(self, axis: int, low: int, high: int) -> list[int]:
        """Where windows begin or end between two level-0 rows (axis 0) or columns."""
        strip = [0, 0, *self.grid.shape_yx]
        strip[axis], strip[2 + axis] = low, high - low
        ends = set()
        for tile in self.grid.windows(
            overlap_of(self.settings), self.grid.cells_of(Region(*strip))
        ):
            whole = self.grid.level0_of(tile.region)
            start = (whole.y, whole.x)[axis]
            ends |= {start, start + whole.shape_yx[axis]}
        return sorted(end for end in ends if low < end < high)


def plan_slide(
    model: ClassModel,
    slide: TileSource,
    *,
    mpp: float | None = None,
    region: Region | None = None,
    settings: SegmentSettings | None = None,
    tissue: bool = True,
    chunk_px: int = CHUNK_PX,
) -> SlidePlan:
    """What :func:`~napari_pathsam.inference.slide.segment_slide` will do; reads an overview.

    Raises
    ------
    BadImageError
        The pixel size is unknown or absurd, the region outside the slide, or there is no tissue.
    BadWeightsError
        The model knows no classes.
    UnavailableError
        Several views are asked of a model that finds objects one by one.
    """
    wanted, cut = checked_region(model, slide, region)
    settings = settings or SegmentSettings()
    refuse_views(model, settings.views)
    mpp, warning = checked_mpp(model, mpp or getattr(slide, "mpp", None), name=slide.name)
    grid = checked_grid(model, slide, mpp)
    found = find_tissue(slide, mpp, region and wanted) if tissue else None
    channels = len(model.classes) + 1
    n = _chunks_per_block(grid, overlap_of(settings), channels, chunk_px)
    plan = SlidePlan(
        grid, wanted, settings, n * chunk_px, chunk_px, found, mpp, channels, warning, cut
    )
    return plan if len(plan.blocks) else replace(plan, tissue=None)


def overlap_of(settings: SegmentSettings) -> float:
    """What neighbouring windows of a slide share, as a part of one."""
    return OVERLAP if settings.overlap is None else settings.overlap


def _chunks_per_block(grid: WorkingGrid, overlap: float, channels: int, chunk_px: int) -> int:
    """Chunks along a block's side: a few windows, as far as memory lets it."""
    wide = STRIDES * grid.stride_level0(overlap)
    cells = (BLEND_BYTES / (4 * (channels + 1))) ** 0.5
    longest = min(LONGEST_BLOCK_PX, cells * min(grid.cell_level0_yx))
    return max(1, min(-int(-wide // chunk_px), int(longest // chunk_px)))


def weights_identity(model: ClassModel) -> str:
    """A model's name and a digest of all of its weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return f"{model.name} {digest.hexdigest()}"


def run_identity(
    model: ClassModel, slide: TileSource, plan: SlidePlan, kinds: Sequence[str]
) -> dict[str, Any]:
    """What a label pyramid is of; a run goes on only where all of it agrees."""
    r = plan.region
    return {
        "slide": getattr(slide, "identity", slide.name),
        "model": weights_identity(model),
        "mpp": round(plan.mpp, 6),
        "region": [r.y, r.x, r.height, r.width],
        "settings": _named(plan.settings),
        "tissue only": plan.tissue is not None,
        "maps": list(kinds),
        "block_px": plan.block_px,
    }


def _named(settings: SegmentSettings) -> dict[str, Any]:
    """Settings by name; newer ones only where they are asked for, so that older pyramids go on."""
    known = asdict(settings) | {"overlap": overlap_of(settings)}
    return {k: v for k, v in known.items() if v or k not in ("views", "surest")}
