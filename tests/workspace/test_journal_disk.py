"""The journal on a disk that is full, slow, broken or not there."""

import threading

from napari_pathsam.workspace import Workspace, journal

from .conftest import DISCS, Heard, add, check_rules, files  # noqa: TID252


def test_a_disk_that_takes_nothing_is_told_once_and_work_goes_on(opened, folder, monkeypatch):
    workspace, heard = opened()
    add(workspace, "a")

    def full(value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "_line", full)
    add(workspace, "b")
    add(workspace, "c")
    assert len(heard.failed) == 1
    assert "No space left" in heard.failed[0]
    assert len(workspace.objects) == 3
    workspace.undo()
    check_rules(workspace)


def test_nobody_waits_for_a_slow_disk(opened, folder, monkeypatch):
    syncs, written = [], threading.Event()

    def slow(descriptor):
        syncs.append(descriptor)
        assert written.wait(60)

    monkeypatch.setattr("napari_pathsam.workspace.syncing.os.fsync", slow)
    workspace, heard = opened()
    for name in DISCS:
        add(workspace, name)
    assert len(list(journal._good_lines(files(folder)[0]))) == 1 + 2 * len(DISCS)
    written.set()
    workspace.close_image()
    assert 1 <= len(syncs) <= 3  # those that waited were taken along
    assert not heard.failed


def test_a_disk_that_fails_behind_our_back_is_told_at_the_next_action(opened, monkeypatch):
    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("napari_pathsam.workspace.syncing.os.fsync", broken)
    workspace, heard = opened()
    workspace.add_point(*DISCS["a"][:2])
    workspace._keeper._journal._syncer._last.exception(timeout=5)
    workspace.accept()
    assert len(heard.failed) == 1
    assert "Input/output error" in heard.failed[0]
    assert len(workspace.objects) == 1


def test_a_folder_that_cannot_be_made_is_told_and_work_goes_on(model, source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path / "file" / "sub")
    heard = Heard(workspace)
    workspace.open_image(source)
    assert len(heard.failed) == 1
    assert add(workspace, "a") == 1
    assert len(heard.failed) == 1
