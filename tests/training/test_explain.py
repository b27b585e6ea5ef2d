"""Explaining a class: the patterns add up to the map, the strongest come first."""

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


def test_the_patterns_add_up_to_the_logits(tiny_pathsam: PathSam, embedding) -> None:
    found = explain(tiny_pathsam, embedding, 2, n=10_000)
    assert found.class_name == "stroma"
    with torch.no_grad():
        logits, _ = tiny_pathsam.class_logits(embedding)
    whole = sum(p.map for p in found.patterns)
    np.testing.assert_allclose(whole, logits[0, 2].numpy(), atol=1e-4)
    shares = [p.share for p in found.patterns]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)  # of one thing, so that they can be compared
    spread = [p.map.std() for p in found.patterns]
    np.testing.assert_allclose(shares, np.array(spread) / sum(spread), rtol=0.01)
    assert "100 %" in found.text


def test_it_is_said_how_much_the_shown_ones_cover(tiny_pathsam: PathSam, embedding) -> None:
    every = explain(tiny_pathsam, embedding, 1, n=10_000)
    found = explain(tiny_pathsam, embedding, 1, n=2)
    assert found.n == len(every.patterns) > 2
    covered = sum(p.share for p in every.patterns[:2])
    assert f"the 2 that do most: together {100 * covered:.0f} %" in found.text
    assert f"by {found.n} patterns" in found.text
    for words in ("edge", "token", "first order"):
        assert words not in found.text
    assert "no proof" in found.text
    assert "“gland”" in found.text


def test_a_curve_passes_through_where_it_stands(tiny_pathsam: PathSam, embedding) -> None:
    found = explain(tiny_pathsam, embedding, 1)
    for p in found.patterns:
        if p.x[0] <= p.at <= p.x[-1]:
            assert np.interp(p.at, p.x, p.y) == pytest.approx(p.value, abs=0.02)


def test_an_mlp_has_nothing_to_explain(tiny_pathsam: PathSam, tiny_model, embedding) -> None:
    config = tiny_pathsam.config.model_copy(update={"head": "mlp"})
    model = PathSam(config, tiny_model, tiny_pathsam.classes).eval()
    with pytest.raises(BadWeightsError, match="no KAN to explain"):
        explain(model, embedding, 1)


def test_a_class_the_model_does_not_know_is_no_riddle(tiny_pathsam: PathSam, embedding) -> None:
    with pytest.raises(BadWeightsError, match="has no such class"):
        explain(tiny_pathsam, embedding, 77)
