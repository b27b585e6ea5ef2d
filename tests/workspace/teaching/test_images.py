"""Images and labels of a lesson: layers, folders, classes of files, damage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io.annotations import write_geojson
from napari_pathsam.io.images import write_labels
from napari_pathsam.workspace import InlineRunner
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_lesson import Lesson
from napari_pathsam.workspace.teaching_pairs import (
    FilePair,
    classes_of_files,
    finetune_images,
    pairs_in_folder,
    with_ids,
)
from napari_pathsam.workspace.teaching_store import PART, LessonStore, Strokes, image_of

from .conftest import CLASSES, SIDE, ArrayPair, field, strokes  # noqa: TID252


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
    info = classes[classes.id_of("Tumour")]
    renamed = classes.replacing(info.model_copy(update={"name": "carcinoma"})).remembering(classes)
    assert classes_of_files(pairs, renamed) == renamed  # it is the same class
    np.testing.assert_array_equal(by_name["two"].painted(renamed).labels, of_two.labels)
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


def test_images_of_a_folder_come_back_after_a_crash(teach, pair, tmp_path):
    teaching, *_ = teach
    for name in ("a", "b", "c"):
        Image.fromarray(field()).save(tmp_path / f"{name}.png")
        write_labels(tmp_path / f"{name}_labels.png", strokes())
    files = {p.name: p for p in pairs_in_folder(tmp_path, 1.0)}
    teaching.add_files(files.values())
    teaching.use(files["b.png"].key, False)
    teaching.use(pair.key, False)
    teaching.folder.close()  # as if it had been killed
    (tmp_path / "c_labels.png").rename(tmp_path / "away.png")

    def brought_back() -> tuple[Teaching, list[str]]:
        again = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
        said: list[str] = []
        again.status.connect(said.append)
        again.look_for_saved(pair.key)
        again.restore()
        again.set_layers([pair])
        return again, said

    again, said = brought_back()
    assert [p.name for p in again.pairs] == ["discs", "a.png", "b.png"]
    assert [p.name for p in again.used] == ["a.png"]
    assert again.used[0].mpp == 1.0
    assert f"no longer where they were: {tmp_path / 'c.png'}." in said[-1]
    again.use(pair.key, True)  # and all of it is written down anew
    again.folder.close()
    (tmp_path / "away.png").rename(tmp_path / "c_labels.png")
    again, said = brought_back()
    assert [p.name for p in again.used] == ["discs", "a.png", "c.png"]
    assert not said
    again.remove_file(files["a.png"].key)
    assert [f.image.name for f in again.lesson.files] == ["b.png", "c.png"]
    again.close()


def test_a_lesson_of_nothing_but_files_is_offered_with_its_folder(teach, tmp_path):
    teaching, run, *_ = teach
    for name in ("a", "b"):
        Image.fromarray(field()).save(tmp_path / f"{name}.png")
        write_labels(tmp_path / f"{name}_labels.png", strokes())
    teaching.set_layers([])
    teaching.change_lesson(images={})  # nobody painted
    files = pairs_in_folder(tmp_path, 1.0)
    teaching.add_files(files)
    run.train()
    run.train()
    assert [v.number for v in teaching.lesson.versions] == [1, 2]
    teaching.folder.close()

    again = Teaching(InlineRunner(), LessonStore(tmp_path / "lessons"))
    offered: list[Lesson | None] = []
    again.offered.connect(offered.append)
    (tmp_path / "other").mkdir()
    for name in ("a.png", "a_labels.png"):
        (tmp_path / "other" / name).write_bytes((tmp_path / name).read_bytes())
    again.add_files(pairs_in_folder(tmp_path / "other", 1.0))
    assert not offered  # files of the same names elsewhere are others
    again.add_files(files[1:])
    (lesson,) = offered
    assert lesson is not None
    assert lesson.on_offer().endswith("): 2 files, 2 versions.")
    assert "images of this folder" in lesson.on_offer()
    again.restore()
    assert [v.number for v in again.lesson.versions] == [1, 2]
    assert {p.name for p in again.used} >= {"a.png", "b.png"}
    again.close()


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
    assert image_of(f"S{PART}0-12") == image_of("S") == "S"
    assert image_of("file:/me@home/1.png") == "file:/me@home/1.png"


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
