"""A Fine-tune dock in a real viewer, and what a person does with it in nearly every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from napari_pathsam.workspace.teaching_choices import Advanced
from napari_pathsam.workspace.teaching_store import LessonStore

LONG_MS = 900_000
SAMPLE = "colon_low_grade"
MICRONS = {"scale": (0.5, 0.5), "units": ("um", "um"), "name": "H&E"}
SPOTS = ((20, 20), (20, 110), (110, 20))


def spots(shape: tuple[int, int]) -> np.ndarray:
    """Three regions of each of two classes."""
    labels = np.zeros(shape, np.uint8)
    for y, x in SPOTS:
        labels[y : y + 14, x : x + 14] = 1
        labels[y + 22 : y + 36, x : x + 14] = 2
    return labels


class Lesson(NamedTuple):
    """A viewer, its dock, and a person's hands."""

    viewer: Any
    dock: Any
    hands: Any

    def strokes(self, layer: Any = None) -> Any:
        """Three regions of each class, all at once, as a person with many hands; their layer."""
        layer = layer or self.dock.brush.new_labels()
        labels = spots(layer.data.shape)
        layer.data_setitem(np.nonzero(labels), labels[labels > 0])
        return layer

    def quick(self, epochs: int = 2) -> None:
        """The head alone, for a few epochs."""
        self.dock.teaching.choose(device="cpu", trained="head", advanced=Advanced(epochs=epochs))

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait, however long it takes."""
        self.hands.until(lambda: bool(condition()), LONG_MS)

    def done(self) -> None:
        """Wait for the training to be over, looked at, and everything written."""
        self.until(lambda: not self.dock.run.running)
        self.until(lambda: self.dock.runner.idle and self.dock.files.idle)

    def press(self, widget: Any, at: Any = None) -> None:
        """Scroll to a widget of the dock and click it with the mouse, in its middle or there."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.dock.view.show_widget(widget)
        self.hands.settle(2)
        QTest.mouseClick(widget, Qt.LeftButton, pos=at or widget.rect().center())
        self.hands.settle(2)

    def answer(self, widget: Any, text: str) -> None:
        """Press what asks a question, and then the button of this text."""
        from qtpy.QtCore import Qt, QTimer
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QApplication

        asked = []

        def reply() -> None:
            box = QApplication.activeModalWidget()
            if box is None:  # not yet
                QTimer.singleShot(50, reply)
                return
            (wanted,) = [b for b in box.buttons() if b.text().replace("&", "") == text]
            asked.append(box.text())
            QTest.mouseClick(wanted, Qt.LeftButton)

        QTimer.singleShot(50, reply)
        self.press(widget)
        assert asked

    def row(self, table: Any, row: int) -> None:
        """Click a row of a table."""
        self.press(table.viewport(), table.visualItemRect(table.item(row, 0)).center())

    def write(self, table: Any, row: int, column: int, text: str) -> None:
        """Double-click a cell, type, and press Enter."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QLineEdit

        at = table.visualItemRect(table.item(row, column)).center()
        self.press(table.viewport(), at)
        QTest.mouseDClick(table.viewport(), Qt.LeftButton, pos=at)
        self.hands.until(lambda: any(e.isVisible() for e in table.findChildren(QLineEdit)))
        editor = next(e for e in table.findChildren(QLineEdit) if e.isVisible())
        editor.selectAll()
        QTest.keyClicks(editor, text)
        QTest.keyClick(editor, Qt.Key_Return)
        self.hands.settle(5)

    def train(self) -> None:
        """Train to the end."""
        self.dock.train()
        self.done()


@pytest.fixture(scope="session")
def load() -> Callable[[str, str], Any]:
    """Models as in a viewer, but read once for all tests."""
    from napari_pathsam.models.catalogue import load_model

    kept = {}

    def loaded(name, device):
        key = (name, Path(name).stat().st_mtime_ns if Path(name).exists() else 0)
        if key not in kept:
            kept[key] = load_model(name, device="cpu")
        return kept[key]

    return loaded


@pytest.fixture
def encoded(load, monkeypatch):
    """The shapes that went through a nano's trunk; three magnifications an embedding."""
    shapes = []
    trunk = type(load("pathsam-nano", "cpu").image_encoder.trunk)
    true = trunk.forward

    def forward(self, pixels):
        shapes.append(pixels.shape[-2:])
        return true(self, pixels)

    monkeypatch.setattr(trunk, "forward", forward)  # a version's file brings a nano of its own
    return shapes


@pytest.fixture
def made_up(field) -> Callable[..., np.ndarray]:
    """``made_up(side)``: a piece of the made-up field."""
    return lambda side=160: np.ascontiguousarray(field.image[60 : 60 + side, 60 : 60 + side])


@pytest.fixture
def finetune_of(viewer_of, put_beside, tmp_path, load):
    """``open_(image, …) -> Lesson``, at 0.5 µm; without an image: with the gland sample."""
    from napari_pathsam._napari.finetune import FineTuneDock
    from napari_pathsam._napari.keys import Keys

    def open_(image=None, *, estimates=False, viewer=None, **layer):
        if viewer is None:
            viewer = viewer_of(large_px=(1600, 1000))
            if image is None:
                viewer.open_sample("napari-pathsam", SAMPLE)
            else:
                viewer.add_image(image, rgb=True, **(layer or MICRONS))
        dock = FineTuneDock(
            viewer, model_loader=load, store=LessonStore(tmp_path / "lessons"),
            keys=Keys(tmp_path / "keys.json"),
        )  # fmt: skip
        if not estimates:  # a few timed steps that most tests can do without
            dock.shown._timer.timeout.disconnect()
        return Lesson(viewer, dock, put_beside(viewer, dock, "PathSAM: Fine-tune"))

    return open_
