"""The KAN layer: on every edge a learned function of one variable, instead of a weight.

``y_j = Σ_i [ w_ji · SiLU(x_i) + Σ_b c_jib · B_b(x_i) ]``. The basis ``B`` is B-splines on uniform
knots or Gaussian bumps. Sources: Liu et al., KAN (2024), arXiv 2404.19756 (formula 2.10, splines on
a SiLU base); Li, FastKAN (2024), arXiv 2405.06721 (Gaussian bumps, layer norm before them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional


class KanConfig(BaseModel):
    """Which functions the edges of a KAN may be.

    ``grid`` intervals on ``reach``; ``order`` is that of the splines (3: cubic). Both bases have
    ``grid + order`` functions. With ``normalise`` the input is brought to mean 0 and deviation 1
    over its channels first, so that it stays on the grid. ``base`` adds the SiLU path.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    basis: Literal["bspline", "rbf"] = "bspline"
    grid: Annotated[int, Field(ge=1, le=64)] = 6
    order: Annotated[int, Field(ge=1, le=5)] = 3
    reach: tuple[float, float] = (-3.0, 3.0)
    normalise: bool = True
    base: bool = True
    noise: Annotated[float, Field(ge=0, le=1)] = 0.1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.reach
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"the grid must reach from a lower to a higher number, not {low}, {high}"
            )
        return self

    @property
    def n_functions(self) -> int:
        return self.grid + self.order


def bspline_basis(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """All B-splines of an order at ``x``: ``(…,)`` → ``(…, len(knots) − order − 1)``.

    Cox-de Boor recursion on uniform knots. Inside the grid they sum to 1, outside the knots all
    are 0.
    """
    x = x[..., None]
    values = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for k in range(1, order + 1):
        width = k * (knots[1] - knots[0])
        rising = (x - knots[: -(k + 1)]) / width
        falling = (knots[k + 1 :] - x) / width
        values = rising * values[..., :-1] + falling * values[..., 1:]
    return values


def rbf_basis(x: Tensor, centres: Tensor) -> Tensor:
    """Gaussian bumps, as wide as they are apart: ``(…,)`` → ``(…, len(centres))``."""
    return torch.exp(-(((x[..., None] - centres) / (centres[1] - centres[0])) ** 2))


class KanLinear(nn.Module):
    """``(…, n_in)`` → ``(…, n_out)``, always in float32: half precision spoils the bases."""

    knots: Tensor

    def __init__(self, n_in: int, n_out: int, config: KanConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or KanConfig()
        self.n_in, self.n_out = n_in, n_out
        low, high = config.reach
        if config.basis == "bspline":
            step = (high - low) / config.grid
            knots = low + step * torch.arange(-config.order, config.grid + config.order + 1)
        else:
            knots = torch.linspace(low, high, config.n_functions)
        self.register_buffer("knots", knots, persistent=False)
        spread = config.noise / (config.grid * math.sqrt(n_in))
        self.coefficients = nn.Parameter(torch.randn(n_out, n_in, config.n_functions) * spread)
        self.base = nn.Linear(n_in, n_out, bias=False) if config.base else None

    def basis(self, x: Tensor) -> Tensor:
        """``(…,)`` → ``(…, n_functions)``."""
        if self.config.basis == "bspline":
            return bspline_basis(x, self.knots, self.config.order)
        return rbf_basis(x, self.knots)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.config.normalise:
                x = functional.layer_norm(x, (self.n_in,))
            y = self.basis(x).flatten(-2) @ self.coefficients.flatten(1).T
            return y if self.base is None else y + self.base(functional.silu(x))

    def regularity(self) -> tuple[Tensor, Tensor]:
        """L1 and entropy of the edges' mean absolute coefficients; both want few, clear edges.

        Source: Liu et al. (2024), section 2.5, on coefficients instead of activations, as
        efficient implementations do.
        """
        strength = self.coefficients.abs().mean(dim=-1)
        total = strength.sum()
        share = strength / total.clamp(min=1e-12)
        return total, -(share * share.clamp(min=1e-12).log()).sum()


class Kan(nn.Module):
    """KAN layers one after another: ``widths`` ``(256, 64, 32)`` are two layers."""

    def __init__(self, widths: Sequence[int], config: KanConfig | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(KanLinear(a, b, config) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def kan_layers(module: nn.Module) -> list[KanLinear]:
    """Every KAN layer in a module."""
    return [m for m in module.modules() if isinstance(m, KanLinear)]


def regulariser(module: nn.Module, *, l1: float, entropy: float) -> Tensor:
    """Weighted :meth:`KanLinear.regularity`, summed over the KAN layers in a module."""
    parts = [layer.regularity() for layer in kan_layers(module)]
    if not parts:
        return torch.zeros(())
    return torch.stack([l1 * total + entropy * spread for total, spread in parts]).sum()


@torch.no_grad()
def learned_activations(layer: KanLinear, *, points: int = 200) -> tuple[Tensor, Tensor]:
    """Each edge's learned function, for plotting.

    Returns
    -------
    x, y
        ``(points,)`` over the grid's reach, and ``(n_out, n_in, points)``. Where the layer
        normalises its input, ``x`` is the normalised one.
    """
    low, high = layer.config.reach
    # The last spline ends before the upper end of the grid.
    x = torch.linspace(low, high, points, device=layer.knots.device)
    y = torch.einsum("jib,pb->jip", layer.coefficients, layer.basis(x))
    if layer.base is not None:
        y = y + layer.base.weight[..., None] * functional.silu(x)
    return x, y
