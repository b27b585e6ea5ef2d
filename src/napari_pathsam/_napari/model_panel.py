"""The model's part of the dock: choosing, warming up, and fetching weights that are not here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_pathsam._napari.model_chooser import Catalogue, Fetch, ModelChooser, read_catalogue
from napari_pathsam._napari.runner import QtRunner
from napari_pathsam._napari.widgets import BLUE, MessageBar


class ModelPanel(QWidget):
    """Edits ``(model name, device, whether it is shown what is round a field)``.

    ``runner`` does the model's work, ``files`` downloads.
    """

    value_changed = Signal(str, str)
    fetched = Signal()
    failed = Signal(str)

    def __init__(
        self,
        runner: QtRunner,
        files: QtRunner,
        loader: Callable[[str, str], Any],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._runner = runner
        self._loader = loader
        self._fetch = Fetch(files, self)
        self.chooser = ModelChooser(self)
        self.context = QCheckBox("Use context", self)
        self.context.setToolTip("Show the model what is round the field, too")
        self.context.setChecked(True)
        self.context.hide()
        self._answering = self.chooser.choice().title
        self.bar = MessageBar(BLUE, self)
        self._button = self.bar.add("Download", "Fetch the weights", self._on_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.chooser)
        layout.addWidget(self.context)
        layout.addWidget(self.bar)
        self.chooser.value_changed.connect(self._on_chosen)
        self.context.toggled.connect(lambda: self.value_changed.emit(*self.chooser.value()))
        self._fetch.progressed.connect(self._say)
        self._fetch.done.connect(self._on_fetched)
        self._fetch.failed.connect(self._stopped)
        self._warm_up_timer = QTimer(self)
        self._warm_up_timer.setSingleShot(True)
        self._warm_up_timer.timeout.connect(self._warm_up)

    def value(self) -> tuple[str, str, bool]:
        return (*self.chooser.value(), self.context.isChecked())

    def start_warm_up(self) -> None:
        """Import torch and load the model before the first click asks for it."""
        self._warm_up_timer.start(0)

    def cancel(self) -> None:
        """Stop a download, if there is one."""
        if self._fetch.running:
            self._fetch.cancel()
            self._stopped("The download was cancelled; nothing was kept.")

    def close_work(self) -> None:
        """The dock goes."""
        self._warm_up_timer.stop()
        self._fetch.cancel()

    def _warm_up(self) -> None:
        self._runner.submit(
            read_catalogue,
            then=self._on_catalogue,
            failed=lambda error: self.failed.emit(str(error)),
        )

    def _on_catalogue(self, catalogue: Catalogue) -> None:
        self.chooser.set_catalogue(catalogue)
        self.context.setVisible(self.chooser.choice().context)
        if self.chooser.choice().ready:
            # A model that cannot be loaded is reported when a prompt asks for it.
            self._runner.submit(self._loader, *self.chooser.value())

    def _on_chosen(self, name: str, device: str) -> None:
        choice = self.chooser.choice()
        self.context.setVisible(choice.context)
        if choice.ready:
            self._answering = choice.title
        self._stopped(
            ""
            if choice.ready
            else f"{choice.title} is not on this machine yet: {choice.size_text}, "
            f"licence {choice.licence}."
        )
        self.value_changed.emit(name, device)

    def _on_button(self) -> None:
        if self._fetch.running:
            self.cancel()
        else:
            self._button.setText("Cancel")
            self._fetch.start(self.chooser.choice())

    def _on_fetched(self, _name: str) -> None:
        self._answering = self.chooser.choice().title
        self._stopped("")
        self._warm_up()
        self.fetched.emit()

    def _stopped(self, text: str) -> None:
        self._button.setText("Download")
        self._say(text)

    def _say(self, text: str) -> None:
        """Say it; and which model answers while the chosen one is not here."""
        if text and not self.chooser.choice().ready:
            text = f"{text} Until it is here, {self._answering} answers."
        self.bar.say(text)
