"""Boxes a person has already, as objects: all of a shapes layer's in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from psygnal import Signal

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Box
from napari_pathsam.workspace.boxes import Found, answers_to, as_labels, fields_of
from napari_pathsam.workspace.candidate import Answer
from napari_pathsam.workspace.encoding import Keeping
from napari_pathsam.workspace.label_actions import LabelActions
from napari_pathsam.workspace.prompting import Line, paragraph
from napari_pathsam.workspace.runner import InlineRunner, Runner
from napari_pathsam.workspace.telling import told


class BoxActions(LabelActions):
    """The part of a workspace that turns many boxes into objects, in the background."""

    boxes_progress = Signal(int, int)
    """Boxes answered, of how many; 0, 0: none are being answered."""

    def __init__(
        self,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        runner: Runner | None = None,
        journal_dir: Path | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        runner = runner or InlineRunner()
        super().__init__(
            model_loader=model_loader, runner=runner, journal_dir=journal_dir, keeping=keeping
        )
        self._boxes_line = Line(runner)
        self._pieces: Iterator[Found] | None = None
        self._boxes_runner = runner

    @property
    def answering_boxes(self) -> bool:
        """Whether boxes are being answered."""
        return self._boxes_line.busy_with is not None

    @told
    def accept_boxes(self, boxes: Sequence[Box], class_id: int | None = None) -> None:
        """Find the object in each level-0 box ``(y0, x0, y1, x1)`` and add them all, as one step.

        They get one class, the active one when none is given. Existing objects keep their pixels;
        where new ones overlap, the surer one does.
        """
        source, (height, width) = self._image(), self._image().shape_yx
        inside = [b for b in boxes if b[0] < height and b[1] < width and b[2] > 0 and b[3] > 0]
        inside = [b for b in inside if b[2] - b[0] >= 1 and b[3] - b[1] >= 1]
        if not inside:
            raise BadPromptError(
                "There is no box to answer: the layer has no shape on this image, or each is "
                "smaller than a pixel. Draw rectangles round the objects first."
            )
        self.stop_boxes()
        name = self._prompter.model_name
        wanted = self._active if class_id is None else class_id
        self.boxes_progress.emit(0, len(inside))
        self._boxes_line.start(
            "load", self._prompter.load, name, self._prompter.device,
            then=lambda model: self._answer_boxes(model, name, source, inside, wanted),
            failed=self._boxes_failed,
        )  # fmt: skip

    def stop_boxes(self) -> None:
        """Stop; nothing is added."""
        was_busy = self.answering_boxes
        self._boxes_line.stop()
        pieces, self._pieces = self._pieces, None
        if pieces is not None:  # in the worker, where it may be running still
            self._boxes_runner.submit(_close, pieces, then=_ignore, failed=_ignore)
        if was_busy:
            self.boxes_progress.emit(0, 0)

    def _answer_boxes(
        self, model: Any, name: str, source: Any, boxes: Sequence[Box], class_id: int
    ) -> None:
        fields = fields_of(boxes, source.shape_yx, self.mpp, model.config)
        cache = self._prompter.keeping.cache
        self._pieces = answers_to(model, name, source, fields, self.mpp, cache)
        self._next_boxes({}, len(boxes), class_id)

    def _next_boxes(self, answers: dict[int, Answer], n: int, class_id: int) -> None:
        self._boxes_line.start(
            "boxes", next, self._pieces, None,
            then=partial(self._some_boxes, answers, n, class_id), failed=self._boxes_failed,
        )  # fmt: skip

    def _some_boxes(
        self, answers: dict[int, Answer], n: int, class_id: int, found: Found | None
    ) -> None:
        if found is not None:
            answers |= zip(found.places, found.answers, strict=True)
            self.boxes_progress.emit(len(answers), n)
            self._next_boxes(answers, n, class_id)
            return
        self._pieces = None
        self.boxes_progress.emit(0, 0)
        self._take_boxes([answers[i] for i in sorted(answers)], class_id)

    @told
    def _take_boxes(self, answers: Sequence[Answer], class_id: int) -> None:
        drawn = as_labels(answers, Region.of(self._annotations.shape_yx))
        if drawn is None:
            raise BadPromptError(
                "Nothing was found in any of the boxes. Draw them tightly round the objects, or "
                "try another model."
            )
        n = self.accept_objects(*drawn, class_id)
        if n is not None:
            self.status.emit(
                f"{n} of {len(answers)} boxes became objects; Undo takes them back in one step."
            )

    def _boxes_failed(self, error: BaseException) -> None:
        self._pieces = None
        self.boxes_progress.emit(0, 0)
        self.failed.emit(paragraph(error))


def _close(pieces: Any) -> None:
    pieces.close()


def _ignore(_: Any) -> None:
    """Nobody waits for it."""
