"""Labels of slides: anywhere, saved at once, restored; as on a small image."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import zarr

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.packed_chunks import PackedChunks
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import class_of_objects
from napari_pathsam.workspace import ArraySource, Workspace
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.history import Step
from napari_pathsam.workspace.journal import Journal

from .conftest import Heard, check_rules  # noqa: TID252


def keep_nothing_in_memory(monkeypatch):
    """Every chunk but the last goes to the disk."""
    init = PackedChunks.__init__
    monkeypatch.setattr(
        PackedChunks, "__init__", lambda s, dtype, _, disk=None: init(s, dtype, 1, disk)
    )


class Wide(ArraySource):
    """A slide's worth of the same colour."""

    shape_yx = (17_000, 640)

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 1, 3), np.uint8))

    def read(self, region, shape_yx):
        return np.full((*shape_yx, 3), 9, np.uint8)


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


@pytest.mark.parametrize("kind", [BadFileError, RuntimeError])
@pytest.mark.parametrize("hot_bytes", [1, 10**9])
def test_a_disk_that_takes_nothing_is_told_once_and_nothing_is_lost(
    model, tmp_path, monkeypatch, kind, hot_bytes
):
    init = PackedChunks.__init__
    monkeypatch.setattr(
        PackedChunks, "__init__", lambda s, dtype, _, disk=None: init(s, dtype, hot_bytes, disk)
    )
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Wide())

    def full(*_):
        raise kind("There is no space left.")

    with monkeypatch.context() as patched:
        patched.setattr(LabelStore, "write_level", full)
        for n in range(3):
            workspace.record_stroke("classes", (np.arange(9), np.full(9, n)), 0, 1)
            workspace.record_stroke("classes", (np.arange(9), np.full(9, 600 + n)), 0, 1)
            workspace._saver.save_now()
        workspace.record_stroke("classes", (np.arange(9), np.full(9, 3)), 0, 1)
        assert len(heard.failed) == 1
        assert "no space left." in heard.failed[0]
        assert "Your labels are safe" in heard.failed[0]
    assert workspace.class_area_px(1) == 7 * 9
    workspace._saver.save_now()
    assert (LabelStore.open(workspace.pyramids_path).read(Region(0, 0, 9, 4)) == 1).all()
    workspace.close_image()


def test_pyramids_say_what_is_drawn_while_it_is_drawn(tmp_path, monkeypatch):
    workspace = Workspace(journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Wide())
    workspace.add_class("other")
    collecting = set()
    write = LabelStore.write_level

    def writing(self, *args):
        collecting.add(gc.isenabled())
        write(self, *args)

    monkeypatch.setattr(LabelStore, "write_level", writing)
    for n in (1, 2, 3):
        workspace.set_active_class(1 + n % 2)
        workspace.record_stroke("instances", (np.arange(9) + 20 * n, np.arange(9)), 0, n)
        workspace.set_mpp(n / 4)
        saving = threading.Thread(target=workspace._saver.save_now)
        saving.start()
        saving.join()
        assert class_of_objects(workspace.pyramids_path) == {
            i: o.class_id for i, o in workspace.objects.items()
        }
        for name in ("objects", "classes"):
            assert LabelStore.open(workspace.pyramids_path, name).mpp == n / 4
    assert collecting == {False}  # in a thread it would free what is Qt's
    assert gc.isenabled()

    def half(file, array):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", half)
        workspace.delete_object(1)
        workspace._saver.save_now()
    assert len(class_of_objects(workspace.pyramids_path)) == 3
    workspace.delete_object(2)
    assert "No space left" in heard.failed.pop()
    workspace.close_image()
    assert not heard.failed


def test_labels_that_somebody_removed_from_the_disk_come_back(model, tmp_path, monkeypatch):
    """What is gone reads as nothing, and nothing must not be written into the journal."""
    keep_nothing_in_memory(monkeypatch)
    monkeypatch.setattr("napari_pathsam.workspace.keeper.COMPACT_BYTES", 1)
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Wide())
    for y in (0, 9000):
        square = tuple(np.mgrid[y : y + 9, :9].reshape(2, -1))
        workspace.record_stroke("classes", square, 0, 1)
    workspace._saver.save_now()
    assert (workspace.class_map[9000:9009, :9] == 1).all()
    shutil.rmtree(workspace.pyramids_path / "labels" / "classes" / "0" / "c" / "0")
    with pytest.raises(BadFileError, match="somebody removed"):
        _ = workspace.class_map[:9, :9]
    workspace.close_image()
    assert "somebody removed" in heard.failed[-1]
    workspace.open_image(Wide())
    workspace.restore()
    assert (workspace.class_map[:9, :9] == 1).all()
    workspace.close_image()


