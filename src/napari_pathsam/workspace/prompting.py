"""Prompter: from prompts to an answer: load the model, encode the field, decode; newest wins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_pathsam.core.errors import readable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts, tight_box
from napari_pathsam.workspace.candidate import Answer, offer
from napari_pathsam.workspace.encoding import Keeping, encode, encode_ahead
from napari_pathsam.workspace.field_book import Ready
from napari_pathsam.workspace.fields import (
    Field,
    ImageSource,
    MaskPrompt,
    choose_field,
    next_beside,
    serves,
)
from napari_pathsam.workspace.history import PromptState
from napari_pathsam.workspace.runner import Job, Runner

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask

DEFAULT_MODEL = "pathsam-nano"

AHEAD_S = 3.0
"""Fields beside the one in view are encoded ahead where encoding one takes no longer than this."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What there is to answer now."""

    source: ImageSource
    state: PromptState
    view: Region
    view_px_per_px: float
    mpp: float | None
    answers: Callable[[PromptState], Answer | None]


class Line:
    """Work of one kind: at most one piece at a time, and only the newest one's result lands."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._ticket = 0
        self._job: Job | None = None
        self.busy_with: object | None = None

    def start(
        self,
        what: object,
        fn: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Run this instead of whatever was under way."""
        self.stop()
        ticket = self._ticket
        self.busy_with = what
        job = self._runner.submit(
            fn,
            *args,
            then=partial(self._land, ticket, then),
            failed=partial(self._land, ticket, failed),
        )
        if self._ticket == ticket and self.busy_with is not None:
            self._job = job

    def stop(self) -> None:
        """Cancel what is under way; its result will not land."""
        self._ticket += 1
        job, self._job, self.busy_with = self._job, None, None
        if job is not None:
            job.cancel()

    def _land(self, ticket: int, callback: Callable[[Any], None], value: Any) -> None:
        if ticket == self._ticket:
            self._job, self.busy_with = None, None
            callback(value)


