"""What is copied from the Segment dock has the maps that were asked for, too."""

from __future__ import annotations

import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import polygon_mask
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.workspace import ArraySource, InlineRunner
from napari_pathsam.workspace.scripting import ImageOrigin, segment_command, segment_python
from napari_pathsam.workspace.segment_request import Part, SegmentOptions, SegmentRequest
from napari_pathsam.workspace.segmenting import Segmenting

SHAPE = (200, 260)


@pytest.fixture
def result_with(rng, tiny_pathsam, tmp_path):
    """``(**options) -> (result, origin)`` of an image in a file."""
    coarse = rng.integers(0, 256, (25, 33, 3), dtype=np.uint8)
    image = np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[: SHAPE[0], : SHAPE[1]])
    Image.fromarray(image).save(tmp_path / "field.png")

    def of(part=None, **options):
        request = SegmentRequest(
            ArraySource(image, name="field", mpp=0.5), (part or Part(Region.of(SHAPE)),),
            "tiny:made", mpp=0.5, options=SegmentOptions(**options),
        )  # fmt: skip
        done = []
        segmenting = Segmenting(lambda name, device: tiny_pathsam, InlineRunner())
        segmenting.finished.connect(done.append)
        segmenting.start(request)
        return done[0], ImageOrigin(tmp_path / "field.png", "field")

    return of


@pytest.mark.parametrize("probabilities", [False, True])
def test_copied_python_has_the_maps(result_with, probabilities, tiny_pathsam, monkeypatch):
    import napari_pathsam

    result, origin = result_with(uncertainty=True, probabilities=probabilities)
    monkeypatch.setattr(napari_pathsam, "load_model", lambda *_, **__: tiny_pathsam, raising=False)
    scope: dict = {}
    exec(compile(segment_python(result, origin), "copied", "exec"), scope)
    np.testing.assert_array_equal(scope["class_map"], result.class_map.shown)
    (wanted,) = result.maps
    np.testing.assert_allclose(scope["maps"].uncertainty, wanted.uncertainty, atol=1e-3)
    if probabilities:
        np.testing.assert_allclose(scope["maps"].probabilities, wanted.probabilities, atol=1e-3)
    else:
        assert scope["maps"].probabilities is None


@pytest.mark.parametrize("maps", [False, True])
def test_copied_python_judges_what_an_outline_leaves_of_an_area(
    result_with, maps, tiny_pathsam, monkeypatch
):
    import napari_pathsam

    outline = np.array([[20.0, 30.0], [25.0, 220.0], [180.0, 200.0], [150.0, 40.0]])
    region = Region(20, 30, 161, 191)
    within = polygon_mask(outline - (20, 30), region.shape_yx)
    result, origin = result_with(
        Part(region, within, outline), surest=0.6, threshold=0.35, views=2, uncertainty=maps
    )
    monkeypatch.setattr(napari_pathsam, "load_model", lambda *_, **__: tiny_pathsam, raising=False)
    scope: dict = {}
    exec(compile(segment_python(result, origin), "copied", "exec"), scope)
    shown = result.class_map.shown[region.slices]
    np.testing.assert_array_equal(scope["class_map"], shown)
    assert (shown == 255).any()
    plain, _ = result_with(Part(region, within, outline), threshold=0.35, views=2)
    assert (plain.class_map.shown[region.slices] != shown).any()


def test_a_copied_command_writes_the_maps(
    result_with, tiny_pathsam, pathsam, monkeypatch, tmp_path
):
    result, origin = result_with(uncertainty=True, probabilities=True)
    monkeypatch.setattr(sys.modules["napari_pathsam.cli.segment"], "load", lambda *_: tiny_pathsam)
    monkeypatch.chdir(tmp_path)
    status, _, told = pathsam(*shlex.split(segment_command(result, origin))[1:])
    assert status == 0, told
    path, whole = tmp_path / "field-classes.zarr", Region.of(SHAPE)
    found = LabelStore.open(path).read(whole)
    assert (found != result.class_map.shown).mean() < 0.05  # windows of 128 px begin elsewhere
    for name in ("uncertainty", "probability-stroma"):
        assert LabelStore.open(path, name).read(whole).any()


def test_sharpened_objects_and_maps_are_not_one_command(result_with, pathsam, tmp_path):
    result, origin = result_with(uncertainty=True, instances=True, sharpen=True)
    with pytest.raises(UnavailableError, match="Copy this as Python"):
        segment_command(result, origin)
    status, _, told = pathsam(
        "segment", origin.path, "--model", "m", "--out", tmp_path / "o.zarr", "--instances",
        "--sharpen", "--uncertainty",
    )  # fmt: skip
    assert status == 2
    assert "outlined anew" in told
