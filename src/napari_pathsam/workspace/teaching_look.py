"""TeachLook: looking at versions: previews, where to paint next, what the head learned."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.prompting import Line, paragraph
from napari_pathsam.workspace.runner import Runner
from napari_pathsam.workspace.segment_work import SourceTiles
from napari_pathsam.workspace.teaching import Teaching
from napari_pathsam.workspace.teaching_lesson import Version
from napari_pathsam.workspace.teaching_pairs import Pair
from napari_pathsam.workspace.teaching_work import FieldOfView, Preview, previewed

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.inference.uncertainty import Seen
    from napari_pathsam.training.explain import Explanation

KEPT = 24
"""Previews that are kept: switching between versions is then at once."""


@dataclass(frozen=True)
class Explained:
    """An explanation of a version; the level-0 region of its maps is one tile of the field."""

    number: int
    field: FieldOfView
    region: Region
    explanation: Explanation


class TeachLook:
    """Answers questions about the versions of a :class:`Teaching`.

    Parameters
    ----------
    load
        ``(name or file, device) -> model``, called in the worker.
    """

    previewed = Signal(object)
    busy_changed = Signal(str)
    """What is under way, in words; empty: nothing."""
    seen = Signal(object)
    """``inference.uncertainty.Seen``: the field as far as it was looked through."""
    seeking_changed = Signal(bool)
    """It is being looked through; False: it was, or it was stopped, or that went wrong."""
    explained = Signal(object)
    failed = Signal(str)

    def __init__(
        self,
        teaching: Teaching,
        runner: Runner,
        cache: Callable[[], EmbeddingCache],
        load: Callable[[str, str], Any],
    ) -> None:
        self._teaching, self._runner = teaching, runner
        self._cache, self._load = cache, load
        self._previewing, self._seeking, self._explaining = (Line(runner) for _ in range(3))
        self._kept: OrderedDict[tuple[Any, ...], Preview] = OrderedDict()

    # --- previews ---

    def keep(self, preview: Preview) -> None:
        """A preview that was made elsewhere."""
        if preview.number is not None:
            self._kept[_key(preview.number, preview.field)] = preview
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def forget(self, number: int) -> None:
        """A version goes."""
        for key in [k for k in self._kept if k[0] == number]:
            del self._kept[key]

    def preview(self, number: int, field_now: FieldOfView) -> Preview | None:
        """A version's classes over a field: at once, or later through ``previewed``."""
        found = self._kept.get(_key(number, field_now))
        if found is not None or number not in self._teaching.lesson:
            return found
        path, device = self._teaching.model_path(number), self._teaching.choices.device
        self._previewing.start(
            "preview", _preview, self._load, path, device, field_now, self._cache,
            self._teaching.lesson[number],
            then=self._on_previewed, failed=self._went_wrong,
        )  # fmt: skip
        self.busy_changed.emit(f"Looking at the field with version {number}")
        return None

    def _on_previewed(self, preview: Preview) -> None:
        self.busy_changed.emit("")
        self.keep(preview)
        self.previewed.emit(preview)

    # --- where next ---

    def seek(
        self, number: int, field_now: FieldOfView, pairs: Sequence[Pair], first: Region, n: int = 12
    ) -> None:
        """Look for the regions of a field that are worth painting most; ``first`` first.

        ``pairs``: what is painted on it. It ends with the last tile, or with :meth:`stop_seeking`.
        """
        self.stop_seeking()
        path, device = self._teaching.model_path(number), self._teaching.choices.device
        self.seeking_changed.emit(True)
        self._seeking.start(
            "begin", _seeking, self._load, path, device, field_now, tuple(pairs),
            self._teaching.choices.classes, self._cache, first, n,
            then=self._seek_on, failed=self._seeking_failed,
        )  # fmt: skip

    def stop_seeking(self) -> None:
        """What was found so far stands."""
        if self._seeking.busy_with is not None:
            self._seeking.stop()
            self.seeking_changed.emit(False)

    def _seek_on(self, pieces: Iterator[Seen]) -> None:
        self._seeking.start(
            "piece", next, pieces, None,
            then=partial(self._on_seen, pieces), failed=self._seeking_failed,
        )  # fmt: skip

    def _on_seen(self, pieces: Iterator[Seen], seen: Seen | None) -> None:
        if seen is None:
            self.seeking_changed.emit(False)
            return
        self.seen.emit(seen)
        self._seek_on(pieces)

    def _seeking_failed(self, error: BaseException) -> None:
        self.seeking_changed.emit(False)
        self.failed.emit(paragraph(error))

    # --- explain ---

    def explain(self, number: int, class_id: int, field_now: FieldOfView) -> None:
        """What the head has learned of a class, and where it acts in the middle of a field."""
        path, device = self._teaching.model_path(number), self._teaching.choices.device
        if ids := self._teaching.lesson[number].ids:  # as the model has it; -1: it has not
            class_id = next((its for its, ours in ids.items() if ours == class_id), -1)
        self.busy_changed.emit("Looking into the model")
        self._explaining.start(
            "explain", _explain, self._load, path, device, number, field_now, class_id, self._cache,
            then=self._on_explained, failed=self._went_wrong,
        )  # fmt: skip

    def _on_explained(self, found: Explained) -> None:
        self.busy_changed.emit("")
        self.explained.emit(found)

    def stop(self) -> None:
        """Stop whatever is under way."""
        self.stop_seeking()
        for line in (self._previewing, self._explaining):
            line.stop()
        self.busy_changed.emit("")

    def _went_wrong(self, error: BaseException) -> None:
        self.busy_changed.emit("")
        self.failed.emit(paragraph(error))


