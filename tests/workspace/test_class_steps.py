"""The class table as a matter of steps that can be undone."""

import numpy as np

from napari_pathsam.core.classes import ClassTable

from .conftest import add, check_rules, square, stroke  # noqa: TID252


def test_the_class_table_is_a_matter_of_steps(workspace, heard):
    tables = []
    workspace.classes_changed.connect(tables.append)
    assert workspace.add_class(" gland ") == 2
    workspace.rename_class(2, "crypt")
    workspace.recolor_class(2, "#00ff00")
    workspace.recolor_class(2, "#00ff00")
    assert workspace.classes[2].name == "crypt"
    assert len(tables) == 3
    for _ in range(3):
        workspace.undo()
    assert workspace.classes == ClassTable.of("object")
    for _ in range(3):
        workspace.redo()
    assert workspace.classes[2].color == "#00ff00"
    before = workspace.classes
    workspace.add_class("crypt")
    workspace.add_class("  ")
    workspace.rename_class(2, "object")
    workspace.recolor_class(2, "green")
    workspace.rename_class(50, "x")
    workspace.set_active_class(50)
    assert len(heard.failed) == 6
    assert "share the name" in heard.failed[0]
    assert workspace.classes == before


def test_deleting_a_class_in_use_clears_it_in_one_step(workspace, heard):
    workspace.add_class("stroma")
    workspace.set_active_class(2)
    add(workspace, "a", class_id=1)
    add(workspace, "b")
    stroke(workspace, "classes", *square(60, 100, 8), 2)
    before = workspace.instances.copy(), workspace.class_map.copy(), dict(workspace.objects)
    workspace.delete_class(2)
    assert workspace.active_class == 1
    assert set(workspace.objects) == {1}
    assert set(np.unique(workspace.class_map)) == {0, 1}
    check_rules(workspace)
    workspace.undo()
    assert np.array_equal(workspace.instances, before[0])
    assert np.array_equal(workspace.class_map, before[1])
    assert dict(workspace.objects) == before[2]
    check_rules(workspace)
    workspace.redo()
    workspace.delete_class(1)
    assert "last class" in heard.failed[-1]
    assert set(workspace.objects) == {1}


def test_importing_classes_needs_those_in_use(workspace, heard):
    workspace.add_class("stroma")
    add(workspace, "a", class_id=2)
    workspace.import_classes(ClassTable.of("one"))
    assert "stroma (id 2)" in heard.failed[-1]
    workspace.import_classes(ClassTable())
    assert len(heard.failed) == 2
    workspace.import_classes(ClassTable.of("one", "two", "three"))
    assert workspace.classes.names == ("one", "two", "three")
    check_rules(workspace)


def test_254_classes_are_the_most_there_can_be(workspace, heard):
    for k in range(253):
        workspace.add_class(f"c{k}")
    assert not heard.failed
    assert workspace.add_class("one more") is None
    assert "254" in heard.failed[-1]
