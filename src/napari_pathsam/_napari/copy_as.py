"""“Copy as”: what was just done, as Python or as a command, on the clipboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QMenu, QPushButton, QSizePolicy, QWidget

from napari_pathsam.core.errors import PathsamError
from napari_pathsam.workspace.scripting import ImageOrigin

if TYPE_CHECKING:
    from napari.layers import Image


def origin_of(layer: Image) -> ImageOrigin:
    """How code gets at an image layer: its file, where that is what is shown, else the layer."""
    path = layer.source.path
    as_it_is = layer.rgb and layer.ndim == 2 and layer.opacity == 1
    there = path is not None and as_it_is and Path(path).exists()
    return ImageOrigin(Path(path) if there else None, layer.name)


class CopyButton(QPushButton):
    """A button with two entries; ``python`` and ``command`` make the text when it is wanted.

    They raise a :class:`PathsamError` where there is nothing to copy, which is said.
    """

    said = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.python: Callable[[], str] | None = None
        self.command: Callable[[], str] | None = None
        self.setText("Copy as")
        self.setToolTip("What you just did, as code that does it again without this window")
        self.setSizePolicy(QSizePolicy.Minimum, QSizePolicy.Fixed)
        menu = QMenu(self)
        menu.addAction("Copy as Python").triggered.connect(lambda: self.copy_python())
        menu.addAction("Copy as command").triggered.connect(lambda: self.copy_command())
        self.setMenu(menu)

    def copy_python(self) -> None:
        """Put Python code on the clipboard."""
        self._copy(self.python, "Copied: Python code that does this again.")

    def copy_command(self) -> None:
        """Put a shell command on the clipboard."""
        self._copy(self.command, "Copied: a command for the terminal that does this again.")

    def _copy(self, make: Callable[[], str] | None, said: str) -> None:
        if make is None:
            return
        try:
            text = make()
        except PathsamError as error:
            self.said.emit(str(error))
            return
        QGuiApplication.clipboard().setText(text)
        self.said.emit(said)
