"""The GUI thread never waits while classes are found: gaps between ticks of the event loop.

And how long another head takes on a field that is encoded already. The figures are printed
(``pytest -s``) and, with PATHSAM_SCREENSHOTS, written beside the
screenshots. The aims are p99 below 100 ms and at most 250 ms.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from napari_pathsam._napari.sample_data import colon_normal
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.workspace.segment_request import SegmentOptions

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.alone]

SIDE = 2000
SWITCH_CPU_S = 3.0
"""Of a machine whose cores are shared; the aim is 0.3 s on two that are not."""


@pytest.fixture
def nano_head():
    """The real network with classes; training changes nothing about its speed."""
    import torch

    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.models.pathsam_config import profiled
    from napari_pathsam.models.sam2 import Sam2
    from napari_pathsam.models.sam2_config import SAM2_CONFIGS

    torch.manual_seed(0)
    base = Sam2(SAM2_CONFIGS["pathsam-nano"]).eval()
    config = profiled("recommended", name="tiny:made", base="pathsam-nano", mpp=0.5)
    return PathSam(config, base, ClassTable.of("gland", "stroma")).eval()


def test_the_event_loop_ticks_while_a_large_image_is_segmented(
    segment_of, nano_head, ticking, free, report, rng
):
    from qtpy.QtCore import QTimer

    from napari_pathsam._napari.runner import interruptible

    coarse = rng.integers(100, 240, (SIDE // 10, SIDE // 10, 3), dtype=np.uint8)
    image = np.ascontiguousarray(coarse.repeat(10, 0).repeat(10, 1))
    viewer, dock, hands = segment_of(
        image, model=nano_head, rgb=True, scale=(0.5, 0.5), units=("um", "um")
    )
    interruptible(nano_head, dock.runner)
    dock.view.heads.set_value("tiny:made")
    dock.view.heads.value_changed.emit()
    dock.view.extent.set_value("whole")
    hands.until(lambda: dock.runner.idle, 60_000)  # as it is when a person has chosen a head
    pans = QTimer()
    pans.setInterval(700)
    pans.timeout.connect(lambda: setattr(viewer.scene.camera, "zoom",
                                         viewer.scene.camera.zoom * 1.02))  # fmt: skip
    pans.start()
    began = time.perf_counter()
    with ticking() as ticks:
        dock.view.run_button.click()
        hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 250_000)
    pans.stop()
    figures = {
        "side_px": SIDE,
        "seconds": round(time.perf_counter() - began, 1),
        **ticks.figures(),
    }
    report("segment_gaps", figures)
    assert not dock.view.error_bar.text()
    assert free(figures)


@pytest.mark.weights
def test_another_head_on_an_encoded_field(segment_of, report):
    """1024 network pixels, from the press of the button to the classes in the layer."""
    (pixels, _, _), _ = colon_normal()
    image = np.tile(pixels, (3, 3, 1))[:512, :512]
    viewer, dock, hands = segment_of(
        image, model=None, rgb=True, scale=(1.4, 1.4), units=("um", "um")
    )
    dock.view.extent.set_value("whole")
    hands.until(lambda: len(dock.view.heads.heads()) > 1, 60_000)
    written: list[tuple[float, float]] = []
    dock.segmenting.piece_written.connect(
        lambda *_: written.append((time.perf_counter(), time.process_time()))
    )
    wall: list[float] = []
    cpu: list[float] = []
    for n, name in enumerate(["glands", "lesions"] * 4):
        dock.view.heads.set_value(f"pathsam-nano:{name}")
        dock.view.heads.value_changed.emit()
        # Another threshold, so that nothing that was kept is shown again.
        dock.view.options.set_value(SegmentOptions(threshold=n // 2 / 100))
        hands.until(lambda: dock.runner.idle, 60_000)
        if n:
            assert "already" in dock.view.encoding.text()
        began = time.perf_counter(), time.process_time()
        dock.view.run_button.click()
        hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 60_000)
        assert not dock.view.error_bar.text()
        if n > 1:  # the first of each makes its layer and loads its weights
            wall.append(written[-1][0] - began[0])
            cpu.append(written[-1][1] - began[1])
    figures = {
        "wall_s": [round(t, 3) for t in wall],
        "cpu_s": [round(t, 3) for t in cpu],
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    report("another_head", figures)
    assert len(viewer.layers) == 3
    assert np.median(cpu) < SWITCH_CPU_S
