"""Teach a PathSam its classes: a loop that yields a report after every epoch.

Encoders are frozen, so each augmented variant of an image is encoded once, when it is first needed,
and its embedding kept; what is trained sees embeddings only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_pathsam.core.metrics import (
    Counts,
    confusion,
    dice_per_class,
    foreground,
    iou_per_class,
)
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.head_file import trained_names
from napari_pathsam.models.kan import regulariser
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import (
    PatchMaker,
    TrainingImage,
    logits_at_stride,
    thinned,
)
from napari_pathsam.training.losses import class_loss, class_sums

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache


@dataclass(frozen=True)
class Validation:
    """Scores from counts pooled over the validation images."""

    counts: Counts

    @property
    def dice(self) -> float:
        """Foreground against background."""
        return float(dice_per_class(foreground(self.counts))[1])

    @property
    def iou(self) -> float:
        return float(iou_per_class(foreground(self.counts))[1])

    @property
    def macro_dice(self) -> float:
        """Mean over the classes that are there, background left out."""
        each = dice_per_class(self.counts)[1:]
        return float(np.nanmean(each)) if np.isfinite(each).any() else math.nan

    @property
    def score(self) -> float:
        """What training stops on: mean Dice of the classes."""
        return self.macro_dice


@dataclass(frozen=True)
class EpochReport:
    """Where training stands after an epoch.

    ``validation`` is None between validations; ``encoded`` counts the patches that had to be
    encoded anew; ``stopped`` says that the score has not risen for too long.
    """

    epoch: int
    epochs: int
    loss: float
    seconds: float
    seconds_left: float
    encoded: int
    validation: Validation | None = None
    best_score: float = math.nan
    stopped: bool = False


def needed(model: PathSam, parts: Sequence[str]) -> frozenset[str]:
    """Which tensors of an embedding training these parts reads."""
    config = model.config
    wanted = set()
    neck = config.alignment == "neck"
    if "alignment" in parts or not neck or model.pathology is not None:
        wanted |= {"trunk"} if config.sam_encoder else set()
        wanted |= {"pathology"} if model.pathology is not None else set()
    own_high_res = neck and config.align_high_res and "alignment" in parts
    if config.high_res and config.sam_encoder and not own_high_res:
        wanted.add("high_res")
    return frozenset(wanted | {"image_embed"})


def stacked(embeddings: Sequence[ImageEmbedding]) -> ImageEmbedding:
    """Embeddings of equal size as one of a batch."""
    first = embeddings[0]
    pathology = None
    if first.pathology is not None:
        pathology = torch.cat([e.pathology for e in embeddings if e.pathology is not None])
    return replace(
        first,
        image_embed=torch.cat([e.image_embed for e in embeddings]),
        high_res=tuple(
            torch.cat(level) for level in zip(*(e.high_res for e in embeddings), strict=True)
        ),
        trunk=_level_by_level([e.trunk for e in embeddings]),
        pathology=pathology,
        coarser=(),
    )


def _level_by_level(images: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(level) for level in zip(*images, strict=True))


class ClassTrainer:
    """A model in training with its optimiser, averaged copy and best weights so far."""

    def __init__(
        self,
        model: PathSam,
        images: Sequence[TrainingImage],
        validation: Sequence[TrainingImage],
        config: TrainConfig,
        *,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.model, self.config, self.cache = model, config, cache
        self.validation = validation
        network_px = max(32, round(config.patch_px * model.config.enlarge / 32) * 32)
        if model.base.config.fixed_canvas:
            network_px = model.base.config.field_px
        self.maker = PatchMaker(
            images,
            config.augment,
            patch_px=config.patch_px,
            network_px=network_px,
            scale=config.scale,
            mosaic=config.mosaic,
            seed=config.seed,
        )
        model.train_only(config.parts)
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        encoder = [p for n, p in self.trained.items() if part_of(n) == "encoder"]
        rest = [p for n, p in self.trained.items() if part_of(n) != "encoder"]
        groups = [{"params": rest, "lr": config.lr, "top": config.lr}]
        if encoder:
            groups.append({"params": encoder, "lr": config.encoder_lr, "top": config.encoder_lr})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
        self.average = {n: p.detach().clone() for n, p in self.trained.items()}
        self.best: dict[str, Tensor] | None = None
        self.best_score, self.since_best = -math.inf, 0
        self.epoch, self.step, self.encoded = 0, 0, 0

    @property
    def steps_per_epoch(self) -> int:
        return max(1, math.ceil(len(self.maker) / self.config.batch))

    # --- one step -----------------------------------------------------------------------------

    def _embedding(self, items: Sequence[tuple[int, int]]) -> tuple[ImageEmbedding, Tensor]:
        """Embedding and targets of patches; kept ones are not encoded again."""
        if self.cache is None or self.config.variants is None or "encoder" in self.config.parts:
            patches = [self.maker.patch(*item) for item in items]
            self.encoded += len(items)
            pixels = torch.cat([p for p, _ in patches]).to(self.model.device)
            with torch.set_grad_enabled("encoder" in self.config.parts):
                embedding = self.model.encode_batch(pixels)
            return embedding, torch.stack([t for _, t in patches]).to(self.model.device)
        found = [self._kept(*item) for item in items]
        targets = torch.stack([t for _, t in found]).to(self.model.device)
        return stacked([e for e, _ in found]), targets

    def _kept(self, index: int, variant: int) -> tuple[ImageEmbedding, Tensor]:
        raise NotImplementedError

    def _rate(self) -> float:
        """Linear warm-up, then a cosine to nothing."""
        total = self.config.epochs * self.steps_per_epoch
        rise = min(1.0, (self.step + 1) / max(1, self.config.warmup))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / total)))

    def _loss(self, items: Sequence[tuple[int, int]], rng: np.random.Generator) -> Tensor:
        config = self.config
        embedding, target = self._embedding(items)
        logits, iou = self.model.class_logits(embedding, window_yx=self._window(embedding, rng))
        logits = logits_at_stride(logits.float(), config.stride)
        sums = class_sums(logits, iou, thinned(target, config.stride), gamma=config.loss.gamma)
        loss = class_loss(
            sums,
            alpha=config.loss.alpha,
            beta=config.loss.beta,
            over_classes=config.loss.over_classes,
            dice_over=config.loss.dice_over,
        )
        if config.kan_l1 or config.kan_entropy:
            loss = loss + regulariser(self.model.head, l1=config.kan_l1, entropy=config.kan_entropy)
        return loss

    def _window(self, embedding: ImageEmbedding, rng: np.random.Generator) -> tuple[int, int]:
        """Where on the canvas of positions the patch lies: fields may be larger than patches."""
        grid = embedding.image_embed.shape[-2:]
        room = [self.model.base.config.field_px // 16 - n for n in grid]
        return (int(rng.integers(max(0, room[0]) + 1)), int(rng.integers(max(0, room[1]) + 1)))

    def train_step(self, items: Sequence[tuple[int, int]]) -> float:
        """One optimiser step on these ``(image, variant)`` patches."""
        rng = np.random.default_rng([self.config.seed, 7, self.step])
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * self._rate()
        device = self.model.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.config.mixed_precision):
            loss = self._loss(items, rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.trained.values()), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of what is trained, short at the start."""
        ema = self.config.ema
        keep = 0.0 if ema is None else min(ema, (1 + self.step) / (10 + self.step))
        for name, value in self.trained.items():
            self.average[name].lerp_(value, 1 - keep)

    # --- one epoch ----------------------------------------------------------------------------

    def train_epoch(self) -> Iterator[float]:
        """Every image once, in one of its variants; yields each step's loss."""
        config = self.config
        rng = np.random.default_rng([config.seed, 3, self.epoch])
        order = rng.permutation(len(self.maker))
        # Each image walks through its variants in an order of its own.
        first = np.random.default_rng([config.seed, 5]).integers(1 << 16, size=len(self.maker))
        n = config.variants
        self.model.train()
        for start in range(0, len(order), config.batch):
            chosen = order[start : start + config.batch]
            yield self.train_step(
                [
                    (int(i), self.epoch if n is None else int(first[i] + self.epoch) % n)
                    for i in chosen
                ]
            )
        self.epoch += 1

    def validate(self) -> Validation:
        """Score of the averaged weights on the validation images, whole."""
        now = {n: p.detach().clone() for n, p in self.trained.items()}
        self._put(self.average)
        self.model.eval()
        validation = Validation(count_images(self.model, self.validation))
        if validation.score > self.best_score:
            self.best_score, self.since_best = validation.score, 0
            self.best = {n: p.detach().clone() for n, p in self.trained.items()}
        else:
            self.since_best += 1
        self._put(now)
        return validation

    @torch.no_grad()
    def _put(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self.trained[name].copy_(value)

    def finish(self) -> None:
        """Leave the best weights in the model, or the averaged ones where nothing was validated."""
        self._put(self.average if self.best is None else self.best)
        self.model.eval()

    # --- stopping and going on ------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Everything :meth:`resume` needs, written whole or not at all."""
        names = trained_names(self.model, self.config.parts)
        state: dict[str, Any] = {
            "model": {n: t for n, t in self.model.state_dict().items() if n in names},
            "average": self.average,
            "best": self.best,
            "best_score": self.best_score,
            "since_best": self.since_best,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "config": self.config.model_dump_json(),
        }
        unfinished = path.with_suffix(".partial")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from :meth:`save`: the same steps as a run that was never stopped."""
        state = torch.load(path, weights_only=True, map_location=self.model.device)
        self.model.load_state_dict(state["model"], strict=False)
        self.average, self.best = state["average"], state["best"]
        self.best_score, self.since_best = state["best_score"], state["since_best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = int(state["epoch"]), int(state["step"])


@torch.no_grad()
def count_images(model: PathSam, images: Sequence[TrainingImage]) -> Counts:
    """Confusion counts of whole images, in channels; large ones piece by piece."""
    n = len(model.classes) + 1
    counts: Counts = np.zeros((n, n), np.int64)
    for one in images:
        height, width = one.target.shape
        for y in range(0, height, model.tile_px):
            for x in range(0, width, model.tile_px):
                piece = (slice(y, y + model.tile_px), slice(x, x + model.tile_px))
                found = model.decode_classes(model.encode(one.image[piece], octaves=1))
                channels = found.logits_at().argmax(dim=0).cpu().numpy()
                target = one.target[piece]
                known = target >= 0
                counts += confusion(target[known], channels[known], n)
    return counts


def fit_classes(
    model: PathSam,
    images: Sequence[TrainingImage],
    validation: Sequence[TrainingImage],
    config: TrainConfig,
    *,
    cache: EmbeddingCache | None = None,
    resume: Path | None = None,
) -> Iterator[EpochReport]:
    """Train ``model`` in place; at the end it holds the weights that validated best.

    Closing the generator stops after the step under way; the state of the last whole epoch is in
    ``resume`` where given, and a later run with the same arguments goes on from there.
    """
    trainer = ClassTrainer(model, images, validation, config, cache=cache)
    if resume is not None and resume.exists():
        trainer.resume(resume)
    while trainer.epoch < config.epochs:
        started, encoded = perf_counter(), trainer.encoded
        loss = float(np.mean(list(trainer.train_epoch())))
        last = trainer.epoch == config.epochs
        found = None
        if len(validation) and (trainer.epoch % config.validate_every == 0 or last):
            found = trainer.validate()
        stopped = config.patience is not None and trainer.since_best >= config.patience
        if resume is not None:
            trainer.save(resume)
        seconds = perf_counter() - started
        yield EpochReport(
            epoch=trainer.epoch,
            epochs=config.epochs,
            loss=loss,
            seconds=seconds,
            seconds_left=seconds * (config.epochs - trainer.epoch),
            encoded=trainer.encoded - encoded,
            validation=found,
            best_score=trainer.best_score,
            stopped=stopped,
        )
        if stopped:
            break
    trainer.finish()
