"""How to train: what to start from, what is trained, how thoroughly, what is held out; advanced."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_pathsam._napari.finetune_parts import Choice, PresetButtons, Section, form, quiet
from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.model_chooser import DEVICE_TIPS, DEVICES
from napari_pathsam.core.duration import duration
from napari_pathsam.workspace.teaching_choices import NETWORKS, Advanced, Choices

if TYPE_CHECKING:
    from napari.viewer import Viewer

FRESH = "new classes"
ESTIMATED = (
    "About so long here, from a step just timed and from the last trainings; less where it stops "
    "early. Memory beside the program’s own."
)
NOT_ESTIMATED = "How long each takes is measured once two classes are painted."
TRAINED = {
    "decoder": "classes, features and outlines",
    "alignment": "classes and features",
    "head": "the classes alone",
}
TRAINED_TIPS = {
    "decoder": "The KAN head, the alignment and the mask decoder. The slowest",
    "alignment": "The KAN head and the alignment",
    "head": "The KAN head alone. The fastest",
}
ALL_OF_IT = dict.fromkeys(TRAINED, "all of the network")
HOLD_OUT = {
    "region": "one region in five of each class",
    "image": "one image in five",
    "layer": "what a labels layer marks",
    "none": "nothing: no score",
}


class AdvancedPanel(QWidget):
    """Edits :class:`Advanced`; a field that was not touched follows the preset."""

    value_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._boxes: dict[str, Any] = {}
        self._changed: set[str] = set()
        self._values: dict[str, float] = {}
        rows = []
        for name, title, tip, box in (
            ("lr", "Learning rate", "How far each step goes", self._number(1e-5, 0.1, 5, 1e-4)),
            ("alpha", "Loss: α", "α focal + (1 − α) Dice", self._number(0, 1, 3, 0.05)),
            ("beta", "Loss: β", "β weighs how well the model guesses its own IoU",
             self._number(0, 10, 3, 0.01)),
            ("epochs", "Epochs", "At most so many", self._whole(1, 1000)),
            ("variants", "Variants", "Ways each field is seen: turned, mirrored, in other stains; "
             "1: as it is", self._whole(1, 64)),
            ("grid", "KAN grid", "Intervals of the learned functions; another value begins with "
             "new classes", self._whole(1, 32)),
            ("order", "KAN order", "Of the splines: 3 is cubic", self._whole(1, 5)),
            ("width", "KAN width", "Of the hidden layer", self._whole(4, 512)),
            ("seed", "Seed", "The same seed, data and device give the same weights",
             self._whole(0, 99_999)),
        ):  # fmt: skip
            box.setToolTip(tip)
            box.setMaximumWidth(110)
            box.valueChanged.connect(lambda _=None, n=name: self._on_changed(n))
            self._boxes[name] = box
            rows.append((title, box))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form(rows))
        self.note = quiet("Fields you leave alone follow the preset.")
        layout.addWidget(self.note)

    def enable_kan(self, there: bool) -> None:
        """Whether what shapes a KAN can be chosen."""
        for name in ("grid", "order", "width"):
            self._boxes[name].setEnabled(there)

    def value(self) -> Advanced:
        found = {name: self._boxes[name].value() for name in self._changed}
        return Advanced(**found)

    def set_value(self, advanced: Advanced) -> None:
        """Show what was changed; emits nothing."""
        chosen = {k: v for k, v in advanced.model_dump().items() if v is not None}
        self._changed = set(chosen)
        self._show()
        for name, value in chosen.items():
            self._put(name, value)

    def set_preset(self, values: Mapping[str, float]) -> None:
        """The preset's own numbers, for the fields nobody touched."""
        self._values = {k: v for k, v in values.items() if k in self._boxes}
        self._show()

    def _show(self) -> None:
        for name, value in self._values.items():
            if name not in self._changed:
                self._put(name, value)

    def _put(self, name: str, value: float) -> None:
        box = self._boxes[name]
        box.blockSignals(True)
        box.setValue(value)
        box.blockSignals(False)

    def _on_changed(self, name: str) -> None:
        if self._boxes[name].value() == self._values.get(name):
            self._changed.discard(name)
        else:
            self._changed.add(name)
        self.value_changed.emit()

    def _number(self, low: float, high: float, decimals: int, step: float) -> QDoubleSpinBox:
        box = QDoubleSpinBox(self)
        box.setDecimals(decimals)
        box.setRange(low, high)
        box.setSingleStep(step)
        box.setKeyboardTracking(False)
        return box

    def _whole(self, low: int, high: int) -> QSpinBox:
        box = QSpinBox(self)
        box.setRange(low, high)
        box.setKeyboardTracking(False)
        return box


def short(estimate: Any) -> str:
    """An estimate for a button: ``12 s · 0.4 GB``."""
    return f"{duration(estimate.seconds)} · {max(0.1, estimate.memory_bytes / 1e9):.1f} GB"


