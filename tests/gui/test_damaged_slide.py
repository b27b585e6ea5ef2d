"""A slide with a tile that does not decode, in the viewer: grey to the eye, glass to a model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_pathsam._napari.layer_source import LayerSource, source_of
from napari_pathsam._napari.reader import read_slide
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import segment_classes
from napari_pathsam.inference.slide import segment_slide
from napari_pathsam.io.slides import open_slide
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.workspace.runner import InlineRunner
from napari_pathsam.workspace.segment_request import Part, SegmentRequest
from napari_pathsam.workspace.segmenting import Result, Segmenting

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("ignore:.*Such places are shown grey:UserWarning"),
]

BAD = Region(256, 128, 128, 128)
SAID = "1 place could not be read and was taken for glass."


@pytest.fixture
def path(slide_files: ModuleType, tmp_path: Path) -> Path:
    made: Path = slide_files.without_tile(slide_files.aperio(tmp_path), BAD)
    return made


@pytest.fixture
def image(path: Path) -> Image:
    ((data, options, _),) = read_slide(str(path))
    return Image(data, **options)


@pytest.fixture
def source(image: Image) -> LayerSource:
    viewer = ViewerModel()
    viewer.add_layer(image)
    return source_of(image, viewer)


def run(source: LayerSource, model: PathSam) -> tuple[Result, list[str]]:
    """All of it, as the dock does it."""
    segmenting = Segmenting(lambda *_: model, InlineRunner())
    failed: list[str] = []
    said: list[str] = []
    found: list[Result] = []
    segmenting.failed.connect(failed.append)
    segmenting.status.connect(said.append)
    segmenting.finished.connect(found.append)
    segmenting.start(
        SegmentRequest(source, (Part(Region.of(source.shape_yx)),), "tiny:made", mpp=source.mpp)
    )
    assert not failed
    return found[0], said


def test_a_layer_knows_its_slide(image: Image, source: LayerSource) -> None:
    assert source.slide is not None
    whole = Region.of(source.shape_yx)
    for region, shape_yx in (
        (Region(0, 0, 200, 100), (200, 100)), (Region(3, 5, 241, 113), (120, 57)),
        (Region(0, 300, whole.height, 200), (90, 40)),
    ):  # fmt: skip
        there = source.slide.read_resampled(region, shape_yx)
        np.testing.assert_array_equal(source.read(region, shape_yx), there)
    assert (source.read(BAD, BAD.shape_yx) == 128).all()
    viewer = ViewerModel()
    part = viewer.add_image([level[:400] for level in image.data], rgb=True)
    assert source_of(part, viewer).slide is None
    assert source_of(viewer.add_layer(image), viewer).slide is source.slide


@pytest.mark.parametrize("as_slide", [False, True])
def test_what_cannot_be_read_is_glass_and_told(
    source: LayerSource,
    path: Path,
    tiny_pathsam: PathSam,
    monkeypatch: pytest.MonkeyPatch,
    as_slide: bool,
) -> None:
    if as_slide:  # as the command does it
        monkeypatch.setattr("napari_pathsam.workspace.segment_slide.LARGEST_WHOLE_PX", 64)
        expected = np.zeros(source.shape_yx, np.uint8)
        with open_slide(path) as slide:
            for tile in segment_slide(tiny_pathsam, slide):
                expected[tile.region.slices] = tile.class_map
    else:
        pixels = source.read(Region.of(source.shape_yx), source.shape_yx)
        pixels[BAD.slices] = 255
        expected = segment_classes(tiny_pathsam, pixels, source.mpp)
    result, said = run(source, tiny_pathsam)
    found = np.asarray(
        result.stores["classes"].pyramid()[0] if as_slide else result.class_map.shown
    )
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 1
    assert said[-1].endswith(SAID)
