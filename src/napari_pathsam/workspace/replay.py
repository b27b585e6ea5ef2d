"""From a journal back to labels."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.annotations import Annotations
from napari_pathsam.workspace.history import History, PromptState, Step

if TYPE_CHECKING:
    from napari_pathsam.io.hand_pyramids import HandPyramids

STEP_TILES = 64
"""Tiles of labels in one line of a journal that was compacted."""


def header(annotations: Annotations, classes: ClassTable) -> dict[str, Any]:
    """What a journal says about the labels its actions are on."""
    return {
        "labels_shape_yx": list(annotations.shape_yx),
        "labels_origin_yx": [0, 0],
        "classes": classes.model_dump(mode="json"),
    }


def origin_of(head: dict[str, Any]) -> tuple[int, int]:
    """The level-0 pixel that a journal's actions count from.

    Not (0, 0) in journals of large images by versions that labelled a window of them only.
    """
    y, x = (int(v) for v in head["labels_origin_yx"])
    return y, x


@dataclass(frozen=True)
class Restored:
    """What a journal's actions lead to."""

    annotations: Annotations
    history: History
    classes: ClassTable
    state: PromptState


def replaying(
    head: dict[str, Any],
    actions: Iterable[tuple[str, Step]],
    shape_yx: tuple[int, int],
    pyramids: Callable[[], HandPyramids | None] = lambda: None,
) -> Iterator[float | Restored]:
    """Do again what a journal says; yields how many actions are done, then what they lead to.

    ``pyramids`` makes those that a slide's labels go into.

    Raises BadFileError when they do not fit an image of this shape, or each other.
    """
    n = 0
    try:
        height, width = (int(v) for v in head["labels_shape_yx"])
        origin_yx = origin_of(head)
        window = Region(*origin_yx, height, width)
        if window.intersection(Region.of(shape_yx)) != window:
            raise BadFileError(
                f"The saved work is about labels of {height} × {width} pixels, which do not fit "
                f"this image of {shape_yx[0]} × {shape_yx[1]}. Its file was left as it is."
            )
        annotations = Annotations(shape_yx, pyramids())
        history, state = History(), PromptState()
        classes = ClassTable.model_validate(head["classes"])
        for what, found in actions:
            n += 1
            step = found.moved(*origin_yx)
            forward = what != "undid"
            for k, edit in enumerate(step.edits if forward else step.edits[::-1]):
                yield n - 1 + k / len(step.edits)
                annotations.apply(edit, forward=forward)
            classes = step.classes[forward] if step.classes else classes
            state = step.prompts[forward] if step.prompts else state
            if what != "base":
                history.went(what, step)
    except BadFileError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, zlib.error) as error:
        raise BadFileError(
            f"Action {n} of the saved work does not fit what was before it ({error!r}). Nothing "
            "was restored, and the file was left as it is."
        ) from error
    yield Restored(annotations, history, classes, state)


def base_steps(annotations: Annotations, classes: ClassTable, state: PromptState) -> Iterator[Step]:
    """Everything as it is now, as steps from nothing; none is large."""
    edits, tables = annotations.snapshot(), (classes, classes)
    while some := tuple(islice(edits, STEP_TILES)):
        yield Step("Saved work", some, tables)
    yield Step("Saved work", (), tables, (PromptState(), state))
