"""Mask R-CNN: objects one by one, each pixel given to one of them.

Source: He et al., Mask R-CNN (2017), arXiv 1703.06870, as torchvision has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from napari_pathsam.models.task_config import MaskRcnnConfig

SURE = 1e-4
"""Mask probabilities are kept this far from 0 and 1, so that their logits are finite."""


@dataclass(frozen=True)
class ObjectTargets:
    """The objects of one image.

    ``boxes`` ``(n, 4)`` x0, y0, x1, y1; ``labels`` ``(n,)`` channel numbers from 1; ``masks``
    ``(n, H, W)`` uint8.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor

    @classmethod
    def of(cls, objects: NDArray[np.integer], channels: NDArray[np.integer]) -> ObjectTargets:
        """From ids ``(H, W)`` and channel numbers ``(H, W)``; slivers that have no box are left."""
        boxes, labels, masks = [], [], []
        for label in np.unique(objects[objects > 0]):
            mask = (objects == label) & (channels > 0)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows) < 2 or len(columns) < 2:
                continue
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            labels.append(int(np.bincount(channels[mask]).argmax()))
            masks.append(mask)
        shape = (len(masks), *objects.shape)
        return cls(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(labels, dtype=torch.int64),
            torch.from_numpy(np.array(masks, np.uint8).reshape(shape)),
        )

    def to(self, device: torch.device) -> dict[str, Tensor]:
        """As torchvision wants them."""
        return {
            "boxes": self.boxes.to(device),
            "labels": self.labels.to(device),
            "masks": self.masks.to(device),
        }


@dataclass(frozen=True)
class FoundObjects:
    """Objects of one image, best first.

    ``scores`` ``(n,)``, ``classes`` ``(n,)`` (channel numbers from 1), ``masks`` ``(n, H, W)``
    probabilities.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor

    def owned(self) -> Tensor:
        """``(H, W)`` int64: which object each pixel belongs to, from 1; 0: none.

        The one whose score times mask probability is highest, of those whose mask holds the pixel.
        """
        if not len(self.scores):
            return torch.zeros(self.masks.shape[-2:], dtype=torch.int64, device=self.masks.device)
        strength = self.masks * self.scores[:, None, None] * (self.masks >= 0.5)
        best, index = strength.max(dim=0)
        return torch.where(best > 0, index + 1, 0)

    def logits(self, n_classes: int, *, union: bool) -> Tensor:
        """``(n_classes, H, W)``: of each pixel's object; with ``union`` the largest of any mask."""
        shape = (n_classes, *self.masks.shape[-2:])
        sure = torch.zeros(shape, device=self.masks.device)
        masks = self.masks
        if not union:
            owner = self.owned()
            mine = torch.arange(1, len(masks) + 1, device=masks.device)[:, None, None] == owner
            masks = torch.where((owner == 0) | mine, masks, 0)
        for mask, label in zip(masks, self.classes.tolist(), strict=True):
            sure[label - 1] = torch.maximum(sure[label - 1], mask)
        return sure.clamp(SURE, 1 - SURE).logit()


class AsTheyAre(GeneralizedRCNNTransform):
    """torchvision's way of making a batch, without resizing."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """The image as it is."""
        return image, target


class MaskRcnn(nn.Module):
    """Normalised ``(B, 3, H, W)`` → objects; in training, from :class:`ObjectTargets`, losses."""

    def __init__(self, config: MaskRcnnConfig, n_classes: int) -> None:
        super().__init__()
        self.config = config
        norm = FrozenBatchNorm2d if config.frozen_norm else nn.BatchNorm2d
        backbone = resnet_fpn_backbone(
            backbone_name=config.trunk, weights=None, norm_layer=norm, trainable_layers=5
        )
        sizes = tuple((side,) for side in config.anchors_px)
        self.rcnn = MaskRCNN(
            backbone,
            num_classes=n_classes + 1,
            rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
            box_batch_size_per_image=config.rois,
            box_score_thresh=config.score,
            box_nms_thresh=config.box_nms,
            box_detections_per_img=config.most,
        )
        shorter, longest = config.resize or (1, 1)
        kind = AsTheyAre if config.resize is None else GeneralizedRCNNTransform
        self.rcnn.transform = kind(shorter, longest, [0.0] * 3, [1.0] * 3)  # normalised before

    def losses(self, pixels: Tensor, targets: Sequence[ObjectTargets]) -> Tensor:
        """The sum of torchvision's five losses over a batch."""
        found = self.rcnn(list(pixels), [one.to(pixels.device) for one in targets])
        return torch.stack(list(found.values())).sum()

    def find(self, pixels: Tensor) -> list[FoundObjects]:
        """The objects of each image."""
        found = self.rcnn(list(pixels))
        return [FoundObjects(one["scores"], one["labels"], one["masks"][:, 0]) for one in found]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Class logits ``(B, K, H, W)`` of what was found, as the other networks answer."""
        union = self.config.merge == "union"
        n = self.rcnn.roi_heads.box_predictor.cls_score.out_features - 1
        return [torch.stack([one.logits(n, union=union) for one in self.find(pixels)])]
