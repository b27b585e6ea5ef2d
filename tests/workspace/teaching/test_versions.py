"""Versions of a lesson: named, reverted, saved, loaded, deleted."""

from __future__ import annotations

import numpy as np
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.io.images import write_labels
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.model_file import read_card
from napari_pathsam.models.task_file import save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.workspace import InlineRunner
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_pairs import (
    pairs_in_folder,
)
from napari_pathsam.workspace.teaching_store import LessonStore

from .conftest import CLASSES, field, strokes  # noqa: TID252


def test_versions_can_be_named_reverted_saved_loaded_and_deleted(teach, tmp_path):
    teaching, run, _, heard = teach
    run.train()
    run.train()
    assert [v.number for v in teaching.lesson.versions] == [1, 2]
    assert teaching.lesson.current == 2
    assert teaching.lesson[1].too_few  # one region of each class
    teaching.revert(1)
    assert teaching.lesson.current == 1
    teaching.describe(1, name="first", note="good on glands")
    assert (teaching.lesson[1].name, teaching.lesson[1].note) == ("first", "good on glands")
    written = []
    teaching.save_as(1, tmp_path / "mine.safetensors", written.append)
    assert written == [tmp_path / "mine.safetensors"]
    teaching.load(tmp_path / "mine.safetensors")
    assert (teaching.lesson[3].name, teaching.lesson[3].note) == ("mine", "good on glands")
    told = read_card(written[0]).provenance
    assert (told["version"], told["note"]) == ("first", "good on glands")
    assert [one["name"] for one in told["fine_tuning"]["images"]] == ["image 1"]
    assert teaching.run_path(3) is None
    assert not teaching.lesson[3].too_few  # it has no scores here
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


def test_a_file_that_is_sent_names_no_patient_and_no_folder(teach, tmp_path):
    teaching, run, _, heard = teach
    run.train()
    teaching.choose(start=str(teaching.model_path(1)))
    run.train()
    teaching.save_as(2, tmp_path / "mine.safetensors", lambda path: None)
    assert not heard["failed"]
    kept, sent = (
        read_card(path).model_dump_json()
        for path in (teaching.model_path(2), tmp_path / "mine.safetensors")
    )
    for name in ("discs", str(tmp_path)):
        assert name in kept
        assert name not in sent
    assert "version-1.safetensors" in sent
    assert load_model(tmp_path / "mine.safetensors", "cpu").classes.names == ("dark",)


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
