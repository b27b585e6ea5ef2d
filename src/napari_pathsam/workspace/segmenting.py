"""Segmenting: from a chosen model and extent to a class map, piece by piece; no GUI, no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.prompting import Line, paragraph
from napari_pathsam.workspace.runner import Runner
from napari_pathsam.workspace.segment_request import (
    Progress,
    SegmentRequest,
    check,
    result_window,
)
from napari_pathsam.workspace.segment_result import SegmentResult
from napari_pathsam.workspace.segment_slide import (
    PreparedSlide,
    SlideResult,
    is_slide,
    prepared_slide,
    slide_areas,
    slide_pieces,
)
from napari_pathsam.workspace.segment_work import (
    Answer,
    Piece,
    Prepared,
    pieces_of,
    prepared,
    recounted,
    rest_of,
)

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache


Result = SegmentResult | SlideResult


@dataclass
class _Run:
    request: SegmentRequest
    result: Result | None = None
    pieces: Iterator[Piece] | None = None
    done: int = 0
    total: int = 0
    reused: int = 0
    stopped: bool = False
    warning: str = ""


class Segmenting:
    """Runs segmentations, one at a time, and keeps what they found.

    What goes wrong arrives through ``failed`` as one readable paragraph; what was done until then
    stays. Nothing a person changed in a result is written over: a run that meets an edited result
    begins another one.

    Parameters
    ----------
    load
        ``(name, device) -> model``, called in a worker.
    runner
        Where slow work runs.
    cache
        Called in the worker for where embeddings are kept between runs; None: nowhere.
    """

    progress_changed = Signal(object)
    """A :class:`Progress`, or None: nothing is under way."""
    result_changed = Signal(object)
    """The :class:`SegmentResult` that is being filled: a new one, or one that was emptied."""
    piece_written = Signal(object, Region)
    """A result, and the level-0 region in which its class map changed, in place."""
    finished = Signal(object)
    """A result whose table, objects and maps are there."""
    status = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        load: Callable[[str, str], Any],
        runner: Runner,
        cache: Callable[[], EmbeddingCache | None] = lambda: None,
    ) -> None:
        self._load, self._runner, self._cache = load, runner, cache
        self._line = Line(runner)
        self._run: _Run | None = None
        self._results: dict[tuple[str, str], Result] = {}
        self._encoded: dict[tuple[str, Any, tuple[Region, ...]], int] = {}  # in so many views
        self._s_per_cell: dict[str, float] = {}
        self._counting = Line(runner)

    # --- what is there ---

    @property
    def running(self) -> bool:
        """Whether a run is under way, its last touches included."""
        return self._run is not None

    @property
    def result(self) -> Result | None:
        """What the run under way fills."""
        return self._run.result if self._run else None

    def result_of(self, image_key: str, model: str) -> Result | None:
        """The newest result of a model on an image."""
        return self._results.get((image_key, model))

    def is_encoded(
        self, image_key: str, encoding: Any, regions: tuple[Region, ...], views: int = 1
    ) -> bool:
        """Whether so many views of parts of an image were encoded like this (``encoding_of``)."""
        return self._encoded.get((image_key, encoding, regions), 0) >= views

    def was_encoded(self, image_key: str, encoding: Any = None) -> bool:
        """Whether some run was done on an image; with ``encoding``: encoding it in this way."""
        return any(key == image_key and encoding in (None, way) for key, way, _ in self._encoded)

    def seconds_for(self, embedding_name: str, cells: float) -> float | None:
        """How long encoding so many cells takes, by what it took before; None: not known."""
        each = self._s_per_cell.get(embedding_name)
        return None if each is None else each * cells

    # --- what can be done ---

    def start(self, request: SegmentRequest) -> None:
        """Segment; what was under way is stopped, and its pieces stay."""
        self._drop()
        try:
            check(request)
        except BadImageError as error:
            self.failed.emit(str(error))
            return
        run = self._run = _Run(request)
        self._tell(run, f"Loading {request.model}")
        self._line.start(
            "prepare", prepared_slide if is_slide(request) else prepared, self._load, request,
            then=partial(self._prepared, run), failed=partial(self._went_wrong, run),
        )  # fmt: skip

    def cancel(self) -> None:
        """Stop; what is done stays, and is tidied and measured. Once more: not even that."""
        run = self._run
        if run is None:
            return
        if run.stopped or run.result is None or not run.done:
            self._drop()
            self.status.emit("Stopped.")
            return
        self._stop_pieces(run)
        self.status.emit(f"Stopped after {run.done} of {run.total} tiles; what is done is kept.")
        self._wrap_up(run)

    def close(self) -> None:
        """Stop everything."""
        self._counting.stop()
        self._drop()

    def let_go(self, result: Result) -> None:
        """Forget a result: its layer was deleted, or is the person's own now."""
        for key, kept in list(self._results.items()):
            if kept is result:
                del self._results[key]
        if self.result is result:
            self._drop()

    def forget_encodings(self, image_key: str) -> None:
        """The image looks different now: it must be encoded anew."""
        self._encoded = {e: n for e, n in self._encoded.items() if e[0] != image_key}

    def recount(self, result: SegmentResult) -> None:
        """The person changed a result by hand: measure it anew."""
        if self.result is result:
            return  # it will be measured in the end
        self._counting.start(
            "count", recounted, result,
            then=partial(self._counted, result), failed=lambda _: None,
        )  # fmt: skip

    # --- the run ---

    def _prepared(self, run: _Run, ready: Prepared | PreparedSlide) -> None:
        run.total = ready.total
        if isinstance(ready, PreparedSlide):
            run.done = ready.done
            run.result = ready.result(run.request)
            self._results[(run.request.source.key, run.request.model)] = run.result
            run.pieces = slide_pieces(ready, run.request)
        else:
            run.result = self._result_for(run.request, ready)
            run.pieces = pieces_of(ready, run.request, run.result, self._cache)
        run.warning = ready.warning
        if run.warning:
            self.status.emit(run.warning)
        self._tell(run, "Segmenting")
        self.result_changed.emit(run.result)
        self._next(run, ready)

    def _next(self, run: _Run, ready: Prepared | PreparedSlide) -> None:
        assert run.pieces is not None
        self._line.start(
            "piece", _timed_next, run.pieces,
            then=partial(self._piece, run, ready), failed=partial(self._went_wrong, run),
        )  # fmt: skip

    def _piece(
        self, run: _Run, ready: Prepared | PreparedSlide, answer: tuple[Piece | None, float]
    ) -> None:
        piece, seconds = answer
        result = run.result
        if result is None or piece is None:
            self._over(run)
            return
        if piece.tiles:
            run.done += 1
            run.reused += not piece.encoded
            if piece.encoded:
                each = seconds / max(piece.cells * ready.views, 1)
                self._s_per_cell[ready.embedding_name] = each
        if piece.said:
            self.status.emit(f"{piece.said} {run.warning}".strip())
        self._write(result, piece)
        self._tell(run, piece.next_text, piece.seconds_left)
        if piece.tiles and run.done == run.total:
            regions = tuple(part.region for part in run.request.parts)
            where = (result.image_key, ready.encoding, regions)
            self._encoded[where] = max(self._encoded.get(where, 0), ready.views)
        self._next(run, ready)

    def _write(self, result: Result, piece: Piece) -> None:
        if isinstance(result, SlideResult):
            if piece.region is not None:
                self.piece_written.emit(result, piece.region)
            if piece.answer is not None:
                result.table = piece.answer.table
            return
        if piece.region is not None and piece.class_map is not None:
            at = result.to_array(piece.region)
            result.class_map.write(at, piece.class_map, piece.where)
            if piece.where is None:
                result.covered[at.slices] = True
            else:
                result.covered[at.slices] |= piece.where
            self.piece_written.emit(result, piece.region)
        if piece.answer is not None:
            self._take(result, piece.answer)

    def _take(self, result: SegmentResult, answer: Answer) -> None:
        """What is known in the end: objects, table."""
        if answer.objects is not None:
            at, ids, class_of = answer.objects
            result.new_objects().write(result.to_array(at), ids)
            result.class_of = class_of
        result.table = answer.table

    def _over(self, run: _Run) -> None:
        result = run.result
        self._run = None
        self.progress_changed.emit(None)
        if not run.stopped:
            summary = "" if result is None else result.summary()
            if said := f"{summary} {run.warning}".strip():
                self.status.emit(said)
        if result is not None:
            self.finished.emit(result)

    def _wrap_up(self, run: _Run) -> None:
        """After a cancel or an error: tidy and measure what there is."""
        assert run.result is not None
        run.stopped = True
        self._tell(run, "Measuring what is done")
        self._line.start(
            "rest", _all_rest, run.request, run.result,
            then=partial(self._wrapped, run), failed=partial(self._went_wrong, run),
        )  # fmt: skip

    def _wrapped(self, run: _Run, pieces: list[Piece]) -> None:
        assert run.result is not None
        for piece in pieces:
            self._write(run.result, piece)
        self._over(run)

    def _went_wrong(self, run: _Run, error: BaseException) -> None:
        self.failed.emit(paragraph(error))
        if run.result is not None and run.done and not run.stopped:
            self._wrap_up(run)
        else:
            self._over(run)

    def _stop_pieces(self, run: _Run) -> None:
        """Close the generator: in the worker, where it may be running still."""
        self._line.stop()
        pieces, run.pieces = run.pieces, None
        if pieces is not None:
            self._runner.submit(_close, pieces, then=lambda _: None, failed=lambda _: None)

    def _drop(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._stop_pieces(run)
            self.progress_changed.emit(None)

    def _tell(self, run: _Run, text: str, seconds_left: float | None = None) -> None:
        self.progress_changed.emit(Progress(text, run.done, run.total, seconds_left, run.reused))

    # --- results ---

    def _result_for(self, request: SegmentRequest, ready: Prepared) -> SegmentResult:
        """The model's own result on this image, emptied where it is made anew; or another one."""
        key = (request.source.key, request.model)
        kept = self._results.get(key)
        if (
            not isinstance(kept, SegmentResult)
            or kept.edited
            or kept.classes != ready.classes
            or not all(kept.holds(part.region) for part in request.parts)
        ):
            window = result_window(request)
            kept = SegmentResult(request, ready.title, ready.classes, window, ready.mpp)
            self._results[key] = kept
            return kept
        before, kept.request, kept.at_mpp = kept.request, request, ready.mpp
        same = (before.options, before.mpp) == (request.options, request.mpp)
        kept.empty([part.region for part in request.parts] if same else None)
        return kept

    def _counted(self, result: SegmentResult, table: Any) -> None:
        result.table = table
        if not self.running:
            self.finished.emit(result)


def _timed_next(pieces: Iterator[Piece]) -> tuple[Piece | None, float]:
    began = time.perf_counter()
    piece = next(pieces, None)
    return piece, time.perf_counter() - began


def _all_rest(request: SegmentRequest, result: Result) -> list[Piece]:
    if isinstance(result, SlideResult):
        return list(slide_areas(result))
    return list(rest_of(request, result))


def _close(pieces: Any) -> None:
    pieces.close()
