"""Peak memory and processor time of ``pathsam segment`` over a pyramid of 100,000 × 80,000 pixels.

    python benchmarks/slide_memory.py [--mm2 9] [--islands 3] [--side-times 1] [-- --instances …]

The slide is written first: glass that was never scanned, and islands of the packaged sample's
tissue all over it, as large together as ``--mm2`` says. Then the command runs in a process of its
own, whose largest resident set is told: Python, torch and the model are in it. ``--side-times
0.25`` makes the slide a sixteenth as large, with the same tissue. What follows ``--`` is given to
the command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import tifffile
from PIL import Image

import napari_pathsam as ps

SHAPE_YX, MPP = (80_000, 100_000), 0.25
TILE_PX, STEP, LEVELS = 512, 4, 4


def tissue(mpp: float) -> np.ndarray:
    """The sample at this pixel size, a tile of it, mirrored so that it can be repeated."""
    sample = ps.load_sample("colon_normal")
    part = sample.image[:, : sample.image.shape[0]]
    part = np.concatenate([part, part[::-1]])
    part = np.concatenate([part, part[:, ::-1]], axis=1)
    side = max(1, round(len(part) * sample.mpp / mpp))
    return np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BICUBIC))


def tiles(
    size_yx: tuple[int, ...], mpp: float, radius_um: float, islands: int
) -> Iterator[np.ndarray | None]:
    """Tiles of one level, row by row: discs of tissue; None but the first was never scanned."""
    pixels = tissue(mpp)
    step = np.asarray(size_yx) * mpp / islands
    for y in range(-(-size_yx[0] // TILE_PX)):
        for x in range(-(-size_yx[1] // TILE_PX)):
            rows, columns = (np.arange(TILE_PX) + i * TILE_PX for i in (y, x))
            off = [
                ((at + 0.5) * mpp) % d - d / 2 for at, d in zip((rows, columns), step, strict=True)
            ]
            if np.abs(off[0]).min() > radius_um or np.abs(off[1]).min() > radius_um:
                yield None if x or y else np.full((TILE_PX, TILE_PX, 3), 243, np.uint8)
                continue
            inside = off[0][:, None] ** 2 + off[1][None] ** 2 < radius_um**2
            cut = pixels[np.ix_(rows % len(pixels), columns % len(pixels))]
            yield np.where(inside[..., None], cut, np.uint8(243))


def write(path: Path, shape_yx: tuple[int, int], mm2: float, islands: int) -> None:
    """JPEG tiles at 0.25 µm, and coarser levels by fours."""
    radius_um = 1e3 * (mm2 / (np.pi * islands**2)) ** 0.5
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for level in range(LEVELS):
            size = tuple(-(-n // STEP**level) for n in shape_yx)
            parts = tiles(size, MPP * STEP**level, radius_um, islands)
            tif.write(
                parts, shape=(*size, 3), dtype=np.uint8, tile=(TILE_PX, TILE_PX),
                photometric="rgb", compression="jpeg", metadata=None,
                subfiletype=int(level > 0), resolution=(1e4 / MPP / STEP**level,) * 2,
                resolutionunit="CENTIMETER",
            )  # fmt: skip


def main() -> None:
    """Write, run, tell."""
    own, _, more = " ".join(sys.argv[1:]).partition("-- ")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mm2", type=float, default=9.0)
    parser.add_argument("--islands", type=int, default=3, help="along each side of the slide")
    parser.add_argument("--side-times", type=float, default=1.0)
    parser.add_argument("--model", default="pathsam-nano:glands")
    wish = parser.parse_args(own.split())
    height, width = (round(n * wish.side_times) for n in SHAPE_YX)
    with tempfile.TemporaryDirectory() as folder:
        slide, out = Path(folder) / "large.tif", Path(folder) / "large.zarr"
        write(slide, (height, width), wish.mm2, wish.islands)
        words = ["segment", str(slide), "--model", wish.model, "--out", str(out), *more.split()]
        began = perf_counter()
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-m", "napari_pathsam", *words], os.environ
        )
        _, status, used = os.wait4(pid, 0)
        told = {
            "shape_yx": [height, width], "tissue_mm2": wish.mm2, "more": more,
            "exit": os.waitstatus_to_exitcode(status), "peak_mb": round(used.ru_maxrss / 1024),
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "wall_s": round(perf_counter() - began, 1),
            "slide_mb": round(slide.stat().st_size / 1e6, 1),
            "labels_mb": round(
                sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6, 2),
        }  # fmt: skip
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
