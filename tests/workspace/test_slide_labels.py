"""Labels of slides: anywhere, saved at once, restored; as on a small image."""

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import zarr

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import class_of_objects
from napari_pathsam.workspace import Workspace
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.history import Step
from napari_pathsam.workspace.journal import Journal

from .conftest import Heard, Wide, check_rules  # noqa: TID252


def test_slides_are_labelled_everywhere(model, tmp_path):
    def opened():
        workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
        workspace.open_image(Wide())
        return workspace

    workspace = opened()
    corners = ((0, 0), (16_900, 540), (500, 300))
    for n, (y, x) in enumerate(corners, start=1):
        workspace.set_view(Region(y, x, 100, 100), 1.0)
        workspace.set_box((y + 10, x + 10, y + 60, x + 50))
        assert workspace.accept() == n
        assert workspace.objects[n].area_px == 50 * 40
        assert (workspace.instances[workspace.objects[n].box.slices] == n).all()
    workspace.add_class("other")
    rows, cols = np.mgrid[10_000:10_020, 511:530].reshape(2, -1)
    workspace.record_stroke("classes", (rows, cols), 0, 2)
    workspace.record_stroke("instances", (np.array([20, 21]), np.array([20, 20])), 1, 0)
    assert workspace.class_area_px(1) == 3 * 50 * 40 - 2
    assert workspace.class_area_px(2) == 20 * 19
    whole = np.asarray(workspace.instances).copy(), np.asarray(workspace.class_map).copy()
    workspace.delete_object(2)
    workspace.delete_class(2)
    assert not workspace.class_map[10_000:10_020, 511:530].any()
    assert not workspace.instances.levels[2][4225:, 135:].any()
    workspace.undo()
    workspace.undo()
    check_rules(workspace)
    del workspace  # never closed, as if its process had been killed
    gc.collect()
    again = opened()
    again.restore()
    assert again.restorable is None
    check_rules(again)
    for level, wanted in zip((again.instances, again.class_map), whole, strict=True):
        assert np.array_equal(level, wanted)
    again.undo()  # the stroke that erased two pixels
    assert again.objects[1].area_px == 50 * 40
    # All of it lies on the disk as plain OME-Zarr labels, too.
    path, maps = again.pyramids_path, {"objects": again.instances, "classes": again.class_map}
    classes, objects = again.classes, {i: o.class_id for i, o in again.objects.items()}
    again.close_image()
    for name, labels in maps.items():
        store = LabelStore.open(path, name)
        assert store.classes == classes
        assert len(store.level_shapes) == len(labels.levels)
        for found, level in zip(store.pyramid(), labels.levels, strict=True):
            assert np.array_equal(np.asarray(found), level)
        told = zarr.open_group(path / "labels" / name, zarr_format=3).attrs["ome"]["image-label"]
        assert len(told["colors"]) == len(told["properties"]) == (3 if name == "objects" else 2)
    assert class_of_objects(path) == objects
    assert not again.pyramids_path
    again = opened()
    again.discard_saved()
    assert again.pyramids_path != path  # what was not wanted is never mixed with the new
    again.record_stroke("classes", (rows, cols), 0, 1)
    again._saver.save_now()
    found = LabelStore.open(again.pyramids_path).pyramid()[3]
    assert np.array_equal(np.asarray(found), again.class_map.levels[3])
    again.close_image()


def test_a_large_journal_is_compacted_in_lines_of_bounded_length(model, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_pathsam.workspace.replay.STEP_TILES", 2)
    monkeypatch.setattr("napari_pathsam.workspace.journal.COMPACT_BYTES", 1)
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    workspace.open_image(Wide())
    for n, y in enumerate(range(0, 16_000, 2000)):
        workspace.record_stroke(
            "instances", tuple(np.mgrid[y : y + 9, :9].reshape(2, -1)), 0, n + 1
        )
    wanted, objects = workspace.instances, dict(workspace.objects)
    path = next(tmp_path.glob("*.jsonl"))
    workspace.close_image()
    assert len(path.read_bytes().splitlines()) == 1 + 8 // 2 + 1
    workspace.open_image(Wide())
    workspace.restore()
    assert np.array_equal(workspace.instances, wanted)
    assert dict(workspace.objects) == objects
    workspace.close_image()


def test_one_object_all_over_a_slide(model, tmp_path):
    class Huge(Wide):
        shape_yx = (60_000, 90_000)

    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Huge())
    corners = ((0, 0), (59_900, 0), (59_900, 89_900))
    for y, x in corners:
        square = tuple(np.mgrid[y : y + 100, x : x + 100].reshape(2, -1))
        workspace.record_stroke("instances", square, 0, 7)
    assert workspace.objects[7].box == Region.of(Huge.shape_yx)
    workspace.refine(7)
    assert "too much to refine" in heard.failed[-1]
    workspace.record_stroke("instances", square, 7, 0)
    assert workspace.objects[7].box == Region(0, 0, 60_000, 100)
    workspace.add_class("other")
    workspace.set_object_class(7, 2)
    assert workspace.class_area_px(2) == 20_000
    workspace.delete_object(7)
    assert not workspace.has_labels
    assert not workspace.instances.levels[-1].any()
    workspace.undo()
    assert workspace.class_count(2) == 1
    assert workspace.objects[7].area_px == 20_000
    workspace.close_image()


