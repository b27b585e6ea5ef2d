"""Trainings of a lesson: versions, cancelling, interruptions, what cannot be learned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.training.finetune_file import read_run
from napari_pathsam.workspace import InlineRunner, teaching_work
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_choices import Advanced, Choices
from napari_pathsam.workspace.teaching_run import TeachRun
from napari_pathsam.workspace.teaching_store import LessonStore
from napari_pathsam.workspace.teaching_work import FieldOfView

from .conftest import CLASSES, SIDE, ArrayPair  # noqa: TID252


def test_a_training_becomes_a_version_on_disk(teach, pair, tmp_path, load):
    teaching, run, look, heard = teach
    counts = {c.class_id: (c.n_px > 0, c.n_regions, c.n_images) for c in heard["counts"][-1]}
    assert counts == {1: (True, 4, 1), 2: (True, 3, 1)}
    run.train()
    assert not heard["failed"]
    assert not run.running
    (version,) = teaching.lesson.versions
    assert (version.number, version.preset, version.finished) == (1, "fast", True)
    assert 0 <= version.mean_dice <= 1
    assert version.n_px > 0
    reports = [r for told in heard["told"] for r in told]
    scored = {r.epoch: r.scores.mean_dice for r in reports if r.scores is not None}
    assert {1, 2} <= set(scored)
    assert version.mean_dice == pytest.approx(scored[version.epoch])
    # The preview is what the model file says of the field.
    shown = heard["previewed"][-1]
    model = load_model(teaching.model_path(1), device="cpu")
    assert model.classes.names == ("dark",)
    field_now = FieldOfView(pair.source, Region.of((SIDE, SIDE)), 1.0)
    assert look.preview(1, field_now) is None  # not kept: it came through the signal
    np.testing.assert_array_equal(heard["previewed"][-1].class_map, shown.class_map)
    assert look.preview(1, field_now) is not None
    saved = json.loads((teaching.folder.path / "lesson.json").read_text())
    assert saved["current"] == 1
    assert saved["running"] is None
    assert teaching.run_path(1).is_file()
    assert not list(teaching.folder.path.glob("*.state"))


def test_a_version_that_goes_on_is_not_scored_on_what_it_learned_from(teach):
    teaching, run, _, heard = teach
    run.train()
    teaching.choose(start=str(teaching.model_path(1)))
    run.train()
    assert not heard["failed"]
    (one,), (two,) = (read_run(teaching.run_path(n))[0].labels for n in (1, 2))
    assert one.seen is None
    np.testing.assert_array_equal(two.seen, one.taught)
    assert two.held.any()
    assert not (two.held & (one.taught > 0)).any()
    teaching.folder.remove(teaching.lesson[1].run)  # nobody can say any more
    run.train()
    assert not heard["failed"]
    assert read_run(teaching.run_path(3))[0].labels[0].seen is None


def test_strokes_and_versions_survive_a_crash(teach, pair, tmp_path):
    teaching, run, _, _ = teach
    run.train()
    before = teaching.lesson
    teaching.folder.close()  # the process ends: nothing else is said
    offered, restored = [], []
    again = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
    again.offered.connect(offered.append)
    again.restored.connect(restored.append)
    again.look_for_saved("another image")
    assert not offered
    again.look_for_saved(pair.key)
    assert offered[0].versions == before.versions
    again.restore()
    assert offered[-1] is None
    assert again.choices.classes == CLASSES
    assert again.choices.advanced.epochs == 2
    kept = restored[0].strokes(pair.key)
    np.testing.assert_array_equal(kept.labels, pair.labels)
    assert again.model_path(1).is_file()
    third = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
    third.offered.connect(offered.append)
    third.look_for_saved(pair.key)  # another process has it
    assert offered[-1] is None
    again.close()
    third.look_for_saved(pair.key)
    third.discard_saved()
    third.look_for_saved(pair.key)
    assert offered[-1] is None
    assert list((tmp_path / "lessons").glob("*/*.discarded"))


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_weights(teach, pair, tmp_path, load):
    teaching, run, _, _ = teach
    run.train()
    whole = load_model(teaching.model_path(1), device="cpu")

    def die(reports):
        if any(r.phase == "epoch" and r.epoch == 1 for r in reports):
            raise Stopped

    run.told.connect(die)
    with pytest.raises(Exception, match="Stopped"):
        run.train()
    teaching.folder.close()
    again = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
    again.look_for_saved(pair.key)
    again.restore()
    assert again.lesson.running.number == 2
    cache = EmbeddingCache()
    other = TeachRun(again, InlineRunner(), lambda: cache, load)
    epochs = []
    other.told.connect(lambda reports: epochs.extend(r.epoch for r in reports))
    other.resume()
    assert min(epochs) >= 1  # the first was not done again
    assert again.lesson.running is None
    resumed = load_model(again.model_path(2), device="cpu")
    for (name, a), (_, b) in zip(
        whole.head.state_dict().items(), resumed.head.state_dict().items(), strict=True
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
    again.close()


def test_cancel_keeps_the_best_so_far(teach):
    teaching, run, _, heard = teach
    teaching.choose(advanced=Advanced(epochs=50))

    def stop(reports):
        if any(r.epoch >= 1 for r in reports):
            run.cancel()

    run.told.connect(stop)
    run.train()
    (version,) = teaching.lesson.versions
    assert not version.finished
    assert version.epoch <= 2
    assert teaching.lesson.running is None
    assert not heard["failed"]


def test_what_cannot_be_written_or_looked_at_is_not_lost(teach, monkeypatch):
    teaching, run, _, heard = teach
    with monkeypatch.context() as patch:
        full = BadFileError("version-1.safetensors could not be written: No space left on device")
        patch.setattr(teaching_work, "save_version", _raising(full))
        run.train()
    assert heard["failed"] == [str(full)]
    assert not run.running
    assert not teaching.lesson.versions
    assert teaching.lesson.running.number == 1  # once there is room it goes on from its last epoch
    run.resume()
    assert teaching.lesson[1].finished
    monkeypatch.setattr(teaching_work, "class_map_of", _raising(MemoryError()))
    run.train()
    assert teaching.lesson[2].finished  # no room for previews: it is trained and kept without
    assert "not enough memory for that" in heard["failed"][1]


def _raising(error):
    def raising(*_, **__):
        raise error

    return raising


def test_what_cannot_be_learned_is_said_in_a_sentence(teach, pair):
    teaching, run, _, heard = teach
    for labels, classes, expected in (
        (np.zeros_like(pair.labels), CLASSES, "Nothing is painted"),
        (np.where(pair.labels == 1, 1, 0).astype(np.uint8), CLASSES, "Only one class"),
    ):
        teaching.choose(classes=classes)
        teaching.set_layers([ArrayPair(pair.source, labels)])
        run.train()
        assert expected in heard["failed"][-1]
        assert not run.running
    assert not teaching.lesson.versions
    with pytest.raises(BadImageError, match="no class yet"):
        Choices().settings()
