"""Choosing the model that knows the classes: packaged heads, the person's own files, the catalogue.

None is chosen for the person: a head made for glands finds glands in anything.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.elided_box import ElidedBox
from napari_pathsam._napari.model_chooser import (
    DEVICE_TIPS,
    DEVICES,
    Catalogue,
    ModelChoice,
    read_catalogue,
)
from napari_pathsam._napari.torch_import import load_torch
from napari_pathsam._napari.widgets import button
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import PathsamError

if TYPE_CHECKING:
    from napari_pathsam.models.advice import Advice
    from napari_pathsam.models.entries import ModelEntry

NOTHING = "choose what to find…"
READING = "looking for models…"
"""Until the list is there: the worker loads PyTorch first, and a slow machine takes a while."""
QUIET = "font-size: 11px;"


@dataclass(frozen=True)
class HeadChoice(ModelChoice):
    """A model that knows classes, as the chooser lists it.

    ``name`` is what loads it; ``embedding_name``, ``mpp`` and ``enlarge`` say how it encodes, where
    that is known before it is loaded.
    """

    tissue: str = ""
    stain: str = ""
    classes: ClassTable = field(default_factory=ClassTable)
    mpp: float | None = None
    mpp_range: tuple[float, float] | None = None
    enlarge: float = 1.0
    embedding_name: str = ""
    own: bool = False
    advised: Advice | None = None

    @property
    def line(self) -> str:
        """What the list shows: what it finds, and in what."""
        made_for = ", ".join(t for t in (self.tissue, self.stain) if t)
        return f"{self.title} · {made_for}" if made_for else self.title

    @property
    def details(self) -> str:
        """All that is known, as rich text."""
        lines = []
        if self.tissue or self.stain:
            lines.append(f"Made for <b>{html.escape(self.tissue or 'a tissue not stated')}</b>, "
                         f"{html.escape(self.stain or 'a stain not stated')}.")  # fmt: skip
        else:
            lines.append("Its file does not say which tissue and stain it was made for.")
        if self.mpp:
            low_high = self.mpp_range
            between = f" (at home from {low_high[0]:g} to {low_high[1]:g})" if low_high else ""
            lines.append(f"Works at {self.mpp:g} µm/px{between}.")
        if self.summary:
            lines.append(html.escape(self.summary))
        if self.own:
            lines.append(f"{html.escape(self.name)}.")
        if self.licence:
            terms = html.escape(self.licence)
            if self.licence_url:
                url = html.escape(self.licence_url)
                terms = f"<a style='color:#3d9ae8' href='{url}'>{terms}</a>"
            lines.append(f"Licence: {terms}.")
        return " ".join(lines)


def read_heads(own_files: Iterable[str] = ()) -> tuple[tuple[HeadChoice, ...], Catalogue]:
    """The models that know classes, and what else is in the catalogue; runs in the worker.

    Files of the person's own that cannot be read any more are left out.
    """
    load_torch()
    from napari_pathsam.models.catalogue import HEADS, find_entry
    from napari_pathsam.models.checkpoints import cached_path, imported_models

    heads = []
    imported = [name for name in imported_models() if name not in HEADS]
    for name in (*HEADS, *imported):
        entry = HEADS.get(name)
        packaged = None if entry is None else getattr(entry.weights, "path", None)
        path = packaged or cached_path(name)
        if path.is_file():
            with suppress(PathsamError):
                if found := head_in_file(path, name=name, entry=entry):
                    heads.append(found)
        elif entry is not None and packaged is None:
            heads.append(HeadChoice(ready=False, **_told(find_entry(name))))
    for each in own_files:
        with suppress(PathsamError):
            if found := head_in_file(Path(each)):
                heads.append(found)
    return tuple(heads), read_catalogue()


def _told(entry: ModelEntry) -> dict[str, Any]:
    """What the catalogue says of a model."""
    return {
        "name": entry.name,
        "title": entry.title,
        "summary": entry.summary,
        "licence": entry.licence,
        "licence_url": entry.licence_url,
        "size_text": entry.size_text,
        "advised": entry.advised,
    }


def head_in_file(
    path: Path, *, name: str = "", entry: ModelEntry | None = None
) -> HeadChoice | None:
    """What a model file says of itself; None when it knows no classes.

    ``name`` is what loads it where that is not its path, ``entry`` its line of the catalogue.

    Raises
    ------
    BadWeightsError, UnavailableError
        It is no model file, or not there.
    """
    load_torch()
    from napari_pathsam.models.model_file import read_card
    from napari_pathsam.models.sam2_config import Sam2Config
    from napari_pathsam.models.task_config import TaskConfig
    from napari_pathsam.models.wsi_sam_config import WsiSamConfig

    card = read_card(path)
    config = card.config
    if isinstance(config, Sam2Config | WsiSamConfig) or card.classes is None:
        return None
    if isinstance(config, TaskConfig):
        embedding = "pixels" if config.guide is None else f"pixels+{config.guide}"
    else:
        beside = "" if config.encoder is None else f"+{config.encoder.name}"
        embedding = f"{config.base}{beside}"
    told = {"name": name or str(path), "title": name or path.stem, "licence": card.licence}
    return HeadChoice(
        **(told if entry is None else _told(entry)),
        tissue=config.tissue,
        stain=config.stain,
        classes=card.classes,
        mpp=config.mpp,
        mpp_range=config.mpp_range,
        enlarge=config.enlarge,
        embedding_name=embedding,
        own=not name,
    )


class OwnHeads:
    """The model files a person chose, remembered in a small file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(platformdirs.user_config_dir("napari-pathsam")) / "heads.json"
        self.files: list[str] = []
        with suppress(OSError, ValueError):
            saved = json.loads(self._path.read_text("utf-8"))
            if isinstance(saved, list):
                self.files = [str(f) for f in saved]

    def add(self, file: str) -> None:
        """Remember one more."""
        self.files = [f for f in self.files if f != file] + [file]
        with suppress(OSError):  # a read-only home: known until the viewer is closed
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.files, indent=1), "utf-8")


