"""RestoreBar: offers the saved work of an image, and tells how much of it is back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_pathsam._napari.widgets import MessageBar

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_pathsam.workspace import Workspace

TOLD_EVERY_MS = 200


class RestoreBar(MessageBar):
    """Shows what a workspace has to bring back; hidden where there is nothing."""

    def __init__(self, color: str, parent: QWidget | None = None) -> None:
        super().__init__(color, parent)
        self._workspace: Workspace | None = None
        self._timer = QTimer(self, singleShot=True, interval=TOLD_EVERY_MS)
        self._timer.timeout.connect(self.bring_up_to_date)

    def follow(self, workspace: Workspace) -> None:
        """Show the saved work of this workspace's image, from now on."""
        self._workspace = workspace
        self._offer = (
            self.add("Start afresh", "Set the saved work aside", workspace.discard_saved),
            self.add("Restore", "Bring the saved objects back", workspace.restore),
        )
        workspace.restoring_changed.connect(self.bring_up_to_date)

    def bring_up_to_date(self) -> None:
        """Another image is open, or more of its saved work is back."""
        if self._workspace is None:
            return
        saved, part = self._workspace.restorable, self._workspace.restoring
        for made in self._offer:
            made.setVisible(part is None)
        if saved is None:
            self.say("")
        elif part is None:
            self.say(f"There is saved work for this image: {saved}.")
        else:
            self.say(f"Bringing back {saved}: {part:.0%}. Until then nothing can be changed.")
            self._timer.start()

    def stop(self) -> None:
        """The dock goes."""
        self._timer.stop()
        if self._workspace is not None:
            self._workspace.restoring_changed.disconnect(self.bring_up_to_date, missing_ok=True)
            self._workspace = None