def _key(number: int, field_now: FieldOfView) -> tuple[Any, ...]:
    return (number, field_now.source.key, field_now.region, field_now.mpp)


def _preview(
    load: Any, path: Path, device: str, field_now: FieldOfView, cache: Any, version: Version
) -> Preview:
    return previewed(partial(load, str(path), device), field_now, cache(), version)


def _seeking(
    load: Any, path: Path, device: str, field_now: FieldOfView, pairs: tuple[Pair, ...],
    classes: Any, cache: Any, first: Region, n: int,
) -> Iterator[Seen]:  # fmt: skip
    kept = cache()
    model = load(str(path), device)
    from napari_pathsam.inference.uncertainty import where_next

    whole = Region.of(field_now.source.shape_yx)
    strokes = (pair.painted(classes) for pair in pairs)  # one after the other: they may be large
    return where_next(
        model, SourceTiles(field_now.source), mpp=field_now.mpp or model.config.mpp,
        region=field_now.region, first=first, n=n, cache=kept,
        painted=((s.at or whole, s.labels) for s in strokes),
    )  # fmt: skip


def _explain(
    load: Any, path: Path, device: str, number: int, field_now: FieldOfView, class_id: int,
    cache: Any,
) -> Explained:  # fmt: skip
    kept = cache()
    model = load(str(path), device)
    from napari_pathsam.inference.class_maps import plan_segmenting, tile_embedding
    from napari_pathsam.training.explain import explain

    tiles = SourceTiles(field_now.source)
    mpp = field_now.mpp or model.config.mpp
    plan = plan_segmenting(model, tiles, mpp=mpp, region=field_now.region)
    y, x = (field_now.region.y + field_now.region.height / 2,
            field_now.region.x + field_now.region.width / 2)  # fmt: skip

    def distance(tile: Any) -> float:
        at = plan.grid.level0_of(tile.region)
        return abs(at.y + at.height / 2 - y) + abs(at.x + at.width / 2 - x)

    tile = min(plan.tiles, key=distance)
    embedding, _ = tile_embedding(model, tiles, plan.grid, tile.region, cache=kept)
    region = plan.grid.level0_of(tile.region)
    return Explained(number, field_now, region, explain(model, embedding, class_id))