class HeadChooser(QWidget):
    """Edits which model segments, and on which device; ``value()`` is None until one is chosen."""

    value_changed = Signal()
    file_chosen = Signal(str)
    teach_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._heads: tuple[HeadChoice, ...] = ()
        self._model = ElidedBox(self)
        self._model.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        self._model.setToolTip(
            "The model that knows the classes, and the tissue and stain it was made for"
        )
        self._device = QComboBox(self)
        self._device.setMaximumWidth(76)
        self._device.setToolTip("Where the model runs")
        for row, device in enumerate(DEVICES):
            self._device.addItem(device)
            self._device.setItemData(row, DEVICE_TIPS[device], Qt.ToolTipRole)
        self._info = QLabel(self)
        self._info.setWordWrap(True)
        self._info.setOpenExternalLinks(True)
        self._info.setStyleSheet(QUIET)
        self.file_button = button("File…", "Use a model file of your own (.safetensors)",
                                  self._ask_file)  # fmt: skip
        self.teach_button = button(
            "None fits? Teach your own", "Train a model on what you paint", self.teach_wanted.emit
        )
        self.teach_button.hide()
        row = QHBoxLayout()
        row.addWidget(self.file_button)
        row.addStretch(1)
        row.addWidget(QLabel("on", self))
        row.addWidget(self._device)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self._model)
        layout.addWidget(self._info)
        layout.addLayout(row)
        layout.addWidget(self.teach_button)
        QWidget.setTabOrder(self._model, self.file_button)
        QWidget.setTabOrder(self.file_button, self._device)
        QWidget.setTabOrder(self._device, self.teach_button)
        self._model.addItem(READING)
        self._describe()
        self._model.currentIndexChanged.connect(self._on_changed)
        self._device.currentIndexChanged.connect(self._on_changed)

    def value(self) -> HeadChoice | None:
        name = self._model.currentData()
        return next((h for h in self._heads if h.name == name), None)

    def device(self) -> str:
        return self._device.currentText()

    def heads(self) -> tuple[HeadChoice, ...]:
        return self._heads

    def set_value(self, name: str | None) -> None:
        """Choose a model by name, or none; emits nothing."""
        self._model.blockSignals(True)
        self._model.setCurrentIndex(max(0, self._model.findData(name)) if name else 0)
        self._model.blockSignals(False)
        self._describe()

    def set_heads(self, heads: Iterable[HeadChoice]) -> None:
        """List these models; the choice stays."""
        chosen = self.value()
        self._heads = tuple(heads)
        self._model.blockSignals(True)
        self._model.clear()
        self._model.addItem(NOTHING)
        for row, head in enumerate(self._heads, start=1):
            extra = "" if head.ready else f"  ({head.size_text}, {head.licence})"
            self._model.addItem(head.line + extra, head.name)
            self._model.setItemData(row, head.line, Qt.ToolTipRole)
        self._model.blockSignals(False)
        self.set_value(chosen.name if chosen else None)

    def set_devices(self, devices: frozenset[str]) -> None:
        """Grey out what this machine does not have."""
        for row, each in enumerate(DEVICES):
            item = self._device.model().item(row)
            item.setEnabled(each in devices)
            if each not in devices:
                item.setToolTip(f"{DEVICE_TIPS[each]}: this machine has none")

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "A model that knows classes", "", "Model files (*.safetensors)"
        )
        if path:
            self.file_chosen.emit(path)

    def _describe(self) -> None:
        head = self.value()
        self._info.setText("" if head is None else head.details)
        self._info.setVisible(head is not None and bool(head.details))

    def _on_changed(self, *_: Any) -> None:
        self._describe()
        self.value_changed.emit()
