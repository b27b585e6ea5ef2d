"""Where next: unsure and unlike what is known; never where somebody painted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.suggestions import Window, Windows
from napari_pathsam.inference.uncertainty import where_next
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
    whole = [(Region.of(slide.shape_yx), labels)]
    *_, painted = where_next(tiny_pathsam, slide, mpp=0.5, n=3, painted=whole)
    assert all(s.region != best for s in painted.suggestions)
    part = [(best, labels[best.slices])]
    *_, again = where_next(tiny_pathsam, slide, mpp=0.5, n=3, painted=part)
    assert again.suggestions == painted.suggestions


def test_no_place_comes_twice_where_tiles_overlap(tiny_pathsam: PathSam, slide: ArraySlide) -> None:
    *_, last = where_next(tiny_pathsam, slide, mpp=0.5, n=1000)
    seen = np.zeros(slide.shape_yx, int)
    for s in last.suggestions:
        seen[s.region.slices] += 1
    assert len(last.suggestions) > 1
    assert seen.max() == 1


GRID = WorkingGrid((240, 600_000), (240, 600_000), 4.0, 64, False)
NAMES = ("background", "gland", "stroma")


def suggested(
    features: ArrayLike,
    unsure: ArrayLike,
    painted: NDArray | None = None,
    n: int = 2,
    most: int = 10**6,
) -> list[int]:
    """Which windows, side by side, are suggested."""
    features = np.asarray(features, np.float32)
    known = np.zeros(len(features)) if painted is None else painted
    windows = Windows(most)
    windows.add(
        Window(Region(0, 24 * i, 24, 24), u, k, f, np.array([0.5, 0.4, 0.1]))
        for i, (f, u, k) in enumerate(zip(features, np.asarray(unsure), known, strict=True))
    )
    found = windows.best(GRID, Region(0, 0, 240, 600_000), NAMES, n)
    assert all(s.classes == ("background", "gland") for s in found)
    return [s.region.x // 96 for s in found]


def test_suggestions_are_of_different_kinds() -> None:
    # The second is nearly the first again; the third is something else.
    assert suggested([[1.0, 0.0], [0.999, 0.04], [0.0, 1.0]], [0.9, 0.8, 0.5]) == [0, 2]


def test_coverage_first_and_doubt_later() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    kind = np.repeat([0, 1, 2], [20, 8, 5])  # the last is the rarest, and the most unsure
    features = centres[kind] + rng.normal(0, 0.1, (33, 2))
    unsure = np.array([0.1, 0.1, 0.9])[kind]
    assert [kind[i] for i in suggested(features, unsure, n=3)] == [0, 1, 2]
    # With most of the common kinds painted, what is left of them is no news.
    painted = np.where((kind < 2) & (rng.random(33) < 0.8), 0.1, 0.0)
    assert kind[suggested(features, unsure, painted, n=1)[0]] == 2
    # Two kinds of the same size that nobody painted: a model of many strokes is asked which.
    even = np.repeat([0, 1, 2], [9, 12, 12])
    features = centres[even] + rng.normal(0, 0.1, (33, 2))
    painted = np.where(even == 0, 0.1, 0.0)
    for doubted in (1, 2):
        unsure = np.where(even == doubted, 0.5, 0.1)
        assert even[suggested(features, unsure, painted, n=1)[0]] == doubted


def test_a_touched_window_is_not_suggested_again() -> None:
    features = np.random.default_rng(1).normal(size=(40, 5))
    painted = np.where(np.arange(40) % 2, 0.03, 0.0)
    found = suggested(features, np.full(40, 0.5), painted, n=40)
    assert found
    assert all(i % 2 == 0 for i in found)
    assert len(set(found)) == len(found)


def test_thousands_of_windows_of_a_slide() -> None:
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 4, 6000)
    features = np.eye(4)[kind] + rng.normal(0, 0.01, (6000, 4))
    found = suggested(features, np.full(6000, 0.5), n=4)
    assert sorted(kind[found]) == [0, 1, 2, 3]
    assert suggested(features, np.full(6000, 0.5), n=4) == found
    glass = np.zeros((6000, 4))  # and nearly all of it one kind
    glass[::100] = np.eye(4)[kind[::100]]
    found = suggested(glass, np.full(6000, 0.5), n=5)
    assert {tuple(glass[i]) for i in found} == {(0, 0, 0, 0), *map(tuple, np.eye(4))}
