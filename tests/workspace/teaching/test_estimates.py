"""What a training will take: corrected by what the last ones took."""

from __future__ import annotations

import pytest

from napari_pathsam.training.finetune_plan import Estimate
from napari_pathsam.workspace import teaching_run


def test_estimates_follow_the_last_trainings(teach, monkeypatch) -> None:
    teaching, run, _, heard = teach
    foreseen = Estimate(encode_s=0, train_s=1e-3, score_s=0, memory_bytes=0)
    monkeypatch.setattr(teaching_run, "_estimate", lambda *_: {"fast": foreseen})
    told = []
    run.estimated.connect(told.append)
    run.estimate()
    assert told[-1]["fast"].seconds == foreseen.seconds  # nothing is known yet
    monkeypatch.setattr(teaching_run, "TELLING_S", 1e9)
    run.train()
    assert teaching.lesson[1].pace is None  # too short to tell
    monkeypatch.setattr(teaching_run, "TELLING_S", 0)
    run.train()
    reports = [r for told in heard["told"] for r in told]
    assert teaching.lesson[2].pace == pytest.approx(1e3 * reports[-1].seconds, rel=0.2)
    assert told[-1]["fast"].seconds == pytest.approx(1e-3 * teaching.lesson[2].pace)
    teaching.choose(trained="alignment")  # takes longer: what was foreseen says nothing of it
    run.train()
    assert teaching.lesson[3].pace is None
    run.estimate()  # but the machine is the same
    assert told[-1]["fast"].seconds == pytest.approx(1e-3 * teaching.lesson[2].pace)
    assert not heard["failed"]
