"""Small parts the dock is made of: buttons, message bars, the pixel size, tools, the candidate."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_pathsam._napari.icons import tool_icon
from napari_pathsam._napari.keys import TOOL_IDS
from napari_pathsam._napari.progress_bar import ProgressBar

AMBER, RED, BLUE = "#8a5a00", "#8b2e2e", "#2b4c6f"
GOOD, FAIR, POOR = "#1f7a3d", "#8a6d00", "#a33232"


def button(text: str, tip: str, clicked: Callable[[], object]) -> QPushButton:
    """A push button with a tooltip, no wider than it needs to be."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda: clicked())
    made.setSizePolicy(QSizePolicy.Minimum, QSizePolicy.Fixed)
    return made


def error_line(parent: QWidget) -> QLabel:
    """A hidden, wrapping line for what went wrong with an edit."""
    line = QLabel("", parent)
    line.setWordWrap(True)
    line.setStyleSheet("color: #ff8a80;")
    line.hide()
    return line


def heading(text: str) -> QLabel:
    """A section's quiet title."""
    label = QLabel(text.upper())
    label.setStyleSheet("color: #858c94; font-size: 10px; font-weight: bold; margin-top: 4px;")
    return label


class MessageBar(QFrame):
    """One message with its buttons, inside the dock; never a dialog."""

    def __init__(self, color: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("bar")
        self.setStyleSheet(
            f"#bar {{ background: {color}; border-radius: 4px; }} #bar QLabel {{ color: #f4f4f4; }}"
        )
        self._label = QLabel(self)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(Qt.TextSelectableByMouse)
        self._buttons = QHBoxLayout()
        self._buttons.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.setSpacing(4)
        layout.addWidget(self._label)
        layout.addLayout(self._buttons)
        self.hide()

    def add(self, text: str, tip: str, clicked: Callable[[], object]) -> QPushButton:
        """One more button, at the right."""
        made = button(text, tip, clicked)
        self._buttons.addWidget(made)
        return made

    def text(self) -> str:
        return self._label.text()

    def say(self, text: str) -> None:
        """Show this text; an empty one hides the bar."""
        self._label.setText(text)
        self.setVisible(bool(text))


class PixelSize(QWidget):
    """Edits the pixel size in µm; None is “unknown”, shown as a badge beside the field."""

    value_changed = Signal(object)  # float | None

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._spin = QDoubleSpinBox(self)
        self._spin.setRange(0.0, 1000.0)
        self._spin.setDecimals(4)
        self._spin.setSingleStep(0.05)
        self._spin.setSpecialValueText(" ")
        self._spin.setKeyboardTracking(False)
        self._spin.setMaximumWidth(70)
        self._spin.setButtonSymbols(QDoubleSpinBox.NoButtons)
        self._spin.setToolTip(
            "Size of one pixel in µm. From the layer's scale and units where they say so; type it "
            "here where they do not. Used for areas and to encode at the model's resolution."
        )
        self._badge = QLabel("unknown", self)
        self._badge.setStyleSheet(
            f"background: {AMBER}; color: white; border-radius: 7px; padding: 1px 7px;"
        )
        self._badge.setToolTip(
            "The image does not say how large a pixel is. Everything works; areas are in pixels, "
            "and the model takes the image as it is seen. Type the size to the left if you know "
            "it; it is kept for this slide."
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin)
        layout.addWidget(QLabel("µm/px", self))
        layout.addWidget(self._badge)
        layout.addStretch()
        self._spin.valueChanged.connect(self._on_typed)

    def value(self) -> float | None:
        return self._spin.value() or None

    def set_value(self, mpp: float | None) -> None:
        """Show a pixel size; emits nothing."""
        self._spin.blockSignals(True)
        self._spin.setValue(mpp or 0.0)
        self._spin.blockSignals(False)
        self._badge.setVisible(mpp is None)

    def clear(self) -> None:
        """There is no image: nothing is unknown either."""
        self.set_value(None)
        self._badge.hide()

    def _on_typed(self) -> None:
        self._badge.setVisible(self.value() is None)
        self.value_changed.emit(self.value())


class ToolBar(QWidget):
    """Edits which tool is in hand, and the sign of the next point or scribble."""

    value_changed = Signal(object)  # a tool's id, or None: pan and zoom
    sign_changed = Signal(bool)

    TITLES = ("Point", "Box", "Scribble", "Lasso", "Refine")
    TIPS = (
        "Click on an object: + points. Shift + click: − points, on what does not belong to it",
        "Drag a box round an object",
        "Draw a line along the object, or with − along what does not belong to it",
        "Draw round an object: a first mask, which points then correct",
        "Click on an accepted object to correct it with points; accepting then replaces it",
    )

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        self._buttons: dict[str, QToolButton] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for column, tool_id in enumerate(TOOL_IDS):
            made = self._tool_button(tool_id)
            self._buttons[tool_id] = made
            layout.addWidget(made, 0, column)
        self._plus = self._sign_button("+  object", "#1f7a3d", True)
        self._minus = self._sign_button("−  not object", "#a33232", False)
        signs = QHBoxLayout()
        signs.setSpacing(3)
        signs.addWidget(self._plus)
        signs.addWidget(self._minus)
        layout.addLayout(signs, 1, 0, 1, len(TOOL_IDS))
        self.set_sign(True)

    def value(self) -> str | None:
        return next((i for i, b in self._buttons.items() if b.isChecked()), None)

    def set_value(self, tool_id: str | None) -> None:
        """Show a tool as chosen; emits nothing."""
        for each, made in self._buttons.items():
            made.setChecked(each == tool_id)

    def sign(self) -> bool:
        return self._plus.isChecked()

    def set_sign(self, positive: bool) -> None:
        """Show a sign; emits nothing."""
        self._plus.setChecked(positive)
        self._minus.setChecked(not positive)

    def set_keys(self, printed: Callable[[str], str]) -> None:
        """Print the keys on the buttons."""
        for title, tip, (tool_id, made) in zip(
            self.TITLES, self.TIPS, self._buttons.items(), strict=True
        ):
            key = printed(tool_id)
            made.setText(f"{title}\n{key}")
            made.setToolTip(f"{tip}.\n{key}; again: back to panning")
        key = printed("sign")
        self._plus.setText(f"+  object   {key}")
        self._plus.setToolTip(f"The next points and scribbles lie on the object ({key} switches)")
        self._minus.setText(f"−  not object   {key}")
        self._minus.setToolTip(
            f"The next points and scribbles lie on what is not the object ({key} switches; "
            "or Shift + click)"
        )

    def _tool_button(self, tool_id: str) -> QToolButton:
        made = QToolButton(self)
        made.setCheckable(True)
        made.setIcon(tool_icon(tool_id))
        made.setToolButtonStyle(Qt.ToolButtonTextUnderIcon)
        made.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        made.setMinimumHeight(58)
        made.setMinimumWidth(56)
        made.setStyleSheet(
            "QToolButton { padding: 2px 0px; border-radius: 4px; background: #3a3f4a; }"
            "QToolButton:hover { background: #4a515e; }"
            "QToolButton:checked { background: #2f5f95; color: white; }"
        )
        made.clicked.connect(lambda checked: self._on_tool(tool_id, checked))
        return made

    def _sign_button(self, text: str, color: str, positive: bool) -> QToolButton:
        made = QToolButton(self)
        made.setCheckable(True)
        made.setText(text)
        made.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        made.setMinimumHeight(24)
        made.setMinimumWidth(100)
        made.setStyleSheet(
            "QToolButton { border-radius: 4px; background: #3a3f4a; }"
            f"QToolButton:checked {{ background: {color}; color: white; }}"
        )
        made.clicked.connect(lambda: self._on_sign(positive))
        return made

    def _on_tool(self, tool_id: str, checked: bool) -> None:
        self.set_value(tool_id if checked else None)
        self.value_changed.emit(self.value())

    def _on_sign(self, positive: bool) -> None:
        self.set_sign(positive)
        self.sign_changed.emit(positive)


class CandidatePanel(QWidget):
    """Says what is on offer and takes the answer: accept, next mask, reject."""

    accepted = Signal(bool)  # overwrite
    rejected = Signal()
    cycled = Signal()
    deleted = Signal()
    cancelled = Signal()

    HINT = "Click on an object, or drag a box round it."

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = QLabel(self.HINT, self)
        self._text.setWordWrap(True)
        self._color = ""
        self._score = ProgressBar(self)
        self._score.setFixedHeight(18)
        policy = self._score.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # nothing jumps when a candidate comes or goes
        self._score.setSizePolicy(policy)
        self._score.setToolTip(
            "The model's own guess of how well the mask fits (intersection over union)"
        )
        self.accept_button = button("Accept", "", lambda: self.accepted.emit(False))
        self.cycle_button = button("Next mask", "", self.cycled.emit)
        self.reject_button = button("Reject", "", self.rejected.emit)
        self.delete_button = button("Delete object", "", self.deleted.emit)
        self.cancel_button = button("Cancel", "", self.cancelled.emit)
        self._text.setMinimumHeight(self.cancel_button.sizeHint().height())
        top = QHBoxLayout()
        top.addWidget(self._text, 1)
        top.addWidget(self.cancel_button)
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.accept_button, 3)
        row.addWidget(self.cycle_button, 3)
        row.addWidget(self.reject_button, 3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(top)
        layout.addWidget(self._score)
        layout.addLayout(row)
        layout.addWidget(self.delete_button)
        self.show_candidate(None, None)

    def text(self) -> str:
        return self._text.text()

    def set_keys(self, printed: Callable[[str], str]) -> None:
        """Print the keys on the buttons."""
        for made, title, action, tip in (
            (self.accept_button, "Accept", "accept",
             "Write the mask as an object of the active class; other objects keep their pixels.\n"
             f"{printed('overwrite')}: over existing objects"),
            (self.cycle_button, "Next mask", "cycle", "Show the next of the model's three masks"),
            (self.reject_button, "Reject", "reject", "Forget the prompts and the mask"),
            (self.delete_button, "Delete object", "delete", "Delete the object being refined"),
            (self.cancel_button, "Cancel", "cancel", "Stop encoding; prompts and objects stay"),
        ):  # fmt: skip
            made.setText(f"{title}  {printed(action)}")
            made.setToolTip(tip)

    def show_candidate(
        self,
        score: float | None,
        which: tuple[int, int] | None,
        *,
        refining: int | None = None,
        busy: str | None = None,
        prompted: bool = False,
        answered: bool = True,
        left_s: float | None = None,
    ) -> None:
        """Show a candidate's predicted IoU and which of how many it is; None: there is none.

        ``busy`` says what is under way; ``prompted``, that there is something to reject;
        ``answered``, that the model was asked about it (it is not when that was cancelled);
        ``left_s``, how long what is under way will take.
        """
        there = score is not None
        index, n = which or (0, 1)
        if busy is not None:
            left = f" about {left_s:.0f} s left" if left_s is not None and left_s >= 1 else ""
            self._text.setText(f"{busy}…{left}")
        elif there:
            name = f"Object {refining}" if refining is not None else "Candidate"
            self._text.setText(f"{name}, mask {index + 1} of {n}" if n > 1 else name)
        elif refining is not None:
            self._text.setText(f"Refining object {refining}: click + or −.")
        elif prompted:
            found = "Nothing found here" if answered else "Not answered yet"
            self._text.setText(f"{found}: add a point or a box, or reject.")
        else:
            self._text.setText(self.HINT)
        self._show_score(score, waiting=busy is not None)
        self.cancel_button.setVisible(busy is not None)
        self.accept_button.setEnabled(there)
        self.cycle_button.setEnabled(there and n > 1)
        self.reject_button.setEnabled(there or prompted or refining is not None)
        self.delete_button.setVisible(refining is not None)

    def _show_score(self, score: float | None, *, waiting: bool) -> None:
        self._score.setVisible(score is not None or waiting)
        if score is None and waiting:
            self._score.wait()
            return
        if score is None:
            self._score.rest()
            return
        self._score.setUpdatesEnabled(False)  # it would be painted at once, before the mask is
        percent = round(100 * min(max(score, 0.0), 1.0))
        self._score.show_steps(percent, 100, f"predicted IoU {score:.2f}")
        self._score.setUpdatesEnabled(True)
        color = GOOD if score >= 0.85 else FAIR if score >= 0.6 else POOR
        if color != self._color:  # a new style sheet is not free
            self._color = color
            self._score.setStyleSheet(
                "QProgressBar { background: #3a3f4a; color: white; border-radius: 4px; "
                f"text-align: center; }} QProgressBar::chunk {{ background: {color}; "
                "border-radius: 4px; }"
            )
