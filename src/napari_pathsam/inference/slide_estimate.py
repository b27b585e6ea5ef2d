"""How long a run over a slide will take and how large it will be, from a few measured windows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.blending import Blend
from napari_pathsam.inference.slide_job import SlideJob
from napari_pathsam.inference.slide_plan import SlidePlan
from napari_pathsam.inference.windows import Windows

MEASURED = 4
"""Batches of windows, the first of which is not counted: caches are cold."""
PYRAMID = 4 / 3
"""All levels together, against the first."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take: seconds, bytes on the disk, windows, and the mm² they cover."""

    seconds: float
    nbytes: int
    windows: int
    mm2: float


def estimate_slide(job: SlideJob) -> Estimate:
    """Run a few windows spread over what is to be done; make and pack the labels over one."""
    plan, batch, maps = job.plan, job.batch, len(job.names)
    blocks = [plan.blocks[number] for number in job.todo(None)]
    tiles = list({t.region: t for block in blocks for t in plan.windows(block)}.values())
    if not tiles:
        return Estimate(0.0, 0, 0, 0.0)
    wanted = min(MEASURED * batch, len(tiles))
    some = [tiles[i] for i in np.linspace(0, len(tiles) - 1, wanted).astype(int)]
    with closing(Windows(job.model, job.slide, plan.grid, batch=batch, kept_bytes=0)) as windows:
        found, times = [], []
        for start in range(0, len(some), batch):
            began = perf_counter()
            found += list(windows.logits(some[start : start + batch]))
            times.append((perf_counter() - began) / batch)
    each = float(np.median(times[1:] or times))
    middle = found[len(found) // 2]
    began = perf_counter()
    blend = Blend(plan.channels, middle.tile.region)
    blend.add(middle.tile, middle.logits.float())
    blend.rest_is_background()
    over = plan.grid.level0_of(middle.tile.region)
    class_map = blend.class_map(plan.grid, over, job.ids, plan.settings.threshold)
    packed = _packed_bytes(class_map)
    per_px = (perf_counter() - began) / class_map.size
    covered = sum(block.height * block.width for block in blocks)
    windows_px = len(tiles) * over.height * over.width * _share_kept(plan)
    return Estimate(
        seconds=each * len(tiles) + maps * PYRAMID * per_px * covered,
        nbytes=int(maps * PYRAMID * packed / class_map.size * min(windows_px, covered)),
        windows=len(tiles),
        mm2=min(windows_px, covered) * plan.mpp**2 / 1e6,
    )


def _packed_bytes(class_map: np.ndarray) -> int:
    """What a map takes in a label pyramid's own compression."""
    import zarr

    array = zarr.create_array(
        store={}, shape=class_map.shape, dtype=class_map.dtype, chunks=class_map.shape
    )
    array[:] = class_map
    return int(array.nbytes_stored())


def _share_kept(plan: SlidePlan) -> float:
    """The part of a window that no neighbour covers, too."""
    tile: Region = plan.windows(plan.blocks[0])[0].region
    whole = plan.grid.level0_of(tile)
    stride = plan.grid.stride_level0(plan.settings.overlap)
    share = min(1.0, stride / whole.height) * min(1.0, stride / whole.width)
    return float(share)
