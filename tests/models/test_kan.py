"""The KAN layer: its bases, its precision, its gradients, what it learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from napari_pathsam.models.kan import (
    Kan,
    KanConfig,
    KanLinear,
    bspline_basis,
    kan_layers,
    learned_activations,
    rbf_basis,
    regulariser,
)

CONFIGS = [
    KanConfig(basis=basis, normalise=normalise, base=base)
    for basis in ("bspline", "rbf")
    for normalise in (True, False)
    for base in (True, False)
]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("grid", [1, 6])
def test_splines_add_up_to_one_inside_the_grid_and_are_those_of_scipy(order, grid):
    layer = KanLinear(1, 1, KanConfig(grid=grid, order=order, reach=(-2.0, 3.0)))
    x = torch.linspace(-2, 3 - 1e-4, 301)
    found = layer.basis(x)
    assert found.shape == (301, grid + order)
    assert torch.allclose(found.sum(dim=-1), torch.ones(301), atol=1e-5)
    assert (found >= -1e-6).all()
    assert layer.basis(torch.tensor([-50.0, 50.0])).abs().max() == 0
    wanted = BSpline.design_matrix(x.double().numpy(), layer.knots.double().numpy(), order)
    np.testing.assert_allclose(found.numpy(), wanted.toarray(), atol=1e-5)


def test_bumps_are_gaussians_one_spacing_wide():
    centres = torch.tensor([-1.0, 0.0, 1.0])
    found = rbf_basis(torch.tensor([0.5]), centres)
    assert torch.allclose(found[0], torch.exp(-torch.tensor([2.25, 0.25, 0.25])))
    layer = KanLinear(2, 3, KanConfig(basis="rbf", grid=5, order=3))
    assert layer.basis(torch.zeros(4, 2)).shape == (4, 2, 8)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_gradients_are_finite_far_outside(config, size):
    torch.manual_seed(0)
    kan = Kan((6, 5, 4), config)
    x = (size * torch.tensor([[1, -1, 1, -1, 0, 0.5], [1, 1, 1, 1, 1, 1]])).requires_grad_()
    kan(x).square().sum().backward()
    for gradient in (x.grad, *(p.grad for p in kan.parameters())):
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_stays_in_single_precision_under_autocast(config):
    torch.manual_seed(0)
    kan, x = Kan((16, 8, 4), config), torch.randn(3, 16)
    wanted = kan(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = kan(x)
        half = kan(x.bfloat16())
    assert found.dtype == half.dtype == torch.float32
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_learned_activations_add_up_to_the_output(config):
    """At each plotted x the output is the sum over the inputs of the edges' functions."""
    torch.manual_seed(0)
    layer = KanLinear(3, 2, config)
    x, y = learned_activations(layer, points=50)
    assert x.shape == (50,)
    assert y.shape == (2, 3, 50)
    assert (float(x[0]), float(x[-1])) == config.reach
    pick = torch.tensor([[4, 30, 17], [20, 21, 49]])
    given = x[pick]  # (2, 3)
    if config.normalise:  # what is plotted is the function of the normalised input
        layer.config = config.model_copy(update={"normalise": False})
    found = layer(given)
    wanted = torch.stack([sum(y[:, i, row[i]] for i in range(3)) for row in pick])
    assert torch.allclose(found, wanted, atol=1e-5)


def test_normalising_keeps_the_scale_of_the_input_out():
    torch.manual_seed(0)
    layer, x = KanLinear(8, 2, KanConfig()), torch.randn(4, 8)
    assert torch.allclose(layer(x), layer(100 * x + 7), atol=1e-3)
    plain = KanLinear(8, 2, KanConfig(normalise=False))
    assert not torch.allclose(plain(x), plain(100 * x + 7), atol=1e-3)


def test_it_learns_a_function_of_each_input():
    torch.manual_seed(0)
    kan = KanLinear(2, 1, KanConfig(normalise=False))
    x = torch.rand(200, 2) * 4 - 2
    y = torch.sin(2 * x[:, :1]) + x[:, 1:].abs()
    optimizer = torch.optim.Adam(kan.parameters(), lr=0.1)
    for _ in range(80):
        optimizer.zero_grad()
        loss = (kan(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.02 * float(y.var())


def test_regulariser_by_hand():
    layer = KanLinear(2, 1, KanConfig(grid=1, order=1, base=False))
    with torch.no_grad():
        layer.coefficients.copy_(torch.tensor([[[1.0, -3.0], [0.0, 2.0]]]))
    # Mean absolute values 2 and 1: shares 2/3 and 1/3.
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert regulariser(layer, l1=1, entropy=0).item() == pytest.approx(3)
    assert regulariser(layer, l1=0.5, entropy=2).item() == pytest.approx(1.5 + 2 * entropy)
    regulariser(layer, l1=1, entropy=1).backward()
    assert layer.coefficients.grad.isfinite().all()
    assert float(regulariser(torch.nn.Linear(2, 2), l1=1, entropy=1)) == 0
    assert len(kan_layers(Kan((4, 3, 2)))) == 2


def test_a_grid_must_reach_somewhere():
    for reach in ((1.0, 1.0), (2.0, -2.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match="from a lower to a higher"):
            KanConfig(reach=reach)


def test_basis_of_a_shape():
    knots = torch.arange(-3.0, 8)
    assert bspline_basis(torch.zeros(2, 5, 3), knots, 3).shape == (2, 5, 3, 7)
