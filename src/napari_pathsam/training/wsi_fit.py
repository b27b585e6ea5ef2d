"""Train a WSI-SAM: fields are drawn and encoded once, then steps are taken on their embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.errors import BadLabelsError
from napari_pathsam.inference.embedding_cache import EmbeddingCache, model_identity
from napari_pathsam.io._identity import identity_of_pixels
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.wsi_sam import Asked, WsiSam
from napari_pathsam.training.losses import soft_iou
from napari_pathsam.training.reporting import in_turns
from napari_pathsam.training.same_run import (
    NOT_A_STATE,
    not_resumed,
    run_of,
    save_state,
    saved_state,
)
from napari_pathsam.training.wsi_config import WsiTrainConfig
from napari_pathsam.training.wsi_data import FieldPair, choose, draw_pair, shrunk
from napari_pathsam.training.wsi_prompts import boxes, clicks, noisy_masks, to_network
from napari_pathsam.training.wsi_scenes import ImageScene, Scene

KEPT = frozenset({"image_embed", "high_res", "trunk", "coarser"})
MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True)
class WsiReport:
    """Where training stands: means over the steps since the last report.

    ``iou`` and ``iou_low`` are of the thresholded masks of the field and of the surroundings (NaN
    without context).
    """

    step: int
    steps: int
    loss: float
    iou: float
    iou_low: float
    seconds_left: float


@dataclass(frozen=True)
class WsiBatch:
    """Objects ``B`` of n fields.

    Their masks ``(B, S, S)`` in the field, in the surroundings (shares of pixels), and where
    somebody looked.
    """

    embedding: ImageEmbedding
    owner: Tensor
    high: Tensor
    low: Tensor
    known: Tensor
    known_low: Tensor


def mask_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice (squared denominators) and binary cross-entropy, mean over objects: ``(B, h, w)`` → ().

    Pixels that nobody looked at (``known`` 0) count nowhere. Source: Milletari et al., V-Net
    (2016), arXiv 1606.04797; as MONAI's DiceLoss with ``squared_pred``.
    """
    p, t = logits.sigmoid() * known, target * known
    overlap = 2 * (p * t).sum(dim=(-2, -1)) + 1e-5
    dice = 1 - overlap / ((p * p).sum(dim=(-2, -1)) + (t * t).sum(dim=(-2, -1)) + 1e-5)
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * known
    return (dice + cross.sum(dim=(-2, -1)) / known.sum(dim=(-2, -1)).clamp(min=1)).mean()


