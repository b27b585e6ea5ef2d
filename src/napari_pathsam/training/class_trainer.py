"""A PathSam in training: its steps, its validation, its state.

Encoders are frozen, so each augmented variant of an image is encoded once, when it is first needed,
and its embedding kept (:mod:`class_features`); what is trained sees embeddings only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_pathsam.core.metrics import Counts, confusion
from napari_pathsam.datasets.ahead import Ahead
from napari_pathsam.inference.embedding_cache import EmbeddingCache, model_identity
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.head_file import trained_names
from napari_pathsam.models.kan import regulariser
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.pathsam import logits_at, part_of
from napari_pathsam.models.task_config import MaskRcnnConfig
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import Arrays, logits_at_stride, thinned
from napari_pathsam.training.class_features import Features
from napari_pathsam.training.class_images import TrainingImage, refuse_one_class
from napari_pathsam.training.class_order import epoch_items, shares_of
from napari_pathsam.training.class_report import Validation
from napari_pathsam.training.losses import ClassSums, class_loss, class_sums
from napari_pathsam.training.precision import mixed_precision
from napari_pathsam.training.processes import ALONE, Processes
from napari_pathsam.training.same_run import (
    NOT_A_STATE,
    Run,
    not_resumed,
    run_of,
    save_state,
    saved_state,
)
from napari_pathsam.training.task_augment import MAKERS

Batch = Sequence[tuple[int, int]]
"""Images, each with one of its variants."""


class ClassTrainer:
    """A model in training with its optimiser, averaged copy and best weights so far.

    ``workers`` processes make the patches; the steps are the same with any number of them.
    ``base`` names the weights the model was made from.

    Raises
    ------
    BadLabelsError
        All that is labelled is of one class.
    ValueError
        A training patch is larger than a field of the model.
    """

    def __init__(
        self,
        model: ClassModel,
        images: Sequence[TrainingImage],
        validation: Sequence[TrainingImage],
        config: TrainConfig,
        *,
        cache: EmbeddingCache | None = None,
        processes: Processes = ALONE,
        workers: int = 0,
        base: Sequence[BaseWeights] = (),
    ) -> None:
        refuse_one_class(images, model.classes)
        self.model: Any = model  # each kind of trainer knows its own kind of model
        self.config, self.processes = config, processes
        self.validation = validation
        self.maker = MAKERS[config.drawn_as](
            images,
            config.augment,
            patch_px=config.patch_px,
            network_px=_network_px(model, config.patch_px),
            scale=config.scale,
            mosaic=config.mosaic,
            seed=config.seed if config.data_seed is None else config.data_seed,
        )
        self.maker.with_objects = wants_objects(model)
        self.features = Features(model, self.maker, config, cache)
        # The pixels of kept patches are seldom needed; others may be made ahead.
        self._ahead: Ahead[Batch, Arrays] | None = None
        if workers and not self.features.keeps:
            self._ahead = Ahead(self.maker.arrays, workers)
        model.train_only(config.parts)
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        processes.copy_from_first(p.data for p in self.trained.values())
        self.moving = self._moving()
        self.optimizer = optimizer_of(self.trained, config)
        self._shares = np.ones(len(images))
        if config.balance:
            self._shares = shares_of([image.channels for image in images], config.balance)
        self.average = {n: t.detach().clone() for n, t in self.moving.items()}
        self.best: dict[str, Tensor] | None = None
        self.best_score, self.since_best = -math.inf, 0
        self.epoch, self.step = 0, 0
        self.run = self._run(base)

    @property
    def encoded(self) -> int:
        """How many patches and validation images were encoded so far."""
        return self.features.encoded

    @property
    def steps_per_epoch(self) -> int:
        return max(1, math.ceil(len(self.maker) / self.config.batch))

    @property
    def stopped(self) -> bool:
        """Whether the score has not risen for too long."""
        patience = self.config.patience
        return patience is not None and self.since_best >= patience

    def _moving(self) -> dict[str, Tensor]:
        """What changes in training: is averaged, and kept when it is the best."""
        return dict(self.trained)

    # --- one step -----------------------------------------------------------------------------

    def _rate(self) -> float:
        """Linear warm-up, then a cosine to nothing, or as it is."""
        total = self.config.epochs * self.steps_per_epoch
        rise = min(1.0, (self.step + 1) / max(1, self.config.warmup))
        if self.config.schedule == "constant":
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / total)))

    def _sums(self, items: Sequence[tuple[int, int]], rng: np.random.Generator) -> ClassSums:
        """What the loss is made of, for this process's share of a batch."""
        config, window = self.config, self._window(rng)
        if not items:  # fewer patches than processes
            return ClassSums.of_nothing(len(self.model.classes) + 1, self.model.device)
        embedding, target = self.features.batch(items)
        logits, iou = self.features.reads.logits(self.model, embedding, window)
        logits = logits_at_stride(logits.float(), config.stride)
        return class_sums(
            logits,
            iou,
            thinned(target, config.stride),
            gamma=config.loss.gamma,
            each_alone=config.loss.each_alone,
        )

    def _window(self, rng: np.random.Generator) -> tuple[int, int]:
        """Where on the canvas of positions the patches lie: fields may be larger than patches."""
        room = max(0, (self.model.base.config.field_px - self.maker.network_px) // 16)
        return (int(rng.integers(room + 1)), int(rng.integers(room + 1)))

    def objective(self, items: Sequence[tuple[int, int]]) -> Tensor:
        """Loss of a batch of which each process sees its share."""
        config = self.config
        rng = np.random.default_rng([config.seed, 7, self.step])
        with mixed_precision(self.model.device, wanted=config.mixed_precision):
            sums = self._sums(self.processes.share(items), rng)
        return self.loss_from(sums)

    def loss_from(self, sums: ClassSums) -> Tensor:
        """The loss of the whole batch, from the sums of each process's share."""
        config = self.config
        return class_loss(
            sums,
            alpha=config.loss.alpha,
            beta=config.loss.beta,
            over_classes=config.loss.over_classes,
            dice_over=config.loss.dice_over,
            overlap_as=config.loss.overlap_as,
            weights=config.loss.weights,
            gather=self.processes.summed,
        )

    def loss_of(self, items: Sequence[tuple[int, int]]) -> Tensor:
        """Loss of a batch of ``(image, variant)`` patches, and its gradients in the parameters."""
        config, processes = self.config, self.processes
        loss = self.objective(items)
        self.optimizer.zero_grad(set_to_none=True)
        penalty = loss.new_zeros(())
        if config.kan_l1 or config.kan_entropy:
            penalty = regulariser(self.model.head, l1=config.kan_l1, entropy=config.kan_entropy)
        mine = loss + penalty / processes.size
        if mine.requires_grad:
            mine.backward()  # type: ignore[no-untyped-call]
        processes.add_gradients(self.trained.values())
        return (loss + penalty).detach()

    def train_step(self, items: Sequence[tuple[int, int]]) -> float:
        """One optimiser step on these ``(image, variant)`` patches."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * self._rate()
        loss = self.loss_of(items)
        nn.utils.clip_grad_norm_(list(self.trained.values()), self.config.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return float(loss)

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of what is trained, short at the start."""
        ema = self.config.ema
        keep = 0.0 if ema is None else min(ema, (1 + self.step) / (10 + self.step))
        for name, value in self.moving.items():
            self.average[name].lerp_(value, 1 - keep)

    # --- one epoch ----------------------------------------------------------------------------

    def train_epoch(self) -> Iterator[float]:
        """As many images as there are, each in one of its variants; yields each step's loss."""
        config = self.config
        self.model.train()
        items = epoch_items(self._shares, self.epoch, config.variants, config.seed)
        batches = [items[at : at + config.batch] for at in range(0, len(items), config.batch)]
        for batch in batches if self._ahead is None else self._made_ahead(batches, self._ahead):
            yield self.train_step(batch)
        self.epoch += 1

    def _made_ahead(self, batches: Sequence[Batch], ahead: Ahead[Batch, Arrays]) -> Iterator[Batch]:
        """The batches, each when its patches are made."""
        shares = [self.processes.share(batch) for batch in batches]
        for batch, share, arrays in zip(batches, shares, ahead.map(shares), strict=True):
            self.features.take(share, arrays)
            yield batch

    def close(self) -> None:
        """End the processes that make patches."""
        if self._ahead is not None:
            self._ahead.close()

    def validate(self) -> Validation:
        """Score of the averaged weights on the validation images, whole."""
        now = {n: t.detach().clone() for n, t in self.moving.items()}
        self._put(self.average)
        self.model.eval()
        share = self.processes.share(self.validation)
        counts = torch.from_numpy(count_images(self.model, share, features=self.features))
        counts = self.processes.summed(counts.to(self.model.device)).cpu()
        validation = Validation(counts.numpy())
        if validation.score > self.best_score:
            self.best_score, self.since_best = validation.score, 0
            self.best = {n: t.detach().clone() for n, t in self.moving.items()}
        else:
            self.since_best += 1
        self._put(now)
        return validation

    @torch.no_grad()
    def _put(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self.moving[name].copy_(value)

    def finish(self) -> None:
        """Leave the best weights in the model, or the averaged ones where nothing was validated."""
        self._put(self.average if self.best is None else self.best)
        self.model.eval()

    # --- stopping and going on ------------------------------------------------------------------

    def _run(self, base: Sequence[BaseWeights]) -> Run:
        """What a saved state must be of, so that its weights are those of this run."""
        model = self.model
        settings = self.config.model_dump(mode="json")
        settings["network"] = model.config.model_dump(mode="json")
        settings["classes"] = [(one.id, one.name) for one in model.classes]
        trained, held_out = self.maker.images, self.validation
        weights = [model_identity(model), *(one.model_dump_json() for one in base)]
        data = {
            "training images": [f"{one.name} {one.digests[0]}" for one in trained],
            "labels of the training images": [one.digests[1] for one in trained],
            "validation images": [f"{one.name} {one.digests[0]}" for one in held_out],
            "labels of the validation images": [one.digests[1] for one in held_out],
            "weights to start from": weights,
        }
        return run_of(settings, data)

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
        }
        save_state(path, state, self.run)

    def resume(self, path: Path) -> None:
        """Go on from :meth:`save`: the same steps as a run that was never stopped.

        Raises
        ------
        BadFileError
            It is no saved state, or one of other images, labels, settings or another model.
        """
        state = saved_state(path, self.run, self.model.device)
        try:
            found = {n: tuple(t.shape) for n, t in state["average"].items()}
            if found != {n: tuple(t.shape) for n, t in self.moving.items()}:
                raise ValueError("it trained another model, or other parts of it")
            self.model.load_state_dict(state["model"], strict=False)
            self.average, self.best = state["average"], state["best"]
            self.best_score, self.since_best = state["best_score"], state["since_best"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
        except NOT_A_STATE as error:
            raise not_resumed(path, str(error)) from error


def wants_objects(model: ClassModel) -> bool:
    """Whether a model learns from objects, one by one."""
    return isinstance(model, TaskModel) and isinstance(model.config.network, MaskRcnnConfig)


def optimizer_of(trained: Mapping[str, Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of parameters by name; trunks and image encoders have a rate of their own."""
    slow = [p for n, p in trained.items() if part_of(n) in ("encoder", "trunk")]
    rest = [p for n, p in trained.items() if part_of(n) not in ("encoder", "trunk")]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": config.lr, "top": config.lr}]
    if slow:
        groups.append({"params": slow, "lr": config.encoder_lr, "top": config.encoder_lr})
    decay = config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, weight_decay=decay)


def _network_px(model: ClassModel, patch_px: int) -> int:
    """Network pixels of a patch's side."""
    if patch_px > model.tile_px:
        raise ValueError(
            f"patch_px={patch_px} is more than {model.name} sees at once: {model.tile_px} px at "
            f"{model.config.mpp} µm, {model.config.enlarge} network pixels each"
        )
    return model.network_px(patch_px)


@torch.no_grad()
def count_images(
    model: ClassModel, images: Sequence[TrainingImage], *, features: Features | None = None
) -> Counts:
    """Confusion counts of whole images, in channels; large ones piece by piece.

    ``features`` keeps what was encoded for the next time, of the finest magnification alone: what
    training watches. Without it the model is measured as it is used.
    """
    n = len(model.classes) + 1
    counts: Counts = np.zeros((n, n), np.int64)
    for one in images:
        height, width = one.target.shape
        for y in range(0, height, model.tile_px):
            for x in range(0, width, model.tile_px):
                piece = (slice(y, y + model.tile_px), slice(x, x + model.tile_px))
                target = one.target[piece]
                if features is None:
                    logits = model.decode_classes(model.encode(one.image[piece])).logits
                else:
                    embedding: ImageEmbedding = features.whole(one.image[piece])
                    logits = features.reads.logits(model, embedding)[0][0].float()
                channels = logits_at(logits, target.shape).argmax(dim=0).cpu().numpy()
                target = np.where(target == n, 0, target)  # gaps are background
                known = target >= 0
                counts += confusion(target[known], channels[known], n)
    return counts
