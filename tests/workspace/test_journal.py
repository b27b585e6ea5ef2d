"""Saved work: replay is bit for bit, a killed process loses at most the last action."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace import ArraySource, Workspace, journal
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.history import PromptState, Step
from napari_pathsam.workspace.replay import replayed

from .conftest import DISCS, Heard, check_rules, disc, discs_image  # noqa: TID252
from .test_labels import random_action  # noqa: TID252


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journals"


@pytest.fixture
def opened(model, source, folder):
    """A function that opens the image in a new workspace, as a new session would."""
    open_ones = []

    def open_it(other=None):
        workspace = Workspace(model_loader=lambda *a: model, journal_dir=folder)
        heard = Heard(workspace)
        workspace.open_image(other or source)
        open_ones.append(workspace)
        return workspace, heard

    yield open_it
    for workspace in open_ones:
        workspace.close_image()


def add(workspace, name):
    workspace.add_point(*DISCS[name][:2])
    return workspace.accept()


def files(folder, suffix=".jsonl"):
    return sorted(p for p in folder.iterdir() if p.suffix == suffix)


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


def test_a_large_journal_is_compacted_and_undo_still_reaches_before_it(opened, folder, monkeypatch):
    first, _ = opened()
    rng = np.random.default_rng(5)
    for _ in range(40):
        random_action(first, rng)
    add(first, "a")
    undo_from = first.instances.copy()
    first.close_image()
    before = files(folder)[0].stat().st_size
    monkeypatch.setattr("napari_pathsam.workspace.keeper.COMPACT_BYTES", 100)
    second, _ = opened()
    second.restore()
    assert files(folder)[0].stat().st_size < before
    for _ in range(3):
        second.undo()
    second.redo()
    state = second.instances.copy(), second.class_map.copy(), second.classes, second.prompts
    monkeypatch.setattr("napari_pathsam.workspace.keeper.COMPACT_BYTES", 10**9)
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
    syncs = []

    def slow(descriptor):
        syncs.append(descriptor)
        time.sleep(0.4)

    monkeypatch.setattr("napari_pathsam.workspace.syncing.os.fsync", slow)
    workspace, heard = opened()
    start = time.perf_counter()
    for name in DISCS:
        add(workspace, name)
    assert time.perf_counter() - start < 0.4
    assert len(list(journal._good_lines(files(folder)[0]))) == 1 + 2 * len(DISCS)
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


def test_a_folder_that_cannot_be_made_is_told_and_work_goes_on(model, source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path / "file" / "sub")
    heard = Heard(workspace)
    workspace.open_image(source)
    assert len(heard.failed) == 1
    assert add(workspace, "a") == 1
    assert len(heard.failed) == 1


def test_an_action_is_saved_in_milliseconds(opened, folder):
    workspace, _ = opened()
    add(workspace, "a")
    times = []
    for k in range(30):
        start = time.perf_counter()
        workspace.rename_class(1, f"name {k}")
        times.append(time.perf_counter() - start)
    assert np.median(times) < 0.1, f"median {1e3 * np.median(times):.1f} ms with fsync"


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


CHILD = """
    import sys
    from pathlib import Path
    import numpy as np
    sys.path[:0] = {paths!r}
    from tests_workspace.conftest import GrowModel, discs_image
    from tests_workspace.test_labels import random_action
    from napari_pathsam.workspace import ArraySource, Workspace

    workspace = Workspace(model_loader=lambda *a: GrowModel(), journal_dir=Path({folder!r}))
    workspace.open_image(ArraySource(discs_image()))
    done = Path({folder!r}, "states.bin").open("ab", buffering=0)
    def note():
        labels = workspace.instances.astype("<i4").tobytes() + workspace.class_map.tobytes()
        done.write(hash_of(labels))
    from hashlib import sha256
    hash_of = lambda data: sha256(data).digest()
    workspace.history_changed.connect(note)
    rng = np.random.default_rng({seed})
    print("ready", flush=True)
    while True:
        random_action(workspace, rng)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a Unix thing")
def test_a_killed_process_loses_at_most_the_last_action(opened, folder, tmp_path):
    (tmp_path / "tests_workspace").symlink_to(Path(__file__).parent)
    source = ArraySource(discs_image())
    rng = np.random.default_rng(0)
    for seed in range(4):
        code = textwrap.dedent(CHILD).format(paths=[str(tmp_path)], folder=str(folder), seed=seed)
        folder.mkdir(exist_ok=True)
        (folder / "states.bin").unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        notes, enough = folder / "states.bin", 32 * int(rng.integers(4, 40))
        while notes.stat().st_size < enough:
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.02)))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        states = (folder / "states.bin").read_bytes()
        seen = [states[i : i + 32] for i in range(0, len(states) - 31, 32)]
        workspace, heard = opened(source)
        assert len(seen) >= 4
        # The child notes an action after it is saved: one more than noted may have been.
        assert workspace.restorable.n_actions - len(seen) in (0, 1)
        workspace.restore()
        assert not heard.failed
        labels = workspace.instances.astype("<i4").tobytes() + workspace.class_map.tobytes()
        restored = sha256(labels).digest()
        assert _replay_to(folder, len(seen)) == seen[-1]
        assert restored == seen[-1] or _lines(folder) == len(seen) + 1
        check_rules(workspace)
        workspace.close_image()
        for path in files(folder):
            path.unlink()


def _lines(folder):
    (path,) = files(folder)
    return sum(1 for _ in journal._good_lines(path)) - 1


def _replay_to(folder, n):
    """The digest of the labels after the first n actions of the journal."""
    (path,) = files(folder)
    values = [json.loads(line) for line, _ in journal._good_lines(path)]
    steps = ((v["what"], Step.from_json(v["step"])) for v in islice(values, 1, n + 1))
    annotations, *_ = replayed(values[0], steps, (100, 120))
    data = annotations.instances.astype("<i4").tobytes() + annotations.class_map.tobytes()
    return sha256(data).digest()
