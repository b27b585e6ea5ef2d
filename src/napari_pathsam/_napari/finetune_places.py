"""Places to go to: what the model is unsure of, and where it disagrees with what was painted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QListWidget, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import Choice, quiet, row
from napari_pathsam._napari.progress_bar import ProgressBar
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.geometry import Region

ROW_PX = 24
SHOWN = 6


@dataclass(frozen=True)
class Place:
    """A region of an image, in a few words; ``key`` says which image, ``tip`` what they mean."""

    text: str
    region: Region
    key: str = ""
    tip: str = ""


class PlaceList(QWidget):
    """Lists places; choosing one goes there."""

    chosen = Signal(object)

    def __init__(self, nothing: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._places: tuple[Place, ...] = ()
        self._nothing = quiet(nothing)
        self._list = QListWidget(self)
        self._list.setStyleSheet("QListWidget::item { height: 22px; }")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._nothing)
        layout.addWidget(self._list)
        self._list.itemClicked.connect(lambda _: self._go(self._list.currentRow()))
        self._list.itemActivated.connect(lambda _: self._go(self._list.currentRow()))
        self.set_value(())

    def value(self) -> tuple[Place, ...]:
        return self._places

    def set_value(self, places: Iterable[Place]) -> None:
        """List these; emits nothing, and the place one went to stays chosen if it is listed."""
        row = self._list.currentRow()
        here = self._places[row] if 0 <= row < len(self._places) else None
        self._places = tuple(places)
        self._list.clear()
        for n, place in enumerate(self._places, start=1):
            self._list.addItem(f"{n}   {place.text}")
            self._list.item(n - 1).setToolTip(place.tip)
            if here is not None and (place.region, place.key) == (here.region, here.key):
                self._list.setCurrentRow(n - 1)
        self._list.setFixedHeight(ROW_PX * min(max(len(self._places), 1), SHOWN) + 4)
        self._list.setVisible(bool(self._places))
        self._nothing.setVisible(not self._places)

    def say(self, nothing: str) -> None:
        """What is there to read while the list is empty."""
        self._nothing.setText(nothing)

    def step(self, by: int) -> None:
        """Go to the next place, or the one before."""
        if self._places:
            now = self._list.currentRow()
            to = 0 if now < 0 else (now + by) % len(self._places)
            self._go(to)

    def _go(self, n: int) -> None:
        if 0 <= n < len(self._places):
            self._list.setCurrentRow(n)
            self.chosen.emit(self._places[n])


class WhereNext(QWidget):
    """Asks where painting helps most, and lists the answer."""

    wanted = Signal()
    stopped = Signal()
    shown_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.places = PlaceList(
            "Where a stroke teaches most: unpainted regions the version in use is unsure of. “20 % "
            "of all doubt”: so much of all that it is unsure of looks like that place."
        )
        self.find_button = button(
            "Find", "Look for what the version in use is unsure of", self._on_button
        )
        self.extent = Choice(
            {"view": "in the field in view", "whole": "in the whole image"},
            "Where to look: first at what is in view, then at what is painted, then all over the "
            "rest, of a slide where there is tissue. Stop when you have seen enough",
        )
        self.bar = ProgressBar(self)
        self.bar.hide()
        self._said = quiet("")
        self._said.hide()
        self.previous_button = button("◀", "The place before", lambda: self.places.step(-1))
        self.next_button = button("▶", "The next place", lambda: self.places.step(1))
        self.map_box = QCheckBox("Map", self)
        self.map_box.setToolTip("Uncertainty as a layer: bright where the model wavers")
        self.map_box.setChecked(True)
        self.map_box.toggled.connect(self.shown_changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row(self.find_button, self.extent))
        layout.addWidget(self.bar)
        layout.addLayout(row(self.previous_button, self.next_button, self.map_box))
        layout.addWidget(self._said)
        layout.addWidget(self.places)

    def set_busy(self, busy: bool) -> None:
        """Whether it is being looked; then the button stops it."""
        self.find_button.setText("Stop" if busy else "Find")
        self.bar.setVisible(busy)
        (self.bar.wait if busy else self.bar.rest)()

    def say(self, text: str) -> None:
        """What was looked at, or why there is nothing to list."""
        self._said.setText(text)
        self._said.setVisible(bool(text))

    def _on_button(self) -> None:
        (self.wanted if self.bar.isHidden() else self.stopped).emit()

    def print_keys(self, previous: str, following: str) -> None:
        """Print the keys on the buttons."""
        self.previous_button.setText(f"◀  {previous}")
        self.next_button.setText(f"▶  {following}")
