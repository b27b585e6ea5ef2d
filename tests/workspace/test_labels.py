"""Labels and classes: the maps, the objects and the counts stay in step through every action."""

import time

import numpy as np
import pytest

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace import ArraySource, Workspace

from .conftest import (  # noqa: TID252
    SHAPE,
    add,
    check_rules,
    disc,
    random_action,
    square,
    stroke,
)


def test_accept_writes_both_maps_and_clears_the_prompts(workspace, heard):
    workspace.add_class("stroma")
    assert add(workspace, "a") == 1
    assert add(workspace, "b", class_id=2) == 2
    assert np.array_equal(workspace.instances == 1, disc("a"))
    assert np.array_equal(workspace.class_map == 2, disc("b"))
    assert not workspace.prompts
    assert workspace.candidate is None
    assert heard.labels[0].intersection(workspace.objects[1].box) == workspace.objects[1].box
    assert workspace.class_area_um2(2) == disc("b").sum() * 0.25
    workspace.set_mpp(None)
    check_rules(workspace)


def test_undo_of_accept_brings_prompts_and_candidate_back(workspace, model):
    workspace.add_point(30, 30)
    candidate, n = workspace.candidate, len(model.decoded)
    workspace.accept()
    workspace.undo()
    assert not workspace.instances.any()
    assert workspace.candidate is candidate
    assert workspace.prompts.points_yx == ((30, 30),)
    assert len(model.decoded) == n
    workspace.redo()
    assert np.array_equal(workspace.instances == 1, disc("a"))
    check_rules(workspace)


def test_existing_objects_are_kept_unless_overwritten(workspace, heard):
    add(workspace, "a")
    workspace.set_box((20, 20, 60, 60))
    assert workspace.accept() == 2
    assert np.array_equal(workspace.instances == 1, disc("a"))
    workspace.set_box((22, 22, 30, 30))
    assert workspace.accept() is None
    assert "overwrite" in heard.failed[-1]
    assert workspace.candidate is not None
    assert workspace.accept(overwrite=True) == 3
    assert (workspace.instances[22:30, 22:30] == 3).all()
    check_rules(workspace)


def test_an_object_eaten_wholly_disappears_and_undo_brings_it_back(workspace):
    add(workspace, "a")
    before = workspace.objects[1]
    workspace.set_box((10, 10, 60, 60))
    workspace.accept(overwrite=True)
    assert set(workspace.objects) == {2}
    workspace.undo()
    assert dict(workspace.objects) == {1: before}
    check_rules(workspace)


def test_delete_and_reclass(workspace, heard):
    workspace.add_class("stroma")
    add(workspace, "a")
    add(workspace, "b")
    workspace.set_object_class(1, 2)
    check_rules(workspace)
    assert workspace.objects[1].class_id == 2
    workspace.delete_object(2)
    check_rules(workspace)
    assert set(workspace.objects) == {1}
    workspace.delete_object(2)
    workspace.set_object_class(1, 77)
    workspace.set_object_class(77, 1)
    assert len(heard.failed) == 3
    workspace.set_object_class(1, 2)
    assert workspace.undo_text == "Delete object 2"
    # An id is not given twice.
    assert add(workspace, "c") == 3


def test_refining_replaces_the_object_and_keeps_its_id_and_class(workspace, model):
    workspace.add_class("stroma")
    add(workspace, "a", class_id=2)
    workspace.refine(1)
    assert workspace.refining == 1
    assert np.array_equal(model.decoded[-1][0].mask, disc("a"))
    workspace.add_point(30, 30, positive=False)
    assert workspace.accept() == 1
    assert workspace.objects[1].class_id == 2
    expected = disc("a")
    expected[27:34, 27:34] = False
    assert np.array_equal(workspace.instances == 1, expected)
    assert workspace.refining is None
    assert not workspace.class_map[30, 30]
    check_rules(workspace)
    workspace.undo()
    assert np.array_equal(workspace.instances == 1, disc("a"))


def test_deleting_the_object_in_work_lets_its_prompts_go_in_one_step(workspace):
    add(workspace, "a")
    workspace.refine(1)
    workspace.delete_object(1)
    assert not workspace.objects
    assert workspace.refining is None
    assert workspace.candidate is None
    workspace.undo()
    assert list(workspace.objects) == [1]
    assert workspace.refining == 1


