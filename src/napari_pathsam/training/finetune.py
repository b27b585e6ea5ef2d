"""Teach a model classes from what a person painted: a generator that can be closed at any time."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from napari_pathsam.core.errors import UnavailableError, out_of_memory
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.training.finetune_crops import Crop, Crops
from napari_pathsam.training.finetune_data import tile_pixels_of
from napari_pathsam.training.finetune_networks import own_copy
from napari_pathsam.training.finetune_notes import (
    ANEW,
    GENTLY,
    NO_ROOM,
    START_KEPT,
    no_number,
    painted_since,
)
from napari_pathsam.training.finetune_report import (
    Scores,
    TeachReport,
    TrainingStopped,
    Weights,
)
from napari_pathsam.training.finetune_run import Frozen
from napari_pathsam.training.finetune_score import Tally, said_of
from napari_pathsam.training.finetune_start import Load, check_start, start_model
from napari_pathsam.training.finetune_state import Best, load_state, save_state
from napari_pathsam.training.finetune_time import Spent
from napari_pathsam.training.losses import ClassSums, class_loss, class_sums
from napari_pathsam.training.task_trainer import moving_of

FAST = ("head", "network")
"""The parts whose learning rate is the preset's own."""
SCORED_TILES = 16
"""Held-out tiles scored per epoch, about: of more of them only every second, third … epoch is."""


@dataclass(frozen=True)
class Taught:
    """What came out: a model of its own, the score it earned, and the epoch its weights are of.

    ``epoch`` 0 is the start.
    """

    model: ClassModel
    frozen: Frozen
    scores: Scores | None
    epoch: int
    weights: Weights
    notes: tuple[str, ...] = ()


