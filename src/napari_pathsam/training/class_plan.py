"""What a training run will cost, measured on one patch before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter

from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_images import TrainingImage
from napari_pathsam.training.task_trainer import trainer_of

SPARE = 0.95
"""Share of a disk limit that a plan fills at most."""


@dataclass(frozen=True)
class TrainPlan:
    """Cost of a run, in seconds and bytes.

    ``encode_s`` and ``step_s`` are those of one patch; ``entry_bytes`` what its embedding takes on
    disk. ``pieces`` counts the fields of the validation images.
    """

    config: TrainConfig
    n_images: int
    pieces: int
    encode_s: float
    step_s: float
    entry_bytes: int

    @property
    def keeps(self) -> bool:
        """Whether embeddings are kept."""
        return self.config.variants is not None and "encoder" not in self.config.parts

    @property
    def epoch_s(self) -> float:
        """An epoch whose patches were all met before; of one that keeps nothing: any epoch."""
        steps = self.n_images * self.step_s
        return steps if self.keeps else steps + self.n_images * self.encode_s

    @property
    def first_epoch_s(self) -> float:
        """The first epoch, and every other one that meets its images in a new variant."""
        encoding = (self.n_images if self.keeps else 0) + self.pieces
        return self.epoch_s + encoding * self.encode_s

    @property
    def seconds(self) -> float:
        """All epochs, if none stops it early."""
        config = self.config
        new = min(config.epochs, config.variants or 0) if self.keeps else 0
        encoding = new * self.n_images + self.pieces
        checks = ceil(config.epochs / config.validate_every) * self.pieces * self.step_s / 2
        return config.epochs * self.epoch_s + encoding * self.encode_s + checks

    @property
    def disk_bytes(self) -> int:
        """What all variants and the validation images need."""
        new = min(self.config.epochs, self.config.variants or 0) if self.keeps else 0
        return (new * self.n_images + self.pieces) * self.entry_bytes


def plan(
    model: ClassModel,
    images: Sequence[TrainingImage],
    config: TrainConfig,
    *,
    validation: Sequence[TrainingImage] = (),
) -> TrainPlan:
    """Encode one patch and take its gradients, twice; nothing is learned from it."""
    cache = EmbeddingCache()
    trainer = trainer_of(model)(model, images, validation, config, cache=cache)
    features = trainer.features
    model.train()
    trainer.loss_of([(0, 0)])  # warms up
    held, encoding = cache.nbytes, features.seconds
    trainer.loss_of([(0, 1)])
    encode_s = features.seconds - encoding
    started, encoding = perf_counter(), features.seconds
    trainer.loss_of([(0, 1)])
    step_s = perf_counter() - started - (features.seconds - encoding)
    trainer.optimizer.zero_grad(set_to_none=True)
    model.eval()
    side = model.tile_px
    pieces = sum(-(-h // side) * -(-w // side) for h, w in (one.shape_yx for one in validation))
    return TrainPlan(
        config=config,
        n_images=len(images),
        pieces=pieces,
        encode_s=encode_s,
        step_s=step_s,
        entry_bytes=cache.nbytes - held if features.keeps else 0,
    )


def within(found: TrainPlan, disk_bytes: int) -> TrainConfig:
    """The plan's settings with as many variants as the disk limit holds.

    More would be of no use: by the time an embedding is wanted again it would be gone.
    """
    if not found.keeps or found.disk_bytes <= SPARE * disk_bytes:
        return found.config
    room = SPARE * disk_bytes / max(1, found.entry_bytes) - found.pieces
    variants = int(room // max(1, found.n_images))
    return found.config.model_copy(update={"variants": variants if variants >= 1 else None})
