"""Segmenting a slide from the dock's side: blocks land in a pyramid, a stop is no loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.workspace.runner import InlineRunner
from napari_pathsam.workspace.scripting import ImageOrigin
from napari_pathsam.workspace.segment_request import Part, SegmentOptions, SegmentRequest
from napari_pathsam.workspace.segment_slide import SlideResult, slide_python
from napari_pathsam.workspace.segmenting import Segmenting

SHAPE = (17_000, 600)
MPP = 0.1


class Strip:
    """A long slide: tissue here and there."""

    key, name, mpp = "strip", "strip.tif", MPP
    shape_yx, slide = SHAPE, None

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.normal(0, 25, (SHAPE[0] // 8, SHAPE[1] // 8))
        tissue = ndimage.gaussian_filter(coarse, 2) * 4
        pixels = np.clip(tissue[..., None] + (190, 120, 170), 0, 255).astype(np.uint8)
        pixels[400:1200] = 244
        self._small = pixels

    def read(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
        rows, columns = (
            (start + (np.arange(n) + 0.5) * side / n).astype(int) // 8
            for start, side, n in zip((region.y, region.x), region.shape_yx, shape_yx, strict=True)
        )
        last = np.subtract(self._small.shape[:2], 1)
        return self._small[np.minimum(rows, last[0])[:, None], np.minimum(columns, last[1])]


class Steps(InlineRunner):
    """Does one thing at a time, when told to."""

    def __init__(self) -> None:
        self.waiting: list = []

    def submit(self, *args, **kwargs):
        self.waiting.append((args, kwargs))

    def step(self) -> None:
        args, kwargs = self.waiting.pop(0)
        super().submit(*args, **kwargs)


@pytest.fixture
def asked(tiny_pathsam, monkeypatch):
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.OVERLAP", 0.25)  # fewer windows

    def of(runner, **options):
        request = SegmentRequest(
            Strip(), (Part(Region.of(SHAPE)),), "tiny:made", mpp=MPP,
            first=Region(15_000, 0, 600, 600),
            options=SegmentOptions(**options),
        )  # fmt: skip
        segmenting = Segmenting(lambda name, device: tiny_pathsam, runner)
        heard: dict = {"pieces": [], "failed": [], "finished": [], "progress": [], "said": []}
        segmenting.status.connect(heard["said"].append)
        segmenting.piece_written.connect(lambda result, region: heard["pieces"].append(region))
        segmenting.failed.connect(heard["failed"].append)
        segmenting.finished.connect(heard["finished"].append)
        segmenting.progress_changed.connect(heard["progress"].append)
        return segmenting, request, heard

    return of


@pytest.mark.slow
def test_all_of_a_slide(asked):
    segmenting, request, heard = asked(InlineRunner(), uncertainty=True, instances=True)
    segmenting.start(request)
    assert not heard["failed"], heard["failed"]
    (result,) = heard["finished"]
    assert isinstance(result, SlideResult)
    assert heard["pieces"][0].y >= 14_000  # what is looked at comes first
    found = LabelStore.open(result.path)
    assert found.classes == result.classes
    values = np.asarray(found.pyramid()[0])
    for info in result.classes:
        assert result.table[info.id].px == (values == info.id).sum()
    assert sum(row.px for row in result.table.rows) == SHAPE[0] * SHAPE[1]
    assert result.table.rows[1].mm2 is not None
    assert result.table.tissue_mm2 == pytest.approx(result.plan.tissue.mm2(MPP))
    assert "Seam score" in result.summary()
    ids = np.asarray(LabelStore.open(result.path, "objects").pyramid()[0])
    first = np.unique(ids, return_index=True)[1]
    assert len(first) > 10
    class_of = dict(zip(*result.class_of(), strict=True))
    assert class_of == {int(ids.flat[i]): int(values.flat[i]) for i in first[1:]}
    assert result.stores["uncertainty"].read(Region(0, 0, 600, 600)).any()
    origin = ImageOrigin(None, "strip")
    compile(slide_python(result, origin), "copied", "exec")
    # Once more: it is all there.
    n = len(heard["pieces"])
    segmenting.start(request)
    assert len(heard["finished"]) == 2
    assert len(heard["pieces"]) == n


@pytest.mark.slow
def test_a_stop_keeps_what_is_done_and_the_next_run_goes_on(asked, tmp_path):
    runner = Steps()
    segmenting, request, heard = asked(runner)
    segmenting.start(request)
    while not heard["pieces"]:
        runner.step()
    segmenting.cancel()
    while runner.waiting:
        runner.step()
    assert not segmenting.running
    (stopped,) = heard["finished"]
    done = stopped.table.rows[1].px
    whole_mm2 = stopped.plan.tissue.mm2(MPP)
    assert 0 < stopped.table.tissue_mm2 < 0.95 * whole_mm2  # of the blocks that are done
    total = heard["progress"][-2].total
    assert 0 < len(heard["pieces"]) < total
    segmenting.start(request)
    while runner.waiting:
        runner.step()
    result = heard["finished"][-1]
    assert result.table.rows[1].px >= done
    assert result.table.tissue_mm2 == pytest.approx(whole_mm2)
    assert len(heard["pieces"]) <= total  # none twice
    again, request, heard = asked(InlineRunner(), threshold=0.01)
    again.start(request)
    whole = heard["finished"][0]
    assert whole.path != result.path
    assert (np.asarray(whole.stores["classes"].pyramid()[0])
            == np.asarray(result.stores["classes"].pyramid()[0])).all()  # fmt: skip


def test_how_long_it_takes_is_said_before_it_begins(asked, monkeypatch):
    monkeypatch.setattr("napari_pathsam.inference.slide_estimate.SHORT_S", 0.0)
    monkeypatch.setattr("napari_pathsam.inference.slide_estimate.LONG_S", 0.0)
    runner = Steps()
    segmenting, request, heard = asked(runner)
    segmenting.start(request)
    while not any("windows; about" in said for said in heard["said"]):
        runner.step()
    assert not heard["pieces"]
    said = heard["said"][-1]
    assert "MB on the disk" in said
    assert "“Where”" in said  # what is faster, in the dock's own words
    assert "a smaller model" in said
    assert heard["progress"][-1].seconds_left > 0
    segmenting.close()


def test_shapes_far_apart_are_refused(asked):
    segmenting, request, heard = asked(InlineRunner())
    parts = (Part(Region(0, 0, 50, 50)), Part(Region(16_900, 0, 50, 50)))
    segmenting.start(SegmentRequest(request.source, parts, "tiny:made"))
    assert "nearer to each other" in heard["failed"][0]


@pytest.mark.slow
def test_what_is_done_is_never_in_the_way(asked, tiny_pathsam):
    """Neither of a slide that cannot be read, nor of other weights under the same name."""
    segmenting, request, heard = asked(InlineRunner())
    segmenting.start(request)
    (result,) = heard["finished"]

    def gone(region, shape_yx):
        raise BadFileError("strip.tif is not there any more. Bring it back, and go on from there.")

    reads, request.source.read = request.source.read, gone
    segmenting.start(request)
    assert "not there any more" in heard["failed"][0]
    assert LabelStore.open(result.path).require(result.run.stores["classes"].about) is None
    request.source.read = reads
    weights = next(tiny_pathsam.parameters())
    with torch.no_grad():
        weights += 0.5
    segmenting.start(request)
    with torch.no_grad():
        weights -= 0.5
    assert heard["finished"][1].path != result.path
    assert LabelStore.open(result.path).shape_yx == SHAPE
