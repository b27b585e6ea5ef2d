"""The worker: results on the GUI thread, cancel, pause, errors, the end."""

from __future__ import annotations

import threading
import time

import pytest

from napari_pathsam._napari.runner import QtRunner, interruptible
from napari_pathsam._napari.torch_import import torch_error_text

pytestmark = pytest.mark.gui


@pytest.fixture
def runner(qtbot):
    made = QtRunner()
    yield made
    made.close(wait_s=2)
    assert not made._thread.is_alive()


def test_work_runs_elsewhere_and_is_answered_here(runner, qtbot):
    seen = []
    runner.submit(
        lambda x: (x, threading.current_thread()),
        3,
        then=lambda r: seen.append((*r, threading.current_thread())),
    )
    qtbot.waitUntil(lambda: runner.idle)
    value, worker, here = seen[0]
    assert value == 3
    assert worker is not here
    assert here is threading.main_thread()


def test_errors_are_handed_over_and_the_worker_lives_on(runner, qtbot):
    errors, results = [], []
    runner.submit(lambda: 1 / 0, then=results.append, failed=errors.append)
    runner.submit(lambda: 5, then=results.append)
    qtbot.waitUntil(lambda: runner.idle)
    assert isinstance(errors[0], ZeroDivisionError)
    assert results == [5]


def test_cancelled_work_is_not_answered_whether_it_ran_or_not(runner, qtbot):
    started, go, results = threading.Event(), threading.Event(), []

    def work() -> int:
        started.set()
        go.wait(5)
        return 1

    running = runner.submit(work, then=results.append)
    waiting = runner.submit(lambda: 2, then=results.append)
    assert started.wait(5)
    running.cancel()
    waiting.cancel()
    go.set()
    qtbot.waitUntil(lambda: runner.idle)
    assert results == []


def test_an_encoder_stops_between_its_layers_and_pauses_for_panning(runner, qtbot):
    import torch

    passed = []

    class Step(torch.nn.Module):
        def forward(self, x):
            passed.append(time.perf_counter())
            time.sleep(0.02)
            return x

    model = torch.nn.Module()
    model.image_encoder = torch.nn.Sequential(*(Step() for _ in range(100)))
    interruptible(model, runner)
    job = runner.submit(model.image_encoder, torch.zeros(1))
    qtbot.waitUntil(lambda: len(passed) > 3)
    runner.yield_for(0.3)
    qtbot.wait(100)
    so_far = len(passed)
    qtbot.wait(100)
    assert len(passed) <= so_far + 1
    job.cancel()
    qtbot.waitUntil(lambda: runner.idle)
    assert len(passed) < 50


def test_the_text_about_torch_says_what_to_do():
    text = torch_error_text(OSError("[WinError 1114]"))
    assert "WinError 1114" in text
    assert "napari-pathsam" in text
    assert "Visual C++" in text
