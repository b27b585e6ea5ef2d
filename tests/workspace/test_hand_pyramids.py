"""Pyramids of hand labels beside the journal: saved as one draws, whatever the disk does."""

import gc
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.packed_chunks import PackedChunks
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import class_of_objects
from napari_pathsam.workspace import Workspace

from .conftest import Heard, Wide  # noqa: TID252


def keep_nothing_in_memory(monkeypatch):
    """Every chunk but the last goes to the disk."""
    init = PackedChunks.__init__
    monkeypatch.setattr(
        PackedChunks, "__init__", lambda s, dtype, _, disk=None: init(s, dtype, 1, disk)
    )


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
    monkeypatch.setattr("napari_pathsam.workspace.journal.COMPACT_BYTES", 1)
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


@pytest.mark.parametrize("cold", [False, True])
def test_nobody_waits_for_labels_when_an_image_is_closed(model, tmp_path, monkeypatch, cold):
    """What is not saved in time is not lost, and half of it is not taken for all."""
    if cold:  # of what is on screen nothing is in memory
        keep_nothing_in_memory(monkeypatch)
    monkeypatch.setattr("napari_pathsam.workspace.journal.COMPACT_BYTES", 1)
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
