"""Where the models with classes come from: the catalogue, the person's files, downloads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from qtpy.QtCore import QObject, Signal

from napari_pathsam._napari.model_chooser import Catalogue, Fetch
from napari_pathsam._napari.runner import QtRunner
from napari_pathsam._napari.segment_heads import (
    HeadChoice,
    HeadChooser,
    OwnHeads,
    head_in_file,
    read_heads,
)
from napari_pathsam._napari.widgets import MessageBar


class HasHeads(Protocol):
    """A dock's view with a chooser of models, and a bar for what must be downloaded."""

    heads: HeadChooser
    fetch_bar: MessageBar


class HeadSupply(QObject):
    """Fills the chooser and its download bar; ``runner`` reads cards, ``files`` downloads."""

    changed = Signal()
    """Other heads are listed, or another one is chosen."""
    failed = Signal(str)

    def __init__(
        self, view: HasHeads, runner: QtRunner, files: QtRunner, own: OwnHeads, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._heads, self._bar, self._runner, self._own = view.heads, view.fetch_bar, runner, own
        self._fetch = Fetch(files, self)
        self._button = self._bar.add("Download", "Fetch the weights", self._on_button)
        self._heads.file_chosen.connect(self._on_file)
        self._fetch.progressed.connect(self._bar.say)
        self._fetch.done.connect(self._on_fetched)
        self._fetch.failed.connect(self._stopped)

    def read(self) -> None:
        """List what there is; in the worker."""
        self._runner.submit(
            read_heads, tuple(self._own.files), then=self._on_read,
            failed=self._on_unread,
        )  # fmt: skip

    def tell(self) -> None:
        """Say whether the chosen model must be downloaded first."""
        head = self._heads.value()
        self._bar.say(
            f"{head.title} is not on this machine yet: {head.size_text}, licence {head.licence}."
            if head is not None and not head.ready
            else ""
        )

    def close(self) -> None:
        """The dock goes."""
        self._fetch.cancel()

    def _on_read(self, found: tuple[tuple[HeadChoice, ...], Catalogue]) -> None:
        heads, catalogue = found
        self._heads.set_heads(heads)
        self._heads.set_devices(catalogue.devices)
        self.changed.emit()

    def _on_unread(self, error: BaseException) -> None:
        self._heads.set_heads(self._heads.heads())  # nothing is looked for any more
        self.failed.emit(str(error))

    def _on_file(self, path: str) -> None:
        """A model file of the person's own."""
        self._runner.submit(
            head_in_file, Path(path), then=partial(self._on_own_head, path),
            failed=lambda error: self.failed.emit(str(error)),
        )  # fmt: skip

    def _on_own_head(self, path: str, head: HeadChoice | None) -> None:
        if head is None:
            self.failed.emit(
                f"{path} is a model that answers clicks and knows no classes. Use it in the "
                "Annotate dock; here a model with classes is wanted, as `pathsam train` writes."
            )
            return
        self._own.add(path)
        others = [h for h in self._heads.heads() if h.name != head.name]
        self._heads.set_heads([*others, head])
        self._heads.set_value(head.name)
        self.changed.emit()

    def _on_button(self) -> None:
        head = self._heads.value()
        if self._fetch.running:
            self._fetch.cancel()
            self._stopped("The download was cancelled; nothing was kept.")
        elif head is not None:
            self._button.setText("Cancel")
            self._fetch.start(head)

    def _on_fetched(self, _name: str) -> None:
        self._stopped("")
        self.read()

    def _stopped(self, text: str) -> None:
        self._button.setText("Download")
        self._bar.say(text)