class Prompter:
    """Answers the prompts there are whenever :meth:`update` says that they changed.

    Parameters
    ----------
    request
        Called for what there is to answer at that moment; None: nothing.
    answered, failed, changed
        Called with an answer and its prompt state; with a paragraph; when ``busy`` or ``field``
        changed. All in the caller's thread.
    keeping
        Where embeddings are kept; by default only those in use.
    """

    def __init__(
        self,
        load: Callable[[str, str], Any],
        runner: Runner,
        *,
        request: Callable[[], Request | None],
        answered: Callable[[PromptState, Answer], None],
        failed: Callable[[str], None],
        changed: Callable[[], None],
        keeping: Keeping | None = None,
    ) -> None:
        self.load = load
        self.keeping = keeping or Keeping()
        self._request, self._answered = request, answered
        self._failed, self._changed = failed, changed
        self._preparing, self._decoding, self._ahead = Line(runner), Line(runner), Line(runner)
        self._model: Any = None
        self._asked: int | None = None
        self._latest: Request | None = None
        self.model_name, self.device, self.context = DEFAULT_MODEL, "auto", True
        self.ready = Ready()
        self._s_per_px: float | None = None  # what encoding took the last time
        self._began = 0.0
        self.field: Field | None = None
        self.busy: str | None = None

    def use(self, name: str, device: str, *, context: bool = True) -> bool:
        """Answer with another model, loaded when there is something to answer; False: the same.

        ``context``: whether a model that looks at what is round a field (WSI-SAM) is shown it.
        """
        if (name, device, context) == (self.model_name, self.device, self.context):
            return False
        self.stop()
        if (name, device) != (self.model_name, self.device):
            self._model = None
        self._s_per_px = None
        self.model_name, self.device, self.context = name, device, context
        self.ready.clear()
        self._tell(None, None)
        return True

    @property
    def seconds_left(self) -> float | None:
        """Of the encoding under way, by what the last one took; None: nobody knows."""
        doing = self._preparing.busy_with
        field = doing[-1] if isinstance(doing, tuple) else None
        if self._s_per_px is None or not isinstance(field, Field):
            return None
        height, width = field.shape_yx
        return self._began + self._s_per_px * height * width - time.monotonic()

    def forget(self) -> None:
        """Other pixels: no embedding is valid any more."""
        self.stop()
        self._latest = None
        self.ready.clear()
        self._tell(None, None)

    def stop(self) -> None:
        """Cancel loading, encoding and decoding."""
        for line in (self._preparing, self._decoding, self._ahead):
            line.stop()
        self._tell(None, self.field)

    def hush(self) -> None:
        """The prompts changed and need no answer; an embedding under way is still of use."""
        self._decoding.stop()

    def update(self) -> None:
        """The prompts changed: answer them; what is under way goes on if it is still of use."""
        self._decoding.stop()
        request = self._request()
        if request is None:
            return
        self._ahead.stop()  # in this answer's way
        if self._model is None:
            self._prepare_model()
            return
        about = (request.source.key, self.model_name, request.mpp)
        field = self._field_for(request, about)
        key = (*about, field)
        embedding = self.ready.get(key)
        if embedding is None:
            self._encode(request, key, field)
            return
        self._preparing.stop()  # another field's, of no use now, and in this answer's way
        self._tell(None, field)
        self._decode(request, embedding, field)

    def _prepare_model(self) -> None:
        wanted = (self.model_name, self.device)
        if self._preparing.busy_with != wanted:
            self._tell(f"Loading {self.model_name}", self.field)
            self._preparing.start(
                wanted, self.load, *wanted, then=self._loaded, failed=self._went_wrong
            )

    def _loaded(self, model: Any) -> None:
        self._model = model
        self._tell(None, self.field)
        self.update()

    def _field_for(self, request: Request, about: tuple[Any, ...]) -> Field:
        """The field in use while it holds all prompts; else a kept one that serves, or another."""
        state, places = request.state, request.state.places()
        kept = self.ready.fields(about)
        encoding = self._preparing.busy_with
        if isinstance(encoding, tuple) and encoding[:-1] == about:
            kept.insert(0, encoding[-1])
        known = [*kept, *self.keeping.book.fields(about)]
        same_object = any(s.serial == self._asked for s in (state, *state.lineage()))
        self._asked = state.serial
        if (
            same_object
            and self.field is not None
            and self.field in kept
            and all(self.field.region.contains(*place) for place in places)
        ):
            return self.field
        shape_yx, config = request.source.shape_yx, self._model.config
        wanted = choose_field(
            shape_yx,
            _view_with(request.view, places, shape_yx),
            view_px_per_px=request.view_px_per_px,
            mpp=request.mpp,
            mpp_range=config.mpp_range,
            field_px=config.field_px,
            at_yx=_at(request.state),
        )
        for field in known:
            if all(serves(field, wanted, place, shape_yx) for place in places):
                return field
        return wanted

    def _encode(self, request: Request, key: tuple[Any, ...], field: Field) -> None:
        if self._preparing.busy_with == key:
            return
        self._tell("Encoding the field in view", field)
        self._began = time.monotonic()
        self._preparing.start(
            key,
            encode,
            self._looking(),
            request.source,
            key,
            self.keeping,
            then=partial(self._encoded, key),
            failed=self._went_wrong,
        )

    def _looking(self) -> Any:
        """The model that encodes."""
        return self._model if self.context else getattr(self._model, "alone", self._model)

    def _encoded(self, key: tuple[Any, ...], found: tuple[ImageEmbedding, bool]) -> None:
        embedding, made = found
        if made:
            height, width = key[-1].shape_yx
            self._s_per_px = (time.monotonic() - self._began) / (height * width)
        self.ready.put(key, embedding)
        self._tell(None, self.field)
        self.update()

    def _decode(self, request: Request, embedding: ImageEmbedding, field: Field) -> None:
        state = request.state
        previous = self._previous(request, field)
        seen = as_seen(field, state.prompts, state.mask, previous)
        if not seen:
            return
        self._decoding.start(
            state.serial,
            decoded,
            self._model,
            embedding,
            seen,
            previous,
            field,
            self.model_name,
            then=partial(self._answered, state),
            failed=self._went_wrong,
        )
        self._latest = request

    def look_ahead(self, *_: Any) -> None:
        """Encode what lies beside the field in use, one after the other, until there is work."""
        field, request, lines = self.field, self._latest, (self._preparing, self._decoding)
        if field is None or request is None or self._model is None:
            return
        if any(line.busy_with is not None for line in lines):
            return
        height, width = field.shape_yx
        if self._s_per_px is None or self._s_per_px * height * width > AHEAD_S:
            return
        shape_yx = request.source.shape_yx
        about = (request.source.key, self.model_name, request.mpp)
        beside = next_beside(field, shape_yx, self.keeping.book.fields(about))
        if beside is not None:
            key = (*about, beside)
            self._ahead.start(
                key, encode_ahead, self._looking(), request.source, key, self.keeping,
                then=self.look_ahead, failed=_no_matter,
            )  # fmt: skip

    def _previous(self, request: Request, field: Field) -> PromptedMask | None:
        """The nearest earlier answer about the same object over the same field."""
        for state in request.state.lineage():
            answer = request.answers(state)
            if answer is not None:
                same = answer.field == field and answer.model == self.model_name
                return answer.masks if same else None
        return None

    def _went_wrong(self, error: BaseException) -> None:
        self._tell(None, self.field)
        self._failed(paragraph(error))

    def _tell(self, busy: str | None, field: Field | None) -> None:
        if (busy, field) != (self.busy, self.field):
            self.busy, self.field = busy, field
            self._changed()


