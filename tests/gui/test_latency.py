"""The GUI thread never waits: gaps between ticks of the event loop while a real model works.

The figures are printed (``pytest -s``) and, with PATHSAM_SCREENSHOTS, written beside the
screenshots. The aims are p99 below 100 ms and a maximum below 250 ms, a click answered within 50 ms
(median); what is asserted, a busy machine keeps as well.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.alone]

SIDE = 1024
CLICK_GUI_MS, FRAME_GUI_MS = 150, 400
"""What the GUI thread may work from a click to its candidate, and to the frame that shows it: a few
times what it takes on a quiet machine (26 and 78 ms)."""
BURSTS = 3
PRESSED_MS = 100
"""As long as a finger takes from press to release; the prompt is there with the release."""


@pytest.fixture
def nano_loader():
    """The real network; training changes nothing about its speed, so its weights are random.

    It does all the work of an answer, and answers with a disc round the last click.
    """
    import torch

    from napari_pathsam._napari.runner import interruptible
    from napari_pathsam.models.sam2 import Sam2
    from napari_pathsam.models.sam2_config import SAM2_CONFIGS

    class Discs(Sam2):
        def encode(self, image, **options):
            in_threads.add(threading.current_thread())
            return super().encode(image, **options)

        def decode_prompts(self, embedding, prompts, **options):
            in_threads.add(threading.current_thread())
            answer = super().decode_prompts(embedding, prompts, **options)
            k, h, w = answer.low_res_logits.shape
            y, x = np.asarray(prompts.points_yx[-1]) * (h, w) / np.asarray(answer.shape_yx)
            yy, xx = np.ogrid[:h, :w]
            disc = np.where(np.hypot(yy - y, xx - x) < 20, 5, -5).astype(np.float32)
            return replace(answer, low_res_logits=np.repeat(disc[None], k, axis=0))

    torch.manual_seed(0)
    model = Discs(SAM2_CONFIGS["pathsam-nano"]).eval()
    in_threads: set[threading.Thread] = set()
    holder: dict = {"in_threads": in_threads}

    def loader(name: str, device: str):
        torch.set_num_threads(os.cpu_count() or 2)
        return interruptible(model, holder["dock"].runner)

    loader.holder = holder  # type: ignore[attr-defined]
    return loader


@pytest.fixture
def working(dock_of, nano_loader, rng):
    """A dock on an H&E-like field with the real network, loaded and warm."""
    image = rng.integers(120, 240, (SIDE, SIDE, 3), dtype=np.uint8)
    viewer, dock, hands = dock_of(image, loader=nano_loader, rgb=True)
    nano_loader.holder["dock"] = dock
    hands.click((SIDE / 2, SIDE / 2))
    hands.until(lambda: dock.runner.idle and dock.workspace.busy is None, 180_000)
    return viewer, dock, hands


def burst(ticks, dock, hands, qtbot, rng, *, n_clicks: int = 30) -> dict:
    """Clicks every 100 ms while fields are encoded and the camera moves."""
    from qtpy.QtCore import QTimer

    from napari_pathsam._napari.embeddings import shared_cache

    clicks = iter(rng.uniform(SIDE * 0.2, SIDE * 0.8, (n_clicks, 2)))
    done: list[int] = []

    def act() -> None:
        n = len(done)
        done.append(n)
        if n % 10 == 0:
            dock.workspace.reject()
            dock.workspace.forget_embeddings()
            shared_cache().clear()  # the next click encodes
        if n % 7 == 3:
            hands.viewer.scene.camera.zoom *= 1.05 if n % 2 else 1 / 1.05
        pos = hands.at(next(clicks))
        events = hands.canvas._scene_canvas.events
        press = events.mouse_press(pos=pos, button=1, modifiers=[])
        events.mouse_release(pos=pos, button=1, modifiers=[], press_event=press, last_event=press)
        if len(done) < n_clicks:
            QTimer.singleShot(100, act)

    with ticks:
        QTimer.singleShot(50, act)
        qtbot.waitUntil(lambda: len(done) == n_clicks, timeout=120_000)
        qtbot.waitUntil(lambda: dock.runner.idle, timeout=120_000)
    return ticks.figures()


def test_the_event_loop_ticks_while_the_model_works(
    working, nano_loader, ticking, free, report, qtbot, rng
):
    _viewer, dock, hands = working
    bursts = []
    for _ in range(BURSTS):
        bursts.append(burst(ticking(), dock, hands, qtbot, rng))
        if free(bursts[-1]):  # one is enough; whoever else uses the machine may spoil some
            break
    report("event_loop_gaps", {"bursts": bursts})
    in_threads = nano_loader.holder["in_threads"]
    assert in_threads
    assert threading.main_thread() not in in_threads
    assert free(bursts[-1])
    assert not dock.view.error_bar.text()


def clicks(working, rng, n: int) -> dict:
    """From the release of the mouse button to the candidate's layer, and to the next frame of it.

    By the clock, and by what the GUI thread worked until then; medians in ms.
    """
    _viewer, dock, hands = working
    scene, layer = hands.canvas._scene_canvas, dock.session.candidate.layer
    now: list[tuple[float, ...]] = []
    seen: dict[str, tuple[float, float]] = {}

    def note(what: str) -> None:
        seen[what] = (time.perf_counter(), time.thread_time())

    def on_candidate(*_: object) -> None:
        if dock.session.candidate.shown:
            seen.setdefault("layer", (time.perf_counter(), time.thread_time()))

    def on_frame(*_: object) -> None:
        if "layer" in seen and "frame" not in seen:
            note("frame")

    layer.events.set_data.connect(on_candidate)
    scene.events.draw.connect(on_frame, position="last")
    for y, x in rng.uniform(SIDE * 0.3, SIDE * 0.7, (n, 2)):
        dock.workspace.reject()
        hands.until(lambda: dock.runner.idle)
        pos = hands.at((y, x))
        press = scene.events.mouse_press(pos=pos, button=1, modifiers=[])
        hands.qtbot.wait(PRESSED_MS)  # what the press itself has drawn is drawn by then
        seen.clear()
        note("release")
        scene.events.mouse_release(
            pos=pos, button=1, modifiers=[], press_event=press, last_event=press
        )
        hands.until(lambda: "frame" in seen, 60_000)
        now.append(
            tuple(
                1000 * (seen[what][clock] - seen["release"][clock])
                for clock in (0, 1)
                for what in ("layer", "frame")
            )
        )
    layer.events.set_data.disconnect(on_candidate)
    scene.events.draw.disconnect(on_frame)
    names = ("to_layer_ms", "to_frame_ms", "to_layer_gui_cpu_ms", "to_frame_gui_cpu_ms")
    medians = np.median(now, axis=0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "n": n, **{k: round(float(v), 1) for k, v in zip(names, medians, strict=True)},
        "best_to_layer_ms": round(min(row[0] for row in now), 1), "load": load,
    }  # fmt: skip


def test_a_click_is_answered_at_once(working, report, rng):
    """The embedding ready. The clock depends on who else uses the machine; the GUI thread's own
    work hardly does, once no marker is drawn in between because the decoder had to wait."""
    _viewer, dock, _hands = working
    by_the_clock = clicks(working, rng, 6)
    report("click_ms", by_the_clock)
    dock.session._marker_timer.setInterval(60_000)
    by_work = clicks(working, rng, 12)
    report("click_cpu_ms", by_work)
    assert by_work["to_layer_gui_cpu_ms"] < CLICK_GUI_MS
    assert by_work["to_frame_gui_cpu_ms"] < FRAME_GUI_MS
