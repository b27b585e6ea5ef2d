"""Where next: unsure and unlike what is known; never where somebody painted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.uncertainty import _ranked, _Window, where_next
from napari_pathsam.inference.working_grid import WorkingGrid
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam


@pytest.fixture
def slide() -> ArraySlide:
    coarse = np.random.default_rng(0).integers(0, 255, (10, 16, 3), np.uint8)
    return ArraySlide(coarse.repeat(24, 0).repeat(24, 1), mpp=0.5, name="blocks")


def test_every_tile_tells_and_suggestions_lie_in_the_region(
    tiny_pathsam: PathSam, slide: ArraySlide
) -> None:
    region = Region(30, 40, 180, 300)
    seen = list(where_next(tiny_pathsam, slide, mpp=0.5, region=region, n=4))
    assert [s.done for s in seen] == list(range(1, seen[0].total + 1))
    assert seen[0].total > 1
    for one in seen:
        assert one.uncertainty.shape == one.cells.shape_yx
        assert 0 <= one.uncertainty.min() <= one.uncertainty.max() <= 1
    last = seen[-1].suggestions
    assert len(last) == 4
    assert [s.score for s in last] == sorted((s.score for s in last), reverse=True)
    for s in last:
        assert s.region.intersection(region) == s.region
        assert set(s.classes) <= {"background", "gland", "stroma"}
        assert s.classes[0] != s.classes[1]
    apart = {(s.region.y, s.region.x) for s in last}
    assert len(apart) == 4


def test_uncertainty_is_entropy(tiny_pathsam: PathSam) -> None:
    image = np.random.default_rng(1).integers(0, 255, (96, 96, 3), np.uint8)
    cache = EmbeddingCache()
    (seen,) = where_next(tiny_pathsam, ArraySlide(image), mpp=0.5, cache=cache)
    p = tiny_pathsam.decode_classes(tiny_pathsam.encode(image)).logits.softmax(0)
    entropy = -(p * p.log()).sum(0) / np.log(3)
    np.testing.assert_allclose(seen.uncertainty, entropy.numpy(), atol=0.02)


def test_what_is_painted_is_not_suggested(tiny_pathsam: PathSam, slide: ArraySlide) -> None:
    *_, free = where_next(tiny_pathsam, slide, mpp=0.5, n=3)
    best = free.suggestions[0].region
    labels = np.zeros(slide.shape_yx, np.uint8)
    labels[best.slices] = 1
    *_, painted = where_next(tiny_pathsam, slide, mpp=0.5, n=3, labels=labels)
    assert all(s.region != best for s in painted.suggestions)
    part = Region(best.y, best.x, best.height, best.width)
    *_, again = where_next(
        tiny_pathsam, slide, mpp=0.5, n=3, labels=labels[best.slices], labels_at=part
    )
    assert again.suggestions == painted.suggestions


def test_suggestions_are_of_different_kinds() -> None:
    grid = WorkingGrid((240, 240), (240, 240), 4.0, 64, False)
    kinds = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.999, 0.04], [0.0, 1.0]]))
    windows = [
        _Window(Region(0, 24 * i, 24, 24), u, 0.0, kinds[i].numpy(), np.array([0.5, 0.4, 0.1]))
        for i, u in enumerate((0.9, 0.8, 0.5))
    ]
    found = _ranked(windows, grid, Region(0, 0, 240, 240), ("background", "gland", "stroma"), 2)
    # The second is nearly the first again; the third is something else.
    assert [s.region.x for s in found] == [0, 192]
    assert found[0].classes == ("background", "gland")
