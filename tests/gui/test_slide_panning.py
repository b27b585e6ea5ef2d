"""A large slide in a real viewer: panning it is as fluid as panning a picture in memory.

Both are panned and zoomed in turn, in the same viewer, so that a busy machine slows both. The gaps
of the event loop are printed (``pytest -s``).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.gui]

SLOWER = 3.0
"""How many times longer the slide's median gap may be than the picture's."""
LONGEST_WORK_MS = 1000
"""What the GUI thread may work at a stretch; the aim is 250 ms."""


class Panning:
    """Moves the camera over a layer, step by step, and notes the gaps between the steps."""

    def __init__(self, viewer, layer) -> None:
        self.viewer, self.layer = viewer, layer
        self.gaps_ms: list[float] = []
        self.work_ms: list[float] = []
        self.loaded: set[str] = set()

    def go(self, zoom: float, step_px: int, steps: int) -> None:
        """Screen pixels per level-0 pixel; level-0 pixels from one step to the next."""
        from qtpy.QtWidgets import QApplication

        camera, scale = self.viewer.scene.camera, self.layer.scale[0]
        middle = np.array(self.layer.data[0].shape[:2]) / 2
        camera.zoom = zoom / scale
        for i in range(steps):
            clock, work = time.perf_counter(), time.thread_time()
            camera.center = tuple((middle + i * step_px) * scale)
            QApplication.processEvents()
            self.loaded.add(str(self.layer.corner_pixels))
            self.gaps_ms.append((time.perf_counter() - clock) * 1000)
            self.work_ms.append((time.thread_time() - work) * 1000)

    def figures(self) -> dict[str, float]:
        return {
            "median_ms": round(float(np.median(self.gaps_ms)), 1),
            "p95_ms": round(float(np.percentile(self.gaps_ms, 95)), 1),
            "max_ms": round(max(self.gaps_ms), 1),
            "max_work_ms": round(max(self.work_ms), 1),
        }


def test_panning_a_large_slide(make_napari_viewer, large_slide: Path, rng) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1200, 800)
    [slide] = viewer.open(large_slide, plugin="napari-pathsam")
    picture = rng.integers(0, 255, (6000, 7500, 3), dtype=np.uint8)
    pyramid = [picture, picture[::4, ::4].copy(), picture[::16, ::16].copy()]
    memory = viewer.add_image(
        pyramid, rgb=True, multiscale=True, scale=slide.scale, units=slide.units, visible=False
    )
    runs = {"slide": Panning(viewer, slide), "memory": Panning(viewer, memory)}
    for turn in range(3):
        for run in runs.values():
            for layer in (slide, memory):
                layer.visible = layer is run.layer
            run.go(zoom=1.0, step_px=150, steps=12)
            run.go(zoom=0.3, step_px=200, steps=8)
            if turn == 0:  # textures are made, tiles are read for the first time
                run.gaps_ms.clear()
                run.work_ms.clear()
    figures = {name: run.figures() for name, run in runs.items()}
    print(json.dumps(figures))  # noqa: T201
    if folder := os.environ.get("PATHSAM_SCREENSHOTS"):
        slide.visible, memory.visible = True, False
        runs["slide"].go(zoom=0.3, step_px=100, steps=4)
        viewer.screenshot(Path(folder) / "large_slide.png", canvas_only=False, flash=False)
        (Path(folder) / "large_slide.json").write_text(json.dumps(figures))
    assert len(runs["slide"].loaded) > 4, "the way leads from tile to tile"
    assert figures["slide"]["median_ms"] < SLOWER * figures["memory"]["median_ms"]
    assert figures["slide"]["max_work_ms"] < LONGEST_WORK_MS
