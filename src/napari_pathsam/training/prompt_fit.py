"""Train a SAM 2 to be prompted: clicks, boxes and corrections, simulated as in SAM.

Per object: a first click or box, then corrective clicks at the centre of the largest error with the
previous mask fed back. Of the three masks of a lone click only the best is corrected, so that they
may come to mean part and whole. Beside the prompts, a throw-away layer predicts each data set's
foreground from the same features: dense supervision that brings the trunk along.
Source: Kirillov et al., Segment Anything (2023), arXiv 2304.02643; Ravi et al. (2024), 2408.00714.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.io._identity import identity_of_pixels
from napari_pathsam.models.answers import LOGIT_CLAMP
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.losses import dice_loss, focal_loss, soft_iou
from napari_pathsam.training.precision import mixed_precision
from napari_pathsam.training.prompt_data import (
    LabelledImage,
    PatchMaker,
    PromptBatch,
    SourceConfig,
    corrections,
    first_prompts,
)
from napari_pathsam.training.reporting import in_turns
from napari_pathsam.training.same_run import (
    NOT_A_STATE,
    not_resumed,
    run_of,
    save_state,
    saved_state,
)


class PromptTrainConfig(BaseModel):
    """The recipe. ``patch_px`` maps a patch side to the number of patches in a batch of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceConfig, ...]
    augment: AugmentConfig = AugmentConfig()
    from_scratch: bool = True
    steps: int = 6000
    patch_px: dict[int, int] = {256: 8, 384: 4, 512: 2}
    patch_shares: dict[int, float] = {256: 0.7, 384: 0.2, 512: 0.1}
    objects_per_patch: int = 4
    corrections: int = 3
    box_share: float = 0.4
    lr: float = 6e-4
    trunk_lr: float = 2e-4
    weight_decay: float = 0.02
    warmup: int = 150
    foreground_weight: float = 1.0
    ema: float = 0.998
    mixed_precision: bool = False
    report_every: int = 50
    seed: int = 0


@dataclass(frozen=True)
class PromptReport:
    """Where training stands: means over the steps since the last report."""

    step: int
    steps: int
    loss: float
    iou_first: float
    iou_last: float
    seconds_left: float


@torch.no_grad()
def start_well(model: Sam2, pixels: Tensor, *, sharpness: float = 2.0) -> None:
    """Set an untrained neck and decoder up so that a few thousand steps are enough.

    Cross-attentions start as position kernels: with keys projected as queries are, a click attends
    to what is near it from the first step. And every feature the decoder meets starts with mean 0
    and a standard deviation near 1, whatever the trunk's are, measured on ``pixels``
    ``(B, 3, h, w)`` in 0 … 255: otherwise the trunk's drown the prompts.
    """
    decoder, neck = model.sam_mask_decoder, model.image_encoder.neck
    crossings = [decoder.transformer.final_attn_token_to_image]
    for layer in decoder.transformer.layers:
        crossings += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in crossings:
        attention.q_proj.weight.mul_(sharpness)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
    trunk = model.image_encoder.trunk(model.normalise(pixels / 255))
    for features, lateral in zip(trunk, reversed(neck.convs), strict=True):
        _standardise(lateral.conv, features, 0.7)
    levels, _ = neck(trunk)
    _standardise(decoder.conv_s0, levels[0], 0.5)
    _standardise(decoder.conv_s1, levels[1], 0.5)
    model.sam_prompt_encoder.mask_downscaling[-1].weight.mul_(4.0)


def _standardise(conv: nn.Conv2d, features: Tensor, std: float) -> None:
    """Rescale a convolution so that each of its channels has mean 0 and this deviation."""
    found = conv(features)
    gain = std / found.std(dim=(0, 2, 3)).clamp(min=1e-3)
    assert conv.bias is not None
    conv.weight.mul_(gain[:, None, None, None])
    conv.bias.sub_(found.mean(dim=(0, 2, 3))).mul_(gain)


