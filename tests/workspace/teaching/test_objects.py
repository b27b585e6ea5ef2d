"""Ids of label images that nobody named are objects of one class, or classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.io.images import write_labels
from napari_pathsam.workspace import InlineRunner
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_objects import Ids, are_objects, may_be_objects
from napari_pathsam.workspace.teaching_pairs import (
    classes_of_files,
    read_folder,
    told_apart,
    with_ids,
)
from napari_pathsam.workspace.teaching_store import LessonStore

from .conftest import SIDE, field  # noqa: TID252


def squares(*ids: int, pieces: int = 1) -> np.ndarray:
    """Each id in so many squares, one after the other."""
    out = np.zeros((SIDE, SIDE), np.int32)
    for n, label in enumerate(i for i in ids for _ in range(pieces)):
        y, x = (12 * k + 2 for k in divmod(n, SIDE // 12))
        out[y : y + 8, x : x + 8] = label
    return out


@pytest.mark.parametrize(
    ("images", "objects"),
    [
        ([squares(*range(1, 8))], True),  # counted, one piece each
        ([squares(*range(1, 5))], False),  # so few can be classes: a person may say it
        ([squares(*range(1, 8), pieces=3)], False),
        ([squares(2, 5, 9, 11, 14)], False),  # some classes of a table
        ([squares(40, 51, 62, 73, 87)], True),  # a part of a larger image of objects
        ([squares(1, 2), squares(1, 2, 3, 4, 5, 6), squares(1)], True),
        ([squares(1, 2), squares(2), squares(1, 2, 3)], False),
        ([squares(*range(1, 7))] * 3, False),  # the same layers of tissue in each image
        ([squares(3), squares(2, 5), squares(6, 1), squares(4)], False),  # a class or two in each
        ([squares(1, 300, pieces=9)], True),  # no class can have that id
        ([squares(1, 2, 3, 255)], False),
        ([squares()], False),
    ],
)
def test_objects_are_told_from_classes(images, objects):
    assert are_objects([Ids.of(labels) for labels in images]) == objects


def test_who_is_asked():
    asked = [squares(1, 2), squares(1, 2, 3, pieces=4)]
    assert all(may_be_objects([Ids.of(labels)]) for labels in asked)
    for labels in (squares(), squares(1), squares(1, 255), squares(1, 2, pieces=4)):
        assert not may_be_objects([Ids.of(labels)])


@pytest.fixture
def glands(tmp_path):
    """A folder of three images with numbered objects."""
    for name, ids in (("a", (1, 2, 3)), ("b", (1, 2, 3, 4, 5, 6)), ("c", (1,))):
        Image.fromarray(field()).save(tmp_path / f"{name}.png")
        write_labels(tmp_path / f"{name}_anno.png", squares(*ids))
    return tmp_path


def test_objects_of_files_are_one_class(glands):
    plain = ClassTable.of("Class 1", "Background")
    pairs, classes = read_folder(glands, 1.0, plain)
    assert classes.names == ("Class 1", "Background", "objects")
    found = [p.painted(classes).labels for p in pairs]
    np.testing.assert_array_equal(found[1], np.where(squares(*range(1, 7)) > 0, 3, 0))
    info = classes[3].model_copy(update={"name": "gland"})
    renamed = classes.replacing(info).remembering(classes)
    assert classes_of_files(pairs, renamed) == renamed
    np.testing.assert_array_equal(pairs[1].painted(renamed).labels, found[1])
    assert read_folder(glands, 1.0, ClassTable(), avoid={1})[1].find("objects") == 2
    # Ids that are classes of the lesson are those.
    known = with_ids(ClassTable(), range(1, 9))
    assert [p.objects for p in told_apart(pairs, known)] == [False] * 3


def test_a_class_table_beside_them_names_ids(glands):
    (glands / "classes.csv").write_text("id,name\n" + "".join(f"{i},t{i}\n" for i in range(1, 7)))
    pairs, classes = read_folder(glands, 1.0, ClassTable())
    assert classes.names == tuple(f"t{i}" for i in range(1, 7))
    assert {p.objects for p in pairs} == {None}


def test_ids_above_254_can_be_no_classes(glands):
    write_labels(glands / "c_anno.png", squares(1, 300))
    pairs, classes = read_folder(glands, 1.0, ClassTable())
    assert classes.names == ("objects",)
    with pytest.raises(BadImageError, match=r"c_anno\.png has ids up to 300"):
        classes_of_files([replace(p, objects=False) for p in pairs], ClassTable())


def test_what_they_are_is_kept(teach, glands, pair):
    teaching, *_ = teach
    pairs, classes = read_folder(glands, 1.0, teaching.choices.classes)
    teaching.set_classes(classes)
    teaching.add_files(pairs)
    before = {p.name: p for p in teaching.pairs}
    teaching.folder.close()
    again = Teaching(InlineRunner(), LessonStore(glands / "lessons"))
    again.look_for_saved(pairs[0].key)
    again.restore()
    assert [p.objects for p in again.pairs] == [True] * 3
    assert all(before[p.name] == p for p in again.pairs)
    again.close()
