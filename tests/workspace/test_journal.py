"""Saved work: replay is bit for bit, a killed process loses at most the last action."""

import json
import os
import zlib

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.history import PromptState, Step
from napari_pathsam.workspace.journal import Journal

from .conftest import (  # noqa: TID252
    add,
    check_rules,
    disc,
    files,
    random_action,
)


def same(one, other):
    assert np.array_equal(one.instances, other.instances)
    assert np.array_equal(one.class_map, other.class_map)
    assert dict(one.objects) == dict(other.objects)
    assert one.classes == other.classes
    assert one.prompts == other.prompts
    assert (one.undo_text, one.redo_text) == (other.undo_text, other.redo_text)


def test_nothing_is_written_before_the_first_action(opened, folder):
    workspace, _ = opened()
    assert workspace.restorable is None
    workspace.close_image()
    assert files(folder) == []


@pytest.mark.parametrize("seed", range(3))
def test_replay_is_equal_bit_for_bit_with_undo_and_redo(opened, seed):
    rng = np.random.default_rng(seed)
    first, _ = opened()
    for _ in range(60):
        random_action(first, rng)
    first._keeper.close()
    second, heard = opened()
    assert second.restorable.n_objects == len(first.objects)
    assert "object" in str(second.restorable)
    assert not second.instances.any()
    second.restore()
    assert not heard.failed
    same(second, first)
    check_rules(second)
    assert second.restorable is None
    # Undo reaches back before the restart, and what follows is saved too.
    for _ in range(5):
        first.undo()
        second.undo()
    same(second, first)
    second.close_image()
    third, _ = opened()
    third.restore()
    same(third, first)


def test_prompts_in_work_come_back_and_are_answered(opened):
    first, _ = opened()
    first.add_polygon([(10, 10), (10, 50), (50, 50), (50, 10)])
    add(first, "a")
    first.refine(1)
    first.add_point(30, 80)
    mask = first.candidate.mask
    first.close_image()
    second, _ = opened()
    second.restore()
    assert second.refining == 1
    assert second.prompts.points_yx == ((30, 80),)
    assert mask.sum() == second.candidate.mask.sum()
    second.undo()
    assert second.prompts.points_yx == ()
    assert second.candidate is not None


