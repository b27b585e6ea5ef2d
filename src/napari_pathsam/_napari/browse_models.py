"""The models the Browse dock offers: those that know classes, and those that answer clicks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_pathsam._napari.model_chooser import Catalogue, ModelChoice
from napari_pathsam._napari.segment_heads import HeadChoice
from napari_pathsam._napari.segment_models import HeadSupply
from napari_pathsam.workspace.browsing_work import Task

TASKS: dict[Task, str] = {
    "classes": "the class of every pixel",
    "prompts": "objects, by clicks and boxes",
}
"""What is asked of a model, as the chooser lists it."""


@dataclass(frozen=True)
class ClickChoice(HeadChoice):
    """A model that answers clicks and knows no classes."""

    @property
    def line(self) -> str:
        return f"{self.title} · answers clicks"


def clicking(model: ModelChoice) -> ClickChoice:
    """A promptable model of the catalogue, as the dock lists it."""
    return ClickChoice(**vars(model))


class BrowseSupply(HeadSupply):
    """Fills the chooser with promptable models too."""

    def _on_read(self, found: tuple[tuple[HeadChoice, ...], Catalogue]) -> None:
        heads, catalogue = found
        known = {head.name for head in heads}
        others = (clicking(model) for model in catalogue.models if model.name not in known)
        own = (h for h in self._heads.heads() if isinstance(h, ClickChoice) and h.own)
        super()._on_read(((*heads, *others, *own), catalogue))

    def _on_own_head(self, path: str, head: HeadChoice | None) -> None:
        """A model file that knows no classes answers clicks; it is listed until the dock closes."""
        if head is not None:
            super()._on_own_head(path, head)
            return
        others = [h for h in self._heads.heads() if h.name != path]
        self._heads.set_heads([*others, ClickChoice(name=path, title=Path(path).stem, own=True)])
        self._heads.set_value(path)
        self.changed.emit()
