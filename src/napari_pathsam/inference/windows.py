"""Windows of a slide to logits: read ahead by threads, run in batches, kept while neighbours ask.

Logits are rounded to half precision when they are made, so those that were kept and those that are
made again are the same.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.errors import DamagedTileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.class_maps import filled_up
from napari_pathsam.inference.views import averaged, logits_of
from napari_pathsam.inference.working_grid import TileSource, WorkingGrid
from napari_pathsam.models.pathsam import PathSam, logits_at

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel

KEPT_BYTES = 256 * 2**20
"""Memory for logits that neighbouring blocks need again."""
READERS = 2
LARGEST_BATCH = 64


@dataclass(frozen=True)
class Damage:
    """Level-0 pixels that do not decode, and what was said of them; they were taken for glass."""

    region: Region
    reason: str


@dataclass(frozen=True)
class WindowLogits:
    """What a window says: ``(K, h, w)`` half-precision logits on its cells, background first."""

    tile: Tile
    logits: Tensor
    damage: tuple[Damage, ...]


class Windows:
    """The windows of one slide, run by one model; closing it ends the readers.

    Parameters
    ----------
    model
        Knows classes.
    slide
        What is segmented; read from threads.
    grid
        The model's cells on the slide.
    batch
        Windows that are run at once. On the CPU one at a time is as fast as any.
    kept_bytes
        Memory for logits that may be asked for again; 0 gives the same answers, more slowly.
    views
        See :class:`~napari_pathsam.inference.class_maps.SegmentSettings`.
    """

    def __init__(
        self,
        model: ClassModel,
        slide: TileSource,
        grid: WorkingGrid,
        *,
        batch: int = 1,
        kept_bytes: int = KEPT_BYTES,
        views: int | None = None,
    ) -> None:
        self._model, self._slide, self._grid, self._views = model, slide, grid, views
        self._batch, self._kept_bytes = batch, kept_bytes
        self._kept: OrderedDict[Region, WindowLogits] = OrderedDict()
        self._held = 0
        self._readers = ThreadPoolExecutor(READERS, "pathsam-read")
        self._reading: dict[Region, Future[tuple[NDArray[np.uint8], tuple[Damage, ...]]]] = {}
        self.busy_s, self.run = 0.0, 0
        """The seconds in which the model worked, and the windows that it did."""

    def close(self) -> None:
        """Leave what is still to be read unread."""
        self._readers.shutdown(wait=True, cancel_futures=True)

    def ahead(self, tiles: Iterable[Tile]) -> None:
        """Begin to read the windows that come next, as many as two batches."""
        for tile in tiles:
            if len(self._reading) >= 2 * self._batch + READERS:
                return
            if tile.region not in self._kept and tile.region not in self._reading:
                self._reading[tile.region] = self._readers.submit(self._pixels, tile.region)

    def logits(self, tiles: Sequence[Tile], then: Sequence[Tile] = ()) -> Iterator[WindowLogits]:
        """What windows say, in their order; ``then`` are those that will be asked for next."""
        waiting = deque(tiles)
        while waiting:
            known = self._kept.get(waiting[0].region)
            if known is not None:
                self._kept.move_to_end(known.tile.region)
                waiting.popleft()
                yield known
                continue
            self.ahead((*waiting, *then))
            some = [t for t in waiting if t.region not in self._kept][: self._batch]
            fresh = self._run(some)
            for one in fresh:
                self._keep(one)
            made = {one.tile.region: one for one in fresh}
            while waiting:
                next_one = self._found(made, waiting[0].region)
                if next_one is None:
                    break
                waiting.popleft()
                yield next_one

    def _found(self, made: dict[Region, WindowLogits], at: Region) -> WindowLogits | None:
        return made.pop(at, None) or self._kept.get(at)

    def _run(self, tiles: Sequence[Tile]) -> list[WindowLogits]:
        read = [
            self._reading.pop(t.region).result()
            if t.region in self._reading
            else self._pixels(t.region)
            for t in tiles
        ]
        fed = perf_counter()
        # Always as many as a batch holds: another number would round otherwise.
        pixels = [p for p, _ in read] + [read[-1][0]] * (self._batch - len(read))
        cells_yx = self._grid.encoded_cells(tiles[0].region)
        answers = window_logits(self._model, pixels, cells_yx, self._views)
        out = []
        for tile, logits, (_, damage) in zip(tiles, answers, read, strict=False):
            inside = logits[:, : tile.region.height, : tile.region.width]
            out.append(WindowLogits(tile, inside.half().cpu().clone(), damage))
        self.busy_s += perf_counter() - fed
        self.run += len(tiles)
        return out

    def _keep(self, one: WindowLogits) -> None:
        size = 2 * one.logits.numel()
        if size > self._kept_bytes:
            return
        self._kept[one.tile.region] = one
        self._held += size
        while self._held > self._kept_bytes:
            self._held -= 2 * self._kept.popitem(last=False)[1].logits.numel()

    def _pixels(self, cells: Region) -> tuple[NDArray[np.uint8], tuple[Damage, ...]]:
        region, shape_yx, full_yx = self._grid.pixels_of(cells)
        pixels, damage = read_around_damage(self._slide, region, shape_yx)
        return filled_up(pixels, full_yx), damage


def window_logits(
    model: ClassModel,
    pixels: Sequence[NDArray[np.uint8]],
    cells_yx: tuple[int, int],
    views: int | None = None,
) -> Tensor:
    """``(B, K, h, w)`` class logits of images of one size, on so many cells."""
    if len(pixels) > 1 and isinstance(model, PathSam) and not model.base.config.pad:
        return averaged(pixels, cells_yx, views or 1, partial(_batched, model))
    return torch.stack([logits_of(model, one, cells_yx, views=views)[0] for one in pixels])


@torch.inference_mode()
def _batched(model: PathSam, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Several images at once; on CUDA in mixed precision, where that stays finite."""
    size = (pixels[0].shape[0], pixels[0].shape[1])
    images = torch.from_numpy(np.stack(pixels)).to(model.device, non_blocking=True)
    images = images.permute(0, 3, 1, 2).float() / 255
    on_cuda = model.device.type == "cuda"
    with torch.autocast("cuda", torch.float16) if on_cuda else nullcontext():
        found = _decoded(model, images, size)
    if on_cuda and not bool(found.isfinite().all()):
        found = _decoded(model, images, size)
    return found