class PromptTrainer:
    """A model in training, its averaged copy, its optimiser: what a resumed run needs back."""

    def __init__(
        self,
        model: Sam2,
        images: Sequence[LabelledImage],
        config: PromptTrainConfig,
        base: Sequence[str] = (),
    ) -> None:
        self.model, self.config = model, config
        settings = {
            **config.model_dump(mode="json"),
            "network": model.config.model_dump(mode="json"),
        }
        data = {
            "images": [f"{one.source} {identity_of_pixels(one.image)}" for one in images],
            "labels": [identity_of_pixels(one.labels) for one in images],
            "weights to start from": base,
        }
        self.run = run_of(settings, data)
        self.maker = PatchMaker(
            images, config.sources, config.augment, objects_per_patch=config.objects_per_patch
        )
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.foreground = nn.Conv2d(model.config.width // 4, len(config.sources), 1)
        trunk = list(model.image_encoder.trunk.parameters())
        rest = [p for n, p in model.named_parameters() if ".trunk." not in n]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": trunk, "lr": config.trunk_lr, "top": config.trunk_lr},
                {
                    "params": [*rest, *self.foreground.parameters()],
                    "lr": config.lr,
                    "top": config.lr,
                },
            ],
            weight_decay=config.weight_decay,
        )
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.step = 0

    def start_well(self) -> None:
        """Prepare an untrained model on a few patches (:func:`start_well`)."""
        rng = np.random.default_rng([self.config.seed, 1, 2])
        start_well(self.model, self.maker.batch(rng, 8, 256).pixels)
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    # --- one step -----------------------------------------------------------------------------

    def _rate(self) -> float:
        """Linear warm-up, then a cosine to nothing."""
        c = self.config
        rise = min(1.0, (self.step + 1) / c.warmup)
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self.step / c.steps)))

    def _mask_loss(
        self, logits: Tensor, iou: Tensor, target: Tensor, lone_click: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss of all four masks, and which of them to show: ``(N,)`` each.

        The single mask is always corrected, of the three only the best; after a lone click the
        best of the three is shown, else the single one.
        """
        up = functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        wanted = target.expand_as(up)
        losses = 10 * focal_loss(up, wanted) + dice_loss(up, wanted)  # (N, 4)
        true_iou = soft_iou(up, wanted)
        losses_iou = (iou - true_iou).abs()
        best = losses[:, 1:].argmin(dim=1) + 1
        rows = torch.arange(len(best))
        loss = losses[:, 0] + losses[rows, best] + losses_iou.mean(dim=1)
        by_guess = iou[:, 1:].argmax(dim=1) + 1
        return loss, torch.where(lone_click, by_guess, torch.zeros_like(best))

    def _batch_loss(
        self, batch: PromptBatch, rng: np.random.Generator
    ) -> tuple[Tensor, float, float]:
        model, config = self.model, self.config
        pixels = model.normalise(batch.pixels / 255)
        embed, high_res, _ = model.encode_pixels(pixels)
        wanted = functional.avg_pool2d(batch.targets, 2)
        h, w = embed.shape[-2:]
        room = model.config.field_px // 16 - np.array([h, w])
        offset = (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1)))

        owner = batch.owner
        objects = (embed[owner], [level[owner] for level in high_res])
        points, signs = first_prompts(batch.targets, rng, box_share=config.box_share)
        lone_click = signs[:, 1] == -1
        rows = torch.arange(len(owner))
        rounds = 1 + int(rng.integers(config.corrections + 1))
        loss, fed_back, ious = embed.new_zeros(()), None, []
        for n in range(rounds):
            logits, iou = model.decode_tensors(*objects, points, signs, fed_back, window_yx=offset)
            logits, iou = logits.float(), iou.float()
            lone = lone_click if n == 0 else torch.zeros_like(lone_click)
            each, shown = self._mask_loss(logits, iou, wanted, lone)
            loss = loss + each.mean() / rounds
            picked = logits[rows, shown][:, None]
            small = functional.avg_pool2d(wanted, 2)[:, 0]
            ious.append(float(soft_iou(picked[:, 0], small).mean()))
            if n + 1 < rounds:
                fed_back = picked.detach().clamp(-LOGIT_CLAMP, LOGIT_CLAMP)
                more, more_signs = corrections(batch.targets, picked, rng)
                points, signs = torch.cat([points, more], 1), torch.cat([signs, more_signs], 1)
        loss = loss + config.foreground_weight * self._foreground_loss(high_res[1], batch)
        return loss, ious[0], ious[-1]

    def _foreground_loss(self, features: Tensor, batch: PromptBatch) -> Tensor:
        """Each data set's foreground from the stride-8 features, on its own patches."""
        rows = torch.arange(len(batch.source))
        logits = self.foreground(features).float()[rows, batch.source]
        target = functional.avg_pool2d(batch.foreground, 8)[:, 0]
        cross = functional.binary_cross_entropy_with_logits(logits, target)
        return cross + dice_loss(logits, target).mean()

    def train_step(self) -> tuple[float, float, float]:
        """One optimiser step; loss, IoU after the first prompt, IoU after the last."""
        config, model = self.config, self.model
        rng = np.random.default_rng([config.seed, self.step])
        sizes = list(config.patch_px)
        shares = np.array([config.patch_shares[s] for s in sizes])
        patch_px = sizes[int(rng.choice(len(sizes), p=shares / shares.sum()))]
        batch = self.maker.batch(rng, config.patch_px[patch_px], patch_px)
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * self._rate()
        model.train()
        with mixed_precision(model.device, wanted=config.mixed_precision):
            loss, first, last = self._batch_loss(batch, rng)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return float(loss.detach()), first, last

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of the weights, short at the start."""
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)

    # --- stopping and going on ------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Everything a later :meth:`resume` needs, written whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "foreground": self.foreground.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        save_state(path, state, self.run)

    def resume(self, path: Path) -> None:
        """Go on from :meth:`save`; a resumed run takes the same steps as one never stopped.

        Raises
        ------
        BadFileError
            It is no saved state, or one of another run.
        """
        state = saved_state(path, self.run)
        try:
            self.model.load_state_dict(state["model"])
            self.foreground.load_state_dict(state["foreground"])
            self.average = state["average"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = int(state["step"])
        except NOT_A_STATE as error:
            raise not_resumed(path, str(error)) from error


def fit_prompts(
    model: Sam2,
    images: Sequence[LabelledImage],
    config: PromptTrainConfig,
    *,
    resume: Path | None = None,
    base: Sequence[str] = (),
) -> Iterator[PromptReport]:
    """Train ``model`` in place; at the end it holds the averaged weights.

    Yields a report now and then; after each of them the state is saved to ``resume`` where given.
    ``base`` holds the checksums of the weights the model was made from.
    """
    trainer = PromptTrainer(model, images, config, base)
    if resume is not None and resume.exists():
        trainer.resume(resume)
    elif config.from_scratch:
        trainer.start_well()
    for (loss, first, last), left in in_turns(trainer, config.steps, config.report_every, resume):
        yield PromptReport(trainer.step, config.steps, loss, first, last, left)
    model.load_state_dict(trainer.average)
    model.eval()
