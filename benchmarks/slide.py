"""Seconds per mm² and megapixels a second over a slide, beside a straightforward loop.

    python benchmarks/slide.py [--model pathsam-nano:glands] [--side 2048] [--times 1 4 16 64]
    python benchmarks/slide.py --model sam2.1-tiny --cache

The slide is generated: tissue of the packaged sample, repeated, at the model's pixel size. The loop
reads a tile, encodes, decodes and pastes it, with the same model and as many tiles as cover the
slide without overlap. Processor seconds are told beside the wall's: they do not depend on what
else the machine does. ``model_share``: of the run's time, in which the model worked. ``--times``:
slides of so many times the area, whose cost must grow as they do.
``sam2.1-tiny`` gets random weights and one class at 0.5 µm: times do not depend on them. With
``--cache`` it tells what the embedding of a field takes anew, from memory, and from the disk.
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
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache, embedding_of
from napari_pathsam.inference.slide import slide_tiles
from napari_pathsam.inference.slide_estimate import estimate_slide
from napari_pathsam.inference.slide_job import prepare_slide
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS

SAMPLE = "colon_normal"


def model_of(name: str, device: str) -> ClassModel:
    """A model of the catalogue; SAM 2.1 untrained, with one class."""
    if name not in SAM2_CONFIGS:
        return ps.load_model(name, device)
    config = profiled("recommended", name=f"{name}:random", base=name, mpp=0.5)
    return PathSam(config, Sam2(SAM2_CONFIGS[name]).eval(), ClassTable.of("any")).eval()


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


def cached(model: ClassModel, fields: int = 5) -> dict[str, float]:
    """Median processor milliseconds until a field's embedding is there."""
    side, mpp = model.tile_px, model.config.mpp
    slide = Generated(side * fields, mpp)
    told: dict[str, list[float]] = {"miss": [], "memory": [], "disk": []}
    with tempfile.TemporaryDirectory() as folder:
        caches = [EmbeddingCache(disk=Path(folder)), EmbeddingCache(disk=Path(folder))]
        for i in range(fields):
            pixels = slide.read_resampled(Region(i * side, i, side, side), (side, side))
            for kind, cache in zip(told, (caches[0], caches[0], caches[1]), strict=True):
                start = process_time()
                _, made = embedding_of(model, pixels, mpp=mpp, cache=cache)
                told[kind].append(1e3 * (process_time() - start))
                assert made == (kind == "miss")
        nbytes = caches[0].disk_nbytes / fields
    return {kind: float(np.median(times)) for kind, times in told.items()} | {"bytes": nbytes}


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
            for tile in tiles:
                share = tile.model_share
        cpu, wall = process_time() - start, perf_counter() - wall
        stored = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    told["slide"] = {
        "cpu_s": cpu, "wall_s": wall, "cpu_s_per_mm2": cpu / mm2, "mpx_per_cpu_s": mpx / cpu,
        "windows": job.plan.n_windows, "batch": job.batch, "model_share": share,
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
    parser.add_argument("--cache", action="store_true")
    wish = parser.parse_args()
    model = model_of(wish.model, wish.device)
    if wish.cache:
        print(json.dumps(cached(model)))
        return
    for times in wish.times:
        side = round(wish.side * times**0.5)
        print(json.dumps(measured(model, side, with_loop=times == wish.times[0])), flush=True)


if __name__ == "__main__":
    main()