def _decoded(model: PathSam, images: Tensor, size: tuple[int, int]) -> Tensor:
    seen: list[Tensor] = []
    height, width = model.input_yx(size)
    for octave in range(model.config.octaves):
        smaller = [
            n if octave == 0 else max(32, round(n / 2**octave / 32) * 32) for n in (height, width)
        ]
        resized = functional.interpolate(
            images, smaller, mode="bilinear", align_corners=False, antialias=True
        )
        seen.append(model.class_logits(model.encode_batch(resized))[0].float())
    grid = (seen[0].shape[-2], seen[0].shape[-1])
    return torch.stack([torch.stack([logits_at(x, grid) for x in one]) for one in seen]).mean(0)


def best_batch(model: ClassModel, grid: WorkingGrid) -> int:
    """How many windows to run at once: one on the CPU; on CUDA what half the free memory holds."""
    if model.device.type != "cuda":
        return 1
    side = grid.pixels_of(Region(0, 0, grid.tile_cells, grid.tile_cells))[2]
    window = np.zeros((*side, 3), np.uint8)
    cells = (grid.tile_cells, grid.tile_cells)
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    window_logits(model, [window, window], cells)
    each = (torch.cuda.max_memory_allocated(model.device) - before) / 2
    free, _ = torch.cuda.mem_get_info(model.device)
    fitting = int(0.5 * free / max(each, 1.0))
    return max(1, min(LARGEST_BATCH, 2 ** max(0, fitting.bit_length() - 1)))


def read_around_damage(
    slide: TileSource, region: Region, shape_yx: tuple[int, int]
) -> tuple[NDArray[np.uint8], tuple[Damage, ...]]:
    """``(h, w, 3)`` of a region, white where it does not decode, and where that is."""
    try:
        return np.asarray(slide.read_resampled(region, shape_yx)), ()
    except DamagedTileError as error:
        if error.pixels is None:
            raise
        return error.pixels, tuple(Damage(where, str(error.__cause__)) for where in error.regions)