class WsiTrainer:
    """A model in training and its optimiser: what a resumed run needs back."""

    def __init__(
        self,
        model: WsiSam,
        scenes: Sequence[Sequence[Scene]],
        config: WsiTrainConfig,
        *,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.model, self.scenes, self.config = model, scenes, config
        self.cache = cache or EmbeddingCache(memory_bytes=MEMORY_BYTES)
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.step = 0
        network = model.config.model_dump(mode="json")
        self.run = run_of(
            {**config.model_dump(mode="json"), "network": network},
            {
                "images or labels": [_told(one) for some in scenes for one in some],
                "weights to start from": [model_identity(model)],
            },
        )
        self._pairs: dict[int, FieldPair] = {}

    # --- fields -------------------------------------------------------------------------------

    def pair(self, index: int) -> FieldPair:
        """The field of this number: always the same one."""
        if index not in self._pairs:
            config = self.config
            rng = np.random.default_rng([config.seed, 1, index])
            factor = self.model.config.factor
            pair = draw_pair(self.scenes, config.sources, config, factor, rng)
            if rng.random() < config.hide_surroundings:
                pair = pair.hidden(factor)
            self._pairs[index] = pair
        return self._pairs[index]

    def encoded(self, pair: FieldPair) -> ImageEmbedding:
        """A field's embedding, from the cache where it is there."""
        model = self.model
        surroundings = pair.low if model.config.context else None
        seen = np.concatenate([pair.high, pair.low])
        return self.cache.get_or_encode(
            EmbeddingCache.key(seen, model_identity(model), model.embedding_name),
            lambda: model.encode(pair.high, surroundings=surroundings),
            keep=KEPT,
            device=model.device,
        )

    def batch(self, rng: np.random.Generator) -> WsiBatch:
        """What one step learns from."""
        config = self.config
        chosen: list[tuple[int, FieldPair, int]] = []
        pairs: list[FieldPair] = []
        for index in rng.integers(config.fields, size=config.fields_per_step):
            pair = self.pair(int(index))
            ids = choose(
                pair, rng, config.objects_per_field,
                cut_share=config.cut_share, smallest_px=config.smallest_px,
            )  # fmt: skip
            chosen += [(len(pairs), pair, i) for i in ids]
            pairs.append(pair)
        if not chosen:
            raise BadLabelsError(
                f"No object of {config.smallest_px} pixels or more was found in the fields of "
                f"{config.field_px} pixels. Check the labels, or make the fields larger."
            )
        device, side = self.model.device, config.field_px
        known = [torch.from_numpy(p.in_field(p.known).copy()).float() for _, p, _ in chosen]
        return WsiBatch(
            embedding=batched([self.encoded(p) for p in pairs]),
            owner=torch.tensor([n for n, _, _ in chosen], device=device),
            high=torch.stack([self._target(p, i) for _, p, i in chosen]).to(device),
            low=torch.stack([self._target_low(p, i) for _, p, i in chosen]).to(device),
            known=torch.stack(known).to(device),
            known_low=torch.stack([shrunk(p.known, side) for _, p, _ in chosen]).to(device),
        )

    def _target(self, pair: FieldPair, index: int) -> Tensor:
        union = self.config.target == "field"
        found = pair.in_field(pair.objects) > 0 if union else pair.target(index)
        return torch.from_numpy(np.ascontiguousarray(found)).float()

    def _target_low(self, pair: FieldPair, index: int) -> Tensor:
        if self.config.target == "field":
            return shrunk(pair.objects > 0, self.config.field_px)
        whole = pair.objects == index
        if self.config.target == "visible":
            visible = np.zeros_like(whole)
            pair.in_field(visible)[:] = pair.target(index)
            whole = visible
        return shrunk(whole, self.config.field_px)

    # --- steps --------------------------------------------------------------------------------

    def asked(self, batch: WsiBatch, rng: np.random.Generator) -> tuple[Asked, Asked | None]:
        """Prompts of one kind for all objects, and in the surroundings where those are others."""
        config = self.config
        kind = config.prompts[int(rng.integers(len(config.prompts)))]
        high_yx = batch.embedding.input_yx
        scale = (high_yx[1] / config.field_px, high_yx[0] / config.field_px)
        masks = _bool(batch.high)
        if kind == "box":
            points, signs = boxes(masks, rng, config.box_noise)
        else:
            points, signs = clicks(masks, rng, config.most_clicks, exactly=config.exactly)
        given = None
        if kind == "mask":
            points, signs = points[:, :1], signs[:, :1]
            cells = (batch.embedding.image_embed.shape[-2] * 4,
                     batch.embedding.image_embed.shape[-1] * 4)  # fmt: skip
            given = noisy_masks(masks, rng, cells)
        asked = self._there(to_network(points, signs, given, scale))
        if kind != "point" or config.low_prompts == "moved":
            return asked, None
        sampled = clicks(_bool(batch.low), rng, points.shape[1], exactly=True)
        return asked, self._there(to_network(*sampled, None, scale))

    def _there(self, asked: Asked) -> Asked:
        points, signs, masks = asked
        device = self.model.device
        return points.to(device), signs.to(device), None if masks is None else masks.to(device)

    def loss(self, batch: WsiBatch, rng: np.random.Generator) -> tuple[Tensor, float, float]:
        """λ·L_high + (1 − λ)·L_low; IoU in the field and in the surroundings."""
        asked, asked_low = self.asked(batch, rng)
        found = self.model.decode_tensors(batch.embedding, batch.owner, asked, asked_low)
        high = _enlarged(found.high, batch)
        loss = mask_loss(high, batch.high, batch.known)
        iou = float(soft_iou(high, batch.high).mean())
        if found.low is None:
            return loss, iou, math.nan
        low = _enlarged(found.low, batch)
        share = self.config.balance
        loss = share * loss + (1 - share) * mask_loss(low, batch.low, batch.known_low)
        return loss, iou, float(soft_iou(low, batch.low).mean())

    def train_step(self) -> tuple[float, float, float]:
        """One optimiser step: loss, IoU, IoU in the surroundings."""
        config = self.config
        rng = np.random.default_rng([config.seed, 2, self.step])
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * self._rate()
        loss, iou, iou_low = self.loss(self.batch(rng), rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach()), iou, iou_low

    def _rate(self) -> float:
        c = self.config
        rise = min(1.0, (self.step + 1) / max(1, c.warmup))
        if c.schedule == "constant":
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * self.step / c.steps))

    def save(self, path: Path) -> None:
        """Everything a later :meth:`resume` needs, written whole or not at all."""
        state = {
            "model": {name: p.detach() for name, p in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        save_state(path, state, self.run)

    def resume(self, path: Path) -> None:
        """Go on from :meth:`save`; BadFileError where that is no state of this run."""
        state = saved_state(path, self.run)
        try:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(state["model"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        except NOT_A_STATE as error:
            raise not_resumed(path, str(error)) from error


def fit_wsi_sam(trainer: WsiTrainer, *, state: Path | None = None) -> Iterator[WsiReport]:
    """Train in place; yields a report now and then, after each the state is saved where given."""
    config = trainer.config
    if state is not None and state.exists():
        trainer.resume(state)
    for (loss, iou, low), left in in_turns(trainer, config.steps, config.report_every, state):
        yield WsiReport(trainer.step, config.steps, loss, iou, low, left)
    trainer.model.eval()


def batched(embeddings: Sequence[ImageEmbedding]) -> ImageEmbedding:
    """Embeddings of n fields of one size as one."""
    first = embeddings[0]

    def joined(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(torch.cat(levels) for levels in zip(*parts, strict=True))

    around = [e.coarser for e in embeddings]
    return replace(
        first,
        image_embed=torch.cat([e.image_embed for e in embeddings]),
        high_res=joined([e.high_res for e in embeddings]),
        trunk=joined([e.trunk for e in embeddings]),
        coarser=tuple(batched(level) for level in zip(*around, strict=True)),
    )


def _enlarged(logits: Tensor, batch: WsiBatch) -> Tensor:
    """``(B, 4h, 4w)`` → the field's pixels; what is padding is left out."""
    rows, columns = (n // 4 for n in batch.embedding.input_yx)
    up = functional.interpolate(
        logits[:, None, :rows, :columns].float(), batch.high.shape[-2:], mode="bilinear"
    )
    return up[:, 0]


def _told(scene: Scene) -> str:
    """What tells an image in memory from all others; a slide's name and place."""
    if not isinstance(scene, ImageScene):
        return repr(scene)
    seen = scene.whole
    digests = [identity_of_pixels(one) for one in (seen.image, seen.objects, seen.known)]
    return f"{scene.name} {digests}"


def _bool(masks: Tensor) -> NDArray[np.bool_]:
    """Shares → masks; one that would be empty keeps its largest share."""
    shares = masks.cpu().numpy()
    top = shares.max(axis=(1, 2), keepdims=True)
    found: NDArray[np.bool_] = shares >= np.minimum(top, 0.5).clip(1e-6)
    return found
