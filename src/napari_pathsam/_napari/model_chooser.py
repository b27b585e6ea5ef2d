"""Choosing the model and the device, with licence and size; and fetching weights when asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_pathsam._napari.elided_box import ElidedBox
from napari_pathsam._napari.runner import QtJob, QtRunner
from napari_pathsam._napari.torch_import import load_torch
from napari_pathsam.core.errors import PathsamError

DEVICES = ("auto", "cuda", "mps", "cpu")
DEVICE_TIPS = {
    "auto": "The fastest there is: a CUDA GPU, else an Apple GPU, else the processor",
    "cuda": "An NVIDIA GPU",
    "mps": "An Apple GPU",
    "cpu": "The processor",
}


@dataclass(frozen=True)
class ModelChoice:
    """A model as the chooser lists it."""

    name: str
    title: str
    summary: str = ""
    licence: str = ""
    licence_url: str = ""
    size_text: str = ""
    ready: bool = True
    context: bool = False
    """Whether it can be shown what is round a field."""

    @property
    def line(self) -> str:
        """What the list shows."""
        extra = ", ".join(t for t in (self.size_text, self.licence) if t)
        return f"{self.title}  ({extra})" if extra else self.title


DEFAULT = ModelChoice("pathsam-nano", "PathSAM nano", ready=True)


@dataclass(frozen=True)
class Catalogue:
    """What the worker found out: the models, and which devices this machine has."""

    models: tuple[ModelChoice, ...]
    devices: frozenset[str]


def read_catalogue() -> Catalogue:
    """The models and devices there are; imports torch, so it runs in the worker.

    Raises
    ------
    UnavailableError
        When torch cannot be loaded; it says what to do.
    """
    torch = load_torch()
    from napari_pathsam.models.catalogue import MODELS
    from napari_pathsam.models.checkpoints import imported_models

    fetched = set(imported_models())
    listed = [
        ModelChoice(
            name, entry.title, entry.summary, entry.licence, entry.licence_url, entry.size_text,
            ready=entry.weights.kind == "packaged" or name in fetched,
        )
        for name, entry in MODELS.items()
    ]  # fmt: skip
    listed += [
        ModelChoice(name, name, "Imported by you.", context=_looks_round(name))
        for name in sorted(fetched - set(MODELS))
    ]
    devices = {"auto", "cpu"}
    if torch.cuda.is_available():
        devices.add("cuda")
    if torch.backends.mps.is_available():
        devices.add("mps")
    return Catalogue(tuple(listed), frozenset(devices))


def _looks_round(name: str) -> bool:
    """Whether an imported model is a WSI-SAM with context; one that cannot be read is none."""
    from napari_pathsam.models.checkpoints import cached_path, read_card

    try:
        return bool(getattr(read_card(cached_path(name)).config, "context", False))
    except PathsamError:
        return False


class ModelChooser(QWidget):
    """Edits which model answers, and on which device: ``(name, device)``."""

    value_changed = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: dict[str, ModelChoice] = {}
        self._model = ElidedBox(self)
        self._model.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        self._model.setToolTip("The model that turns prompts into masks")
        self._device = QComboBox(self)
        self._device.setToolTip("Where the model runs")
        self._device.setMaximumWidth(76)
        for row, device in enumerate(DEVICES):
            self._device.addItem(device)
            self._device.setItemData(row, DEVICE_TIPS[device], Qt.ToolTipRole)
        self._info = QLabel(self)
        self._info.setWordWrap(True)
        self._info.setOpenExternalLinks(True)
        self._info.setStyleSheet("color: #9aa0a6; font-size: 11px;")
        row_layout = QHBoxLayout()
        row_layout.addWidget(self._model, 1)
        row_layout.addWidget(self._device)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row_layout)
        layout.addWidget(self._info)
        self.set_catalogue(Catalogue((DEFAULT,), frozenset(DEVICES)))
        self._model.currentIndexChanged.connect(self._on_changed)
        self._device.currentIndexChanged.connect(self._on_changed)

    def value(self) -> tuple[str, str]:
        return (self._model.currentData() or DEFAULT.name, self._device.currentText())

    def set_value(self, name: str, device: str) -> None:
        """Choose a model and a device; emits nothing."""
        self._blocked(lambda: self._model.setCurrentIndex(max(0, self._model.findData(name))))
        self._blocked(lambda: self._device.setCurrentText(device))
        self._describe()

    def choice(self) -> ModelChoice:
        """What is chosen, with all that is known of it."""
        return self._choices[self.value()[0]]

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """List these models; the choice stays."""
        name, device = self.value()
        self._choices = {m.name: m for m in catalogue.models}
        self._blocked(self._model.clear)
        for row, model in enumerate(catalogue.models):
            self._blocked(lambda model=model: self._model.addItem(model.line, model.name))
            self._model.setItemData(row, model.summary, Qt.ToolTipRole)
        for row, each in enumerate(DEVICES):
            item = self._device.model().item(row)
            item.setEnabled(each in catalogue.devices)
            if each not in catalogue.devices:
                item.setToolTip(f"{DEVICE_TIPS[each]}: this machine has none")
        self.set_value(name, device)

    def _describe(self) -> None:
        choice = self._choices.get(self.value()[0])
        if choice is None or not choice.summary:
            self._info.setText("")
            self._info.hide()
            return
        licence = (
            f" <a style='color:#69c0ff' href='{choice.licence_url}'>{choice.licence}</a>"
            if choice.licence_url
            else ""
        )
        self._info.setText(f"{choice.summary}{licence}")
        self._info.show()

    def _on_changed(self) -> None:
        self._describe()
        self.value_changed.emit(*self.value())

    def _blocked(self, change: Any) -> None:
        for box in (self._model, self._device):
            box.blockSignals(True)
        change()
        for box in (self._model, self._device):
            box.blockSignals(False)


class Fetch(QObject):
    """One download of weights in a worker: progress, cancel, and what became of it."""

    progressed = Signal(str)
    done = Signal(str)  # the model's name
    failed = Signal(str)

    def __init__(self, runner: QtRunner, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._runner = runner
        self._job: QtJob | None = None
        self._state = {"done": 0, "total": 0, "cancelled": False}
        self._timer = QTimer(self)
        self._timer.setInterval(200)
        self._timer.timeout.connect(self._report)
        self._title = ""

    @property
    def running(self) -> bool:
        return self._job is not None

    def start(self, choice: ModelChoice) -> None:
        """Fetch the weights of a model."""
        self.cancel()
        state = {"done": 0, "total": 0, "cancelled": False}
        self._state, self._title = state, choice.title
        self._job = self._runner.submit(
            _fetch, choice.name, state,
            then=lambda _: self._finish(lambda: self.done.emit(choice.name)),
            failed=lambda error: self._finish(lambda: self.failed.emit(str(error))),
        )  # fmt: skip
        self._timer.start()
        self._report()

    def cancel(self) -> None:
        """Stop; nothing is kept."""
        self._state["cancelled"] = True
        if self._job is not None:
            self._job.cancel()
        self._job = None
        self._timer.stop()

    def _finish(self, tell: Any) -> None:
        self._job = None
        self._timer.stop()
        tell()

    def _report(self) -> None:
        done, total = self._state["done"], self._state["total"]
        share = f" {100 * done / total:.0f} % of {total / 1e6:.0f} MB" if total else ""
        self.progressed.emit(f"Fetching {self._title}…{share}")


def _fetch(name: str, state: dict[str, Any]) -> None:
    from napari_pathsam.models.catalogue import find_entry
    from napari_pathsam.models.checkpoints import fetch

    def progress(done: int, total: int) -> None:
        state["done"], state["total"] = done, total

    fetch(find_entry(name), progress=progress, cancelled=lambda: state["cancelled"])