def is_network(start: str) -> bool:
    """Whether a model is a network that is trained whole; imports torch, so it is for a worker."""
    from napari_pathsam.training.finetune_networks import trains_network

    return trains_network("", start)


class HowPanel(QWidget):
    """Edits :class:`Choices`, but for the classes."""

    value_changed = Signal(object)  # dict of the fields that changed
    kind_wanted = Signal(str)  # is this model to start from a network? see show_kind

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = QLineEdit(self)
        self.name.setToolTip("What the model will be called")
        self.start = Choice(
            {None: FRESH},
            "Where training begins: with classes nobody has learned yet (new class prompts), or "
            "with a model that knows some of your classes, by name, already",
        )
        self.base = Choice(
            {"pathsam-nano": "PathSAM nano"},
            "The model that looks at the image (a promptable model, for its image embedding); it "
            "stays as it is. Or a network of its own, trained whole on what you painted: it wants "
            "more of it, and more time",
        )
        self.trained = Choice(
            TRAINED,
            "What training changes: the more, the longer it takes. What the base model sees in the "
            "image (its encoder) stays as it is",
        )
        self.presets = PresetButtons(self)
        self.estimate = quiet(NOT_ESTIMATED)
        self.device = Choice({d: d for d in DEVICES}, "Where training runs")
        for n, each in enumerate(DEVICES):
            self.device.setItemData(n, DEVICE_TIPS[each], Qt.ToolTipRole)
        self.hold_out = Choice(
            HOLD_OUT,
            "What is not trained on, so that the score is earned. Whole regions: never two pieces "
            "of one stroke on both sides",
        )
        self.held_layer = LayerChooser(viewer, ("Labels",), "choose a labels layer…", self)
        self.held_layer.setToolTip("Painted with the same classes; only scored on")
        self.held_layer.hide()
        self.advanced = AdvancedPanel(self)
        more = Section("Advanced", "Learning rate, loss, KAN, seed", opened=False)
        more.column.addWidget(self.advanced)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(
            form((("Name", self.name), ("Start from", self.start), ("Base model", self.base),
                  ("What learns", self.trained), ("Device", self.device),
                  ("Held out", self.hold_out)))
        )  # fmt: skip
        layout.addWidget(self.held_layer)
        layout.addWidget(self.presets)
        layout.addWidget(self.estimate)
        layout.addWidget(more)
        self.advanced_section = more
        for field, widget in (("start", self.start), ("base", self.base),
                              ("trained", self.trained), ("device", self.device),
                              ("hold_out", self.hold_out), ("preset", self.presets)):  # fmt: skip
            widget.value_changed.connect(lambda value, f=field: self._tell(f, value))
        self.name.editingFinished.connect(lambda: self._tell("name", self.name.text().strip()))
        self.advanced.value_changed.connect(lambda: self._tell("advanced", self.advanced.value()))

    def set_value(self, choices: Choices) -> None:
        """Show these choices; emits nothing."""
        if self.name.text() != choices.name:
            self.name.setText(choices.name)
        for field, widget in (("start", self.start), ("base", self.base),
                              ("trained", self.trained), ("device", self.device),
                              ("hold_out", self.hold_out), ("preset", self.presets)):  # fmt: skip
            widget.set_value(getattr(choices, field))
        self.advanced.set_value(choices.advanced)
        self._show_what_matters()

    def set_bases(self, promptable: Mapping[str, str]) -> None:
        """The models a training can stand on, and below them the networks trained whole."""
        offered = dict(NETWORKS)
        if find_spec("segmentation_models_pytorch") is None:
            del offered["unet-timm"]
        self.base.set_values({**promptable, **offered})

    def show_estimates(self, found: Mapping[str, Any]) -> None:
        """What each preset takes here; empty: nobody knows."""
        self.presets.set_estimates({
            preset: (short(e), f"{e.text[0].upper()}{e.text[1:]}: measured on this machine")
            for preset, e in found.items()
        })  # fmt: skip
        self.estimate.setText(ESTIMATED if found else NOT_ESTIMATED)

    def _show_what_matters(self) -> None:
        self.held_layer.setVisible(self.hold_out.value() == "layer")
        self.base.setEnabled(self.start.value() is None)
        start = self.start.value()
        if start is None:
            self._show_whole(self.base.value() in NETWORKS)
        else:
            self.kind_wanted.emit(start)

    def show_kind(self, start: str, is_network: bool) -> None:
        """The answer to ``kind_wanted``."""
        if start == self.start.value():
            self._show_whole(is_network)

    def _show_whole(self, whole: bool) -> None:
        """Of a network everything learns, and it has no KAN."""
        self.trained.setEnabled(not whole)
        self.trained.set_values(ALL_OF_IT if whole else TRAINED, {} if whole else TRAINED_TIPS)
        self.advanced.enable_kan(not whole)

    def _tell(self, field: str, value: Any) -> None:
        if field == "name" and not value:
            return
        self._show_what_matters()
        self.value_changed.emit({field: value})
