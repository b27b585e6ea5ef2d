"""Workspace: one open image and everything a person does to it, without a GUI."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX, Annotations
from napari_pathsam.workspace.box_actions import BoxActions
from napari_pathsam.workspace.fields import ImageSource
from napari_pathsam.workspace.history import History, PromptState, Step
from napari_pathsam.workspace.journal import SavedWork
from napari_pathsam.workspace.label_saver import CLOSING_S
from napari_pathsam.workspace.prompt_actions import PromptActions
from napari_pathsam.workspace.replay import header, origin_of, replayed
from napari_pathsam.workspace.telling import told

if TYPE_CHECKING:
    from napari_pathsam.io.hand_pyramids import HandPyramids

STEP_TILES = 64
"""Tiles of labels in one line of a journal that was compacted."""


class Workspace(PromptActions, BoxActions):
    """The open image, its prompts, its labels, undo, and the work under way.

    Signals go up, calls go down: a dock calls the methods and listens to the signals. All
    coordinates are level-0 pixels ``(y, x)`` of the open image. What goes wrong, in an action or
    in a worker, arrives through :attr:`failed` as one readable paragraph, and then nothing has
    changed; no action raises for what a person did.

    Parameters
    ----------
    model_loader
        ``(name, device) -> model`` with the interface of ``models.sam2.Sam2``; called in a worker
        when the first prompt comes. Default: ``models.catalogue.load_model``.
    runner
        Where slow work runs. Default: at once, in this thread.
    journal_dir
        Where journals are kept. Default: ``journals`` in the user's data folder.
    keeping
        Where embeddings are kept. Default: those in use, while the image is open.
    """

    # --- the image ------------------------------------------------------------------------------

    @told
    def open_image(self, source: ImageSource, *, view: Region | None = None) -> None:
        """Start on another image; afterwards :attr:`restorable` says what was saved for it."""
        key = source.key
        self._let_go()
        self.source, self._mpp = source, None
        self._view, self._view_px_per_px = view or Region.of(source.shape_yx), 1.0
        self._keeper.open(key)
        pyramids = self._pyramids(self._keeper.pyramids_path)
        self._set_annotations(Annotations(source.shape_yx, pyramids))
        self._all_new()

    def close_image(self) -> None:
        """Let go of the image; its journal stays and is offered when it is opened again."""
        self._let_go()
        self._all_new()

    def _let_go(self) -> None:
        self.stop_boxes()
        self._prompter.forget()
        if self.source is not None:
            self._compact(within_s=CLOSING_S)
            self._saver.close()
        self._keeper.close()
        self.source = None
        self._set_annotations(Annotations((0, 0)))
        self._history = History()
        self._state, self._shown, self._last = PromptState(), None, None
        self._answers.clear()

    def _all_new(self) -> None:
        self.image_changed.emit()
        self.objects_changed.emit()
        self.prompts_changed.emit(self.prompts)
        self.candidate_changed.emit(self.candidate)
        self.history_changed.emit()

    def set_view(self, view: Region, view_px_per_px: float) -> None:
        """Tell what is on screen, and the screen pixels per level-0 pixel."""
        self._view, self._view_px_per_px = view, view_px_per_px

    def set_mpp(self, mpp: float | None) -> None:
        """Microns per level-0 pixel, against what the image says; None: what the image says."""
        if mpp is not None and not (np.isfinite(mpp) and mpp > 0):
            self.failed.emit(f"{mpp} µm is no size of a pixel; it must be above 0, 0.5 say.")
            return
        if mpp != self._mpp:
            self._mpp = mpp
            self._save_soon()
            self._prompter.stop()
            self._prompter.update()
            self.objects_changed.emit()

    def set_model(self, name: str, device: str = "auto", context: bool = True) -> None:
        """Answer with another model; it is loaded when there are prompts to answer.

        ``context``: whether it is shown what is round a field, if it is one that looks there.
        """
        if self._prompter.use(name, device, context=context):
            self._prompter.update()

    def forget_embeddings(self) -> None:
        """The image's pixels look different now (another contrast, say): encode anew."""
        self._prompter.forget()
        self._prompter.update()

    def cancel(self) -> None:
        """Stop loading, encoding and decoding; prompts stay, the next one starts again."""
        self.stop_boxes()
        self._prompter.stop()

    # --- saved work -----------------------------------------------------------------------------

    @property
    def restorable(self) -> SavedWork | None:
        """What the journal of an earlier session can bring back; None: nothing."""
        return self._keeper.offer

    @told
    def restore(self) -> None:
        """Bring back what was saved: the same labels, bit for bit, prompts and undo history.

        It takes the place of what was done since the image was opened (which stays on disk and
        is offered the next time).
        """
        if self.source is None or self._keeper.offer is None:
            return
        head = self._keeper.header()
        annotations, history, classes, state = replayed(
            head, self._keeper.offered_steps(), self.source.shape_yx,
            lambda: self._pyramids(self._keeper.offered_pyramids_path),
        )  # fmt: skip
        self._saver.close()
        self._set_annotations(annotations)
        self._history, self._classes = history, classes
        self._state, self._shown = state, None
        self._keeper.take_up()
        self._save_soon()
        self._compact(always=any(origin_of(head)))
        self.labels_moved.emit()
        self._tell_classes()
        self._all_new()
        self._prompter.update()

    @told
    def discard_saved(self) -> None:
        """Start afresh; the old journal is kept under another name."""
        self._keeper.discard()

    def _compact(self, *, always: bool = False, within_s: float = math.inf) -> None:
        head = header(self._annotations, self._classes)
        self._keeper.compact(self._base, len(self.objects), head, always=always, within_s=within_s)

    def _base(self) -> Iterator[Step]:
        """Everything as it is now, as steps from nothing; none is large."""
        nothing, edits = PromptState(), self._annotations.snapshot()
        tables = (self._classes, self._classes)
        while some := tuple(islice(edits, STEP_TILES)):
            yield Step("Saved work", some, tables)
        yield Step("Saved work", (), tables, (nothing, self._state))

    # --- the labels of a slide, on the disk -----------------------------------------------------

    @property
    def pyramids_path(self) -> Path | None:
        """The OME-Zarr labels that follow what is drawn on a slide; None where there are none."""
        pyramids = self._annotations.pyramids
        return None if pyramids is None else pyramids.path

    def _pyramids(self, path: Path | None) -> HandPyramids | None:
        """Empty ones, if the image is so large that its labels need them."""
        if self.source is None or path is None or max(self.source.shape_yx) <= LARGEST_WHOLE_PX:
            return None
        from napari_pathsam.io.hand_pyramids import HandPyramids

        return HandPyramids(path, self.source.shape_yx)
