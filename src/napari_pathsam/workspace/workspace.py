"""Workspace: one open image and everything a person does to it, without a GUI."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import LARGEST_WHOLE_PX, Annotations
from napari_pathsam.workspace.box_actions import BoxActions
from napari_pathsam.workspace.encoding import Keeping
from napari_pathsam.workspace.fields import ImageSource
from napari_pathsam.workspace.history import History, PromptState, Step
from napari_pathsam.workspace.journal import SavedWork
from napari_pathsam.workspace.label_saver import CLOSING_S
from napari_pathsam.workspace.prompt_actions import PromptActions
from napari_pathsam.workspace.prompting import paragraph
from napari_pathsam.workspace.replay import Restored, base_steps, header
from napari_pathsam.workspace.restoring import Restoring
from napari_pathsam.workspace.runner import InlineRunner, Runner
from napari_pathsam.workspace.telling import told

if TYPE_CHECKING:
    from napari_pathsam.io.hand_pyramids import HandPyramids


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
    files
        Where saved work is brought back. Default: as ``runner``.
    journal_dir
        Where journals are kept. Default: ``journals`` in the user's data folder.
    keeping
        Where embeddings are kept. Default: those in use, while the image is open.
    """

    restoring_changed = Signal()
    """Saved work is on its way back, is there, or will not come."""

    def __init__(
        self,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        runner: Runner | None = None,
        files: Runner | None = None,
        journal_dir: Path | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self._restoring: Restoring | None = None
        self._files = files or runner or InlineRunner()
        super().__init__(
            model_loader=model_loader, runner=runner, journal_dir=journal_dir, keeping=keeping
        )

    # --- the image ------------------------------------------------------------------------------

    @told
    def open_image(self, source: ImageSource, *, view: Region | None = None) -> None:
        """Start on another image; afterwards :attr:`restorable` says what was saved for it."""
        key = source.key
        self._let_go()
        self.source, self._mpp = source, None
        self._view, self._view_px_per_px = view or Region.of(source.shape_yx), 1.0
        self._keeper.open(key)
        pyramids = pyramids_of(self._keeper.pyramids_path, source.shape_yx)
        self._set_annotations(Annotations(source.shape_yx, pyramids))
        self._all_new()

    def close_image(self) -> None:
        """Let go of the image; its journal stays and is offered when it is opened again."""
        self._let_go()
        self._all_new()

    def _let_go(self) -> None:
        self._stop_restoring()
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
        is offered the next time). Until it is there (:attr:`restoring`) nothing can be changed.
        """
        if self.source is None or self._keeper.offer is None or self._restoring is not None:
            return
        path, shape_yx = self._keeper.offered_pyramids_path, self.source.shape_yx
        work = Restoring(self._keeper.offered, shape_yx, partial(pyramids_of, path, shape_yx))
        self._restoring = work
        self.restoring_changed.emit()
        self._files.submit(
            work.run, then=partial(self._restored, work), failed=partial(self._not_restored, work)
        )

    @property
    def restoring(self) -> float | None:
        """The part of the saved work that is back, 0 to 1; None: none is on its way."""
        return None if self._restoring is None else self._restoring.done

    def _restored(self, work: Restoring, result: tuple[Restored, Exception | None] | None) -> None:
        if work is not self._restoring or result is None:
            return
        found, trouble = result
        self._restoring = None
        self._saver.close()
        self._set_annotations(found.annotations)
        self._history, self._classes = found.history, found.classes
        self._state, self._shown = found.state, None
        self._keeper.take_up(trouble)
        self._save_soon()
        self.restoring_changed.emit()
        self.labels_moved.emit()
        self._tell_classes()
        self._all_new()
        self._prompter.update()

    def _not_restored(self, work: Restoring, error: BaseException) -> None:
        if work is self._restoring:
            self._restoring = None
            self.failed.emit(paragraph(error))
            self.restoring_changed.emit()

    def _stop_restoring(self) -> None:
        """What was saved is offered again the next time."""
        work, self._restoring = self._restoring, None
        if work is not None:
            work.stop()
            self.restoring_changed.emit()

    def _go(self, what: str, step: Step) -> None:
        if self._restoring is not None:
            raise BadPromptError(
                f"Your saved work is being brought back ({self._restoring.done:.0%}), and nothing "
                "can be changed until it is here: do this again in a moment."
            )
        super()._go(what, step)

    @told
    def discard_saved(self) -> None:
        """Start afresh; the old journal is kept under another name."""
        self._stop_restoring()
        self._keeper.discard()
        self.restoring_changed.emit()

    def _compact(self, *, within_s: float) -> None:
        head = header(self._annotations, self._classes)
        base = partial(base_steps, self._annotations, self._classes, self._state)
        self._keeper.compact(base, len(self.objects), head, within_s=within_s)

    # --- the labels of a slide, on the disk -----------------------------------------------------

    @property
    def pyramids_path(self) -> Path | None:
        """The OME-Zarr labels that follow what is drawn on a slide; None where there are none."""
        pyramids = self._annotations.pyramids
        return None if pyramids is None else pyramids.path


def pyramids_of(path: Path | None, shape_yx: tuple[int, int]) -> HandPyramids | None:
    """Empty ones, if the image is so large that its labels need them."""
    if path is None or max(shape_yx) <= LARGEST_WHOLE_PX:
        return None
    from napari_pathsam.io.hand_pyramids import HandPyramids

    return HandPyramids(path, shape_yx)
