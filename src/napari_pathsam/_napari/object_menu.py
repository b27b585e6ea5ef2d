"""The right-click menu over the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMenu, QWidget

from napari_pathsam._napari.keys import Keys
from napari_pathsam._napari.session import Session


def object_menu(
    session: Session, keys: Keys, accept: Callable[..., Any], y: float, x: float, parent: QWidget
) -> QMenu:
    """What can be done with the candidate, and with the object under an image pixel."""
    workspace = session.workspace
    menu = QMenu(parent)
    menu.setAttribute(Qt.WA_DeleteOnClose)

    def entry(title: str, key: str, call: Callable[[], Any], enabled: bool = True) -> None:
        action = menu.addAction(f"{title}\t{keys.shown(key)}" if key else title)
        action.setEnabled(enabled)
        action.triggered.connect(lambda: call())

    there = workspace.candidate is not None
    entry("Accept", "accept", accept, there)
    entry("Accept over existing", "overwrite", partial(accept, overwrite=True), there)
    entry("Next mask", "cycle", workspace.cycle_mask, there)
    entry("Reject", "reject", workspace.reject, there or workspace.prompted)
    object_id = session.object_at(y, x)
    if object_id is None:
        return menu
    menu.addSeparator()
    entry(f"Refine object {object_id}", "", partial(session.refine, object_id))
    entry(f"Delete object {object_id}", "", partial(workspace.delete_object, object_id))
    classes = menu.addMenu("Set class")
    for info in workspace.classes:
        action = classes.addAction(info.name)
        action.triggered.connect(
            lambda _=False, class_id=info.id: workspace.set_object_class(object_id, class_id)
        )
    return menu
