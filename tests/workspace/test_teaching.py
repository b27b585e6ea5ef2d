"""Teaching: pairs, lessons on disk, versions, trainings; the packaged base, very small images."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.io.annotations import write_geojson
from napari_pathsam.io.images import write_labels
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.task_file import save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.workspace import ArraySource, InlineRunner, teaching_work
from napari_pathsam.workspace.segment_work import SourceTiles
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_choices import Advanced, Choices
from napari_pathsam.workspace.teaching_look import TeachLook
from napari_pathsam.workspace.teaching_pairs import (
    FilePair,
    classes_of_files,
    finetune_images,
    pairs_in_folder,
    with_ids,
)
from napari_pathsam.workspace.teaching_run import TeachRun
from napari_pathsam.workspace.teaching_store import PART, LessonStore, Strokes
from napari_pathsam.workspace.teaching_work import FieldOfView

SIDE = 128
CLASSES = ClassTable.of("dark", "pale")


def field(seed: int = 0) -> np.ndarray:
    """Dark discs on a pale ground."""
    rng = np.random.default_rng(seed)
    yy, xx = np.indices((SIDE, SIDE))
    image = np.full((SIDE, SIDE, 3), 225, np.uint8)
    for cy, cx in ((32, 32), (32, 96), (96, 40), (90, 100)):
        image[np.hypot(yy - cy, xx - cx) < 18] = (110, 50, 120)
    noise = rng.integers(-12, 12, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def strokes() -> np.ndarray:
    """Two regions of each class."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for cy, cx in ((32, 32), (32, 96), (96, 40), (90, 100)):
        labels[cy - 6 : cy + 6, cx - 6 : cx + 6] = 1
    labels[60:68, 4:60] = 2
    labels[60:68, 80:124] = 2
    labels[4:10, 56:76] = 2
    return labels


@dataclass(frozen=True)
class ArrayPair:
    """An image and labels in memory."""

    source: ArraySource
    labels: np.ndarray
    mpp: float | None = 1.0
    path: Path | None = None

    @property
    def key(self):
        return self.source.key

    @property
    def name(self):
        return self.source.name

    @property
    def labels_name(self):
        return "strokes"

    def tiles(self):
        return SourceTiles(self.source)

    def painted(self, classes):
        return Strokes(self.labels)

    def held_out(self, classes):
        return None


@pytest.fixture(scope="module")
def nano():
    return load_model("pathsam-nano", device="cpu")


@pytest.fixture
def load(nano):
    """The packaged base, kept; model files as they are."""
    return lambda name, device: nano if name == "pathsam-nano" else load_model(name, device="cpu")


@pytest.fixture
def pair():
    return ArrayPair(ArraySource(field(), name="discs"), strokes())


@pytest.fixture
def teach(tmp_path, load, pair):
    """``(teaching, run, look, heard)`` on two classes and one image; ``pale`` is background."""
    cache = EmbeddingCache()
    teaching = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
    view = FieldOfView(pair.source, Region.of((SIDE, SIDE)), 1.0)
    run = TeachRun(teaching, InlineRunner(), lambda: cache, load, lambda: view)
    look = TeachLook(teaching, InlineRunner(), lambda: cache, load)
    heard: dict[str, list] = {k: [] for k in ("failed", "previewed", "told", "finished", "counts")}
    for signal, name in (
        (teaching.failed, "failed"), (run.failed, "failed"), (look.failed, "failed"),
        (run.previewed, "previewed"), (look.previewed, "previewed"), (run.told, "told"),
        (run.finished, "finished"), (teaching.counts_changed, "counts"),
    ):  # fmt: skip
        signal.connect(heard[name].append)
    teaching.choose(
        classes=CLASSES, background_id=2, device="cpu", trained="head",
        advanced=Advanced(epochs=2),
    )  # fmt: skip
    teaching.set_layers([pair])
    yield teaching, run, look, heard
    run.close()
    teaching.close()


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


