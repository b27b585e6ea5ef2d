"""Explaining a class: the edges add up to the map, the strongest come first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.training.explain import explain


@pytest.fixture
def embedding(tiny_pathsam: PathSam):
    image = np.random.default_rng(3).integers(0, 255, (96, 128, 3), np.uint8)
    return tiny_pathsam.encode(image)


def test_the_last_layers_edges_add_up_to_the_logits(tiny_pathsam: PathSam, embedding) -> None:
    found = explain(tiny_pathsam, embedding, 2, n=10_000)
    assert found.class_name == "stroma"
    last = max(a.layer for a in found.activations)
    whole = sum(a.map for a in found.activations if a.layer == last)
    with torch.no_grad():
        logits, _ = tiny_pathsam.class_logits(embedding)
    np.testing.assert_allclose(whole, logits[0, 2].numpy(), atol=1e-4)
    for layer in range(last + 1):
        shares = [a.share for a in found.activations if a.layer == layer]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
    shares = [a.share for a in found.activations]
    assert shares == sorted(shares, reverse=True)


def test_a_curve_passes_through_where_the_edge_stands(tiny_pathsam: PathSam, embedding) -> None:
    found = explain(tiny_pathsam, embedding, 1, n=8)
    assert len(found.activations) == 8
    for a in found.activations:
        if a.x[0] <= a.at <= a.x[-1]:
            assert np.interp(a.at, a.x, a.y) == pytest.approx(a.value, abs=0.02)
    assert "no proof" in found.text
    assert "“gland”" in found.text


def test_an_mlp_has_nothing_to_explain(tiny_pathsam: PathSam, tiny_model, embedding) -> None:
    config = tiny_pathsam.config.model_copy(update={"head": "mlp"})
    model = PathSam(config, tiny_model, tiny_pathsam.classes).eval()
    with pytest.raises(BadWeightsError, match="no KAN to explain"):
        explain(model, embedding, 1)


def test_a_class_the_model_does_not_know_is_no_riddle(tiny_pathsam: PathSam, embedding) -> None:
    with pytest.raises(BadWeightsError, match="has no such class"):
        explain(tiny_pathsam, embedding, 77)
