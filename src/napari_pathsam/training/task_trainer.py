"""A task-specific network in training: what differs from a PathSam's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.training.class_data import thinned
from napari_pathsam.training.class_trainer import Batch, ClassTrainer, wants_objects
from napari_pathsam.training.losses import ClassSums, class_sums
from napari_pathsam.training.precision import mixed_precision


class TaskTrainer(ClassTrainer):
    """Trains a :class:`TaskModel`.

    Outputs of deep supervision count as further images of the batch. Batch norm's running
    statistics are averaged and kept with the weights. Dropout is drawn from the seed and the step.
    """

    model: TaskModel

    def _moving(self) -> dict[str, Tensor]:
        return moving_of(self.model, self.trained)

    def objective(self, items: Batch) -> Tensor:
        """Loss of a batch of which each process sees its share."""
        config, device = self.config, self.model.device
        mine = self.processes.share(items)
        with (
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            mixed_precision(device, wanted=config.mixed_precision),
        ):
            torch.manual_seed(config.seed * 1_000_003 + self.step)
            if wants_objects(self.model):
                return self._of_objects(mine)
            sums, presence = self._counted(mine)
        return self.loss_from(sums) + presence / self.processes.size

    def _counted(self, items: Batch) -> tuple[ClassSums, Tensor]:
        """What the loss is made of, and the loss of the classification-guided module."""
        model, loss, stride = self.model, self.config.loss, self.config.stride
        nothing = torch.zeros((), device=model.device)
        if not items:  # fewer patches than processes
            channels = len(model.classes) + 1 + (model.config.gap_um is not None)
            return ClassSums.of_nothing(channels, model.device), nothing
        embedding, target = self.features.batch(items)
        outputs, there = model.outputs(embedding)
        logits = thinned(torch.cat(outputs).float(), stride)
        thin = thinned(target, stride).repeat(len(outputs), 1, 1)
        no_guess = logits.new_zeros(logits.shape[:2])
        sums = class_sums(logits, no_guess, thin, gamma=loss.gamma, each_alone=loss.each_alone)
        if there is None:
            return sums, nothing
        return sums, functional.cross_entropy(there.float(), (target > 0).flatten(1).any(1).long())

    def _of_objects(self, items: Batch) -> Tensor:
        """Of the objects in these patches; the mean over the processes."""
        from napari_pathsam.models.mask_rcnn import ObjectTargets

        if not items:
            return torch.zeros((), device=self.model.device)
        embedding, target = self.features.batch(items)
        told = target.cpu().numpy()  # (B, 2, P, P): channel numbers, ids of objects
        objects = [ObjectTargets.of(ids, channels) for channels, ids in told]
        network: Any = self.model.network
        loss: Tensor = network.losses(*self.model.seen(embedding), objects)
        return loss / self.processes.size


def moving_of(model: nn.Module, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What changes in training: what is trained, and the running statistics of its batch norms."""
    moving = dict(trained)
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in trained:
            moving |= {f"{name}.{n}": t for n, t in module.named_buffers() if t.ndim}
    return moving


def trainer_of(model: Any) -> type[ClassTrainer]:
    """What trains a model with classes."""
    return TaskTrainer if isinstance(model, TaskModel) else ClassTrainer
