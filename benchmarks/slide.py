"""Seconds per mm² and megapixels a second over a slide, beside a straightforward loop.

    python benchmarks/slide.py [--model pathsam-nano:glands] [--side 6144] [--times 1 4 16 64]

The slide is generated: tissue of the packaged sample, repeated, at the model's pixel size. The loop
reads a tile, encodes, decodes and pastes it, with the same model and as many tiles as cover the
slide without overlap. Processor seconds are told beside the wall's: they do not depend on what else
the machine does. ``--times``: slides of so many times the area, whose cost must grow as they do.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

import napari_pathsam as ps
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.slide import slide_tiles
from napari_pathsam.inference.slide_estimate import estimate_slide
from napari_pathsam.inference.slide_job import prepare_slide
from napari_pathsam.models.class_model import ClassModel

SAMPLE = "colon_normal"


class Generated:
    """A slide of repeated tissue, at the model's own pixel size, that takes no memory."""

    name = identity = "generated"
    path = None

    def __init__(self, side: int, mpp: float) -> None:
        self.shape_yx, self.mpp = (side, side), mpp
        self._tissue = np.asarray(ps.load_sample(SAMPLE).image)

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
        assert region.shape_yx == shape_yx
        ys, xs = (
            np.arange(start, start + n) % whole
            for start, n, whole in zip(
                (region.y, region.x), shape_yx, self._tissue.shape[:2], strict=True
            )
        )
        return self._tissue[np.ix_(ys, xs)]


def loop(model: ClassModel, slide: Generated) -> None:
    """Read, encode, decode, paste, tile by tile."""
    height, width = slide.shape_yx
    out = np.zeros((height, width), np.uint8)
    side = model.tile_px
    for y in range(0, height, side):
        for x in range(0, width, side):
            tile = Region(y, x, min(side, height - y), min(side, width - x))
            pixels = slide.read_resampled(tile, tile.shape_yx)
            found = model.decode_classes(model.encode(pixels, mpp=model.config.mpp))
            out[tile.slices] = found.class_map(tile.shape_yx)


def measured(model: ClassModel, side: int, *, with_loop: bool) -> dict[str, Any]:
    """One slide, whole."""
    mpp = model.config.mpp
    slide = Generated(side, mpp)
    mm2, mpx = (side * mpp / 1e3) ** 2, side * side / 1e6
    told: dict[str, Any] = {"side_px": side, "mm2": round(mm2, 3)}
    if with_loop:
        start, wall = process_time(), perf_counter()
        loop(model, slide)
        told["loop"] = {"cpu_s": process_time() - start, "wall_s": perf_counter() - wall}
    with tempfile.TemporaryDirectory() as folder:
        job = prepare_slide(model, slide, store=Path(folder) / "o.zarr", tissue=False)
        expected = estimate_slide(job)
        start, wall = process_time(), perf_counter()
        with closing(slide_tiles(job)) as tiles:
            for _ in tiles:
                pass
        cpu, wall = process_time() - start, perf_counter() - wall
        stored = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    told["slide"] = {
        "cpu_s": cpu, "wall_s": wall, "cpu_s_per_mm2": cpu / mm2, "mpx_per_wall_s": mpx / wall,
        "windows": job.plan.n_windows,
    }  # fmt: skip
    told["estimate"] = {
        "seconds": expected.seconds, "of_wall": expected.seconds / wall,
        "bytes": expected.nbytes, "of_disk": expected.nbytes / max(1, stored),
    }  # fmt: skip
    told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return told


def main() -> None:
    """Measure and print, a line a slide."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pathsam-nano:glands")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--times", type=int, nargs="+", default=[1])
    wish = parser.parse_args()
    model = ps.load_model(wish.model, wish.device)
    for times in wish.times:
        side = round(wish.side * times**0.5)
        print(json.dumps(measured(model, side, with_loop=times == wish.times[0])), flush=True)


if __name__ == "__main__":
    main()