def test_what_was_labelled_is_known_without_looking(workspace):
    assert workspace.labelled is None
    assert not workspace.has_labels
    add(workspace, "a")
    workspace.record_stroke("classes", (np.array([5, 95]), np.array([3, 7])), 0, 1)
    rows, cols = np.nonzero(workspace.class_map)
    at = workspace.labelled
    assert (at.y, at.x) == (rows.min(), cols.min())
    assert (at.height, at.width) == (np.ptp(rows) + 1, np.ptp(cols) + 1)
    workspace.undo()
    workspace.undo()
    assert not workspace.has_labels


def test_accepting_nothing_says_so(workspace, heard):
    assert workspace.accept() is None
    workspace.add_point(30, 30)
    assert workspace.accept(class_id=9) is None
    assert len(heard.failed) == 2
    assert not workspace.instances.any()


# --- strokes --------------------------------------------------------------------------------------


def test_a_stroke_of_an_object_takes_its_class_along(workspace):
    workspace.add_class("stroma")
    add(workspace, "a", class_id=2)
    stroke(workspace, "instances", *square(28, 40, 6), 1)
    assert (workspace.class_map[28:34, 40:46] == 2).all()
    check_rules(workspace)
    workspace.undo()
    assert np.array_equal(workspace.instances == 1, disc("a"))
    assert np.array_equal(workspace.class_map == 2, disc("a"))
    workspace.redo()
    check_rules(workspace)


def test_erasing_clears_both_and_a_new_id_is_of_the_active_class(workspace):
    workspace.add_class("stroma")
    workspace.set_active_class(2)
    add(workspace, "a", class_id=1)
    stroke(workspace, "instances", *square(25, 25, 5), 0)
    assert not workspace.class_map[25:30, 25:30].any()
    stroke(workspace, "instances", *square(70, 90, 5), 40)
    assert workspace.objects[40].class_id == 2
    check_rules(workspace)
    assert add(workspace, "c") == 41
    rows, cols = np.nonzero(disc("a"))
    stroke(workspace, "instances", rows, cols, 0)
    assert 1 not in workspace.objects
    for _ in range(6):
        workspace.undo()
        check_rules(workspace)
    for _ in range(6):
        workspace.redo()
        check_rules(workspace)


def test_a_stroke_on_classes_leaves_objects_as_they_are(workspace, heard):
    workspace.add_class("stroma")
    add(workspace, "a")
    stroke(workspace, "classes", *square(15, 15, 30), 2)
    assert np.array_equal(workspace.class_map == 1, disc("a"))
    assert (workspace.class_map == 2).sum() == 900 - disc("a")[15:45, 15:45].sum()
    assert heard.labels[-1] == Region(15, 15, 30, 30)
    check_rules(workspace)
    stroke(workspace, "classes", *square(15, 15, 30), 0)
    assert np.array_equal(workspace.class_map > 0, disc("a"))
    n = workspace.undo_text
    stroke(workspace, "classes", *square(28, 28, 3), 2)
    assert workspace.undo_text == n
    assert (workspace.class_map[28:31, 28:31] == 1).all()
    check_rules(workspace)


def test_painting_a_class_id_that_is_new_adds_it(workspace):
    stroke(workspace, "classes", *square(1, 1, 3), 7)
    assert workspace.classes.names == ("object", "class 7")
    check_rules(workspace)
    workspace.undo()
    assert workspace.classes.names == ("object",)
    assert not workspace.class_map.any()


def test_a_stroke_over_the_same_pixel_twice_undoes_to_the_first_value(workspace, heard):
    add(workspace, "a")
    add(workspace, "b")
    rows, cols = np.array([30, 30, 30]), np.array([30, 31, 30])
    old = np.array([1, 1, 5])
    workspace.instances[30, 30:32] = (2, 5)
    workspace.record_stroke("instances", (rows, cols), old, np.array([5, 5, 2]))
    assert not heard.failed
    assert workspace.instances[30, 30] == 2
    assert workspace.instances[30, 31] == 5
    check_rules(workspace)
    workspace.undo()
    assert np.array_equal(workspace.instances == 1, disc("a"))
    check_rules(workspace)


