"""What "Where next?" costs over a slide of 100,000 × 80,000 pixels.

    OMP_NUM_THREADS=1 python benchmarks/where_next_slide.py --slide large.tif [--tiles 64]

The slide is written first where it is not there yet (``slide_memory.py``: islands of the packaged
sample's tissue). Told after each doubling of tiles, and at the end: the share of the tissue that
was looked through, processor time, the largest resident set (that of writing the slide, too).
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from time import process_time

from slide_memory import MPP, SHAPE_YX, write

import napari_pathsam as ps
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.uncertainty import where_next
from napari_pathsam.models.catalogue import load_model

IN_VIEW = Region(40_000, 50_000, 2_000, 2_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--mm2", type=float, default=60.0)
    parser.add_argument("--islands", type=int, default=3, help="along each side of the slide")
    parser.add_argument("--model", default="pathsam-nano:glands")
    parser.add_argument("--tiles", type=int, help="so many at most; by default all")
    wish = parser.parse_args()
    if not wish.slide.exists():
        write(wish.slide, SHAPE_YX, wish.mm2, wish.islands)
    slide = ps.open_slide(wish.slide)
    model = load_model(wish.model, device="cpu")
    began = process_time()
    for seen in where_next(model, slide, mpp=MPP, first=IN_VIEW, n=12):
        last = seen.done == min(seen.total, wish.tiles or seen.total)
        if last or not seen.done & (seen.done - 1):
            told = {
                "tiles": seen.done, "of": seen.total, "share": round(seen.share, 3),
                "cpu_s": round(process_time() - began, 1),
                "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "suggestions": len(seen.suggestions),
            }  # fmt: skip
            print(json.dumps(told), flush=True)
        if last:
            break


if __name__ == "__main__":
    main()
