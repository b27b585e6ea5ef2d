"""ClassTable: ids and names are unique, values are frozen, CSV goes both ways."""

import pytest
from pydantic import ValidationError

from napari_pathsam.core.classes import PALETTE, ClassInfo, ClassTable
from napari_pathsam.core.errors import BadFileError


def test_adding_takes_the_smallest_free_id_and_leaves_the_old_table():
    table = ClassTable.of("a", "b", "c")
    smaller = table.without(2)
    assert [c.id for c in smaller.with_class("d")] == [1, 2, 3]
    assert smaller.with_class("d").id_of("d") == 2
    assert smaller.with_class("d", avoid={2}).id_of("d") == 4
    assert smaller.with_class("d", avoid=range(256)).id_of("d") == 2
    assert table.names == ("a", "b", "c")
    assert table[3].color == PALETTE[2]
    assert len(table) == 3


def test_replacing_and_looking_up():
    table = ClassTable.of("a", "b")
    renamed = table.replacing(ClassInfo(id=2, name="z", color="#ABCDEF"))
    assert renamed[2].name == "z"
    assert renamed[2].color == "#abcdef"
    for wrong in (lambda: table[9], lambda: table.id_of("x"), lambda: table.without(9),
                  lambda: table.replacing(ClassInfo(id=9, name="q", color="#000000"))):  # fmt: skip
        with pytest.raises(KeyError, match="there are"):
            wrong()


def test_a_class_is_found_by_the_names_it_had():
    def named(table, class_id, name):
        info = table[class_id].model_copy(update={"name": name})
        return table.replacing(info).remembering(table)

    table = named(named(ClassTable.of("a", "b"), 1, "tumor"), 1, "tumour")
    found = [table.find(n) for n in ("a", "tumor", "Tumour ", "b", "c")]
    assert found == [1, 1, 1, 2, None]
    assert table.names == ("tumour", "b")
    assert ClassTable.model_validate_json(table.model_dump_json()) == table
    back = named(table, 1, "tumor")  # a mistake, and taken back
    assert (back.find("tumor"), back.find("a"), back.find("tumour")) == (1, 1, None)
    assert table.with_class("a").find("a") == 3  # a name of now counts more
    assert "also" not in ClassTable.of("a").model_dump_json()
    assert table.model_dump(exclude={"classes": {"__all__": {"also"}}})
    first = named(ClassTable.of("Class 1"), 1, "tumour")  # a name that nobody gave is none
    assert first.find("Class 1") is None


def test_a_class_that_others_renamed_is_the_same_class():
    table = ClassTable.of("object", "vessel")
    assert table.renaming({"object": "nucleus"}).names == ("nucleus", "vessel")
    assert table.renaming({"object": "nucleus"})[1].id == 1
    assert table.renaming({"object": "Vessel"}) == table  # there is one of that name
    assert table.renaming({"gone": "here"}) == table
    own = table.replacing(table[2].model_copy(update={"name": "vein"})).remembering(table)
    after = own.renaming({"vessel": "artery"}).remembering(own)  # but a name of one's own stays
    assert after.names == ("object", "vein")
    assert after.find("artery") == after.find("vessel") == 2


def test_classes_of_two_tables_belong_together_by_names_of_now_and_before():
    model = ClassTable.of("gland", "stroma", "fat")
    lesson = ClassTable.of("Stroma", "gland")
    assert lesson.counterparts(model) == {1: 2, 2: 1}
    renamed = lesson.replacing(lesson[2].model_copy(update={"name": "crypt"})).remembering(lesson)
    assert renamed.counterparts(model) == {1: 2, 2: 1}
    assert model.counterparts(renamed) == {1: 2, 2: 1}
    assert renamed.with_class("gland").counterparts(model) == {1: 2, 3: 1}  # a name of now counts
    assert ClassTable.of("fat").counterparts(renamed) == {}


@pytest.mark.parametrize(
    "values",
    [
        {"id": 0}, {"id": 255}, {"name": "  "}, {"color": "red"}, {"color": "#12345"},
        {"extra": 1},
    ],
)  # fmt: skip
def test_a_class_that_cannot_be(values):
    with pytest.raises(ValidationError):
        ClassInfo.model_validate({"id": 1, "name": "a", "color": "#000000", **values})


def test_ids_and_names_are_unique():
    table = ClassTable.of("a")
    with pytest.raises(ValidationError, match="share the name a"):
        table.with_class("a")
    one = ClassInfo(id=1, name="a", color="#000000")
    with pytest.raises(ValidationError, match="share the id 1"):
        ClassTable(classes=(one, one.model_copy(update={"name": "b"})))


def test_csv_goes_both_ways():
    table = ClassTable.of('gland, "benign"', "stroma\nloose", "Ödem")
    assert ClassTable.from_csv(table.to_csv()) == table
    assert ClassTable.from_csv("\ufeffid,name\n2,b\n1,a\n").names == ("a", "b")


@pytest.mark.parametrize(
    "text", ["id,name\nx,a\n", "id,name\n0,a\n", "id,name\n1,a\n1,b\n", "name\na\n", "id,name\n1\n"]
)
def test_a_csv_that_is_no_class_table(text):
    with pytest.raises(BadFileError, match="not a class table"):
        ClassTable.from_csv(text)
