"""“Find similar”: from a few objects, proposals for the rest; reviewed before they are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.widgets import button

if TYPE_CHECKING:
    from napari.viewer import Viewer

ALL, SELECTED = "all", "selected"


class SimilarPanel(QWidget):
    """Edits what is searched for, and takes the answer: accept or reject."""

    wanted = Signal()
    accepted = Signal()
    rejected = Signal()
    score_changed = Signal(float)

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layers = LayerChooser(viewer, ("Labels",), "choose a labels layer…", self, own=True)
        self.layers.setToolTip(
            "The layer with the examples: “PathSAM objects” has those accepted in Annotate"
        )
        self._which = QComboBox(self)
        self._which.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        self._which.addItem("all its objects", ALL)
        self._which.addItem("the selected one", SELECTED)
        self._which.setToolTip(
            "The objects that serve as examples. Select one with the picker of the labels layer"
        )
        self.find_button = button(
            "Find similar", "Propose objects that look like the examples; nothing is accepted yet",
            self.wanted.emit,
        )  # fmt: skip
        self._score = QSlider(Qt.Horizontal, self)
        self._score.setRange(0, 100)
        self._score.setToolTip("Proposals with a lower score are left out")
        self._score_text = QLabel("", self)
        self._text = QLabel("", self)
        self._text.setWordWrap(True)
        self.accept_button = button(
            "Accept", "Add what is shown to the annotations, as one step that undo takes back",
            self.accepted.emit,
        )  # fmt: skip
        self.reject_button = button("Reject", "Remove the proposals", self.rejected.emit)
        self._lay_out()
        self._score.valueChanged.connect(self._on_score)
        self.show_proposals(None, 0)

    def value(self) -> tuple[Any, str]:
        """The labels layer, and which of its objects."""
        return (self.layers.value(), self._which.currentData())

    def set_value(self, layer: Any, which: str = ALL) -> None:
        """Choose; emits nothing."""
        self.layers.set_value(layer)
        self._which.setCurrentIndex(self._which.findData(which))

    def score(self) -> float:
        return self._score.value() / 100

    def set_score(self, score: float) -> None:
        """Show a score; emits nothing."""
        self._score.blockSignals(True)
        self._score.setValue(round(100 * score))
        self._score.blockSignals(False)
        self._score_text.setText(f"{score:.2f}")

    def text(self) -> str:
        return self._text.text()

    def show_proposals(self, n: int | None, shown: int) -> None:
        """How many there are and how many the score lets through; None: none were asked for."""
        self._review.setVisible(n is not None)
        if n is None:
            return
        self._text.setText(
            f"{shown} of {n} proposals. Erase what is wrong in the layer “PathSAM proposals”."
            if n
            else "Nothing similar was found here."
        )
        self.accept_button.setEnabled(shown > 0)
        self.accept_button.setText(f"Accept {shown}" if shown else "Accept")

    def _on_score(self) -> None:
        self._score_text.setText(f"{self.score():.2f}")
        self.score_changed.emit(self.score())

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        like = QLabel("Like", self)
        like.setMinimumWidth(88)
        form.addRow(like, self.layers)
        form.addRow("", self._which)
        self._review = QWidget(self)
        review = QVBoxLayout(self._review)
        review.setContentsMargins(0, 0, 0, 0)
        review.setSpacing(4)
        slider = QHBoxLayout()
        slider.addWidget(QLabel("Score at least", self._review))
        slider.addWidget(self._score, 1)
        slider.addWidget(self._score_text)
        answers = QHBoxLayout()
        answers.setSpacing(4)
        answers.addWidget(self.accept_button, 1)
        answers.addWidget(self.reject_button, 1)
        review.addWidget(self._text)
        review.addLayout(slider)
        review.addLayout(answers)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(form)
        layout.addWidget(self.find_button)
        layout.addWidget(self._review)