@pytest.mark.parametrize("hidden", ["classes/0/c/17", "objects/0/c/17", "objects/1/c/8"])
def test_a_step_that_the_disk_stops_half_way_is_none(tmp_path, monkeypatch, hidden):
    """Neither memory, history nor journal has a part of it; and it goes when the disk is back."""
    keep_nothing_in_memory(monkeypatch)
    workspace = Workspace(journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Wide())
    workspace.add_class("other")
    for n, y in enumerate((100, 5000, 9000, 13_000), start=1):
        workspace.set_active_class(1 + n % 2)
        square = tuple(np.mgrid[y : y + 40, :40].reshape(2, -1))
        workspace.record_stroke("instances", square, 0, n)

    def state():
        maps = (workspace.instances, workspace.class_map)
        arrays = [np.asarray(level) for labels in maps for level in labels.levels[:2]]
        return [a.tobytes() for a in arrays], dict(workspace.objects), workspace.class_area_px(2)

    def stopped(go):
        before, journal = state(), next(tmp_path.glob("*.jsonl")).read_bytes()
        steps = workspace.undo_text, workspace.redo_text
        workspace._saver.save_now()
        chunk = workspace.pyramids_path / "labels" / hidden / "0"
        away = chunk.rename(chunk.with_name("away"))
        go()
        assert "somebody removed" in heard.failed.pop()
        away.rename(chunk)
        assert state() == before
        assert (workspace.undo_text, workspace.redo_text) == steps
        assert next(tmp_path.glob("*.jsonl")).read_bytes() == journal

    drawn = state()
    workspace.delete_class(2)
    left = state()
    workspace.undo()
    stopped(workspace.redo)
    heard.labels.clear()
    stopped(lambda: workspace.record_stroke("instances", (np.array([9070]), np.array([9])), 0, 3))
    assert heard.labels == [Region(9070, 9, 1, 1)]  # who shows it already takes it back
    workspace.redo()
    assert state() == left
    workspace.undo()
    workspace.record_stroke("instances", (np.array([9050]), np.array([9])), 0, 3)
    stopped(workspace.undo)
    workspace.undo()
    assert state() == drawn
    workspace.close_image()
    workspace.open_image(Wide())
    workspace.restore()
    assert state() == drawn
    assert not heard.failed
    workspace.close_image()


def test_a_large_journal_is_compacted_in_lines_of_bounded_length(model, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_pathsam.workspace.workspace.STEP_TILES", 2)
    monkeypatch.setattr("napari_pathsam.workspace.keeper.COMPACT_BYTES", 1)
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


@pytest.mark.parametrize("cold", [False, True])
def test_nobody_waits_for_labels_when_an_image_is_closed(model, tmp_path, monkeypatch, cold):
    """What is not saved in time is not lost, and half of it is not taken for all."""
    if cold:  # of what is on screen nothing is in memory
        keep_nothing_in_memory(monkeypatch)
    monkeypatch.setattr("napari_pathsam.workspace.keeper.COMPACT_BYTES", 1)
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(Wide())
    for n, y in enumerate(range(0, 16_000, 2000)):
        square = tuple(np.mgrid[y : y + 9, :9].reshape(2, -1))
        workspace.record_stroke("instances", square, 0, n + 1)
    path, shown = workspace.pyramids_path, workspace.instances
    journal = next(tmp_path.glob("*.jsonl"))
    wanted, written = np.asarray(shown), journal.read_bytes()
    with monkeypatch.context() as patched:
        for module in ("workspace", "label_saver"):
            patched.setattr(f"napari_pathsam.workspace.{module}.CLOSING_S", -1.0)
        workspace.close_image()
    assert journal.read_bytes() == written
    assert not list(tmp_path.glob("*.new"))
    file = journal.stat().st_ino
    assert not path.exists()
    assert np.array_equal(np.asarray(shown), wanted)  # a layer that is left still shows them
    for whole in (False, True):
        workspace.open_image(Wide())
        workspace.restore()
        assert np.array_equal(np.asarray(workspace.instances), wanted)
        before, file = file, journal.stat().st_ino
        path = workspace.pyramids_path
        assert (file == before) == whole  # a snapshot is not written anew
        workspace.close_image()
        assert journal.stat().st_ino == file
        assert np.array_equal(
            LabelStore.open(path, "objects").read(Region(0, 0, 17_000, 640)), wanted
        )
    assert not heard.failed


def test_labels_of_an_image_that_was_closed_are_read_while_it_is_drawn_on_anew(
    tmp_path, monkeypatch
):
    """An export that goes on, or an overview that somebody kept, shows what was there."""
    keep_nothing_in_memory(monkeypatch)
    square = np.mgrid[:9, :9].reshape(2, -1)
    workspace = Workspace(journal_dir=tmp_path)
    heard = Heard(workspace)

    def opened():
        workspace.open_image(Wide())
        workspace.restore()
        return workspace.pyramids_path

    first = opened()
    for n, y in enumerate((0, 4000, 8000), start=1):
        workspace.record_stroke("instances", (square[0] + y, square[1]), 0, n)
    wanted = np.asarray(workspace.instances)
    kept, copied = workspace.instances, workspace.class_map.copy()
    workspace.close_image()
    again = opened()
    workspace.delete_object(1)
    workspace.record_stroke("instances", (square[0] + 4000, square[1] + 20), 0, 9)
    workspace._saver.save_now()
    assert np.array_equal(np.asarray(kept), wanted)
    assert np.array_equal(np.asarray(copied), wanted > 0)
    workspace.close_image()
    asks = "import sys; from pathlib import Path; from napari_pathsam.io._in_use import in_use; "
    asks += "print(in_use(Path(sys.argv[1])))"
    words = [sys.executable, "-c", asks, str(first)]
    assert subprocess.check_output(words, text=True).strip() == "True"
    del kept, copied  # which is enough: nothing waits for the collector
    opened()
    assert [path for path in (first, again) if path.exists()] == []
    workspace.close_image()
    assert not heard.failed


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
