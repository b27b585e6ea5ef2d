"""From an edited class table to the workspace's own steps."""

from __future__ import annotations

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.workspace import Workspace


def change_classes(workspace: Workspace, table: ClassTable) -> None:
    """Bring the workspace's classes to a table: one edit by its own step, many as an import."""
    old = {c.id: c for c in workspace.classes}
    new = {c.id: c for c in table}
    added = [c for i, c in new.items() if i not in old]
    gone = [i for i in old if i not in new]
    edited = [c for i, c in new.items() if i in old and old[i] != c]
    if len(added) + len(gone) + len(edited) > 1:
        workspace.import_classes(table)
    elif added:
        workspace.add_class(added[0].name, added[0].color)
    elif gone:
        workspace.delete_class(gone[0])
    elif edited:
        info = edited[0]
        if info.name != old[info.id].name:
            workspace.rename_class(info.id, info.name)
        else:
            workspace.recolor_class(info.id, info.color)