class Teacher:
    """A frozen run in training.

    Parameters
    ----------
    frozen
        What is trained, on what.
    cache
        Where embeddings are found and kept; None: one of its own, in memory.
    state
        A file that holds, after every epoch, what is needed to go on; where it exists and is of
        this run, training goes on from it, and ends with the weights of a run never stopped.
    load
        ``(name, device)`` → a model.

    Raises
    ------
    BadWeightsError, UnavailableError
        What the run starts from is not here, or is not what it was.
    BadFileError
        ``state`` is of another run.
    """

    def __init__(
        self,
        frozen: Frozen,
        *,
        cache: EmbeddingCache | None = None,
        state: Path | None = None,
        load: Load | None = None,
    ) -> None:
        self.frozen, self.state = frozen, state
        settings = frozen.run.settings
        self.config = config = settings.config
        self.cache = EmbeddingCache() if cache is None else cache
        with self._threads():
            self.model, _ = start_model(settings, [one.mpp for one in frozen.run.images], load)
        check_start(self.model, frozen.run)
        self.tiles = tile_pixels_of(frozen)
        self.crops = Crops(self.model, frozen, config, self.tiles, self.cache)
        self.model.train_only(config.parts)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.moving = moving_of(self.model, self.trained)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": found, "lr": lr, "top": lr}
                for lr, found in (
                    (config.lr, [p for n, p in self.trained.items() if part_of(n) in FAST]),
                    (config.lr * config.body_lr,
                     [p for n, p in self.trained.items() if part_of(n) not in FAST]),
                )
                if found
            ],
            weight_decay=config.weight_decay,
        )  # fmt: skip
        self.average = {n: p.detach().clone() for n, p in self.moving.items()}
        self.begun: Weights = {n: t.cpu().clone() for n, t in self.average.items()}
        self.best = Best(0, None, self.begun)
        self.learned = 1.0  # the part of what was learned in the weights that are kept
        self.batch, self.step, self.epoch, self.since_best = config.batch, 0, 0, 0
        self.notes: list[str] = []
        held = sum(bool((p.held & p.own).any()) for found in self.tiles for p in found)
        self._score_every = max(1, math.ceil(held / SCORED_TILES)) if held else 0
        self.scored_tiles = held / max(1, self._score_every)
        if state is not None and state.exists():
            load_state(self, state)

    # --- running --------------------------------------------------------------------------------

    def steps(self) -> Iterator[TeachReport]:
        """Train; a report after every tile encoded, every step and every epoch.

        Closing it keeps the best so far (:meth:`result`).

        Raises
        ------
        TrainingStopped
            The loss is no number any more; the best until then is kept.
        UnavailableError
            Not even a single crop fits into memory.
        """
        config = self.config
        began, spent = perf_counter(), Spent()
        total = config.epochs * config.steps
        for tile in range(len(self.crops)):
            with self._threads(), spent.on("encode"):
                self.crops.encode(tile, 0)
            yield self._report("encoding", began, None)
        if self.step == 0:
            yield from self._look_at_start(began, spent)
        while self.epoch < config.epochs and not self.stopped:
            losses: list[float] = []
            self.model.train()
            for _ in range(config.steps):
                for encoded in self._drawn():
                    if isinstance(encoded, list):
                        crops = encoded
                    else:
                        yield self._report("encoding", began, self._left(spent, total))
                with self._threads(), spent.on("step"):
                    losses.append(self._step(crops))
                yield self._report("training", began, self._left(spent, total), loss=losses[-1])
            self.epoch += 1
            scores, improved = yield from self._judge(began, spent)
            if self.state is not None:
                save_state(self, self.state)
            yield self._report(
                "epoch",
                began,
                0.0 if self.stopped else self._left(spent, total),
                loss=float(np.mean(losses)),
                scores=scores,
                improved=improved,
                weights=self.best.weights if improved else None,
            )

    @property
    def stopped(self) -> bool:
        """Whether the score has not risen for too long."""
        patience = self.config.patience
        return patience is not None and self.since_best >= patience

    def result(self) -> Taught:
        """The best so far, as a model of its own; before the first epoch that is the start."""
        best = self.best
        useless = best.epoch == 0 and 0 < self._score_every <= self.epoch
        return Taught(
            self.model_with(best.weights), self.frozen, best.scores, best.epoch, best.weights,
            (*self.notes, *([START_KEPT] if useless else [])),
        )  # fmt: skip

    def model_with(self, weights: Weights) -> ClassModel:
        """A model of its own with these weights, for previews; the encoders are shared."""
        return own_copy(self.model, weights)

    # --- one step --------------------------------------------------------------------------------

    def _drawn(self) -> Iterator[list[Crop] | int]:
        """Encode what the next step needs, one tile at a time; at last its crops."""
        rng = np.random.default_rng([self.config.seed, 19, self.step])
        wanted = self.crops.planned(rng, self.epoch)
        for tile, look in {(p.tile, p.look) for p in wanted}:
            if not self.crops.has(tile, look):
                with self._threads():
                    self.crops.encode(tile, look)
                yield tile
        yield [self.crops.placed(p) for p in wanted]

    def _step(self, crops: list[Crop]) -> float:
        """One optimiser step; a batch that does not fit into memory is halved."""
        while True:
            try:
                return self._stepped(crops[: self.batch])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._halve(error)

    def _halve(self, error: BaseException) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch == 1:
            raise UnavailableError(
                "There is not enough memory for even one crop. Close other programs, train the "
                "head alone, or take a smaller model or another device; what was trained until "
                "now is kept."
            ) from error
        self.batch //= 2
        self.notes.append(
            f"There was not enough memory: training goes on with {self.batch} "
            f"crop{'s' * (self.batch > 1)} in a step instead of {2 * self.batch}."
        )

    def _stepped(self, crops: list[Crop]) -> float:
        config = self.config
        total = config.epochs * config.steps
        rise = min(1.0, (self.step + 1) / max(1, config.warmup))
        rate = rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / total)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * rate
        rng = np.random.default_rng([config.seed, 7, self.step])
        parts = [
            self._sums(embedding, target, rng) for embedding, target in self.crops.batches(crops)
        ]
        loss = class_loss(
            _together(parts),
            alpha=config.alpha,
            beta=config.beta,
            over_classes="mean",
            dice_over="batch",
        )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingStopped(no_number(self.step + 1, self.best.epoch))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(list(self.trained.values()), config.clip)
        if not math.isfinite(float(norm)):
            raise TrainingStopped(no_number(self.step + 1, self.best.epoch))
        self.optimizer.step()
        self.step += 1
        self._average()
        return value

    def _sums(self, embedding: object, target: Tensor, rng: np.random.Generator) -> ClassSums:
        window = (0, 0)
        if isinstance(self.model, PathSam):
            height, width = target.shape[-2:]
            room = [max(0, self.model.base.config.field_px // 16 - n // 4) for n in (height, width)]
            window = (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1)))
        logits, iou = self.crops.reads.logits(self.model, embedding, window)
        return class_sums(logits.float(), iou.float(), target, gamma=self.config.gamma)

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.moving.items():
            self.average[name].lerp_(value, 1 - keep)

    # --- judging ---------------------------------------------------------------------------------

    def _look_at_start(self, began: float, spent: Spent) -> Iterator[TeachReport]:
        """Score what is started from, and decide how much of what is learned is taken.

        Where it knows the classes, what was painted and it has not seen says how right it is.
        """
        knows = self.frozen.run.start_knows_all and self.config.gentlest < 1
        if not (knows or self._score_every):
            return
        held, painted = yield from self._scored(self.begun, began, spent, start=knows)
        if painted is not None and math.isfinite(painted.mean_dice):
            self.learned = self.config.learned(painted.mean_dice + painted.noise)
            note = GENTLY if self.learned < 1 else ANEW
            what = painted_since(self.frozen)
            self.notes.append(
                note.format(dice=painted.mean_dice, learned=100 * self.learned, what=what)
            )
        if held is not None:
            # Of a version that somebody corrects, what is held out says nothing of what was wrong.
            keep = self.frozen.run.start_knows_all and not self.frozen.corrects
            known = held.mean_dice if keep else -math.inf
            self.best = Best(0, held, self.begun, known, known)
            yield self._report("epoch", began, None, scores=held)

    def _judge(
        self, began: float, spent: Spent
    ) -> Generator[TeachReport, None, tuple[Scores | None, bool]]:
        """Score the averaged weights, and keep them where they are the best so far."""
        last = self.epoch == self.config.epochs
        weights = {
            n: self.begun[n].lerp(t.cpu(), self.learned) if self.learned < 1 else t.cpu().clone()
            for n, t in self.average.items()
        }
        if not self._score_every:  # nothing to choose by: the newest
            self.best = Best(self.epoch, None, weights)
            return None, True
        if self.epoch % self._score_every and not last:
            return None, False
        scores, _ = yield from self._scored(weights, began, spent)
        assert scores is not None  # there are held-out pixels
        best = self.best
        highest = max(best.highest, scores.mean_dice)
        self.since_best = 0 if highest > best.highest else self.since_best + self._score_every
        kept = best.beaten_by(scores)
        if kept:
            best = replace(best, epoch=self.epoch, scores=scores, weights=weights)
        self.best = replace(best, highest=highest)
        return scores, kept

    def _scored(
        self, weights: Weights, began: float, spent: Spent, *, start: bool = False
    ) -> Generator[TeachReport, None, tuple[Scores | None, Scores | None]]:
        """Score some weights, tile by tile: cancelling need not wait for all of them.

        On what is held out; and on what the start is asked for, if it is the start.
        """
        model = self.model_with(weights)
        held = Tally(model, self.frozen)
        whole = Tally(model, self.frozen, start=True) if start else None
        wanted = None if start else True
        tiles = said_of(model, self.frozen, held=wanted, cache=self.cache, tiles=self.tiles)
        while True:
            with self._threads(), spent.on("score"):
                said = next(tiles, None)
            if said is None:
                break
            held.add(said)
            if whole is not None:
                whole.add(said)
            yield self._report("scoring", began, None)
        return held.scores(), None if whole is None else whole.scores()

    # --- telling ---------------------------------------------------------------------------------

    def _report(
        self,
        phase: str,
        began: float,
        left: float | None,
        *,
        loss: float | None = None,
        scores: Scores | None = None,
        improved: bool = False,
        weights: Weights | None = None,
    ) -> TeachReport:
        config = self.config
        return TeachReport(
            phase=phase,  # type: ignore[arg-type]
            done=self.step,
            total=config.epochs * config.steps,
            epoch=self.epoch,
            epochs=config.epochs,
            loss=loss,
            seconds=perf_counter() - began,
            seconds_left=left,
            scores=scores,
            improved=improved,
            weights=weights,
            notes=tuple(self.notes),
        )

    def _left(self, spent: Spent, total: int) -> float | None:
        steps = total - self.step
        return spent.left(steps, steps / self.config.steps * self.scored_tiles)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """The run's number of threads, in whichever thread this runs: it decides the last bit."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.frozen.run.threads)
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise UnavailableError(NO_ROOM) from error
        finally:
            torch.set_num_threads(before)


def _together(parts: list[ClassSums]) -> ClassSums:
    if len(parts) == 1:
        return parts[0]
    names = ("overlap", "predicted", "wanted", "focal", "known", "iou_error")
    return ClassSums(*(torch.cat([getattr(p, name) for p in parts]) for name in names))
