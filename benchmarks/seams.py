"""Does it show where windows meet? The window grid is shifted by 37 % of its stride.

    python benchmarks/seams.py [--images DIR --mpp 0.62] [--model M] [--figure F.png]
    python benchmarks/seams.py --images TNBC --glob 'Slide_*/*.*' --mpp 0.25 \\
        --model pathsam-nano:nuclei --side 4096

A mosaic of images, at the model's pixel size, is segmented as a slide is, with the grid where it is
and shifted (by cutting rows and columns off the mosaic's corner, in whole steps of the network, as
windows always begin), with the blended windows that ``segment_slide`` uses and
with windows laid side by side. Told are the part of the pixels whose class the shift changes, the
seam score, and how many objects are cut: they end in a straight line (16 pixels) at a window's end
where, with the grid shifted, they go on. Edges are straight by chance, too: beside them stands how
many are straight at a window's end, and 12 and 24 pixels beside it, where no window ends.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import beta

import napari_pathsam as ps
from napari_pathsam.inference.class_maps import SegmentSettings
from napari_pathsam.inference.seams import cut_objects
from napari_pathsam.inference.slide import slide_tiles
from napari_pathsam.inference.slide_job import prepare_slide
from napari_pathsam.inference.slide_plan import OVERLAP
from napari_pathsam.inference.working_grid import STEP_PX, WorkingGrid
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.class_model import ClassModel

SHIFT = 0.37
SHOWN_PX = 300
"""Side of what the figure shows."""


def packaged() -> list[np.ndarray]:
    """The colon that comes with the package, turned and mirrored."""
    colon = [ps.load_sample(f"colon_{name}").image for name in ("normal", "low_grade")]
    turned = [np.rot90(image, turns) for turns in range(4) for image in colon]
    return turned + [image[::-1] for image in turned]


def mosaic(found: list[np.ndarray], side_px: int, scale: float) -> np.ndarray:
    """Images side by side, in rows of their own height, cut to a square, at another scale.

    When all have been used they come again, mirrored, and then upside down.
    """
    wanted = round(side_px / scale)
    rows: list[np.ndarray] = []
    turns = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    images = (image[::dy, ::dx] for dy, dx in turns for image in found)
    while sum(row.shape[0] for row in rows) < wanted:
        row: list[np.ndarray] = []
        while sum(image.shape[1] for image in row) < wanted:
            row.append(next(images))
        height = min(image.shape[0] for image in row)
        rows.append(np.concatenate([image[:height] for image in row], axis=1)[:, :wanted])
    whole = Image.fromarray(np.concatenate(rows)[:wanted])
    return np.asarray(whole.resize((side_px, side_px), Image.Resampling.BILINEAR))


def segmented(
    model: ClassModel, pixels: np.ndarray, overlap: float
) -> tuple[np.ndarray, list[int], list[int], float]:
    """The class map, the window ends and the seam score."""
    slide = ArraySlide(pixels, mpp=model.config.mpp, name="mosaic")
    settings = SegmentSettings(overlap=overlap)
    job = prepare_slide(model, slide, settings=settings, tissue=False)
    out = np.zeros(slide.shape_yx, np.uint8)
    score = float("nan")
    for tile in slide_tiles(job):
        out[tile.region.slices], score = tile.class_map, tile.seams.score
    rows, columns = (job.plan.edges(axis, 0, n) for axis, n in enumerate(slide.shape_yx))
    return out, rows, columns, score


def largest_share(found: int, of: int) -> float:
    """What a share is below with 95 % certainty where so many were found (Clopper and Pearson)."""
    return float(beta.ppf(0.95, found + 1, of - found)) if found < of else 1.0


def compared(
    model: ClassModel, pixels: np.ndarray, overlap: float
) -> tuple[dict[str, float], np.ndarray]:
    """What the shift changes with this overlap, and where."""
    grid = WorkingGrid.of(model, pixels.shape[:2], model.config.mpp)
    stride, tile = round(grid.stride_level0(overlap)), round(grid.tile_cells * grid.cell_px)
    step = round(STEP_PX / model.config.enlarge)
    by = round(SHIFT * stride / step) * step
    # Whole strides: a window that is put back to the end would lie on another grid.
    whole, rest = ((n - tile) // stride * stride + tile for n in (len(pixels), len(pixels) - by))
    plain, rows, columns, score = segmented(model, pixels[:whole, :whole], overlap)
    shifted = segmented(model, pixels[by : by + rest, by : by + rest], overlap)[0]
    # Away from the corner that was cut off: there the shifted run does not see what the other saw.
    end, margin = min(whole - by, rest) - stride // 4, stride // 4
    inside = slice(margin, end)
    changed = plain[by:, by:][inside, inside] != shifted[inside, inside]
    both = min(whole - by, rest)
    here, there = plain[by:, by:][:both, :both], shifted[:both, :both]
    lines = [[end - by for end in ends if by < end < by + both] for ends in (rows, columns)]
    straight, objects = cut_objects(here, *lines)
    cut = cut_objects(here, *lines, other=there)[0]
    beside = [cut_objects(here, *[[end + off for end in ends] for ends in lines])[0]
              for off in (-24, -12, 12, 24)]  # fmt: skip
    told = {
        "changed": float(changed.mean()), "seam score": score, "objects": objects,
        "cut": cut, "at most cut (95 %)": largest_share(cut, objects),
        "straight at window ends": straight, "straight beside them": float(np.mean(beside)),
        "shift_px": by, "stride_px": stride,
    }  # fmt: skip
    return told, plain


def figure(path: Path, pixels: np.ndarray, maps: list[np.ndarray], colors: list[str]) -> None:
    """Where the two maps differ most: the mosaic, and both over it, twice as large."""
    side = min(len(class_map) for class_map in maps)
    size = min(SHOWN_PX, side)
    differ = (maps[0][:side, :side] != maps[1][:side, :side]).astype(float)
    sums = np.pad(differ.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    at = (slice(y, y + size), slice(x, x + size))
    parts = [pixels[at]]
    for class_map in maps:
        shown = pixels[at].astype(float)
        for i, color in enumerate(colors, start=1):
            rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
            shown[class_map[at] == i] = 0.5 * shown[class_map[at] == i] + 0.5 * rgb
        parts.append(shown.astype(np.uint8))
    gap = np.full((size, 6, 3), 255, np.uint8)
    strip = Image.fromarray(np.concatenate([parts[0], gap, parts[1], gap, parts[2]], axis=1))
    strip.resize((2 * strip.width, 2 * strip.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder; without it the packaged colon")
    parser.add_argument("--mpp", type=float, default=1.4)
    parser.add_argument("--glob", default="*[0-9].*")
    parser.add_argument("--model", default="pathsam-nano:glands")
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--overlap", type=float, default=OVERLAP)
    parser.add_argument("--figure", type=Path)
    wish = parser.parse_args()
    model = ps.load_model(wish.model)
    scale = wish.mpp / model.config.mpp
    paths = [] if wish.images is None else sorted(wish.images.rglob(wish.glob))
    found = [np.asarray(Image.open(path).convert("RGB")) for path in paths] or packaged()
    pixels = mosaic(found, wish.side, scale)
    blended, with_overlap = compared(model, pixels, wish.overlap)
    beside, without = compared(model, pixels, 0.0)
    ratio = blended["changed"] / max(beside["changed"], 1e-9)
    print(json.dumps({"blended": blended, "side by side": beside, "ratio": ratio}, indent=1))
    if wish.figure is not None:
        colors = [info.color for info in model.classes]
        figure(wish.figure, pixels, [without, with_overlap], colors)


if __name__ == "__main__":
    main()