@pytest.mark.parametrize(
    ("kind", "indices", "new"),
    [
        ("instances", ([3], [3]), -1),
        ("instances", ([3, 900], [3, 3]), 1),
        ("instances", ([0], [3], [3]), 1),
        ("classes", ([3], [3]), 255),
    ],
)
def test_a_stroke_that_cannot_be_is_taken_back_and_told(workspace, heard, kind, indices, new):
    array = workspace.instances if kind == "instances" else workspace.class_map
    if len(indices) == 2:
        array[3, 3] = new
    workspace.record_stroke(kind, tuple(np.array(i) for i in indices), 0, new)
    assert len(heard.failed) == 1
    assert not workspace.can_undo
    if 900 not in indices[0]:
        assert array[3, 3] == 0


def test_an_empty_stroke_is_no_step(workspace):
    none = np.zeros(0, int)
    workspace.record_stroke("instances", (none, none), none, 3)
    stroke(workspace, "instances", [4], [4], 0)
    assert not workspace.can_undo


def test_importing_labels_is_one_step_and_obeys_the_rules(workspace, heard):
    rng = np.random.default_rng(0)
    instances = rng.integers(0, 400, SHAPE)
    class_map = rng.integers(0, 3, SHAPE).astype(np.uint8)
    add(workspace, "a")
    before = workspace.instances.copy()
    workspace.import_labels(instances, class_map, ClassTable.of("gland", "object"))
    assert np.array_equal(workspace.instances, instances)
    assert workspace.classes.names == ("object", "gland")
    outside = instances == 0
    assert np.array_equal(workspace.class_map[outside], np.array([0, 2, 1])[class_map[outside]])
    check_rules(workspace)
    workspace.undo()
    assert np.array_equal(workspace.instances, before)
    assert workspace.classes.names == ("object",)
    check_rules(workspace)
    workspace.import_labels(instances[:5], class_map[:5])
    workspace.import_labels(-instances, class_map)
    workspace.import_labels(instances.astype(float), class_map)
    workspace.import_labels(instances, np.full(SHAPE, 300))
    assert len(heard.failed) == 4


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_the_rules_hold_and_undo_leads_back(workspace, heard, seed):
    rng = np.random.default_rng(seed)
    for k in range(80):
        random_action(workspace, rng)
        if k % 4 == 0:
            check_rules(workspace)
    check_rules(workspace)
    end = workspace.instances.copy(), workspace.class_map.copy(), workspace.classes
    n = 0
    while workspace.can_undo:
        workspace.undo()
        n += 1
    assert not workspace.instances.any()
    assert not workspace.class_map.any()
    assert workspace.classes == ClassTable.of("object")
    check_rules(workspace)
    for _ in range(n):
        workspace.redo()
    assert np.array_equal(workspace.instances, end[0])
    assert np.array_equal(workspace.class_map, end[1])
    assert workspace.classes == end[2]
    check_rules(workspace)


def test_many_objects_on_a_large_image_are_quick(model, tmp_path):
    """Work follows the object, not the image: generous bounds, medians of processor time."""
    image = np.zeros((4096, 4096, 3), np.uint8)
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    workspace.open_image(ArraySource(image))
    times = {"accept": [], "undo": [], "redo": []}
    for k in range(12):
        y, x = 1000 + 130 * k, 900 + 100 * k
        workspace.set_view(Region(y - 50, x - 50, 128, 128), 1.0)
        workspace.set_box((y, x, y + 60, x + 60))
        for name, action in (("accept", workspace.accept), ("undo", workspace.undo),
                             ("redo", workspace.redo)):  # fmt: skip
            start = time.thread_time()
            action()
            times[name].append(time.thread_time() - start)
    assert len(workspace.objects) == 12
    assert all(np.median(t) < 0.05 for t in times.values()), times
    workspace.close_image()


def test_many_objects_are_accepted_in_one_step(workspace):
    labels = np.zeros((40, 60), np.int32)
    labels[2:14, 2:10] = 7
    labels[20:30, 20:40] = 3
    region = Region(10, 5, 40, 60)
    workspace.accept_objects(np.ones((12, 12), int), Region(8, 3, 12, 12))
    assert workspace.accept_objects(labels, region) == 2
    check_rules(workspace)
    assert len(workspace.objects) == 3
    assert workspace.instances[13, 8] == 1  # who was there first keeps the pixels
    assert workspace.instances[22, 8] not in (0, 1)
    workspace.undo()
    assert len(workspace.objects) == 1
    check_rules(workspace)
