"""What is left of a training."""

from __future__ import annotations

import pytest

from napari_pathsam.training import finetune_time
from napari_pathsam.training.finetune_plan import Estimate
from napari_pathsam.training.finetune_time import Spent


def test_what_goes_on_between_steps_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(finetune_time, "perf_counter", lambda: now)
    spent = Spent()
    assert spent.left(10, 0) is None
    for _ in range(4):
        with spent.on("step"):
            now += 1
        now += 1  # a preview, a file
    assert spent.left(10, 0) == pytest.approx(20)


def test_an_estimate_follows_the_pace() -> None:
    found = Estimate(encode_s=1, train_s=10, score_s=2, memory_bytes=10**9).at_pace(2)
    assert found.text == "about 26 s, 1.0 GB"
