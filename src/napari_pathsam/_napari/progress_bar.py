"""How far something is; or, while nobody knows, for how long it has been under way."""

from __future__ import annotations

from time import monotonic

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QProgressBar, QWidget

from napari_pathsam.core.duration import duration

SECOND_MS = 1000


class ProgressBar(QProgressBar):
    """A bar that is painted when there is news, and at most once a second while there is none.

    Qt's own bar of unknown length moves to and fro 25 times a second. Beside an OpenGL canvas each
    of these paints composes the whole window anew: with software rendering, as on a remote desktop,
    that took most of a core from the model it was waiting for.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._since = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(SECOND_MS)
        self._timer.timeout.connect(self._count)
        self.show_steps(0, 1)

    def show_steps(self, done: int, total: int, text: str = "") -> None:
        """So many of so many; a ``total`` of 0: nobody knows."""
        if not total:
            self.wait()
            return
        self.rest()
        self.setRange(0, total)
        self.setValue(done)
        self.setFormat(text)

    def wait(self) -> None:
        """Count seconds from now on; it may be said again and again."""
        if self._timer.isActive():
            return
        self._since = monotonic()
        self.setRange(0, 1)
        self.setValue(0)
        self.setFormat("…")
        self._timer.start()

    def rest(self) -> None:
        """Nothing is under way."""
        self._timer.stop()

    def _count(self) -> None:
        self.setFormat(duration(monotonic() - self._since))