def test_a_torn_last_line_is_left_out_and_work_goes_on_behind_it(opened, folder):
    first, _ = opened()
    add(first, "a")
    kept = first.instances.copy()
    add(first, "b")
    first.close_image()
    (path,) = files(folder)
    whole = path.read_bytes()
    last = len(whole.rstrip(b"\n").rpartition(b"\n")[0]) + 1
    for cut in {last + 1, last + 9, (last + len(whole)) // 2, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        second, heard = opened()
        second.restore()
        assert not heard.failed
        assert np.array_equal(second.instances, kept)
        assert second.prompts.points_yx == ((30.0, 80.0),)
        add(second, "c")
        now = second.instances.copy()
        second.close_image()
        third, heard = opened()
        third.restore()
        assert not heard.failed
        assert np.array_equal(third.instances, now)
        third.close_image()


@pytest.mark.parametrize("text", [b"", b"hello", b"hello\nworld\n", b"\x00" * 5000, b"{}\n" * 9])
def test_a_foreign_file_is_kept_and_told(opened, folder, text):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    (path,) = files(folder)
    path.write_bytes(text)
    second, heard = opened()
    assert second.restorable is None
    assert len(heard.failed) == bool(text)
    add(second, "b")
    second.close_image()
    others = [p for p in files(folder) if p != path]
    assert [p.read_bytes() for p in others] == ([text] if text else [])
    third, heard = opened()
    third.restore()
    assert set(third.objects) == {1}


def test_another_images_and_a_newer_journal_are_refused(opened, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    (path,) = files(folder)
    header, rest = path.read_bytes().split(b"\n", 1)
    for change in ({"key": "other"}, {"version": 99}, {"format": "x"}):
        value = json.dumps({**json.loads(header[9:]), **change}).encode()
        path.write_bytes(b"%08x %s\n%s" % (zlib.crc32(value), value, rest))
        second, heard = opened()
        assert second.restorable is None
        assert len(heard.failed) == 1
        second.close_image()
    assert len(files(folder)) == 3


def test_damage_in_the_middle_restores_what_is_before_and_keeps_the_whole(opened, folder):
    first, _ = opened()
    for name in "abc":
        add(first, name)
    first.close_image()
    (path,) = files(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:20] + b"#" + lines[4][21:]
    path.write_bytes(b"".join(lines))
    second, heard = opened()
    assert "damaged after its action 3" in heard.failed[0]
    second.restore()
    assert np.array_equal(second.instances > 0, disc("a"))
    (kept,) = [p for p in files(folder) if p != path]
    assert kept.read_bytes() == b"".join(lines)


def test_actions_that_do_not_fit_restore_nothing(opened, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    (path,) = files(folder)
    out = []
    for line in path.read_bytes().splitlines():
        value = json.loads(line[9:])
        if "edits" in value.get("step", {}):
            value["step"]["edits"][0]["region"][0] = 95
        text = json.dumps(value).encode()
        out.append(b"%08x %s\n" % (zlib.crc32(text), text))
    path.write_bytes(b"".join(out))
    second, heard = opened()
    second.restore()
    assert "does not fit" in heard.failed[0]
    assert not second.instances.any()
    assert path.read_bytes() == b"".join(out)


def test_discarded_work_is_kept_under_another_name(opened, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    text = files(folder)[0].read_bytes()
    second, _ = opened()
    second.discard_saved()
    assert second.restorable is None
    add(second, "b")
    second.close_image()
    assert text in [p.read_bytes() for p in files(folder)]
    third, _ = opened()
    third.restore()
    assert np.array_equal(third.instances > 0, disc("b"))


def test_work_before_the_offer_is_answered_loses_neither(opened, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    second, _ = opened()
    add(second, "b")
    assert second.restorable is not None
    second.restore()
    assert np.array_equal(second.instances > 0, disc("a"))
    second.discard_saved()
    second.close_image()
    assert len(files(folder)) == 2
    third, _ = opened()
    third.discard_saved()  # the newest, which is not the one that was restored
    third.close_image()
    fourth, _ = opened()
    fourth.restore()
    assert np.array_equal(fourth.instances > 0, disc("a"))
    kept = [path.read_text() for path in files(folder) if "discarded" in path.name]
    assert len(kept) == 1


def test_a_second_window_on_the_image_has_a_journal_of_its_own(opened, folder):
    first, _ = opened()
    second, heard = opened()
    # `status` comes while the image opens, before a listener of the test could be late.
    assert "open in another window" in heard.status[0]
    add(first, "a")
    add(second, "b")
    add(first, "c")
    kept = first.instances.copy(), second.instances.copy()
    first.close_image()
    second.close_image()
    assert len(files(folder)) == 2
    third, _ = opened()
    third.restore()
    fourth, _ = opened()
    fourth.restore()
    assert np.array_equal(third.instances, kept[0])
    assert np.array_equal(fourth.instances, kept[1])


def test_a_window_whose_disk_was_full_for_a_moment_still_has_its_journal(
    opened, folder, monkeypatch
):
    """Another one neither takes it up nor offers it as work that was left."""
    first, heard = opened()
    add(first, "a")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        add(first, "b")
    assert "No space left" in heard.failed[0]
    second, told = opened()
    assert "open in another window" in told.status[0]
    assert second.restorable is None
    add(second, "c")
    assert len(files(folder)) == 2
    first.close_image()
    third, _ = opened()
    third.restore()
    assert len(third.objects) == 1
    for workspace in (second, third):
        workspace.close_image()


def test_a_large_journal_is_compacted_and_undo_still_reaches_before_it(opened, folder, monkeypatch):
    first, _ = opened()
    rng = np.random.default_rng(5)
    for _ in range(40):
        random_action(first, rng)
    add(first, "a")
    undo_from = first.instances.copy()
    first.close_image()
    before = files(folder)[0].stat().st_size
    monkeypatch.setattr("napari_pathsam.workspace.journal.COMPACT_BYTES", 100)
    second, _ = opened()
    second.restore()
    assert files(folder)[0].stat().st_size < before
    for _ in range(3):
        second.undo()
    second.redo()
    state = second.instances.copy(), second.class_map.copy(), second.classes, second.prompts
    monkeypatch.setattr("napari_pathsam.workspace.journal.COMPACT_BYTES", 10**9)
    second.close_image()
    third, heard = opened()
    third.restore()
    assert not heard.failed
    assert np.array_equal(third.instances, state[0])
    assert np.array_equal(third.class_map, state[1])
    assert (third.classes, third.prompts) == state[2:]
    third.redo()
    third.redo()
    assert np.array_equal(third.instances, undo_from)
    check_rules(third)
    assert [p.suffix for p in folder.iterdir() if p.suffix == ".new"] == []


def test_of_several_journals_the_newest_is_offered(opened, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    second, _ = opened()  # the offer is not answered
    add(second, "b")
    add(second, "c")
    second.close_image()
    os.utime(files(folder)[0], (1, 1))
    third, _ = opened()
    assert third.restorable.n_objects == 2


def test_edits_and_steps_survive_json():
    rng = np.random.default_rng(0)
    before = Annotations((50, 60))
    for density in (0.01, 0.5, 1.0):
        at = Region(5, 6, 30, 40)
        instances = np.where(rng.random((30, 40)) < density, rng.integers(1, 1000, (30, 40)), 0)
        classes = rng.integers(1, 5, (30, 40)) * (instances > 0)
        after = (instances.astype(np.int32), classes.astype(np.uint8))
        blank = (np.zeros_like(after[0]), np.zeros_like(after[1]))
        edit = LabelEdit.between(at, blank, after)
        step = Step("x", (edit,), prompts=(PromptState(), PromptState(refining=4)))
        again = Step.from_json(json.loads(json.dumps(step.to_json())))
        assert again.edits == step.edits
        assert again.prompts[1].refining == 4
        before.apply(again.edits[0])
        assert np.array_equal(before.instances[at.slices], after[0])
        before.apply(again.edits[0], forward=False)
        assert not before.instances.any()
        assert not before.objects
    for bad in ({}, {"text": 1, "edits": [{}]}, {"text": "x", "prompts": [{}]}, {"classes": 3}):
        with pytest.raises(BadFileError, match="damaged"):
            Step.from_json(bad)
