"""A dock ends with its window, and only with it."""

from __future__ import annotations

import time

import pytest
from qtpy.QtCore import QEvent, QEventLoop, QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QMainWindow

from napari_pathsam._napari.docking import ASKED_AGAIN_MS, Dock

pytestmark = pytest.mark.gui


class Window(QMainWindow):
    """Asks whether to close, in an event loop of its own, and does as it is told."""

    def __init__(self, answers: list[bool]) -> None:
        super().__init__()
        self.answers = answers

    def closeEvent(self, event):
        loop = QEventLoop()
        QTimer.singleShot(50, loop.quit)
        loop.exec()
        event.setAccepted(self.answers.pop(0))


class Refuses(QObject):
    """A filter of somebody else, who lets no window close."""

    def eventFilter(self, watched, event):
        if event.type() == QEvent.Close:
            event.ignore()
            return True
        return False


@pytest.fixture
def docked(qtbot):
    """``docked(answers) -> (window, dock)``, shown."""

    def make(answers):
        window = Window(answers)
        frame, dock = QDockWidget(window), Dock()
        frame.setWidget(dock)
        window.addDockWidget(Qt.RightDockWidgetArea, frame)
        qtbot.addWidget(window, before_close_func=lambda w: w.answers.append(True))
        window.show()
        settle()
        return window, dock

    return make


def settle(ms: int = 20) -> None:
    """In no further event loop, unlike ``qtbot.wait``: that is where somebody is being asked."""
    ends = time.monotonic() + ms / 1000
    while time.monotonic() < ends:
        QApplication.processEvents()


def test_a_dock_lives_on_when_its_window_was_not_closed(docked):
    window, dock = docked([False, False, True])
    for _ in range(2):
        assert not window.close()
        settle(2 * ASKED_AGAIN_MS)
        window.hide()  # as changing its flags does
        window.show()
        settle()
        assert not dock._closed
    assert window.close()
    assert dock._closed


@pytest.mark.parametrize("later", [False, True])
def test_a_dock_lives_on_when_a_filter_keeps_its_window_open(docked, later):
    """Whether it is asked before the dock is told or after."""
    window, dock = docked([])
    keeper = Refuses()
    window.installEventFilter(keeper)
    if not later:
        window.installEventFilter(dock)  # anew: it is asked first
    assert not window.close()
    settle()
    window.removeEventFilter(keeper)
    window.hide()
    assert not dock._closed


def test_a_dock_ends_with_a_window_that_asks_for_long(docked):
    """While somebody is asked the event loop turns; a close before that was refused."""
    window, dock = docked([False, True])
    assert not window.close()
    assert window.close()
    assert dock._closed
