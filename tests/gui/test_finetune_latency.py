"""From a stroke to the overlay of a 1024-pixel field, and whether the GUI thread waits meanwhile.

The figures are printed (``pytest -s``) and, with PATHSAM_SCREENSHOTS, written beside the
screenshots. The aims are p99 below 100 ms, at most 250 ms and 15 s on two quiet cores; what is
asserted is processor time, which a busy machine hardly changes.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_pathsam._napari.finetune_how import ESTIMATED
from napari_pathsam._napari.finetune_preview import NAME as PREVIEW
from napari_pathsam._napari.segment_heads import OwnHeads
from napari_pathsam.workspace.teaching_store import LessonStore

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.alone]

SIDE = 1024
FIRST_CPU_S = 30
"""To the first overlay: both cores for 15 s."""


@pytest.fixture
def image(rng):
    """Pale and dark squares of 128 pixels, with noise."""
    coarse = rng.integers(90, 240, (8, 8, 3), dtype=np.uint8).repeat(128, 0).repeat(128, 1)
    noise = rng.integers(-20, 20, coarse.shape)
    return np.ascontiguousarray((coarse + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.timeout(1500)
def test_from_a_stroke_to_the_overlay(
    make_napari_viewer, hands_of, ticking, free, report, tmp_path, image
):
    from napari_pathsam._napari.finetune import FineTuneDock

    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1500, 950)
    viewer.add_image(image, rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    dock = FineTuneDock(
        viewer, store=LessonStore(tmp_path / "lessons"), own_heads=OwnHeads(tmp_path / "heads.json")
    )
    viewer.window.add_dock_widget(dock, area="right")
    hands = hands_of(viewer)
    hands.settle(10)
    layer = dock.brush.new_labels()
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for k, (y, x) in enumerate(((60, 60), (60, 700), (500, 300), (800, 100), (820, 800))):
        labels[y : y + 40, x : x + 120] = 1 + k % 2
        labels[y + 80 : y + 120, x : x + 120] = 2 - k % 2
    layer.data_setitem(np.nonzero(labels), labels[labels > 0])
    dock.teaching.choose(device="cpu")
    hands.until(lambda: dock.runner.idle and dock.files.idle, 600_000)
    hands.until(lambda: dock.view.how.estimate.text() == ESTIMATED, 600_000)
    hands.until(lambda: dock.runner.idle, 600_000)  # so the embedding is there

    seen: list[tuple[float, float]] = []
    dock.run.previewed.connect(lambda _: seen.append((time.perf_counter(), time.process_time())))
    dock.view.classes._table.selectRow(0)
    hands.drag([np.array((300, 500)) * 0.5, np.array((320, 560)) * 0.5])
    began, cpu, gui = time.perf_counter(), time.process_time(), time.thread_time()
    with ticking() as ticks:
        dock.train()
        hands.until(lambda: not dock.run.running, 1_200_000)
        hands.until(lambda: dock.runner.idle, 1_200_000)  # and what was kept is shown
    figures = {
        "side_px": SIDE,
        "first_overlay_s": round(seen[0][0] - began, 2),
        "first_overlay_cpu_s": round(seen[0][1] - cpu, 2),
        "last_overlay_s": round(seen[-1][0] - began, 2),
        "last_overlay_cpu_s": round(seen[-1][1] - cpu, 2),
        "gui_cpu_s": round(time.thread_time() - gui, 2),
        **ticks.figures(),
    }
    report("finetune_gaps", figures)
    assert not dock.view.error_bar.text()
    assert PREVIEW in viewer.layers
    assert free(figures)
    assert figures["first_overlay_cpu_s"] < FIRST_CPU_S
    dock.shut_down()
