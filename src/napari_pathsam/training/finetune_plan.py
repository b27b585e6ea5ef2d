"""What fine-tuning will cost, measured here: time from a timed step, memory from what it holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.finetune_config import FineTuneConfig
from napari_pathsam.training.finetune_crops import VIEWS_BYTES, Crops
from napari_pathsam.training.finetune_data import tile_pixels_of
from napari_pathsam.training.finetune_run import Frozen
from napari_pathsam.training.finetune_start import Load, start_model
from napari_pathsam.training.losses import class_loss, class_sums

ENCODED_PX = 256
"""Side of the piece that is encoded to know how long encoding takes."""


@dataclass(frozen=True)
class Estimate:
    """About what a run takes, in seconds and in bytes of memory beside the program itself.

    ``encode_s`` is for what is not in the cache yet; training may stop earlier. Reading, writing
    and previews come on top, and whatever else the machine does: see :meth:`at_pace`.
    """

    encode_s: float
    train_s: float
    score_s: float
    memory_bytes: int

    @property
    def seconds(self) -> float:
        return self.encode_s + self.train_s + self.score_s

    def at_pace(self, pace: float) -> Estimate:
        """Where everything takes so many times as long, as the last trainings did."""
        return replace(
            self,
            encode_s=pace * self.encode_s,
            train_s=pace * self.train_s,
            score_s=pace * self.score_s,
        )

    @property
    def text(self) -> str:
        """``about 12 s, 0.4 GB``."""
        seconds = self.seconds
        time = f"{max(1, round(seconds))} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        return f"about {time}, {max(0.1, self.memory_bytes / 1e9):.1f} GB"


def estimates(
    frozen: Frozen,
    configs: Mapping[str, FineTuneConfig],
    *,
    cache: EmbeddingCache | None = None,
    load: Load | None = None,
) -> dict[str, Estimate]:
    """What each of these configurations would cost on this run's labels, on this machine.

    One tile is encoded (or found in the cache), a small piece encoded for the time, one crop of
    each kind is trained on without changing anything, one tile decoded. Takes about as long as
    five steps.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(frozen.run.threads)
    try:
        model, _ = start_model(frozen.run.settings, [i.mpp for i in frozen.run.images], load)
        return _measured(model, frozen, configs, EmbeddingCache() if cache is None else cache)
    finally:
        torch.set_num_threads(before)


def _measured(
    model: ClassModel, frozen: Frozen, configs: Mapping[str, FineTuneConfig], cache: EmbeddingCache
) -> dict[str, Estimate]:
    tiles = tile_pixels_of(frozen)
    held = sum(bool((p.held & p.own).any()) for found in tiles for p in found)
    areas = [pixels.shape[0] * pixels.shape[1] for found in frozen.pixels for pixels in found]
    per_px = _encoding_s(model, frozen)
    decode_s: float | None = None
    encoded = False
    found = {}
    for name, config in configs.items():
        crops = Crops(model, frozen, config.model_copy(update={"batch": 1}), tiles, cache)
        crops.encode(0, 0)
        if decode_s is None:
            encoded, decode_s = bool(crops.encoded), _decoding_s(model, frozen, cache)
        step_s, saved = _step(model, crops, config)
        # What is true of one tile is taken to be true of all.
        known = 0 if encoded else len(areas)
        looks = len(areas) * config.variants
        total = config.epochs * config.steps
        # The start is scored, too.
        scorings = 1 + config.epochs / max(1, math.ceil(held / 16)) if held else 0
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        found[name] = Estimate(
            encode_s=per_px * float(np.mean(areas)) * max(0, looks - known),
            train_s=total * config.batch * step_s,
            score_s=scorings * held * decode_s,
            memory_bytes=int(
                config.batch * saved
                + 6 * 4 * trained  # weights, gradients, two moments, average, best
                + min(VIEWS_BYTES, crops.held_bytes * looks)
            ),
        )
    model.train_only(())
    return found


def _encoding_s(model: ClassModel, frozen: Frozen) -> float:
    """Seconds per pixel that is encoded, of the working image."""
    first = next(pixels for found in frozen.pixels for pixels in found)
    piece = np.ascontiguousarray(first[:ENCODED_PX, :ENCODED_PX])
    if isinstance(model, PathSam) and model.base.config.fixed_canvas:
        piece = first
    started = perf_counter()
    model.encode(piece)
    _wait(model)
    return (perf_counter() - started) / (piece.shape[0] * piece.shape[1])


def _decoding_s(model: ClassModel, frozen: Frozen, cache: EmbeddingCache) -> float:
    from napari_pathsam.inference.class_maps import pixels_embedding

    first = next(pixels for found in frozen.pixels for pixels in found)
    embedding, _ = pixels_embedding(model, first, cache=cache)
    started = perf_counter()
    model.decode_classes(embedding)
    _wait(model)
    return perf_counter() - started


def _step(model: ClassModel, crops: Crops, config: FineTuneConfig) -> tuple[float, int]:
    """Seconds a crop takes there and back, and the bytes kept for the way back."""
    model.train_only(config.parts)
    rng = np.random.default_rng(0)
    wishes = [replace(w, tile=0, look=0, level=0) for w in crops.planned(rng, 0)]
    ((embedding, target),) = crops.batches([crops.placed(wishes[0])])
    seconds, saved = math.inf, 0
    for _ in range(2):  # the first one warms up
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        started = perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits, iou = crops.reads.logits(model, embedding)
            sums = class_sums(logits.float(), iou.float(), target, gamma=config.gamma)
            loss = class_loss(
                sums, alpha=config.alpha, beta=config.beta, over_classes="mean", dice_over="batch"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        _wait(model)
        seconds, saved = min(seconds, perf_counter() - started), sum(kept.values())
    for parameter in model.parameters():
        parameter.grad = None
    return seconds, saved


def _wait(model: ClassModel) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()
