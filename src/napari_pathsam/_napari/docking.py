"""Being docked: how a dock of ours finds its place in the window, and how it learns of its end."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QThread, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

ASKED_AGAIN_MS = 100
"""So often it is looked whether somebody who was asked about closing the window has answered."""


class Dock(QWidget):
    """A widget that napari docks; it shares its place with our other docks, behind tabs."""

    _docked = False
    _closed = False
    _window_closing = False
    _decided_at = 0  # the event loop, counted from the outermost, in which the window was told

    def __init__(self) -> None:
        super().__init__()
        QCoreApplication.instance().aboutToQuit.connect(self.finish_threads)

    def shut_down(self) -> None:
        """Stop all work and leave the viewer as it is, once."""
        if not self._closed:
            self._closed = True
            self.stop()

    def stop(self) -> None:
        """The dock goes: end what it has under way."""

    def finish_threads(self) -> None:
        """The application ends: let threads finish what they are in the middle of."""

    def show_in_front(self) -> None:
        """Show the dock, also where another one covers it."""
        for widget in (frame_of(self), self):
            if widget is not None:
                widget.show()
                widget.raise_()

    def event(self, event: Any) -> bool:
        """Being taken out of its frame is how napari closes a dock: no close event comes then."""
        if event.type() == QEvent.ParentChange:
            if self.parent() is None and self._docked:
                QTimer.singleShot(0, self.shut_down)
            elif self.parent() is not None and not self._docked:
                QTimer.singleShot(0, self._share_the_place)
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """The window that is closed deletes its docks without a word: it hides itself before."""
        if watched is self.window():
            if event.type() == QEvent.Close:
                self._window_closing = True
                self._decided_at = QThread.currentThread().loopLevel()
                QTimer.singleShot(0, self._close_decided)
            elif event.type() == QEvent.Hide and self._window_closing and not event.spontaneous():
                self.shut_down()
        return bool(super().eventFilter(watched, event))

    def _close_decided(self) -> None:
        """A window that closes has hidden itself by now, unless a person is still being asked."""
        if QThread.currentThread().loopLevel() > self._decided_at:
            QTimer.singleShot(ASKED_AGAIN_MS, self._close_decided)
        else:
            self._window_closing = False

    def closeEvent(self, event: Any) -> None:
        """Closed as a window of its own."""
        self.shut_down()
        super().closeEvent(event)

    def _share_the_place(self) -> None:
        """Behind a tab with our other docks: one above the other, none would have room."""
        mine, main = frame_of(self), self.window()
        main.installEventFilter(self)
        if self._closed or mine is None or mine.isFloating() or not isinstance(main, QMainWindow):
            return
        for other in main.findChildren(Dock):
            frame = frame_of(other)
            if other is self or frame is None or frame.isFloating():
                continue
            if main.dockWidgetArea(frame) == main.dockWidgetArea(mine):
                main.tabifyDockWidget(frame, mine)
                QTimer.singleShot(0, mine.raise_)
                return


def frame_of(widget: QWidget) -> QDockWidget | None:
    """The frame a docked widget is in."""
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parentWidget()
    return above
