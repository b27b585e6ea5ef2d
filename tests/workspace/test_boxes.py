"""All boxes of a person's layer become objects, in one step; fields are shared between them."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace import ArraySource, Workspace
from napari_pathsam.workspace.boxes import fields_of

from .conftest import DISCS, SHAPE, GrowModel, Heard, LateRunner, discs_image  # noqa: TID252


def box_of(name: str) -> tuple[float, float, float, float]:
    y, x, r = DISCS[name]
    return (y - r, x - r, y + r, x + r)


BOXES = [box_of(name) for name in DISCS]


def test_every_box_becomes_an_object_in_one_step(workspace, model, heard):
    progress = []
    workspace.boxes_progress.connect(lambda *told: progress.append(told))
    tumour = workspace.add_class("tumour")
    workspace.accept_boxes(BOXES, tumour)
    assert len(workspace.objects) == len(BOXES)
    assert {o.class_id for o in workspace.objects.values()} == {tumour}
    for y0, x0, y1, x1 in BOXES:
        found = workspace.instances[int(y0) : int(y1), int(x0) : int(x1)]
        assert found.min() == found.max() > 0
    assert len(model.encoded) == 1
    assert progress[0] == (0, 3)
    assert progress[-2:] == [(3, 3), (0, 0)]
    assert "3 of 3" in heard.status[-1]
    workspace.undo()
    assert not workspace.objects
    assert not workspace.instances.any()


def test_objects_that_are_there_keep_their_pixels(workspace):
    workspace.add_point(*DISCS["a"][:2])
    kept = workspace.accept()
    before = workspace.instances == kept
    workspace.accept_boxes([box_of("a"), box_of("b")])
    np.testing.assert_array_equal(workspace.instances == kept, before)
    assert len(workspace.objects) == 3


def test_prompts_under_way_stay(workspace):
    workspace.add_point(*DISCS["a"][:2])
    candidate = workspace.candidate
    workspace.accept_boxes([box_of("b")])
    assert workspace.candidate is candidate
    assert workspace.prompts.points_yx == (DISCS["a"][:2],)


def test_without_a_box_on_the_image_it_is_said(workspace, heard):
    workspace.accept_boxes([(-20, -20, -5, -5), (10, 10, 10, 30), (500, 500, 520, 530)])
    assert "no box" in heard.failed[-1]
    assert not workspace.objects


def test_boxes_over_the_edge_are_clipped(workspace):
    workspace.accept_boxes([(-10, -10, 20, 20)])
    assert workspace.class_area_px(1) == 400


@pytest.fixture
def late(tmp_path):
    runner = LateRunner()
    workspace = Workspace(
        model_loader=lambda name, device: GrowModel(), runner=runner, journal_dir=tmp_path
    )
    workspace.open_image(ArraySource(discs_image()))
    yield workspace, runner
    workspace.close_image()


@pytest.mark.parametrize("how", ["cancel", "close_image"])
@pytest.mark.parametrize("after", [0, 1])
def test_stopped_on_the_way_nothing_is_added(late, how, after):
    workspace, runner = late
    heard, progress = Heard(workspace), []
    workspace.boxes_progress.connect(lambda *told: progress.append(told))
    workspace.accept_boxes(BOXES)
    for _ in range(after):
        runner.run()
    assert workspace.answering_boxes
    getattr(workspace, how)()
    runner.run_all()
    assert not workspace.answering_boxes
    assert progress[-1] == (0, 0)
    assert not workspace.objects
    assert not heard.failed


def test_what_goes_wrong_is_one_paragraph(tmp_path):
    def loader(name, device):
        raise OSError("the disk is gone")

    workspace = Workspace(model_loader=loader, journal_dir=tmp_path)
    workspace.open_image(ArraySource(discs_image()))
    heard = Heard(workspace)
    workspace.accept_boxes(BOXES)
    assert "the disk is gone" in heard.failed[-1]
    assert not workspace.answering_boxes
    workspace.close_image()


def test_fields_hold_each_box_whole_and_once(rng):
    shape_yx = (9000, 12000)
    config = SimpleNamespace(field_px=1024, mpp_range=(0.25, 2.0))
    corner = rng.uniform(0, (8900, 11900), (400, 2))
    size = rng.lognormal(4, 0.7, (400, 2))
    boxes = [(y, x, y + h, x + w) for (y, x), (h, w) in zip(corner, size, strict=True)]
    boxes.append((0, 0, 9000, 11000))  # larger than any field at the image's resolution
    fields = fields_of(boxes, shape_yx, 0.25, config)
    assert sorted(i for f in fields for i in f.places) == list(range(len(boxes)))
    for one in fields:
        assert max(one.field.shape_yx) <= config.field_px
        region = one.field.region
        assert Region.of(shape_yx).intersection(region) == region
        for y0, x0, y1, x1 in one.boxes[1:]:
            assert region.y <= y0 < y1 <= region.y + region.height
            assert region.x <= x0 < x1 <= region.x + region.width
    assert len(fields) < len(boxes) / 2


def test_a_small_image_is_one_field():
    config = SimpleNamespace(field_px=128, mpp_range=None)
    (one,) = fields_of(BOXES, SHAPE, None, config)
    assert one.field.region == Region.of(SHAPE)
    assert one.field.shape_yx == SHAPE
