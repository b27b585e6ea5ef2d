"""The GUI thread never waits: gaps between ticks of the event loop while a model of real size works.

The figures are printed (``pytest -s``) and, with PATHSAM_SCREENSHOTS, written beside the
screenshots. The limits asserted here are those of a busy machine; the aim is p99 below 100 ms and a
maximum below 250 ms, a click answered within 50 ms (median).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]

SIDE = 1024
LONGEST_GAP_MS = 500


class Ticks:
    """A timer that notes when the event loop got round to it."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.times: list[float] = []
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(lambda: self.times.append(time.perf_counter()))

    def __enter__(self) -> Ticks:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()

    @property
    def gaps_ms(self) -> np.ndarray:
        return np.diff(self.times) * 1000


@pytest.fixture
def nano_loader():
    """The real network; trained weights change nothing about its speed."""
    import torch

    from napari_pathsam._napari.runner import interruptible
    from napari_pathsam.models.sam2 import SAM2_CONFIGS, Sam2

    torch.manual_seed(0)
    model = Sam2(SAM2_CONFIGS["pathsam-nano"]).eval()
    holder: dict = {}

    def loader(name: str, device: str):
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
        return interruptible(model, holder["dock"].runner)

    loader.holder = holder  # type: ignore[attr-defined]
    return loader


def report(name: str, figures: dict) -> None:
    print(f"\n{name}: {json.dumps(figures)}")
    if folder := os.environ.get("PATHSAM_SCREENSHOTS"):
        path = Path(folder) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1))


@pytest.fixture
def working(dock_of, nano_loader, rng):
    """A dock on an H&E-like field with the real network, loaded and warm."""
    image = rng.integers(120, 240, (SIDE, SIDE, 3), dtype=np.uint8)
    viewer, dock, hands = dock_of(image, loader=nano_loader, rgb=True)
    nano_loader.holder["dock"] = dock
    hands.click((SIDE / 2, SIDE / 2))
    hands.until(lambda: dock.runner.idle and dock.workspace.busy is None, 60_000)
    return viewer, dock, hands


def test_the_event_loop_ticks_while_the_model_works(working, qtbot, rng):
    from qtpy.QtCore import QTimer

    viewer, dock, hands = working
    clicks = iter(rng.uniform(SIDE * 0.2, SIDE * 0.8, (40, 2)))
    done = []

    def act() -> None:
        n = len(done)
        done.append(n)
        if n % 10 == 0:
            dock.workspace.reject()
            dock.workspace.forget_embeddings()  # the next click encodes
        if n % 7 == 3:
            viewer.scene.camera.zoom *= 1.05 if n % 2 else 1 / 1.05
        pos = hands.at(next(clicks))
        events = hands.canvas._scene_canvas.events
        press = events.mouse_press(pos=pos, button=1, modifiers=[])
        events.mouse_release(
            pos=pos, button=1, modifiers=[], press_event=press, last_event=press
        )
        if len(done) < 40:
            QTimer.singleShot(100, act)

    with Ticks() as ticks:
        QTimer.singleShot(50, act)
        qtbot.waitUntil(lambda: len(done) == 40, timeout=120_000)
        qtbot.waitUntil(lambda: dock.runner.idle, timeout=120_000)
    gaps = ticks.gaps_ms
    counts, edges = np.histogram(gaps, [0, 10, 20, 50, 100, 150, 250, 500, 1e9])
    report("event_loop_gaps", {
        "n": len(gaps), "median_ms": round(float(np.median(gaps)), 1),
        "p99_ms": round(float(np.percentile(gaps, 99)), 1), "max_ms": round(float(gaps.max()), 1),
        "histogram": {f"<{int(e)}": int(c) for e, c in zip(edges[1:], counts, strict=True)},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    })  # fmt: skip
    assert gaps.max() < LONGEST_GAP_MS
    assert not dock.error_bar.text()


def test_a_click_is_answered_at_once(working, rng):
    _viewer, dock, hands = working
    taken = []
    for y, x in rng.uniform(SIDE * 0.3, SIDE * 0.7, (15, 2)):
        dock.workspace.reject()
        hands.until(lambda: dock.runner.idle)
        start = time.perf_counter()
        hands.click((y, x))
        while dock.runner.idle is False:
            hands.settle(1)
        taken.append((time.perf_counter() - start) * 1000)
    report("click_ms", {
        "n": len(taken), "median_ms": round(float(np.median(taken)), 1),
        "max_ms": round(max(taken), 1),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    })  # fmt: skip
    assert np.median(taken) < LONGEST_GAP_MS
