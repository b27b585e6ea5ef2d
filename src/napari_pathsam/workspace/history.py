"""History: steps that can be taken back and forth, as many as there are."""

from __future__ import annotations

import itertools
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import YX, Prompts
from napari_pathsam.workspace.edits import LabelEdit
from napari_pathsam.workspace.fields import MaskPrompt

_serials = itertools.count(1)


@dataclass(frozen=True)
class PromptState:
    """Everything said about the object in work, at one moment.

    ``prompts`` holds points and box in level-0 pixels, ``mask`` the first mask, ``refining`` the
    accepted object that is taken up again. ``parent`` is the state this one adds prompts to: its
    answer helps the decoder. ``serial`` names the state, so that its answer can be kept.
    """

    prompts: Prompts = field(default_factory=Prompts)
    mask: MaskPrompt | None = None
    refining: int | None = None
    parent: PromptState | None = field(default=None, repr=False, compare=False)
    serial: int = field(default_factory=lambda: next(_serials), compare=False)

    def __bool__(self) -> bool:
        return bool(self.prompts) or self.mask is not None

    def same_as(self, other: PromptState) -> bool:
        """Whether both say the same."""
        return (
            self.prompts == other.prompts
            and self.mask is other.mask
            and self.refining == other.refining
        )

    def extends(self, other: PromptState) -> bool:
        """Whether this is the other state and further points."""
        n = len(other.prompts.points_yx)
        mine, theirs = self.prompts, other.prompts
        return (
            bool(other)
            and self.mask is other.mask
            and mine.box == theirs.box
            and mine.points_yx[:n] == theirs.points_yx
            and mine.positive[:n] == theirs.positive
        )

    def after(self, parent: PromptState) -> PromptState:
        """The same, built on ``parent``."""
        return replace(self, parent=parent)

    def lineage(self) -> Iterator[PromptState]:
        """The states this one was built on, nearest first."""
        state = self.parent
        while state is not None:
            yield state
            state = state.parent

    def places(self) -> list[YX]:
        """Where the prompts are: points, the corners of box and mask; the last said last."""
        places: list[YX] = []
        if self.mask is not None:
            r = self.mask.region
            places += [(r.y, r.x), (r.y + r.height - 1, r.x + r.width - 1)]
        if self.prompts.box is not None:
            y0, x0, y1, x1 = self.prompts.box
            places += [(y0, x0), (y1 - 1, x1 - 1)]
        return [*places, *self.prompts.points_yx]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a journal."""
        p = self.prompts
        data: dict[str, Any] = {
            "points": [[y, x, int(s)] for (y, x), s in zip(p.points_yx, p.positive, strict=True)],
        }
        if p.box is not None:
            data["box"] = list(p.box)
        if self.refining is not None:
            data["refining"] = self.refining
        if self.mask is not None:
            r = self.mask.region
            bits = np.packbits(self.mask.mask).tobytes()
            data["mask"] = [r.y, r.x, r.height, r.width, b64encode(bits).decode("ascii")]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PromptState:
        """The inverse of :meth:`to_json`."""
        mask = None
        if "mask" in data:
            y, x, height, width, text = data["mask"]
            bits = np.frombuffer(b64decode(text), np.uint8)
            pixels = np.unpackbits(bits, count=height * width).astype(bool)
            mask = MaskPrompt(pixels.reshape(height, width), Region(y, x, height, width))
        y0x0y1x1 = data.get("box")
        prompts = Prompts(
            points_yx=tuple((float(y), float(x)) for y, x, _ in data["points"]),
            positive=tuple(bool(sign) for *_, sign in data["points"]),
            box=None if y0x0y1x1 is None else tuple(float(v) for v in y0x0y1x1),  # type: ignore[arg-type]
        )
        return cls(prompts, mask, data.get("refining"))


@dataclass(frozen=True)
class Step:
    """One action: what it changed, with the state before and after, so that it goes both ways."""

    text: str
    edits: tuple[LabelEdit, ...] = ()
    classes: tuple[ClassTable, ClassTable] | None = None
    prompts: tuple[PromptState, PromptState] | None = None

    def moved(self, y: int, x: int) -> Step:
        """The same, its labels so many pixels further down and right."""
        if not (y or x):
            return self
        return replace(self, edits=tuple(edit.moved(y, x) for edit in self.edits))

    def to_json(self) -> dict[str, Any]:
        """Plain values for a journal."""
        data: dict[str, Any] = {"text": self.text}
        if self.edits:
            data["edits"] = [edit.to_json() for edit in self.edits]
        if self.classes:
            data["classes"] = [table.model_dump(mode="json") for table in self.classes]
        if self.prompts:
            data["prompts"] = [state.to_json() for state in self.prompts]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Step:
        """The inverse of :meth:`to_json`; BadFileError when it is something else."""
        try:
            classes = [ClassTable.model_validate(table) for table in data.get("classes", ())]
            prompts = [PromptState.from_json(state) for state in data.get("prompts", ())]
            return cls(
                str(data["text"]),
                tuple(LabelEdit.from_json(edit) for edit in data.get("edits", ())),
                (classes[0], classes[1]) if classes else None,
                (prompts[0], prompts[1]) if prompts else None,
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise BadFileError(f"An action in the saved work is damaged ({error}).") from error


class History:
    """Steps done and steps taken back."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self.undone: list[Step] = []

    def went(self, what: str, step: Step) -> None:
        """A new step (``did``), the last one back (``undid``) or the one taken back (``redid``)."""
        if what == "undid":
            del self.done[-1:]
            self.undone.append(step)
        elif what == "redid":
            del self.undone[-1:]
            self.done.append(step)
        elif what == "did":
            self.done.append(step)
            self.undone.clear()  # what was taken back before it is gone
        else:
            raise ValueError(f"nobody goes a step by “{what}”")
