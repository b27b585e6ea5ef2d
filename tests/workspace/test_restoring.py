"""Saved work comes back in a worker: nobody waits, nothing is lost, and it can be stopped."""

import threading

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.workspace import Workspace
from napari_pathsam.workspace.journal import Journal

from .conftest import (  # noqa: TID252
    Heard,
    LateRunner,
    Wide,
    add,
    check_rules,
    disc,
    files,
    random_action,
    stroke,
)


@pytest.fixture
def late(model, source, folder):
    """``late() -> (workspace, heard, runner)`` on the image; saved work waits for the runner."""
    open_ones = []

    def open_it(image=None):
        runner = LateRunner()
        workspace = Workspace(model_loader=lambda *a: model, files=runner, journal_dir=folder)
        heard = Heard(workspace)
        workspace.open_image(image or source)
        open_ones.append(workspace)
        return workspace, heard, runner

    yield open_it
    for workspace in open_ones:
        workspace.close_image()


def test_what_was_saved_comes_back_from_a_worker(late, opened):
    first, _ = opened()
    rng = np.random.default_rng(1)
    for _ in range(40):
        random_action(first, rng)
    wanted = first.instances.copy()
    first.close_image()
    second, heard, runner = late()
    told = []
    second.restoring_changed.connect(lambda: told.append(second.restoring))
    second.restore()
    assert second.restoring == 0
    assert not second.instances.any()
    worker = threading.Thread(target=runner.run)
    worker.start()
    worker.join()
    assert told == [0, None]
    assert second.restorable is second.restoring is None
    assert np.array_equal(second.instances, wanted)
    assert not heard.failed
    check_rules(second)


def test_what_is_done_meanwhile_is_refused_in_a_line_and_nothing_is_lost(late, opened):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    second, heard, runner = late()
    before = second.classes
    second.restore()
    second.add_point(30, 80)
    stroke(second, "classes", [1, 2], [3, 3], 1)
    stroke(second, "instances", [1, 2], [3, 3], 7)
    second.add_class("other")
    second.undo()
    assert len(heard.failed) == 4
    assert all("being brought back (0%)" in text for text in heard.failed)
    assert "\n" not in heard.failed[0]
    assert second.prompts.points_yx == ()
    assert not second.class_map.any()
    assert not second.instances.any()
    assert second.classes == before
    assert not second.can_undo
    second.restore()  # once is enough
    assert len(runner.jobs) == 1
    runner.run()
    assert np.array_equal(second.instances > 0, disc("a"))
    add(second, "b")
    second.close_image()
    third, _ = opened()
    third.restore()
    assert len(third.objects) == 2


def test_an_image_that_is_closed_meanwhile_offers_its_work_again(late, opened, source, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    text = files(folder)[0].read_bytes()
    second, heard, runner = late()
    second.restore()
    second.open_image(source)
    assert second.restoring is None
    assert second.restorable is not None
    assert not heard.status  # nobody says that another window has it
    runner.run(late=True)
    assert not second.objects
    assert files(folder)[0].read_bytes() == text
    second.restore()
    runner.run()
    assert np.array_equal(second.instances > 0, disc("a"))
    assert not heard.failed


def test_work_that_is_not_wanted_any_more_is_set_aside(late, opened, folder):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    second, heard, runner = late()
    second.restore()
    second.discard_saved()
    add(second, "b")
    runner.run(late=True)
    assert np.array_equal(second.instances > 0, disc("b"))
    assert second.restorable is second.restoring is None
    assert not heard.failed


@pytest.mark.parametrize("when", ["replay", "rewriting", "placing"])
def test_stopped_at_any_moment_a_slides_journal_is_as_it_was(late, folder, monkeypatch, when):
    """Half of its labels lie on the disk under no name that is taken for all of them."""
    first, _, _ = late(Wide())
    for n, y in enumerate(range(0, 16_000, 2000)):
        square = tuple(np.mgrid[y : y + 9, :9].reshape(2, -1))
        first.record_stroke("instances", square, 0, n + 1)
    first.close_image()
    (path,) = files(folder)
    text = path.read_bytes()
    monkeypatch.setattr("napari_pathsam.workspace.journal.COMPACT_BYTES", 1)
    second, heard, runner = late(Wide())
    second.restore()
    work = second._restoring
    entries, compact = Journal.entries, Journal.compact

    def stopped(*args, **kwargs):
        second.open_image(Wide())
        return (entries if when == "replay" else compact)(*args, **kwargs)

    class Placing:
        def __enter__(self):
            second.open_image(Wide())
            self.inner = real()
            return self.inner.__enter__()

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    real = work._placing
    with monkeypatch.context() as patched:
        if when == "placing":
            patched.setattr(work, "_placing", Placing)
        else:
            patched.setattr(Journal, {"replay": "entries"}.get(when, "compact"), stopped)
        runner.run(late=True)
    assert path.read_bytes() == text
    assert not second.objects
    assert not heard.failed
    assert not [p for p in folder.iterdir() if p.suffix == ".new"]
    assert second.restorable.n_objects == 8
    second.restore()
    runner.run()
    assert len(second.objects) == 8
    assert path.read_bytes() != text  # it is long, and rewritten


def test_what_cannot_be_restored_is_told_and_work_may_go_on(late, opened, monkeypatch):
    first, _ = opened()
    add(first, "a")
    first.close_image()
    second, heard, runner = late()
    second.restore()

    def damaged(self):
        raise BadFileError("Action 1 of the saved work is damaged.")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "entries", damaged)
        runner.run()
    assert heard.failed == ["Action 1 of the saved work is damaged."]
    assert second.restoring is None
    assert second.restorable is not None
    add(second, "b")
    assert len(second.objects) == 1
