"""What is said before a run over a slide, against what it then takes."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from napari_pathsam.inference import windows
from napari_pathsam.inference.objects import instances
from napari_pathsam.inference.slide import slide_tiles
from napari_pathsam.inference.slide_estimate import Estimate, estimate_slide, model_runs
from napari_pathsam.inference.slide_job import SlideJob, prepare_slide
from napari_pathsam.inference.slide_objects import write_objects
from napari_pathsam.inference.slide_tasks import runs_by_block, slide_tasks
from napari_pathsam.inference.slide_time import TimeLeft
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.samples import load_sample

NEAR = 0.25
"""The part by which an estimate may be wrong."""


class Job(Protocol):
    def __call__(self, model: Any, **wishes: Any) -> SlideJob: ...


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run over colon on glass, in small windows."""
    monkeypatch.setattr(PathSam, "tile_px", 256)
    colon = [load_sample(f"colon_{name}").image for name in ("normal", "low_grade")]
    pixels = np.full((520, 640, 3), 243, np.uint8)
    pixels[40:488, 100:548] = np.block([[[a], [b]] for a, b in (colon, colon[::-1])])

    def make(model: Any, **wishes: Any) -> SlideJob:
        slide = ArraySlide(pixels, mpp=1.4, name="colon")
        return prepare_slide(model, slide, store=tmp_path / "o.zarr", chunk_px=256, **wishes)

    return make


def stored(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


@pytest.mark.slow
def test_disk(job: Job, tmp_path: Path) -> None:
    """Of the packaged gland model."""
    wanted = job(load_model("pathsam-nano:glands", "cpu"))
    before = stored(tmp_path)
    expected = estimate_slide(wanted)
    assert expected.base == "pathsam-nano"
    assert stored(tmp_path) == before
    assert len([*slide_tiles(wanted)]) == len(wanted.plan.blocks) > 1
    taken = stored(tmp_path) - before
    assert abs(expected.nbytes / taken - 1) < NEAR
    assert estimate_slide(wanted).windows == 0  # nothing is left to do


@pytest.mark.parametrize("batch", [1, 4])
def test_time(job: Job, tiny_pathsam: PathSam, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """By a clock that only the model moves, so that a busy machine changes nothing.

    A batch takes as long where fewer windows are left for it.
    """
    logits, clock, runs = windows.window_logits, 0.0, 0

    def slowly(*asked: Any) -> Any:
        nonlocal clock, runs
        runs += 1
        clock += 0.1 * batch
        return logits(*asked)

    monkeypatch.setattr("napari_pathsam.inference.slide_plan.STRIDES", 1)  # several blocks
    monkeypatch.setattr("napari_pathsam.inference.slide_estimate.perf_counter", lambda: clock)
    monkeypatch.setattr("napari_pathsam.inference.slide_time.perf_counter", lambda: clock)
    monkeypatch.setattr(windows, "window_logits", slowly)
    wanted = job(tiny_pathsam, mpp=0.5, tissue=False, batch=batch)
    expected = estimate_slide(wanted)
    assert expected.windows == wanted.plan.n_windows > 9
    foreseen = model_runs(wanted)
    assert foreseen < model_runs(wanted, workers=99)  # each block alone
    with monkeypatch.context() as finds_objects:  # one window after the other, in one process
        finds_objects.setattr("napari_pathsam.inference.slide_estimate.knows_objects", bool)
        once_more = estimate_slide(wanted, objects=True, workers=2).objects_s
        assert once_more == pytest.approx(0.1 * expected.windows)
    clock, runs = 0.0, 0
    said = [(clock, tile.seconds_left) for tile in slide_tiles(wanted)]
    assert runs == foreseen
    assert len(said) > 5
    for at, left in said:  # as true after the first block as before the last one
        assert left == pytest.approx(clock - at)
    assert (runs * batch == expected.windows) == (batch == 1)  # else some are filled up
    assert expected.seconds == pytest.approx(clock)


def test_time_of_objects(job: Job, tiny_pathsam: PathSam, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only telling them apart moves."""
    clock = 0.0

    def slowly(classes: np.ndarray, *, smallest_px: int = 0) -> np.ndarray:
        nonlocal clock
        clock += (classes > 0).sum()
        return instances(classes, smallest_px=smallest_px)

    for module in ("slide_estimate", "slide_objects"):
        monkeypatch.setattr(f"napari_pathsam.inference.{module}.instances", slowly)
    monkeypatch.setattr("napari_pathsam.inference.slide_estimate.perf_counter", lambda: clock)
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.STRIDES", 1)
    wanted = job(tiny_pathsam, mpp=0.5)
    assert estimate_slide(wanted).objects_s == clock == 0
    expected = estimate_slide(wanted, objects=True).objects_s
    [*slide_tiles(wanted)]
    clock = 0.0
    assert wanted.run is not None
    [*write_objects(wanted.run.stores["classes"], job=wanted)]
    assert clock > 0
    assert abs(expected / clock - 1) < NEAR


def test_time_left_on_a_cluster(
    job: Job, tiny_pathsam: PathSam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that begin together are all half-way through a block when the first has done one."""
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.STRIDES", 1)
    clock, workers = 0.0, 3
    monkeypatch.setattr("napari_pathsam.inference.slide_time.perf_counter", lambda: clock)
    wanted = job(tiny_pathsam, mpp=0.5, tissue=False)
    tasks = slide_tasks(wanted.plan, wanted.todo(None), workers)
    runs = runs_by_block(wanted.plan, tasks)
    free, ends = [0.0] * workers, []
    for task in tasks:  # a second for each window
        who = free.index(min(free))
        for number in task:
            free[who] += runs[number]
            ends.append((free[who], number))
    time = TimeLeft(wanted, tasks, workers=workers)
    for now, some in groupby(sorted(ends), itemgetter(0)):
        clock = now
        for _, number in some:
            time.worked_out(number)
        assert time.seconds == pytest.approx(max(free) - now, abs=0.25 * max(free))


@pytest.mark.parametrize(
    ("seconds", "workers", "base", "says", "not_said"),
    [
        (9.0, 0, "sam2.1-tiny", (), "mm²"),
        (
            1700.0,
            0,
            "sam2.1-tiny",
            ("9 mm² to do in 223 windows; about 28 min and 40 MB",),
            "Sooner",
        ),
        (1850.0, 0, "pathsam-nano", ("about 31 min", "(HERE)", "with MORE."), "smaller"),
        (1850.0, 0, "", ("about 31 min", "(HERE)", "with MORE."), "smaller"),
        (6000.0, 2, "sam2.1-tiny", ("about 50 min", "or a smaller model: pathsam-nano"), "100 min"),
        (6000.0, 4, "sam2.1-tiny", ("about 25 min",), "Sooner"),
    ],
)
def test_what_is_faster_is_said_of_long_runs(
    seconds: float, workers: int, base: str, says: tuple[str, ...], not_said: str
) -> None:
    said = Estimate(seconds, 0.0, 40_000_000, 223, 9.0, base).text(
        part="HERE", more="MORE", workers=workers
    )
    assert all(words in said for words in says), said
    assert not_said not in said
    assert bool(said) == bool(says)