def paragraph(error: BaseException) -> str:
    """An error as a person may read it; what was not foreseen is logged in full."""
    if (known := readable(error)) is not None:
        return known
    logger.error("not foreseen", exc_info=error)
    text = " ".join(str(error).split()) or "no more is known"
    return (
        f"That did not work: {text} ({type(error).__name__}). Nothing was changed; try again, "
        "or another model or device."
    )


def _no_matter(error: BaseException) -> None:
    """What was done ahead failed; it will fail again, and be told, when somebody needs it."""
    logger.debug("encoding ahead failed", exc_info=error)


def as_seen(
    field: Field, prompts: Prompts, mask: MaskPrompt | None, previous: PromptedMask | None
) -> Prompts:
    """Prompts in a field's pixels; the first mask only where no answer came before."""
    seen = field.prompts_seen(prompts, mask)
    if seen.mask is None:
        return seen
    return _with_mask_box(seen) if previous is None else seen.with_mask(None)


def decoded(
    model: Any,
    embedding: ImageEmbedding,
    prompts: Prompts,
    previous: PromptedMask | None,
    field: Field,
    model_name: str,
) -> Answer:
    """The answer to prompts in a field's pixels."""
    masks = model.decode_prompts(embedding, prompts, previous=previous)
    return Answer(masks, field, model_name, offer(masks, field))


def _with_mask_box(prompts: Prompts) -> Prompts:
    """A mask alone is a weak prompt; its box beside it says where the object ends."""
    if prompts.box is not None or prompts.points_yx or prompts.mask is None:
        return prompts
    return prompts.with_box(tight_box(prompts.mask))


def _at(state: PromptState) -> tuple[float, float]:
    """Where the field must be: at the last point, else in the middle of box or mask."""
    if state.prompts.points_yx:
        return state.prompts.points_yx[-1]
    places = state.places()
    return (
        sum(y for y, _ in places) / len(places),
        sum(x for _, x in places) / len(places),
    )


def _view_with(
    view: Region, places: list[tuple[float, float]], shape_yx: tuple[int, int]
) -> Region:
    """The part of the image on screen, stretched to what the prompts speak of."""
    view = view.intersection(Region.of(shape_yx)) or Region.of(shape_yx)
    ys = [int(min(max(y, 0), shape_yx[0] - 1)) for y, _ in places]
    xs = [int(min(max(x, 0), shape_yx[1] - 1)) for _, x in places]
    y0, x0 = min(view.y, *ys), min(view.x, *xs)
    y1 = max(view.y + view.height, *(y + 1 for y in ys))
    x1 = max(view.x + view.width, *(x + 1 for x in xs))
    return Region(y0, x0, y1 - y0, x1 - x0)
