"""Several processes that train one model: each takes its share of every batch.

Everything is added up before anything is divided: the counts of the loss on the way forward, the
gradients on the way back. So the steps are those of one process, but for rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from napari_pathsam.core.errors import UnavailableError

T = TypeVar("T")


class _Summed(torch.autograd.Function):
    """Sum over processes. Each goes on to the same loss, so its own gradient is the whole one."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is; alone by default."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and tells."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of this process of something that all of them know."""
        return items[self.rank :: self.size]

    def summed(self, value: Tensor) -> Tensor:
        """Sum of a tensor over the processes, to be used by all in the same way.

        Differentiable: gradients of what each one gave, to be added by :meth:`add_gradients`.
        """
        if self.size == 1:
            return value
        total: Tensor = _Summed.apply(value)
        return total

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over the processes; one that has none counts as 0."""
        if self.size == 1:
            return
        owned = list(parameters)
        each = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in owned]
        flat = torch.cat([g.flatten() for g in each])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [p.numel() for p in owned])
        for parameter, part in zip(owned, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Processes()


@contextmanager
def from_torchrun(device: str = "cpu") -> Iterator[Processes]:
    """The processes that ``torchrun`` started, connected while the context lasts.

    With ``device="cuda"`` each one takes the GPU of its number and they talk over NCCL, else Gloo.

    Raises
    ------
    UnavailableError
        ``torchrun`` did not start this process.
    """
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= set(os.environ):
        raise UnavailableError(
            "Training on several GPUs or machines is started by torchrun, which says how many "
            "processes there are: torchrun --nproc-per-node=2 -m napari_pathsam train … "
            "--distributed. For one process leave out --distributed."
        )
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
