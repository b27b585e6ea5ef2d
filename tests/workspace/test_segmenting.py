"""Segmenting: the state of a run, with a small real model and a runner the test steps through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.workspace import ArraySource, InlineRunner
from napari_pathsam.workspace.segment_request import Part, SegmentOptions, SegmentRequest
from napari_pathsam.workspace.segment_result import GuardedArray
from napari_pathsam.workspace.segment_work import encoding_of
from napari_pathsam.workspace.segmenting import Segmenting

from .conftest import LateRunner  # noqa: TID252

SHAPE = (200, 260)


class Heard:
    def __init__(self, segmenting: Segmenting) -> None:
        self.failed, self.status, self.progress, self.finished, self.written = [], [], [], [], []
        self.results = []
        segmenting.failed.connect(self.failed.append)
        segmenting.status.connect(self.status.append)
        segmenting.progress_changed.connect(self.progress.append)
        segmenting.finished.connect(self.finished.append)
        segmenting.result_changed.connect(self.results.append)
        segmenting.piece_written.connect(lambda result, region: self.written.append(region))


@pytest.fixture
def image(rng):
    coarse = rng.integers(0, 256, (25, 33, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[: SHAPE[0], : SHAPE[1]])


@pytest.fixture
def request_(image):
    source = ArraySource(image, name="field", mpp=0.5)
    return SegmentRequest(source, (Part(Region.of(SHAPE)),), "tiny:made", mpp=0.5)


def segmenting_with(model, runner, cache=None):
    found = Segmenting(lambda name, device: model, runner, lambda: cache)
    return found, Heard(found)


def test_a_run_gives_what_the_library_gives(tiny_pathsam, request_, image):
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    how = {"threshold": 0.4, "smallest_px": 30, "fill_holes_px": 30, "surest": 0.6, "views": 2}
    options = SegmentOptions(**how)
    segmenting.start(replace(request_, options=options))
    assert not heard.failed
    result = heard.finished[0]
    expected = segment_classes(tiny_pathsam, image, 0.5, **how)
    np.testing.assert_array_equal(result.class_map.shown, expected)
    assert len(np.unique(expected)) > 1
    assert heard.progress[-1] is None
    assert [p.done for p in heard.progress[:-1]] == sorted(p.done for p in heard.progress[:-1])
    assert result.covered.all()
    assert segmenting.result_of(request_.source.key, "tiny:made") is result


def test_only_what_shapes_enclose_is_written(tiny_pathsam, request_, image):
    within = np.zeros((80, 90), bool)
    within[20:60, 10:70] = True
    parts = (Part(Region(10, 20, 80, 90), within), Part(Region(120, 150, 60, 80)))
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    segmenting.start(replace(request_, parts=parts))
    result = heard.finished[0]
    wanted = np.zeros(SHAPE, bool)
    wanted[10:90, 20:110] = within
    wanted[120:180, 150:230] = True
    np.testing.assert_array_equal(result.covered, wanted)
    assert not result.class_map.shown[~wanted].any()
    part = segment_classes(tiny_pathsam, image, 0.5, region=parts[1].region)
    np.testing.assert_array_equal(result.class_map.shown[120:180, 150:230], part)


def test_what_was_drawn_beyond_the_image_is_said(tiny_pathsam, request_):
    part = Part(Region(120, 150, 80, 110), drawn=Region(120, 150, 900, 110))
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    segmenting.start(replace(request_, parts=(part,)))
    assert heard.finished[0].covered[120:, 150:].all()
    said = heard.status[0]  # when it begins, and in the end
    assert heard.status == [said] * 2
    assert "Rows 120 to 1020" in said
    assert "200 × 260 pixels" in said


def test_cancel_keeps_what_is_done(tiny_pathsam, request_):
    runner = LateRunner()
    segmenting, heard = segmenting_with(tiny_pathsam, runner)
    segmenting.start(request_)
    runner.run_first(3)  # load, two tiles
    total = heard.progress[-1].total
    assert total > 3
    kept = segmenting.result.class_map.shown.copy()
    segmenting.cancel()
    runner.run_all()
    assert not segmenting.running
    assert f"2 of {total}" in heard.status[-1]
    result = heard.finished[0]
    np.testing.assert_array_equal(result.class_map.shown, kept)
    assert 0 < result.covered.sum() < result.covered.size
    assert not heard.failed


def test_cancelling_twice_or_before_a_tile_ends_at_once(tiny_pathsam, request_):
    runner = LateRunner()
    segmenting, heard = segmenting_with(tiny_pathsam, runner)
    segmenting.start(request_)
    segmenting.cancel()
    assert not segmenting.running
    runner.run_all()
    assert not heard.finished
    segmenting.start(request_)
    runner.run_first(2)
    segmenting.cancel()
    segmenting.cancel()
    assert not segmenting.running
    runner.run_all()
    assert not heard.failed


def test_only_the_newest_run_lands(tiny_pathsam, request_):
    runner = LateRunner()
    segmenting, heard = segmenting_with(tiny_pathsam, runner)
    segmenting.start(request_)
    runner.run_first(2)
    other = replace(request_, options=SegmentOptions(threshold=0.99))
    segmenting.start(other)
    runner.run_all()
    assert len(heard.finished) == 1
    assert heard.finished[0].request is other
    assert (heard.finished[0].class_map.shown == 255).any()


def test_hand_edits_outlive_later_tiles_and_runs(tiny_pathsam, request_):
    runner = LateRunner()
    segmenting, heard = segmenting_with(tiny_pathsam, runner)
    segmenting.start(request_)
    runner.run_first(2)
    result = segmenting.result
    rows, columns = np.indices(SHAPE)[:, 60:140, 60:200].reshape(2, -1)
    result.class_map.shown[60:140, 60:200] = 2
    result.class_map.protect(rows, columns)
    result.class_map.shown[0:5, 250:260] = 1  # by a script: nobody said so
    runner.run_all()
    shown = result.class_map.shown
    assert (shown[60:140, 60:200] == 2).all()
    assert (shown[0:5, 250:260] == 1).all()
    before = shown.copy()
    segmenting.start(request_)
    runner.run_all()
    assert heard.finished[-1] is not result
    np.testing.assert_array_equal(result.class_map.shown, before)
    segmenting.start(request_)
    runner.run_all()
    assert heard.finished[-1] is heard.finished[-2]  # untouched: used again


def test_another_view_with_the_same_settings_adds_to_the_result(tiny_pathsam, request_):
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    left, right = Region(0, 0, 200, 100), Region(0, 100, 200, 160)
    segmenting.start(replace(request_, parts=(Part(left),)))
    segmenting.start(replace(request_, parts=(Part(right),)))
    assert heard.finished[0] is heard.finished[1]
    assert heard.finished[0].covered.all()
    options = SegmentOptions(threshold=0.5)
    segmenting.start(replace(request_, parts=(Part(right),), options=options))
    assert not heard.finished[0].covered[left.slices].any()  # no mixture of settings


def test_another_run_finds_the_embeddings(tiny_pathsam, request_):
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner(), EmbeddingCache())
    regions = tuple(part.region for part in request_.parts)
    encoding = encoding_of("tiny", 0.5, 1.0, request_.mpp)
    assert not segmenting.is_encoded(request_.source.key, encoding, regions)
    segmenting.start(request_)
    assert segmenting.is_encoded(request_.source.key, encoding, regions)
    assert segmenting.seconds_for("tiny", 1000) > 0
    assert not segmenting.is_encoded(request_.source.key, encoding, regions, 8)
    segmenting.start(replace(request_, options=SegmentOptions(views=8)))
    assert segmenting.is_encoded(request_.source.key, encoding, regions, 8)
    segmenting.start(replace(request_, options=SegmentOptions(views=2)))
    assert segmenting.is_encoded(request_.source.key, encoding, regions, 8)
    before = len(heard.progress)
    segmenting.start(replace(request_, options=SegmentOptions(threshold=0.6)))
    last = [p for p in heard.progress[before:] if p is not None][-1]
    assert last.reused == last.total > 1
    other = encoding_of("tiny", 0.5, 1.0, 0.35)  # the same pixels, taken to be smaller
    assert not segmenting.is_encoded(request_.source.key, other, regions)
    before = len(heard.progress)
    segmenting.start(replace(request_, mpp=0.35))
    last = [p for p in heard.progress[before:] if p is not None][-1]
    assert last.reused == 0
    assert segmenting.is_encoded(request_.source.key, other, regions)
    segmenting.forget_encodings(request_.source.key)
    assert not segmenting.is_encoded(request_.source.key, encoding, regions)


def test_what_cannot_be_done_is_said(tiny_pathsam, tiny_model, request_):
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    segmenting.start(replace(request_, parts=()))
    assert "nothing to segment" in heard.failed[-1]
    prompting, heard = segmenting_with(tiny_model, InlineRunner())
    prompting.start(request_)
    assert "knows no classes" in heard.failed[-1]
    assert not prompting.running

    def broken(name, device):
        raise RuntimeError("no such file")

    failing = Segmenting(broken, InlineRunner())
    heard = Heard(failing)
    failing.start(request_)
    assert "no such file" in heard.failed[-1]
    assert heard.progress[-1] is None


def test_an_error_halfway_keeps_what_is_done(tiny_pathsam, request_, image):
    class Fails(ArraySource):
        reads = 0

        def read(self, region, shape_yx):
            self.reads += 1
            if self.reads > 2:
                raise OSError("the disk is gone")
            return super().read(region, shape_yx)

    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    segmenting.start(replace(request_, source=Fails(image, mpp=0.5)))
    assert "the disk is gone" in heard.failed[-1]
    assert heard.finished[0].covered.any()
    assert not segmenting.running


def test_probabilities_and_uncertainty_are_kept_when_wanted(tiny_pathsam, request_):
    segmenting, heard = segmenting_with(tiny_pathsam, InlineRunner())
    segmenting.start(replace(request_, options=SegmentOptions(probabilities=True)))
    (maps,) = heard.finished[0].maps
    assert maps.probabilities.shape[0] == 3
    np.testing.assert_allclose(maps.probabilities.astype(float).sum(axis=0), 1, atol=0.01)
    highest = maps.probabilities.max(axis=0).astype(float)
    np.testing.assert_allclose(maps.uncertainty.astype(float), 1 - highest, atol=0.01)


def test_a_guarded_array_writes_only_its_own_pixels():
    array = GuardedArray((4, 4), np.uint8)
    array.write(Region(0, 0, 4, 4), np.full((4, 4), 1, np.uint8))
    assert not array.edited
    array.shown[0, 0] = 3
    array.protect(np.array([1]), np.array([1]))  # painted with what was there
    assert array.edited
    array.write(Region(0, 0, 2, 2), np.full((2, 2), 2, np.uint8))
    np.testing.assert_array_equal(array.shown[:2, :2], [[3, 2], [2, 1]])
    assert (array.shown[2:] == 1).all()
