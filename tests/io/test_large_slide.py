"""A slide of 100,000 × 80,000 pixels: opened in an instant, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.io.slides import open_slide

OPEN_S, OPEN_MB = 1.0, 300
"""Seconds of work, and memory, that opening may take (and take on, for the memory)."""

MEASURED = """
import json, sys, time
import dask.array, numpy, PIL.Image, psutil, tifffile, zarr  # what napari would have loaded before
import napari_pathsam._napari.reader as reader
def held_mb(): return psutil.Process().memory_info().rss / 2**20
before, began = held_mb(), time.process_time()
pyramid, options, _ = reader.get_reader(sys.argv[1])(sys.argv[1])[0]
opened, opened_mb = time.process_time() - began, held_mb() - before
views = [numpy.asarray(pyramid[-1])]
first_view = time.process_time() - began
middle = tuple(slice(n // 2, n // 2 + 2048) for n in pyramid[0].shape[:2])
views += [numpy.asarray(pyramid[0][middle])]
print(json.dumps({"open_s": opened, "first_view_s": first_view, "open_mb": opened_mb,
                  "view_mb": held_mb() - before, "scale": options["scale"],
                  "levels": [level.shape for level in pyramid]}))
"""


def test_opening_costs_next_to_nothing(
    large_slide: Path, record_property: Callable[[str, object], None]
) -> None:
    """Work of a fresh process and its memory, the overview and a field of it included."""
    pytest.importorskip("psutil", reason="psutil, which comes with napari, is not installed")
    found = json.loads(
        subprocess.check_output([sys.executable, "-c", MEASURED, str(large_slide)], text=True)
    )
    record_property("large slide", found)
    print(found)  # noqa: T201
    assert found["levels"][0] == [80_000, 100_000, 3]
    assert found["scale"] == [0.25, 0.25]
    assert found["open_s"] < found["first_view_s"] < OPEN_S
    assert found["open_mb"] <= found["view_mb"] < OPEN_MB


def test_what_was_never_scanned_is_glass(large_slide: Path) -> None:
    with open_slide(large_slide) as slide:
        assert (slide.read(Region(60_000, 20_000, 600, 600)) == 255).all()
        assert slide.read(Region(40_000, 50_000, 600, 600)).std() > 20
        assert slide.level_downsamples == pytest.approx((1, 4, 16, 64), rel=1e-3)
