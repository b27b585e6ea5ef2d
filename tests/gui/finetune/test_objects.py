"""Objects without class names are one class; and ids are classes where a person says so."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from napari.layers import Labels
from PIL import Image

from napari_pathsam._napari.finetune_classes import PX, REGIONS
from napari_pathsam._napari.finetune_labels import (
    Painted,
    class_names_of_objects,
    classes_of_layer,
    copied,
)
from napari_pathsam._napari.finetune_objects import mark_objects
from napari_pathsam._napari.layer_source import source_of
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.sparse_labels import SparseLabels
from napari_pathsam.io.images import write_labels

pytestmark = [pytest.mark.gui, pytest.mark.hidden]
SIDE = 160


def objects(n: int, *, pieces: int = 1) -> np.ndarray:
    """So many ids, each in one square or in several."""
    out = np.zeros((SIDE, SIDE), np.int32)
    for i in range(n * pieces):
        y, x = (10 * k + 2 for k in divmod(i, SIDE // 10))
        out[y : y + 6, x : x + 6] = 1 + i % n
    return out


@pytest.mark.parametrize(
    ("labels", "are_objects"),
    [
        (objects(57), True), (objects(5), True), (objects(4), False),
        (objects(30, pieces=5), False), (objects(0), False),
    ],
)  # fmt: skip
def test_objects_are_told_from_classes(labels, are_objects):
    layer = Labels(labels)
    mark_objects(layer)
    assert (class_names_of_objects(layer) == {}) == are_objects
    known = Labels(labels)
    mark_objects(known, known=range(1, 100))
    assert class_names_of_objects(known) is None


def test_what_a_layer_says_of_itself_counts():
    named = Labels(objects(57), features={"index": [0, 1], "class": ["background", "gland"]})
    said = Labels(objects(57), metadata={"label_kind": "classes"})
    few = Labels(objects(3), metadata={"label_kind": "instances"})
    for layer in (named, said, few):
        mark_objects(layer)
    assert class_names_of_objects(named) is class_names_of_objects(said) is None
    assert classes_of_layer(few, ClassTable()).names == ("objects",)
    of_annotate = Labels(
        objects(3), metadata={"label_kind": "instances"},
        features={"index": [0, 1, 2, 3], "class": ["", "", "gland", ""]},
    )  # fmt: skip
    assert classes_of_layer(of_annotate, ClassTable()).names == ("gland",)


def test_objects_that_annotate_left_unnamed_or_has_not_made_yet():
    metadata = {"napari-pathsam": "instances"}
    for rows, names in (([0], ()), ([0, 1, 2], ("objects",))):
        features = {"index": rows, "class": [""] * len(rows)}
        layer = Labels(objects(2), metadata=metadata, features=features)
        assert class_names_of_objects(layer) == {}
        assert classes_of_layer(layer, ClassTable()).names == names


def test_all_objects_are_one_class_in_the_dock(finetune_of, made_up):
    viewer, dock, hands = finetune_of(made_up(SIDE))
    labels = objects(57)
    layer = viewer.add_labels(labels, name="nuclei", scale=(0.5, 0.5), units=("um", "um"))
    bar, counts = dock.view.objects_bar, []
    dock.teaching.counts_changed.connect(counts.append)
    assert not bar.text()
    dock.use_labels(layer)
    assert dock.teaching.choices.classes.names == ("objects",)
    assert "“nuclei” holds objects without class names" in bar.text()
    (pair,) = dock.paint.pairs()
    painted = pair.painted(dock.teaching.choices.classes).labels
    np.testing.assert_array_equal(painted, labels > 0)
    hands.until(lambda: bool(counts) and counts[-1][0].n_px == 2052)
    layer.data_setitem((np.array([150]), np.array([150])), 58)  # one more is one of them
    hands.until(lambda: counts[-1][0].n_px == 2053)
    assert dock.teaching.choices.classes.names == ("objects",)
    np.testing.assert_array_equal(
        layer.data > 0, pair.painted(dock.teaching.choices.classes).labels
    )
    assert len(np.unique(layer.data)) == 59  # the person's own layer is as it was
    hands.screenshot("55-objects-one-class")

    (button,) = [b for b in bar.findChildren(type(dock.view.new_button)) if "Ids" in b.text()]
    button.click()
    assert "each of its ids is a class" in bar.text()
    assert dock.teaching.choices.classes.names == tuple(f"Class {i}" for i in range(1, 59))
    np.testing.assert_array_equal(
        dock.paint.pairs()[0].painted(dock.teaching.choices.classes).labels, layer.data
    )
    dock.use_labels(None)
    dock.use_labels(layer)
    assert "each of its ids is a class" in bar.text()  # it is known of this layer


def test_few_objects_are_classes_until_somebody_says_what_they_are(finetune_of, made_up):
    viewer, dock, hands = lesson = finetune_of(made_up(SIDE))
    labels, bar = objects(3), dock.view.objects_bar
    layer = viewer.add_labels(labels.copy(), name="glands", scale=(0.5, 0.5), units=("um", "um"))
    dock.use_labels(layer)
    assert dock.teaching.choices.classes.names == ("Class 1", "Class 2", "Class 3")
    assert "“glands” has no class names" in bar.text()
    hands.screenshot("60-ids-are-classes")
    (button,) = [b for b in bar.findChildren(type(dock.view.new_button)) if "Ids" in b.text()]
    lesson.press(button)
    assert dock.teaching.choices.classes.names == ("objects",)
    assert "“glands” holds objects" in bar.text()
    assert "class" not in layer.features
    (pair,) = dock.paint.pairs()
    one = dock.teaching.choices.classes.find("objects")
    painted = pair.painted(dock.teaching.choices.classes).labels
    np.testing.assert_array_equal(painted, np.where(labels, one, 0))
    hands.until(lambda: dock.view.classes.text(0, PX) == "108")
    hands.screenshot("61-ids-are-objects")
    # Objects on another image are of the same class, which stays as long as one of them has it.
    picture = made_up(SIDE)[::-1]
    dock.open_image(viewer.add_image(picture, rgb=True, scale=(0.5, 0.5), units=("um", "um")))
    assert not bar.text()
    other = viewer.add_labels(objects(7), name="more", scale=(0.5, 0.5), units=("um", "um"))
    dock.use_labels(other)
    assert dock.teaching.choices.classes.names == ("objects",)
    hands.until(lambda: dock.view.classes.text(0, PX) == "360")
    lesson.press(button)
    assert dock.teaching.choices.classes.names[-1] == "Class 7"
    assert dock.teaching.choices.classes.find("objects") == one
    hands.until(
        lambda: dock.view.classes.text(len(dock.teaching.choices.classes) - 1, 1) == "Class 7"
    )
    lesson.press(button)
    assert dock.teaching.choices.classes.names == ("objects",)
    np.testing.assert_array_equal(layer.data, labels)


def test_what_a_person_paints_is_never_taken_for_objects(finetune_of, made_up):
    viewer, dock, hands = finetune_of(made_up(SIDE))
    layer = dock.brush.new_labels()
    labels = objects(7)  # each class in one place
    layer.data_setitem(np.nonzero(labels), labels[labels > 0])
    hands.until(lambda: len(dock.teaching.choices.classes) == 7)
    mine = viewer.add_labels(labels, name="mine", scale=(0.5, 0.5), units=("um", "um"))
    for each in (layer, mine):  # one has names, the other the ids of these classes
        dock.use_labels(None)
        dock.use_labels(each)
        assert len(dock.teaching.choices.classes) == 7
        assert class_names_of_objects(each) is None
    dock.use_labels(layer)
    assert not dock.view.objects_bar.text()


def test_objects_in_a_folder_are_one_class_unless_somebody_says_otherwise(
    finetune_of, made_up, tmp_path
):
    _, dock, hands = lesson = finetune_of(made_up(SIDE))
    for name, n in (("a", 3), ("b", 7), ("c", 1)):
        Image.fromarray(made_up(SIDE)[::-1]).save(tmp_path / f"{name}.png")
        write_labels(tmp_path / f"{name}_anno.png", objects(n))
    dock.view.sections["pairs"].open()
    dock.view.pairs.folder_chosen.emit(tmp_path)
    lesson.until(lambda: len(dock.view.pairs.value()) == 3)
    bar, teaching = dock.view.files_bar, dock.teaching
    assert teaching.choices.classes.names == ("objects",)
    assert f"“{tmp_path.name}” hold objects" in bar.text()
    hands.until(lambda: dock.view.classes.text(0, PX) == "396")
    dock.view.show_widget(bar)
    hands.screenshot("62-objects-of-a-folder")
    (button,) = bar.findChildren(type(dock.view.new_button))
    lesson.press(button)
    lesson.until(lambda: len(teaching.choices.classes) == 7)
    assert teaching.choices.classes.names == tuple(f"Class {i}" for i in range(1, 8))
    assert "each id is a class" in bar.text()
    assert teaching.choices.background_id is None
    hands.screenshot("63-classes-of-a-folder")
    lesson.press(button)
    lesson.until(lambda: teaching.choices.classes.names == ("objects",))
    hands.until(lambda: dock.view.classes.text(0, PX) == "396")
    for pair in dock.view.pairs.value():
        teaching.remove_file(pair.key)
    assert not bar.text()


def test_more_ids_than_there_can_be_classes(finetune_of, made_up):
    viewer, dock, _ = finetune_of(made_up(SIDE))
    many = np.zeros((SIDE, SIDE), np.int32)
    many[::4, ::4] = np.arange(1, 1601).reshape(40, 40)
    layer = viewer.add_labels(many, scale=(0.5, 0.5), units=("um", "um"))
    dock.use_labels(layer)
    assert dock.view.objects_bar.text()
    assert dock.objects._button.isHidden()
    (pair,) = dock.paint.pairs()
    painted = pair.painted(dock.teaching.choices.classes).labels
    np.testing.assert_array_equal(painted, many > 0)  # 255 and 256 are objects as any other


def test_objects_and_what_is_round_them_can_be_taught(finetune_of, made_up):
    viewer, dock, hands = lesson = finetune_of(made_up(SIDE))
    layer = viewer.add_labels(objects(57), scale=(0.5, 0.5), units=("um", "um"))
    dock.use_labels(layer)
    lesson.quick(1)
    dock.train()
    hands.until(lambda: bool(dock.view.error_bar.text()), 60_000)
    assert "background" in dock.view.error_bar.text()  # one class alone cannot be learned
    dock.view.error_bar.say("")
    dock.view.classes.zero.setCurrentText("taken as background")
    lesson.train()
    assert not dock.view.error_bar.text()
    assert dock.teaching.lesson[1].n_px > 0


def test_paint_it_leaves_objects_as_they_are_and_copies_their_classes(finetune_of, made_up):
    viewer, dock, hands = finetune_of(made_up(SIDE))
    labels = objects(57)
    layer = viewer.add_labels(labels.copy(), name="nuclei", scale=(0.5, 0.5), units=("um", "um"))
    dock.use_labels(layer)
    layer.selected_label, layer.mode = 57, "pan_zoom"
    dock.view.classes.add_button.click()
    assert dock.teaching.choices.classes.names == ("objects", "Class 1")
    dock.view.classes._table.selectRow(1)
    assert layer.selected_label == 57  # an object's id, not a class's
    dock.view.classes.paint_button.click()
    hands.until(lambda: dock.view.labels.value() is not layer)
    made = dock.view.labels.value()
    assert made is viewer.layers.selection.active
    np.testing.assert_array_equal(made.data, labels > 0)
    assert made.selected_label == dock.teaching.choices.classes.id_of("Class 1")
    assert "“nuclei” stays as it is" in dock.view.status.text()
    assert not dock.view.objects_bar.text()
    hands.drag([np.array((140, 20)) * 0.5, np.array((140, 90)) * 0.5])
    assert (made.data == made.selected_label).any()
    np.testing.assert_array_equal(layer.data, labels)
    hands.screenshot("56-objects-copied")
    dock.view.classes.paint_button.click()
    assert dock.view.labels.value() is made  # it holds classes


def test_ids_that_would_have_to_be_computed_are_not_asked_for(finetune_of, made_up):
    viewer, dock, _ = finetune_of(made_up(SIDE))
    computed = []

    def block() -> np.ndarray:
        computed.append(1)
        return objects(57)

    lazy = da.from_delayed(delayed(block)(), (SIDE, SIDE), np.int32)
    layer = viewer.add_labels(
        lazy, metadata={"label_kind": "instances"}, scale=(0.5, 0.5), units=("um", "um")
    )
    shown = len(computed)  # napari draws it
    dock.objects.show(layer)
    assert dock.view.objects_bar.text()
    assert dock.objects._button.isHidden()
    assert len(computed) == shown


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_of_labels_only_a_part_is_read(make_napari_viewer, made_up, scale):
    viewer = make_napari_viewer(show=False)
    image = viewer.add_image(made_up(SIDE), rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    source = source_of(image, viewer)
    layer = viewer.add_labels(objects(57), scale=(scale, scale), units=("um", "um"))
    painted = Painted.of(layer, viewer)
    classes = classes_of_layer(layer, ClassTable())
    whole = painted.over(source.plane, source.shape_yx, classes)
    part = Region(30, 50, 64, 80)
    found = painted.over(source.plane, source.shape_yx, classes, part)
    assert found.labels.shape == part.shape_yx
    np.testing.assert_array_equal(found.labels, whole.over(part))


def test_the_class_of_objects_may_have_another_name(finetune_of, made_up):
    viewer, dock, _ = finetune_of(made_up(SIDE))
    layer = viewer.add_labels(objects(57), name="nuclei", scale=(0.5, 0.5), units=("um", "um"))
    named = viewer.add_labels(
        objects(3), scale=(0.5, 0.5), units=("um", "um"), metadata={"label_kind": "instances"},
        features={"index": [0, 1, 2, 3], "class": ["", "gland", "gland", "vessel"]},
    )  # fmt: skip
    for labels, old in ((layer, "objects"), (named, "gland")):
        dock.use_labels(labels)
        classes = dock.teaching.choices.classes
        before = dock.paint.pairs()[0].painted(classes).labels
        dock.view.classes.rename(classes.id_of(old), f"my {old}")
        now = dock.teaching.choices.classes
        assert f"my {old}" in now.names
        after = dock.paint.pairs()[0].painted(now).labels
        np.testing.assert_array_equal(after, before)
        dock.use_labels(None)
        dock.use_labels(labels)
        assert dock.teaching.choices.classes.names == now.names
        np.testing.assert_array_equal(dock.paint.pairs()[0].painted(now).labels, before)


def test_what_is_accepted_meanwhile_counts_with_its_class(dock_of, finetune_of, made_up):
    viewer, annotate, _ = dock_of(made_up(SIDE), rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    workspace = annotate.workspace
    workspace.accept_objects(np.ones((20, 20), np.int32), Region(10, 10, 20, 20))
    _, dock, hands = finetune_of(viewer=viewer)
    dock.use_labels(viewer.layers["PathSAM objects"])
    assert dock.teaching.choices.classes.names == ("object",)
    hands.until(lambda: dock.view.classes.text(0, REGIONS) == "1")
    workspace.accept_objects(np.ones((20, 20), np.int32), Region(10, 60, 20, 20))
    hands.until(lambda: dock.view.classes.text(0, REGIONS) == "2")
    annotate.view.classes.add_class("vessel")
    workspace.set_active_class(2)
    workspace.accept_objects(np.ones((20, 20), np.int32), Region(10, 110, 20, 20))
    hands.until(lambda: dock.teaching.choices.classes.names == ("object", "vessel"))
    hands.until(lambda: dock.view.classes.text(1, REGIONS) == "1")
    annotate.view.classes.rename(1, "nucleus")
    hands.until(lambda: dock.teaching.choices.classes.names == ("nucleus", "vessel"))
    hands.until(lambda: dock.view.classes.text(0, REGIONS) == "2")
    workspace.undo()
    hands.until(lambda: dock.teaching.choices.classes.names == ("object", "vessel"))
    workspace.redo()
    hands.until(lambda: dock.teaching.choices.classes.names == ("nucleus", "vessel"))
    dock.teaching.set_classes(dock.teaching.choices.classes.without(2))  # not to be learned
    workspace.accept_objects(np.ones((20, 20), np.int32), Region(60, 110, 20, 20))
    hands.until(lambda: len(workspace.objects) == 4 and not dock.paint._timer.isActive())
    hands.settle(5)
    assert "vessel" not in dock.teaching.choices.classes.names
    annotate.view.classes.rename(2, "vein")  # nor under another name
    hands.until(lambda: "vein" in dock.paint.named() and not dock.paint._timer.isActive())
    hands.settle(5)
    assert dock.teaching.choices.classes.names == ("nucleus",)


@pytest.fixture
def other(finetune_of, made_up):
    """A lesson that has begun, and a layer that calls its ids otherwise."""
    viewer, dock, hands = lesson = finetune_of(made_up(SIDE))
    lesson.strokes()
    hands.until(lambda: bool(dock.teaching.lesson.images))
    assert dock.teaching.choices.classes.names == ("Class 1", "Background")
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[:40], labels[60:100], labels[120:] = 1, 2, 255
    names = ["background", "Background", "gland", "unsure", "gland"]
    found = viewer.add_labels(
        labels.copy(), name="found", scale=(0.5, 0.5), units=("um", "um"),
        features={"index": [0, 1, 2, 255, 300], "class": names},
    )  # fmt: skip
    dock.view.labels.set_value(found)
    dock.view.labels.value_changed.emit(found)
    return lesson, found


def test_a_layer_whose_ids_are_other_classes_here_is_read_by_name(other):
    (viewer, dock, hands), found = other
    labels = found.data.copy()
    classes = dock.teaching.choices.classes
    assert classes.names == ("Class 1", "Background", "gland")
    (pair,) = dock.paint.pairs()
    expected = np.select([labels == 1, labels == 2, labels == 255], [2, 3, 255])
    np.testing.assert_array_equal(pair.painted(classes).labels, expected)
    dock.view.classes.rename(1, "tumour")
    assert list(found.features["class"])[1:3] == ["Background", "gland"]  # the person's own
    found.data_setitem(np.nonzero(np.eye(SIDE)), 2)  # it is followed
    painted = dock.paint.pairs()[0].painted(dock.teaching.choices.classes).labels
    assert (painted.diagonal() == 3).all()
    labels = found.data.copy()

    dock.view.classes._table.selectRow(0)
    for _ in range(2):  # an impatient person's copy is one
        dock.view.classes.paint_button.click()
    hands.until(lambda: dock.view.labels.value() is not found)
    hands.until(lambda: dock.files.idle)
    made = dock.view.labels.value()
    assert made.selected_label == 1
    assert [x.name for x in viewer.layers].count(made.name) == 1
    assert len([x for x in viewer.layers if x.name.startswith("PathSAM training labels")]) == 2
    np.testing.assert_array_equal(made.data, np.select([labels == 1, labels == 2, labels == 255],
                                                       [2, 3, 255]))  # fmt: skip
    np.testing.assert_array_equal(found.data, labels)
    assert "“found” stays as it is" in dock.view.status.text()
    hands.screenshot("59-copied-by-name")


def test_strokes_made_under_an_older_name_are_of_the_same_class(other):
    (viewer, dock, _), _ = other
    dock.use_labels(mine := viewer.layers["PathSAM training labels"])
    painted = dock.paint.pairs()[0].painted(dock.teaching.choices.classes).labels
    dock.use_labels(None)
    dock.view.classes.rename(1, "tumour")  # and the layer does not know
    dock.use_labels(mine)
    classes = dock.teaching.choices.classes
    assert classes.names == ("tumour", "Background", "gland")
    np.testing.assert_array_equal(dock.paint.pairs()[0].painted(classes).labels, painted)
    assert list(mine.features["class"])[1] == "tumour"


def test_what_is_chosen_while_a_copy_is_made_stays(other):
    (viewer, dock, hands), found = other
    mine = viewer.layers["PathSAM training labels"]
    for then in (mine, None):
        dock.use_labels(found)
        dock.view.classes.paint_button.click()
        dock.use_labels(then)
        hands.until(lambda: dock.files.idle)
        hands.settle(3)
        assert dock.view.labels.value() is then
        assert len(viewer.layers) == 3


def test_a_deleted_class_stays_deleted_whatever_image_is_shown(finetune_of, made_up):
    viewer, dock, hands = finetune_of(made_up(SIDE))
    first = dock.image
    named = viewer.add_labels(
        objects(3), scale=(0.5, 0.5), units=("um", "um"), metadata={"label_kind": "instances"},
        features={"index": [0, 1, 2, 3], "class": ["", "gland", "gland", "vessel"]},
    )  # fmt: skip
    dock.use_labels(named)
    dock.teaching.set_classes(dock.teaching.choices.classes.without(2))
    other = viewer.add_image(made_up(SIDE)[::-1], rgb=True, scale=(0.5, 0.5), units=("um", "um"))
    for image in (other, first):
        dock.open_image(image)
        layer = dock.view.labels.value() or dock.brush.new_labels()
        layer.data_setitem((np.array([150]), np.array([150])), 1)
        hands.until(lambda: not dock.paint._timer.isActive())
        assert "vessel" not in dock.teaching.choices.classes.names
    # What comes to the other image's objects counts, too; and no id of what is gone is used.
    dock.open_image(other)
    named.features = {"index": [0, 1, 2, 3], "class": ["", "gland", "nerve", "vessel"]}
    hands.until(lambda: "nerve" in dock.teaching.choices.classes.names)
    assert dock.teaching.choices.classes.find("nerve") == 3
    named.selected_label = 3
    assert dock.view.classes.active() != 3  # an object, not a class


def test_of_a_slide_no_copy_is_made_and_that_is_said():
    slide = Painted(SparseLabels((9, 9), np.int32), (), None, "all over", {})
    with pytest.raises(BadImageError, match="“all over” covers the slide"):
        copied(slide, None, (9, 9), ClassTable.of("a", "b"))
