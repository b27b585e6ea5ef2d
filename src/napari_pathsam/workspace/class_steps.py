"""What can be done to the class table, as steps."""

from __future__ import annotations

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.history import Step


def known(table: ClassTable, class_id: int) -> int:
    """The id, when it is a class of the table."""
    if class_id not in {info.id for info in table}:
        names = ", ".join(f"{info.id} {info.name}" for info in table)
        raise BadPromptError(
            f"There is no class {class_id}; there are {names}. Choose one of them or add a class."
        )
    return class_id


def adding(table: ClassTable, name: str, color: str | None) -> Step:
    """One more class."""
    if len(table) >= 254:
        raise BadPromptError("There are 254 classes already, which is as many as there can be.")
    return Step(f"Add class {name.strip()}", classes=(table, table.with_class(name, color)))


def altering(table: ClassTable, class_id: int, **changes: str) -> Step:
    """Another name or colour for a class."""
    old = table[known(table, class_id)]
    new = type(old).model_validate({**old.model_dump(), **changes})
    what = "Rename" if "name" in changes else "Recolour"
    return Step(f"{what} class {old.name}", classes=(table, table.replacing(new)))


def deleting(table: ClassTable, class_id: int, annotations: Annotations) -> Step:
    """A class goes, and its objects and pixels with it."""
    name = table[known(table, class_id)].name
    if len(table) == 1:
        raise BadPromptError(
            f"{name} is the last class, and one is needed to accept objects into. "
            "Rename it, or add another class first."
        )
    edits = annotations.clearing(class_id)
    return Step(f"Delete class {name}", edits, (table, table.without(class_id)))


def importing(table: ClassTable, new: ClassTable, annotations: Annotations) -> Step:
    """Another table, which must have the classes that are in use."""
    if not len(new):
        raise BadPromptError("The class table is empty; it needs at least one class.")
    kept = {info.id for info in new}
    missing = [c for c in table if c.id not in kept and annotations.class_px(c.id)]
    if missing:
        names = ", ".join(f"{info.name} (id {info.id})" for info in missing)
        raise BadPromptError(
            f"The new class table lacks classes that are in use: {names}. Add them to the "
            "file under these ids, or delete them here first."
        )
    return Step("Import classes", classes=(table, new))
