"""What a person can say about the object in work: points, boxes, scribbles, lassos."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.prompts import YX, Box, Prompts, scribble_points
from napari_pathsam.workspace.fields import MaskPrompt
from napari_pathsam.workspace.history import PromptState, Step
from napari_pathsam.workspace.state import WorkspaceState
from napari_pathsam.workspace.telling import told


class PromptActions(WorkspaceState):
    """The part of a workspace that changes prompts; each action is a step, and is answered."""

    @property
    def prompts(self) -> Prompts:
        """Points and box of the object in work."""
        return self._state.prompts

    @property
    def refining(self) -> int | None:
        """The accepted object that is being refined, if any."""
        return self._state.refining

    @property
    def prompted(self) -> bool:
        """Whether anything was said about the object in work: points, a box, a lasso."""
        return bool(self._state)

    @property
    def answered(self) -> bool:
        """Whether what was said last has its answer, be it that nothing was found."""
        return self._shown is not None and self._shown_for is self._state

    def add_point(self, y: float, x: float, positive: bool = True) -> None:
        """A click: ``positive`` on the object, else on what does not belong to it."""
        text = "Add point" if positive else "Add negative point"
        self._prompt(text, lambda p: p.with_point(y, x, positive=positive))

    def remove_point(self, index: int) -> None:
        """Take a point away."""

        def without(p: Prompts) -> Prompts:
            points = list(zip(p.points_yx, p.positive, strict=True))
            points.pop(_point(p, index))
            return _with_points(p, [yx for yx, _ in points], [sign for _, sign in points])

        self._prompt("Remove point", without)

    def move_point(self, index: int, y: float, x: float) -> None:
        """Put a point elsewhere."""

        def moved(p: Prompts) -> Prompts:
            points = list(p.points_yx)
            points[_point(p, index)] = (y, x)
            return _with_points(p, points, p.positive)

        self._prompt("Move point", moved)

    def set_points(self, points_yx: Sequence[YX], positive: Sequence[bool]) -> None:
        """All points at once, in one step: what a points layer's adapter calls."""
        self._prompt("Change points", lambda p: _with_points(p, points_yx, positive))

    def set_box(self, box: Box | None) -> None:
        """The box ``(y0, x0, y1, x1)``, half-open; None takes it away."""

        def boxed(p: Prompts) -> Prompts:
            if box is None:
                return p.with_box(None)
            p = p.with_box(_floats(box))
            p.check(self._image().shape_yx)
            return p.with_box(_clipped(_floats(box), self._image().shape_yx))

        self._prompt("Draw box" if box else "Remove box", boxed)

    def add_scribble(self, path_yx: ArrayLike, positive: bool = True) -> None:
        """Points along a drawn path ``(n, 2)``, as one step."""

        def scribbled(p: Prompts) -> Prompts:
            for y, x in scribble_points(_path(path_yx, 1)):
                p = p.with_point(y, x, positive=positive)
            return p

        self._prompt("Scribble", scribbled)

    @told
    def add_polygon(self, path_yx: ArrayLike) -> None:
        """A lasso ``(n, 2)`` round the object: a first mask and its box."""
        shape_yx = self._image().shape_yx
        mask = MaskPrompt.inside(_path(path_yx, 3), shape_yx)
        self._say("Lasso", PromptState(self.prompts, mask, self.refining))

    @told
    def refine(self, object_id: int) -> None:
        """Take an accepted object up again; accepting then replaces it."""
        mask = self._annotations.mask_prompt(object_id)
        self._say(f"Refine object {object_id}", PromptState(Prompts(), mask, object_id))

    def clear(self) -> None:
        """Forget the prompts and the candidate, as one step."""
        if self._state:
            self._say("Clear prompts", PromptState())

    def reject(self) -> None:
        """The candidate is not wanted: the same as :meth:`clear`."""
        self.clear()

    def cycle_mask(self) -> None:
        """Offer the next of the decoder's masks that is not empty."""
        if self._shown is None:
            return
        turned = self._shown.turned()
        if turned is not self._shown:
            self._answers[self._shown_for.serial] = turned
            self._show(turned, self._shown_for)

    @told
    def _prompt(self, text: str, change: Callable[[Prompts], Prompts]) -> None:
        """Change points or box, as one step."""
        prompts = change(self.prompts)
        if prompts:
            prompts.check(self._image().shape_yx)
        state = PromptState(prompts, self._state.mask, self._state.refining)
        if not state.same_as(self._state):
            self._say(text, state)

    def _say(self, text: str, state: PromptState) -> None:
        """A new state of the prompts is a step, and is answered."""
        if state.extends(self._state):
            state = state.after(self._state)
        self._do(Step(text, prompts=(self._state, state)))


def _with_points(p: Prompts, points_yx: Sequence[YX], positive: Sequence[bool]) -> Prompts:
    points = tuple((float(y), float(x)) for y, x in points_yx)
    return Prompts(points, tuple(bool(sign) for sign in positive), p.box, p.mask)


def _point(p: Prompts, index: int) -> int:
    if not 0 <= index < len(p.points_yx):
        raise BadPromptError(f"There is no point {index}; there are {len(p.points_yx)}.")
    return index


def _path(path_yx: ArrayLike, at_least: int) -> NDArray[np.float64]:
    """A drawn path ``(n, 2)``."""
    path = np.asarray(path_yx, dtype=float)
    if path.ndim != 2 or path.shape[1] != 2 or len(path) < at_least or not np.isfinite(path).all():
        raise BadPromptError(
            f"A drawn path of shape {path.shape} came; it needs {at_least} points or more, each "
            "a row and a column. Draw a longer line."
        )
    return path


def _floats(box: Box) -> Box:
    y0, x0, y1, x1 = box
    return (float(y0), float(x0), float(y1), float(x1))


def _clipped(box: Box, shape_yx: tuple[int, int]) -> Box:
    """The part of a box on the image."""
    height, width = shape_yx
    y0, x0, y1, x1 = box
    return (max(y0, 0.0), max(x0, 0.0), min(y1, float(height)), min(x1, float(width)))
