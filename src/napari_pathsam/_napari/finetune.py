"""The “PathSAM: Fine-tune” dock: paint a little, train, look, correct, train again, keep.

Everything it does is a call of :class:`Teaching`, :class:`TeachRun` or :class:`TeachLook`; what it
shows comes from their signals.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout

from napari_pathsam._napari.embeddings import shared_cache
from napari_pathsam._napari.finetune_answers import Answers
from napari_pathsam._napari.finetune_brush import Brush
from napari_pathsam._napari.finetune_folders import Folders
from napari_pathsam._napari.finetune_how import is_network
from napari_pathsam._napari.finetune_labels import (
    FIRST_CLASSES,
    classes_of_layer,
    mark_other,
    named_classes,
)
from napari_pathsam._napari.finetune_lesson import LessonShown
from napari_pathsam._napari.finetune_objects import ObjectsTold
from napari_pathsam._napari.finetune_paint import BARE, PaintWatch
from napari_pathsam._napari.finetune_preview import PreviewLayer
from napari_pathsam._napari.finetune_view import FineTuneView
from napari_pathsam._napari.image_dock import ImageDock
from napari_pathsam._napari.keys import KeyBinder, Keys
from napari_pathsam._napari.layer_source import LayerSource
from napari_pathsam._napari.plane import view_of
from napari_pathsam._napari.runner import ViewerModels
from napari_pathsam._napari.segment_heads import HeadChoice, OwnHeads, read_heads
from napari_pathsam._napari.segment_layers import warm_up
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_look import TeachLook
from napari_pathsam.workspace.teaching_pairs import FilePair
from napari_pathsam.workspace.teaching_run import TeachRun
from napari_pathsam.workspace.teaching_store import LessonFolder, LessonStore, file_key
from napari_pathsam.workspace.teaching_work import FieldOfView

if TYPE_CHECKING:
    from napari.layers import Image, Labels
    from napari.viewer import Viewer

    from napari_pathsam._napari.model_chooser import Catalogue

WRITING_S = 2.0
"""At most so long the end of the dock waits for what is being written."""
MODELS_KEPT = 6
WHOLE_PX, PREVIEW_PX = 1600, 4096
"""Previews show images up to this side as a whole; of larger ones, so much of what is in view."""


class FineTuneDock(ImageDock):
    """Teach a model your classes, from a few strokes of each.

    ``model_loader(name, device)``, ``store``, ``keys`` and ``own_heads`` are for tests.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        store: LessonStore | None = None,
        keys: Keys | None = None,
        own_heads: OwnHeads | None = None,
    ) -> None:
        super().__init__(napari_viewer)
        self._own_heads = own_heads or OwnHeads()
        self._said_of = ""  # what was wrong with what was painted, or chosen
        self._counts: Any = None
        self._named: set[str] = set()  # classes that layers of objects have named so far
        self.load = model_loader or ViewerModels(self.runner, keep=MODELS_KEPT)
        self.teaching = Teaching(self.files, store)
        self.run = TeachRun(self.teaching, self.runner, shared_cache, self.load, self.field_in_view)
        self.look = TeachLook(self.teaching, self.runner, shared_cache, self.load)
        self.preview = PreviewLayer(self.viewer, self)
        self.paint = PaintWatch(self.viewer, self)
        self.view = FineTuneView(self.viewer)
        self.shown = LessonShown(self)
        self.answers, self.objects, self.brush = Answers(self), ObjectsTold(self), Brush(self)
        self.folders = Folders(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view, 1)
        self.keys = keys or Keys()
        self._binder = KeyBinder(self.viewer, self.keys, {
            "train": self.train,
            "swipe": self.shown.swipe,
            "next_place": partial(self.view.where.places.step, 1),
            "previous_place": partial(self.view.where.places.step, -1),
        })  # fmt: skip
        self._connect()
        self._print_keys()
        first = ClassTable.of(*FIRST_CLASSES)
        self.teaching.choose(classes=first, background_id=first.id_of("Background"))
        self.runner.submit(warm_up)
        QTimer.singleShot(0, self._read_heads)
        self.choose_first_image()

    # --- wiring ---

    def _connect(self) -> None:
        view, teaching = self.view, self.teaching
        view.pixel_size.value_changed.connect(self._on_pixel_size)
        view.labels.value_changed.connect(self.use_labels)
        view.new_button.clicked.connect(lambda: self.brush.new())
        view.classes.value_changed.connect(teaching.set_classes)
        view.classes.background_changed.connect(lambda i: teaching.choose(background_id=i))
        view.classes.zero_changed.connect(lambda zero: teaching.choose(zero=zero))
        view.classes.active_changed.connect(self._on_class)
        view.classes.paint_wanted.connect(self.brush.take)
        view.classes.erase_wanted.connect(self._erase)
        view.how.value_changed.connect(lambda changes: teaching.choose(**changes))
        view.how.kind_wanted.connect(self._ask_kind)
        view.how.hold_out.value_changed.connect(lambda _: self._pair())
        view.how.held_layer.value_changed.connect(self._on_held_layer)
        view.train.train_button.clicked.connect(lambda: self.train())
        view.train.cancel_button.clicked.connect(lambda: self.run.cancel())
        self.paint.changed.connect(self._on_painted)
        self.paint.picked.connect(view.classes.set_active)
        self.begin(view.images)

    def signals(self) -> tuple[tuple[Any, Callable], ...]:
        t = self.teaching
        return (
            *super().signals(),
            (t.choices_changed, self._on_choices),
            (t.counts_changed, self._on_counts),
            (t.restored, self._on_restored),
            (t.failed, self.say_error),
            (t.status, self.say),
            (self.run.failed, self._on_failed),
            (self.run.status, self.say),
            (self.look.failed, self.say_error),
            (self.look.busy_changed, self.say),
        )

    def _print_keys(self) -> None:
        shown = self.keys.shown
        self.view.train.train_button.setText(f"Train   {shown('train')}")
        self.view.train.train_button.setToolTip(
            "Learn from what is painted now. Paint on meanwhile: it counts the next time"
        )
        self.view.where.print_keys(shown("previous_place"), shown("next_place"))
        self.view.look.print_key(shown("swipe"))
        self._binder.bind([])

    # --- what the person does ---

    def train(self) -> None:
        """Train on what is painted now."""
        self._said_of, self._counts = "", None
        self.view.error_bar.say("")
        self._pair()
        self._on_painted()
        if self.source is None and not self.teaching.used:
            self.say_error("There is no image yet. Open one, or choose an image layer above.")
            return
        self.view.look.come_back()
        self.run.train()

    def use_labels(self, layer: Labels | None) -> None:
        """Learn from this labels layer; its classes join the table."""
        self._leave_labels(layer)
        self.view.labels.set_value(layer)
        self.objects.show(layer)
        if layer is not None:
            self._named |= named_classes(layer)
            known = self.known_classes()
            if not self.paint.is_own(layer):
                mark_other(layer, known)
            found = classes_of_layer(layer, known, avoid=self.teaching.removed)
            if len(found):
                self.objects.note_brought(layer, {c.id for c in found} - {c.id for c in known})
                teaching = self.teaching
                (teaching.set_classes if len(known) else teaching.replace_classes)(found)
        self._pair()
        if layer is not None:
            self.paint.set_classes(self.teaching.choices.classes, self.bare())

    def known_classes(self) -> ClassTable:
        """The classes of the lesson; none as long as nobody has used the first ones."""
        teaching = self.teaching
        begun = teaching.lesson.images or any(isinstance(p, FilePair) for p in teaching.pairs)
        known = teaching.choices.classes
        return ClassTable() if known.names == FIRST_CLASSES and not begun else known

    def field_in_view(self, *, exactly: bool = False) -> FieldOfView | None:
        """What previews show: a small image, or of a large one (``exactly``: always) the view.

        Of a view of much of a slide its middle: nobody waits for all of it between two epochs.
        """
        if self.source is None:
            return None
        shape_yx = self.source.shape_yx
        if max(shape_yx) <= WHOLE_PX and not exactly:
            return FieldOfView(self.source, Region.of(shape_yx), self.mpp)
        seen = view_of(self.viewer, self.source.plane, shape_yx)
        if seen is None:
            return None
        middle = seen[0].round_middle(PREVIEW_PX, shape_yx)
        field_now = seen[0] if exactly else seen[0].intersection(middle)
        return FieldOfView(self.source, field_now or middle, self.mpp)

    def current_number(self) -> int | None:
        """The version in use."""
        return self.teaching.lesson.current

    # --- what it says ---

    def say(self, text: str) -> None:
        """Say something worth knowing."""
        self.view.status.setText(text)
        self.view.status.setVisible(bool(text))

    def say_error(self, text: str) -> None:
        """Say what went wrong."""
        self.view.error_bar.say(text)
        if text:
            self.view.show_widget(self.view.error_bar)

    def _on_failed(self, text: str) -> None:
        """What is missing for a training to begin; out of date once that comes."""
        self._said_of = text if self.run.number is None else ""
        self.say_error(text)

    def _on_counts(self, counts: Any) -> None:
        """Other strokes: what was said of those before them goes. After Train the first are its."""
        self.view.classes.set_counts(counts)
        if self._counts is not None and counts != self._counts:
            self.view.new_bar.say("")
            self._take_back()
        self._counts = counts

    def _take_back(self) -> None:
        if self._said_of and self.view.error_bar.text() == self._said_of:
            self.view.error_bar.say("")
        self._said_of = ""

    def bare(self) -> str:
        """What a pixel is called that nobody painted."""
        choices = self.teaching.choices
        named = {c.id: c.name for c in choices.classes}
        if choices.zero == "background":
            return named.get(choices.background_id or 0, "background")
        return BARE

    def _on_choices(self, choices: Any) -> None:
        self._take_back()
        self.view.classes.set_value(choices.classes, choices.background_id)
        self.view.classes.set_zero(choices.zero)
        self.view.how.set_value(choices)
        self.view.explain.set_classes(choices.classes, choices.background_id)
        self.paint.set_classes(choices.classes, self.bare())
        self.preview.recolor(choices.classes)

    def _on_painted(self) -> None:
        """Objects that are accepted meanwhile may bring classes; one that was deleted stays so."""
        if names := self.paint.renamed():
            self.teaching.rename_classes(names)
            self._named |= {new for old, new in names.items() if old in self._named}
        new = self.paint.named() - self._named
        if new:
            self._named |= new
            self.teaching.add_classes(sorted(new))
        self.teaching.set_layers(self.paint.pairs())

    def _on_class(self, class_id: int) -> None:
        if self.source is not None and self.paint.labels_of(self.source.key) is not None:
            self.paint.take_brush(self.source.key, class_id)

    def _erase(self, class_id: int) -> None:
        if erased := self.paint.erase(class_id):
            name = self.teaching.choices.classes[class_id].name
            self.say(
                f"“{name}” is gone, and {erased:,} pixels that were painted of it. Undo in the "
                "labels layer (Ctrl+Z) brings both back."
            )

    def _on_pixel_size(self, mpp: float | None) -> None:
        self._take_back()
        self.type_mpp(mpp)
        if self.source is not None:
            self.paint.set_mpp(self.source.key, self.mpp)
            self.view.mpp_bar.say("")

    # --- images and labels ---

    def _pair(self) -> None:
        """The chosen labels are painted on the chosen image."""
        if self.image is None or self.source is None:
            return
        by_layer = self.view.how.hold_out.value() == "layer"
        aside = self.paint.aside_of(self.source.key) if by_layer else None
        self.paint.pair(self.image, self.source, self.view.labels.value(), self.mpp, aside)

    def _leave_labels(self, layer: Labels | None) -> None:
        """Other labels take the place of what is painted: it is kept, should its layer go."""
        self.view.new_bar.say("")
        old = None if self.source is None else self.paint.labels_of(self.source.key)
        if self.source is not None and old is not None and old is not layer:
            pairs = self.paint.pairs()
            self.teaching.set_aside(p for p in pairs if p.key == self.source.key)

    def _on_held_layer(self, layer: Labels | None) -> None:
        if self.source is not None:
            self.paint.set_aside(self.source.key, layer)
            self._pair()

    def image_opened(self) -> None:
        self.answers.forget()
        self.answers.remove()  # they lie over the other image
        self.view.new_bar.say("")
        there, view = self.source is not None, self.view
        view.images.set_value(self.image)
        for widget in (view.pixel_size, view.labels, view.new_button):
            widget.setEnabled(there)
        if self.source is None:
            view.pixel_size.clear()
            self.say("Open an image (RGB or fluorescence) to begin." if not self.image else "")
            return
        view.pixel_size.set_value(self.mpp)
        view.mpp_bar.say(
            ""
            if self.mpp
            else "The pixel size of this image is unknown: type it above. 0.5 is "
            "usual at 20×, 0.25 at 40×."
        )
        self.say("")
        key = self.source.key
        labels = self.paint.labels_of(key)
        view.labels.set_value(labels)
        self.objects.show(labels)
        view.how.held_layer.set_value(self.paint.aside_of(key))
        if labels is None and key in self.teaching.lesson.images:
            self.brush.bring_back(self.teaching.folder, key)
        path = self.image.source.path if self.image is not None else None
        # As a file of a folder it has another name.
        self.teaching.look_for_saved(key, *([file_key(Path(path))] if path else []))
        self.shown.show_field()

    def _on_restored(self, folder: LessonFolder) -> None:
        if self.source is not None:
            self.view.labels.set_value(None)  # other labels must not take the saved ones' place
            self._pair()
            self.brush.bring_back(folder, self.source.key)
            self.shown.show_field()

    def leave(self, image: Image) -> None:
        self.preview.clear()
        self.answers.remove()

    def image_replaced(self) -> None:
        self.preview.clear()
        self.image_opened()

    def look_changed(self, old: LayerSource) -> None:
        self.view.pixel_size.set_value(self.mpp)
        self._pair()

    # --- models ---

    def _read_heads(self) -> None:
        if not self._closed:
            self.runner.submit(
                read_heads, tuple(self._own_heads.files), then=self._on_heads,
                failed=lambda error: self.say_error(str(error)),
            )  # fmt: skip

    def _on_heads(self, found: tuple[tuple[HeadChoice, ...], Catalogue]) -> None:
        heads, catalogue = found
        self.shown.set_heads(tuple(h for h in heads if h.ready))
        promptable = {m.name: m.title for m in catalogue.models if m.ready}
        self.view.how.set_bases(promptable or {"pathsam-nano": "PathSAM nano"})
        self.view.how.set_value(self.teaching.choices)

    def _ask_kind(self, start: str) -> None:
        show = partial(self.view.how.show_kind, start)
        self.files.submit(is_network, start, then=show, failed=lambda _: None)  # training says it

    def keep_head(self, path: Path) -> None:
        """Remember a model file, for all docks."""
        self._own_heads.add(str(path))

    # --- the end ---

    def _finish_writing(self) -> None:
        """The last strokes and notes are written before the thread that writes goes."""
        self.teaching.keep_now(self.paint.pairs())
        written = threading.Event()
        self.files.submit(written.set)
        written.wait(WRITING_S)

    def stop(self) -> None:
        """Stop all work and leave the viewer as it is; labels stay, previews go."""
        self._finish_writing()
        self.run.close()
        self.answers.forget()
        self.look.stop()
        self.end()
        self._binder.unbind()
        self.paint.close()
        view = self.view
        for chooser in (view.images, view.labels, view.how.held_layer):
            chooser.disconnect_viewer()
        self.answers.remove()
        self.preview.close()
        self.teaching.close()
        self.runner.close()
        self.files.close()