def test_versions_can_be_named_reverted_saved_loaded_and_deleted(teach, tmp_path):
    teaching, run, _, heard = teach
    run.train()
    run.train()
    assert [v.number for v in teaching.lesson.versions] == [1, 2]
    assert teaching.lesson.current == 2
    teaching.revert(1)
    assert teaching.lesson.current == 1
    teaching.describe(1, name="first", note="good on glands")
    assert (teaching.lesson[1].name, teaching.lesson[1].note) == ("first", "good on glands")
    written = []
    teaching.save_as(1, tmp_path / "mine.safetensors", written.append)
    assert written == [tmp_path / "mine.safetensors"]
    teaching.load(tmp_path / "mine.safetensors")
    assert teaching.lesson[3].name == "mine"
    assert teaching.run_path(3) is None
    assert teaching.lesson.current == 3
    gone = teaching.model_path(3)
    assert gone.is_file()
    teaching.delete(3)
    assert 3 not in teaching.lesson
    assert not gone.exists()
    assert teaching.lesson.current == 2
    (tmp_path / "no model.safetensors").write_bytes(b"nothing")
    assert not heard["failed"]
    teaching.load(tmp_path / "no model.safetensors")
    assert len(heard["failed"]) == 1
    assert len(teaching.lesson.versions) == 2


def test_a_model_that_counts_its_classes_otherwise_is_shown_in_the_lessons_classes(teach, tmp_path):
    teaching, run, look, heard = teach
    run.train()
    seen = heard["previewed"][-1]
    assert set(np.unique(seen.class_map)) == {0, 1}
    teaching.save_as(1, tmp_path / "dark is 1.safetensors", lambda _: None)
    others = ClassTable.of("pale", "blue")
    teaching.choose(classes=others, background_id=1)
    teaching.load(tmp_path / "dark is 1.safetensors")
    assert teaching.choices.classes.names == ("pale", "blue", "dark")
    assert teaching.choices.background_id == 1
    assert teaching.lesson[2].ids == {1: 3}
    assert look.preview(2, seen.field) is None
    np.testing.assert_array_equal(heard["previewed"][-1].class_map, 3 * seen.class_map)
    explained = []
    look.explained.connect(explained.append)
    look.explain(2, 3, seen.field)
    assert explained[-1].explanation.class_name == "dark"
    assert not heard["failed"]
    for version, class_id in ((2, 2), (1, 2)):
        look.explain(version, class_id, seen.field)
        assert "trained without it" in heard["failed"].pop()


def test_a_class_that_is_in_a_file_stays(teach, tmp_path):
    teaching, *_ = teach
    said = []
    teaching.status.connect(said.append)
    Image.fromarray(field()).save(tmp_path / "a.png")
    write_labels(tmp_path / "a_labels.png", 3 * (strokes() == 1).astype(np.uint8))
    three = CLASSES.with_class("third", "#123456")
    teaching.set_classes(three)
    teaching.add_files(pairs_in_folder(tmp_path, 1.0))
    teaching.set_classes(CLASSES)
    assert teaching.choices.classes == three
    assert "“third” is painted, so it is in the table again" in said[-1]


def test_a_mask_rcnn_is_not_taken_in(tmp_path):
    network = {"trunk": "resnet18", "rois": 8}
    model = TaskModel(find_task_recipe("mask-rcnn").config(network=network), CLASSES)
    save_task(tmp_path / "objects.safetensors", model, {"licence": "none"})
    teaching, failed = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons")), []
    teaching.failed.connect(failed.append)
    teaching.load(tmp_path / "objects.safetensors")
    assert "objects.safetensors, a Mask R-CNN that learns from objects, is not" in failed[0]
    assert not teaching.lesson.versions
    teaching.close()


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
        teaching._own = {pair.key: ArrayPair(pair.source, labels)}
        run.train()
        assert expected in heard["failed"][-1]
        assert not run.running
    assert not teaching.lesson.versions
    with pytest.raises(BadImageError, match="no class yet"):
        Choices().settings()


def test_a_label_of_ones_own_is_a_new_class(teach, pair):
    teaching, _, _, heard = teach
    labels = pair.labels.copy()
    labels[100:110, 60:70] = 7
    teaching.set_layers([ArrayPair(pair.source, labels)])
    assert teaching.choices.classes.names == ("dark", "pale", "Class 7")
    assert heard["counts"][-1][-1].n_px == 100
    assert with_ids(CLASSES, [1, 0, 255]).names == CLASSES.names
    assert with_ids(CLASSES, [9], {9: "pale"}).names == ("dark", "pale", "pale′")


def test_an_image_can_be_left_out(teach, pair):
    teaching, _, _, heard = teach
    teaching.use(pair.key, False)
    assert teaching.used == ()
    assert all(c.n_px == 0 for c in heard["counts"][-1])
    teaching.use(pair.key, True)
    assert teaching.used == (pair,)


