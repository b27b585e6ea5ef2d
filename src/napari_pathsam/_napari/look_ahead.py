"""When nobody has asked for anything for a moment, what lies beside the field in use is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from napari_pathsam._napari.runner import QtRunner
    from napari_pathsam.workspace import Workspace

AFTER_MS = 600
"""Clicks that follow each other faster are not made to share the processor."""


class LookAhead(QObject):
    """Waits for a pause after an answer; the work itself stops for prompts and waits for pans."""

    def __init__(self, workspace: Workspace, runner: QtRunner, parent: QObject) -> None:
        super().__init__(parent)
        self._workspace, self._runner = workspace, runner
        self.timer = QTimer(self, singleShot=True, interval=AFTER_MS)
        self.timer.timeout.connect(self._look)
        workspace.candidate_changed.connect(self._on_candidate)

    def _on_candidate(self, candidate: Any) -> None:
        if candidate is not None:
            self.timer.start()

    def _look(self) -> None:
        if self._runner.idle:
            self._workspace.look_ahead()
