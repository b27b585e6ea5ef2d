"""Memory that really runs out, in a process of its own: half the batch, and it is said."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.io.images import write_labels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="no limit of the address space that holds"
    ),
]

CHILD = Path(__file__).with_name("teach_short_of_memory.py")


def test_memory_that_runs_out_halves_the_batch(tmp_path: Path) -> None:
    side = 320
    labels = np.zeros((side, side), np.uint8)
    for y in range(0, side - 40, 60):
        labels[y : y + 20, 10:60], labels[y : y + 20, 100:160] = 1, 2
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    image[labels == 1] //= 3
    (tmp_path / "in").mkdir()
    Image.fromarray(image).save(tmp_path / "in" / "image.png")
    write_labels(tmp_path / "in" / "image_labels.png", labels)
    # What is freed goes back at once, as it does on other systems, and the sums are the same.
    frugal = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
    for room in (0.75, 0.6, 0.9):  # how much a step takes at once is the processor's affair
        folder = tmp_path / f"{room}"
        shutil.copytree(tmp_path / "in", folder)
        found = subprocess.run(
            [sys.executable, "-W", "ignore", str(CHILD), str(folder), str(room)],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | frugal, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr[-2000:]
        told = json.loads(found.stdout)
        if not told["failed"] and "not enough memory" in " ".join(told["said"]):
            break
    assert not told["failed"]
    assert re.match("There was not enough memory: training goes on with [12] crop", told["said"][0])
    assert told["said"][0] in told["said"][-1]  # and it is still to be read in the end
    _, second = told["versions"]
    assert second["finished"]
    assert second["mean_dice"] > 0.5
