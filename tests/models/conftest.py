"""Upstream's own SAM 2.1 tiny with random weights: the reference for layout and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base


@pytest.fixture(scope="session")
def upstream_tiny() -> SAM2Base:
    """As Meta builds it, dynamic choice of the single mask included."""
    import torch
    from sam2.build_sam import build_sam2

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu", mode="eval")


@pytest.fixture(scope="session")
def tiny_checkpoint(upstream_tiny: SAM2Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of exactly Meta's layout, 156 MB."""
    import torch

    path = tmp_path_factory.mktemp("meta") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": upstream_tiny.state_dict()}, path)
    return path