def test_folders_of_images_with_labels_or_geojson(tmp_path):
    labels = strokes()
    for name in ("one", "two", "three"):
        Image.fromarray(field()).save(tmp_path / f"{name}.png")
    write_labels(tmp_path / "one_labels.png", labels)
    theirs = ClassTable.of("Tumour", "Stroma")
    write_geojson(
        tmp_path / "two.geojson", labels.astype(np.int32), class_of={1: 1, 2: 2}, classes=theirs
    )
    pairs = pairs_in_folder(tmp_path, 0.5)
    assert {(p.image.stem, p.labels.name) for p in pairs} == {
        ("one", "one_labels.png"), ("two", "two.geojson"),
    }  # fmt: skip
    classes = classes_of_files(pairs, ClassTable.of("gland"))
    assert classes.names == ("gland", "Class 2", "Tumour", "Stroma")
    by_name = {p.image.stem: p for p in pairs}
    np.testing.assert_array_equal(by_name["one"].painted(classes).labels, labels)
    of_two = by_name["two"].painted(classes)
    whole = np.zeros_like(labels)
    whole[of_two.at.slices] = of_two.labels
    np.testing.assert_array_equal(whole > 0, labels > 0)
    assert set(np.unique(whole)) == {0, classes.id_of("Tumour"), classes.id_of("Stroma")}
    found = finetune_images(pairs, classes)
    assert [one.mpp for one in found] == [0.5, 0.5]
    write_labels(tmp_path / "three_labels.png", labels[:50])
    with pytest.raises(BadImageError, match="size of their"):
        FilePair(tmp_path / "three.png", tmp_path / "three_labels.png").painted(classes)
    (tmp_path / "empty").mkdir()
    Image.fromarray(field()).save(tmp_path / "empty" / "alone.png")
    with pytest.raises(BadFileError, match="no image with labels"):
        pairs_in_folder(tmp_path / "empty")


def test_an_image_that_is_open_and_in_the_folder_counts_once(teach, pair, tmp_path):
    teaching, *_ = teach
    said = []
    teaching.status.connect(said.append)
    for name in ("a", "b"):
        Image.fromarray(field()).save(tmp_path / f"{name}.png")
        write_labels(tmp_path / f"{name}_labels.png", strokes())
    mine = replace(pair, path=tmp_path / "a.png")
    teaching.set_layers([mine])
    teaching.add_files(pairs_in_folder(tmp_path, 1.0))
    assert [p.name for p in teaching.pairs] == ["discs", "b.png"]  # or held out and trained on
    assert "not the labels in the folder, of: a.png" in said[-1]
    teaching.set_layers([])
    assert [p.name for p in teaching.used] == ["a.png", "b.png"]


def test_a_mask_is_one_class(tmp_path):
    Image.fromarray(field()).save(tmp_path / "a.png")
    mask = np.where(strokes() == 1, 255, 0).astype(np.uint8)  # as most programs write one
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    (pair,) = pairs_in_folder(tmp_path)
    assert classes_of_files([pair], ClassTable()).names == ("Class 1",)
    np.testing.assert_array_equal(pair.painted(CLASSES).labels, mask > 0)


def test_a_lesson_of_parts_is_found_for_their_slide(tmp_path):
    folder = LessonStore(tmp_path).new()
    images = {f"S{PART}0-1": "slide at 0, 9000"}
    folder.save(folder.lesson.model_copy(update={"images": images}))
    folder.close()
    assert LessonStore(tmp_path).find("other") is None
    found = LessonStore(tmp_path).find("S")
    assert found.path == folder.path
    found.close()


def test_a_damaged_lesson_is_left_alone(tmp_path, pair):
    store = LessonStore(tmp_path / "lessons")
    folder = store.new()
    folder.save(folder.lesson.model_copy(update={"images": {pair.key: "discs"}}))
    folder.save_strokes(pair.key, Strokes(pair.labels, Region(3, 4, SIDE, SIDE)))
    assert folder.strokes(pair.key).at == Region(3, 4, SIDE, SIDE)
    next(folder.path.glob("strokes-*")).write_bytes(b"PK torn")
    assert folder.strokes(pair.key) is None
    folder.close()
    assert store.find(pair.key) is not None
    (folder.path / "lesson.json").write_text('{"format": "napari-pathsam lesson", "version"')
    assert LessonStore(tmp_path / "lessons").find(pair.key) is None
