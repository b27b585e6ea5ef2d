"""Puts off painting the canvas while an answer is worked out that will change it again.

A click adds a marker and, a few hundredths of a second later, a candidate: two pictures. Where no
graphics card draws them, the first one takes the processor away from the very work that the second
one waits for. So both are painted at once, when the answer is there, or after a moment without one.
"""

from __future__ import annotations

from contextlib import suppress

from qtpy.QtCore import QObject, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

LONGEST_MS = 60
"""As long as an answer of the small model takes; the marker of a slower one does not wait more."""


class CanvasPause(QObject):
    """Stops and resumes painting the canvas in the window that holds a dock."""

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        self._dock = dock
        self._canvases: list[QWidget] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(LONGEST_MS)
        self._timer.timeout.connect(self.end)

    def begin(self) -> None:
        """Paint nothing until :meth:`end`, or for ``LONGEST_MS``."""
        if self._timer.isActive():
            return
        if self._canvases is None:  # looking through the window takes milliseconds: once
            self._canvases = _canvases(self._dock)
        for canvas in self._canvases:
            with suppress(RuntimeError):  # deleted meanwhile
                canvas.setUpdatesEnabled(False)
        self._timer.start()

    def end(self) -> None:
        """Paint what changed meanwhile."""
        self._timer.stop()
        for canvas in self._canvases or ():
            with suppress(RuntimeError):
                canvas.setUpdatesEnabled(True)


def _canvases(dock: QWidget) -> list[QWidget]:
    """What is drawn with OpenGL in the window that holds the dock, or out of which it floats."""
    window = dock
    while (parent := window.parentWidget()) is not None:
        window = parent
    return list(window.findChildren(QOpenGLWidget))