KILLED = """
import sys
from pathlib import Path
import numpy as np
from napari_pathsam.workspace import ArraySource, Workspace
class Slide(ArraySource):
    shape_yx = (60_000, 60_000)
def strokes():
    rng = np.random.default_rng(0)
    while True:
        y, x = (int(v) for v in rng.integers(0, 59_000, 2))
        yield y, x, int(rng.integers(10, 300))
if __name__ == "__main__":
    workspace = Workspace(journal_dir=Path(sys.argv[1]))
    workspace.open_image(Slide(np.zeros((1, 1, 3), np.uint8)))
    for n, (y, x, side) in enumerate(strokes(), start=1):
        square = tuple(np.mgrid[y : y + side, x : x + side].reshape(2, -1))
        workspace.record_stroke("classes", square, 0, 1 + n % 2)
        print(n, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_process_loses_no_stroke_on_a_slide(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE, text=True
    )
    told = [int(child.stdout.readline()) for _ in range(40)]
    child.send_signal(signal.SIGKILL)
    told += [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    script = {"__name__": "strokes"}
    exec(KILLED, script)
    workspace = Workspace(journal_dir=tmp_path)
    workspace.open_image(script["Slide"](np.zeros((1, 1, 3), np.uint8)))
    workspace.restore()
    n_done = len(workspace._history.done)
    assert n_done in (told[-1], told[-1] + 1)
    wanted = SparseLabels((60_000, 60_000), np.uint8)
    for n, (y, x, side) in zip(range(1, n_done + 1), script["strokes"](), strict=False):
        wanted[y : y + side, x : x + side] = 1 + n % 2
    pieces = set(wanted.pieces())
    assert set(workspace.class_map.pieces()) == pieces
    assert all((workspace.class_map[p.slices] == wanted[p.slices]).all() for p in pieces)
    assert np.array_equal(workspace.class_map.levels[-1], wanted.levels[-1])
    workspace.close_image()


def test_boxes_all_over_a_slide_become_objects_in_one_step(model, tmp_path):
    class Huge(Wide):
        shape_yx = (60_000, 90_000)

    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Huge())
    corners = ((10, 20), (59_900, 30), (480, 89_900))
    workspace.accept_boxes([(y, x, y + 50, x + 60) for y, x in corners])
    assert not heard.failed
    assert [o.area_px for o in workspace.objects.values()] == [50 * 60] * 3
    assert {(o.box.y, o.box.x) for o in workspace.objects.values()} == set(corners)
    workspace.undo()
    assert not workspace.objects
    workspace.close_image()


def test_saved_work_of_a_window_of_a_slide_is_restored(model, tmp_path):
    """Journals of earlier versions count from the corner of a window."""
    edit = LabelEdit.between(
        Region(10, 20, 30, 40),
        (np.zeros((30, 40), np.int32), np.zeros((30, 40), np.uint8)),
        (np.ones((30, 40), np.int32), np.ones((30, 40), np.uint8)),
    )
    head = {
        "labels_shape_yx": [8192, 400],
        "labels_origin_yx": [7000, 200],
        "classes": ClassTable.of("object").model_dump(mode="json"),
    }
    old = Journal(tmp_path, Wide().key)
    old.append("did", Step("Accept object", (edit,)).to_json(), 1, head)
    old.close()
    for _ in range(2):
        workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
        workspace.open_image(Wide())
        workspace.restore()
        assert workspace.objects[1].box == Region(7010, 220, 30, 40)
        workspace.close_image()
