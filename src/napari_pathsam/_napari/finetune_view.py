"""What the “PathSAM: Fine-tune” dock looks like: its parts and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_pathsam._napari.column import Column
from napari_pathsam._napari.copy_as import CopyButton
from napari_pathsam._napari.finetune_classes import PaintedClasses
from napari_pathsam._napari.finetune_explain import ExplainPanel
from napari_pathsam._napari.finetune_how import HowPanel
from napari_pathsam._napari.finetune_pairs import PairList
from napari_pathsam._napari.finetune_parts import Section, form
from napari_pathsam._napari.finetune_places import PlaceList, WhereNext
from napari_pathsam._napari.finetune_preview import LookPanel
from napari_pathsam._napari.finetune_results import Results, TrainBar
from napari_pathsam._napari.finetune_versions import Versions
from napari_pathsam._napari.image_chooser import LayerChooser
from napari_pathsam._napari.widgets import AMBER, BLUE, RED, MessageBar, PixelSize, button

if TYPE_CHECKING:
    from napari.viewer import Viewer


class FineTuneView(Column):
    """The dock's parts in one column, at most 380 pixels wide; none of them knows another."""

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.images = LayerChooser(viewer, ("Image",), "choose an image…", self)
        self.images.setToolTip("The image to learn from, and to look at")
        self.pixel_size = PixelSize(self)
        self.labels = LayerChooser(viewer, ("Labels",), "choose, or press New…", self, own=True)
        self.labels.setToolTip(
            "The labels layer with your strokes. Objects accepted in Annotate, a label image or "
            "GeoJSON you opened will do as well"
        )
        self.new_button = button("New", "A labels layer to paint on", lambda: None)
        self.restore_bar, self.resume_bar = MessageBar(BLUE, self), MessageBar(BLUE, self)
        self.mpp_bar, self.error_bar = MessageBar(AMBER, self), MessageBar(RED, self)
        self.objects_bar, self.files_bar = MessageBar(BLUE, self), MessageBar(BLUE, self)
        self.new_bar = MessageBar(BLUE, self)
        self.error_bar.add("Close", "Hide this message", lambda: self.error_bar.say(""))
        self.classes = PaintedClasses(self)
        self.pairs = PairList(self)
        self.how = HowPanel(viewer, self)
        self.train = TrainBar(self)
        self.status = QLabel("", self)
        self.status.setWordWrap(True)
        self.results = Results(self)
        self.look = LookPanel(self)
        self.versions = Versions(self)
        self.where = WhereNext(self)
        self.worst = PlaceList(
            "After training: painted regions the model disagrees with. Look there for slips of the "
            "brush, or for what needs more strokes."
        )
        self.explain = ExplainPanel(self)
        self.copy_button = CopyButton(self)
        self.copy_button.setToolTip("The training of the selected version, as code")
        self._lay_out()

    def _lay_out(self) -> None:
        column = self.column
        labels = QWidget(self)
        line = QHBoxLayout(labels)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        line.addWidget(self.labels, 1)
        line.addWidget(self.new_button)
        column.addLayout(
            form((("Image", self.images), ("Pixel size", self.pixel_size), ("Labels", labels)))
        )
        for bar in (
            self.restore_bar, self.resume_bar, self.mpp_bar, self.new_bar,
            self.objects_bar, self.error_bar,
        ):  # fmt: skip
            column.addWidget(bar)
        self.sections: dict[str, Section] = {}
        for key, title, tip, widget, opened in (
            ("classes", "What to tell apart", "The classes, and what you painted of each",
             self.classes, True),
            ("pairs", "Images", "Which images are trained on", self.pairs, False),
            ("how", "How to train", "Start, preset, held-out regions", self.how, True),
            ("train", "", "", self.train, True),
            ("results", "How good it is", "Curves and scores on what was held out",
             self.results, True),
            ("look", "Look at it", "The preview layer, and how it was before", self.look, True),
            ("versions", "Versions", "What was trained so far", self.versions, True),
            ("where", "Where next?", "Where a stroke teaches most", self.where, False),
            ("worst", "Worst training regions", "Where model and strokes disagree",
             self.worst, False),
            ("explain", "Explain", "What makes the model say a class, and where on the image",
             self.explain, False),
        ):  # fmt: skip
            if key == "train":
                column.addWidget(widget)
                column.addWidget(self.status)
                continue
            section = Section(title, tip, opened=opened)
            section.column.addWidget(widget)
            self.sections[key] = section
            column.addWidget(section)
        self.sections["pairs"].column.addWidget(self.files_bar)
        column.addWidget(self.copy_button)
        column.addStretch(1)
