"""WorkspaceState: what a workspace holds, and the one way in which it changes: steps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.candidate import Answer, Candidate
from napari_pathsam.workspace.encoding import Keeping
from napari_pathsam.workspace.fields import Field, ImageSource
from napari_pathsam.workspace.history import History, PromptState, Step
from napari_pathsam.workspace.keeper import Keeper
from napari_pathsam.workspace.label_saver import LabelSaver
from napari_pathsam.workspace.prompting import Prompter, Request
from napari_pathsam.workspace.replay import header
from napari_pathsam.workspace.runner import InlineRunner, Runner
from napari_pathsam.workspace.telling import told

ANSWERS_KEPT = 64
"""States of the prompts whose answers undo brings back without decoding."""


class WorkspaceState:
    """The state, its signals, steps and undo; :class:`Workspace` adds what a person can do."""

    image_changed = Signal()
    """Another image was opened or closed; labels, prompts and history are new ones."""
    prompts_changed = Signal(Prompts)
    candidate_changed = Signal(object)
    """The candidate, or None."""
    labels_changed = Signal(Region)
    """The level-0 region in which instances or class map changed, in place."""
    labels_moved = Signal()
    """The label arrays are new ones."""
    classes_changed = Signal(ClassTable)
    active_class_changed = Signal(int)
    objects_changed = Signal()
    history_changed = Signal()
    busy_changed = Signal(object)
    """What is under way, in words, or None."""
    field_changed = Signal(object)
    """The field that prompts are answered from, or None."""
    status = Signal(str)
    """Worth reading, but nothing went wrong."""
    failed = Signal(str)
    """One paragraph; nothing was changed."""

    def __init__(
        self,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        runner: Runner | None = None,
        journal_dir: Path | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self.source: ImageSource | None = None
        self._view, self._view_px_per_px = Region(0, 0, 1, 1), 1.0
        self._mpp: float | None = None
        self._classes = ClassTable.of("object")
        self._active = 1
        self._set_annotations(Annotations((0, 0)))
        self._history = History()
        self._state = PromptState()
        self._shown: Answer | None = None
        self._shown_for = PromptState()
        self._answers: OrderedDict[int, Answer] = OrderedDict()
        self._last: tuple[PromptState, Answer] | None = None
        self._keeper = Keeper(journal_dir, warn=self.failed.emit, inform=self.status.emit)
        self._busy_told: str | None = None
        self._field_told: Field | None = None
        self._prompter = Prompter(
            model_loader or _load_model,
            runner or InlineRunner(),
            request=self._request,
            answered=self._answered,
            failed=self.failed.emit,
            changed=self._work_changed,
            keeping=keeping,
        )

    @property
    def mpp(self) -> float | None:
        """Microns per level-0 pixel: as set, else as the image says."""
        return self._mpp or (self.source.mpp if self.source else None)

    @property
    def candidate(self) -> Candidate | None:
        """The mask on offer, of the newest prompts that were answered."""
        return self._shown.candidate if self._shown else None

    @property
    def field(self) -> Field | None:
        """The part of the image that prompts are answered from."""
        return self._prompter.field

    @property
    def busy(self) -> str | None:
        """What is under way, in words."""
        return self._prompter.busy

    @property
    def seconds_left(self) -> float | None:
        """How long the encoding under way will take, by what the last one took; None: unknown."""
        return self._prompter.seconds_left

    def look_ahead(self) -> None:
        """Nobody asks for anything just now: encode what lies beside the field in use.

        Any prompt goes before it. What is found stays where embeddings are kept, if anywhere.
        """
        self._prompter.look_ahead()

    # --- steps ----------------------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._history.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._history.undone)

    @property
    def undo_text(self) -> str | None:
        """What undo would take back, in words."""
        return self._history.done[-1].text if self._history.done else None

    @property
    def redo_text(self) -> str | None:
        """What redo would do again, in words."""
        return self._history.undone[-1].text if self._history.undone else None

    @told
    def undo(self) -> None:
        """Take the last step back."""
        if self._history.done:
            self._go("undid", self._history.done[-1])

    @told
    def redo(self) -> None:
        """Do the step again that was taken back last."""
        if self._history.undone:
            self._go("redid", self._history.undone[-1])

    def _set_annotations(self, annotations: Annotations) -> None:
        """Go on with these labels; of a slide they are saved as they change."""
        self._annotations = annotations
        self._saver = LabelSaver(annotations, self.failed.emit)

    def _save_soon(self) -> None:
        self._saver.soon(self._classes, self.mpp)

    def _do(self, step: Step) -> None:
        """Do something new."""
        self._go("did", step)

    def _go(self, what: str, step: Step) -> None:
        """Go a step, forwards or back: in memory, on disk, then on screen.

        BadFileError, and nothing is changed, where labels that it needs cannot be read.
        """
        forward = what != "undid"
        edits = step.edits if forward else step.edits[::-1]
        with self._annotations.holding(edits):
            touched = [self._annotations.apply(edit, forward=forward) for edit in edits]
        self._history.went(what, step)
        if step.classes:
            self._classes = step.classes[forward]
        if step.prompts:
            self._state = step.prompts[forward]
        if self.source is not None:
            self._keeper.keep(
                what, step, len(self._annotations.objects), header(self._annotations, self._classes)
            )
            self._save_soon()
        for region in touched:
            self.labels_changed.emit(region)
        if step.classes:
            self._tell_classes()
        if touched or step.classes:
            self.objects_changed.emit()
        if step.prompts:
            self._tell_prompts()
        self.history_changed.emit()

    def _tell_classes(self) -> None:
        self.classes_changed.emit(self._classes)
        ids = [info.id for info in self._classes]
        if self._active not in ids:
            self._active = ids[0]
            self.active_class_changed.emit(self._active)

    # --- prompts and their answers --------------------------------------------------------------

    def _tell_prompts(self) -> None:
        """Show the prompts, and their answer: the one that is kept, or a new one when it comes.

        Until then the last candidate stays, so that it does not flicker from click to click,
        unless it was of another object.
        """
        self.prompts_changed.emit(self._state.prompts)
        kept = self._answers.get(self._state.serial)
        if kept is not None or not self._state:
            self._show(kept, self._state)
            self._prompter.hush()
        else:
            if self._state.refining != self._shown_for.refining:
                self._show(None, self._state)
            self._prompter.update()

    def _show(self, answer: Answer | None, state: PromptState) -> None:
        before = self.candidate
        self._shown, self._shown_for = answer, state
        if answer is not None and answer.candidate is not None:
            self._last = (state, answer)
        if self.candidate is not before:
            self.candidate_changed.emit(self.candidate)

    @property
    def last_asked(self) -> tuple[tuple[PromptState, Answer], ...]:
        """How the newest candidate came about, accepted since or not: states with their answers.

        Oldest first; each was answered with the answer before it.
        """
        if self._last is None:
            return ()
        chain = [self._last]
        while True:
            state, answer = chain[0]
            before = next(
                (
                    (s, self._answers[s.serial])
                    for s in state.lineage()
                    if s.serial in self._answers
                ),
                None,
            )
            if before is None or (before[1].field, before[1].model) != (answer.field, answer.model):
                return tuple(chain)
            chain.insert(0, before)

    @property
    def device(self) -> str:
        """Where prompts are answered."""
        return self._prompter.device

    def _image(self) -> ImageSource:
        if self.source is None:
            raise BadPromptError("There is no image yet: open one, or choose an image layer.")
        return self.source

    def _request(self) -> Request | None:
        if self.source is None or not self._state:
            return None
        return Request(
            self.source,
            self._state,
            self._view,
            self._view_px_per_px,
            self.mpp,
            lambda state: self._answers.get(state.serial),
        )

    def _answered(self, state: PromptState, answer: Answer) -> None:
        if state is not self._state:
            return
        self._answers[state.serial] = answer
        while len(self._answers) > ANSWERS_KEPT:
            self._answers.popitem(last=False)
        self._show(answer, state)
        if answer.candidate is None:
            self.candidate_changed.emit(None)  # there was none before, and nobody was told

    def _work_changed(self) -> None:
        if self._busy_told != self.busy:
            self._busy_told = self.busy
            self.busy_changed.emit(self.busy)
        if self._field_told != self.field:
            self._field_told = self.field
            self.field_changed.emit(self.field)


def _load_model(name: str, device: str) -> Any:
    from napari_pathsam.models.catalogue import load_model

    return load_model(name, device=device)
