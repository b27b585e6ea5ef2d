"""Where next on what is too large to be held at once: tissue alone, a bit of everything first."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.suggestions import WINDOW_CELLS, Window, Windows
from napari_pathsam.inference.uncertainty import Seen, where_next
from napari_pathsam.inference.working_grid import WorkingGrid
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam

SHAPE = (640, 960)
TISSUE = Region(0, 0, 640, 300), Region(400, 700, 240, 260)
VIEW = Region(560, 20, 40, 40)


@pytest.fixture(scope="module")
def slide() -> ArraySlide:
    """Two pieces of tissue on glass."""
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=(*SHAPE, 3)), (6, 6, 0)) * 500
    image = np.full((*SHAPE, 3), 243, np.uint8)
    for piece in TISSUE:
        pink = np.clip(smooth[piece.slices] + np.array([190, 110, 170]), 0, 235)
        image[piece.slices] = pink.astype(np.uint8)
    return ArraySlide(image, mpp=0.5, name="two pieces")


@pytest.fixture(autouse=True)
def _nothing_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pathsam.inference.class_maps.LARGEST_PX", 100 * 100)
    monkeypatch.setattr("napari_pathsam.inference.tissue.OVERVIEW_UM", 2.0)  # it is no slide


@pytest.fixture
def seen(tiny_pathsam: PathSam, slide: ArraySlide) -> list[Seen]:
    return [*where_next(tiny_pathsam, slide, mpp=0.5, first=VIEW, n=4)]


def test_all_tissue_is_looked_at_and_glass_is_not(seen: list[Seen]) -> None:
    assert [s.done for s in seen] == [*range(1, seen[0].total + 1)]
    looked_at = np.zeros(SHAPE, bool)
    for one in seen:
        assert one.tissue
        looked_at[one.region.slices] = True
    for piece in TISSUE:
        assert looked_at[piece.slices].all()
    assert not looked_at[:280, 420:].any()
    assert len(seen[-1].suggestions) == 4
    for s in seen[-1].suggestions:
        both = [piece.intersection(s.region) for piece in TISSUE]
        assert sum(b.height * b.width for b in both if b) > 0.4 * s.region.height * s.region.width


def test_the_share_is_that_of_the_tissues_pixels(seen: list[Seen]) -> None:
    tissue, looked_at = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    for piece in TISSUE:
        tissue[piece.slices] = True
    for one in seen:
        looked_at[one.region.slices] = True
        assert one.share == pytest.approx((tissue & looked_at).sum() / tissue.sum(), abs=0.05)
    assert seen[-1].share == 1
    assert seen[0].share < 0.2


def test_the_view_comes_first_and_soon_some_of_everything(seen: list[Seen]) -> None:
    assert seen[0].region.intersection(VIEW) == VIEW
    in_view = [one.region.intersection(VIEW) is not None for one in seen]
    assert in_view == sorted(in_view, reverse=True)
    after = seen[sum(in_view) : sum(in_view) + 2]
    assert {TISSUE[1].intersection(one.region) is not None for one in after} == {True, False}
    tissue = np.zeros(SHAPE, bool)
    for piece in TISSUE:
        tissue[piece.slices] = True
    full = [tissue[one.region.slices].mean() > 0.6 for one in after]
    scarce = [tissue[one.region.slices].mean() < 0.4 for one in seen[-3:]]
    assert all(full)
    assert all(scarce)


def test_with_all_in_view_margins_come_last(tiny_pathsam: PathSam, slide: ArraySlide) -> None:
    seen = [*where_next(tiny_pathsam, slide, mpp=0.5, first=Region.of(SHAPE))]
    tissue = np.zeros(SHAPE, bool)
    for piece in TISSUE:
        tissue[piece.slices] = True
    share = [tissue[one.region.slices].mean() for one in seen]
    n = sum(part > 0.6 for part in share)
    assert min(share[:n]) > 0.4
    assert max(share[-3:]) < 0.4


def test_what_is_painted_comes_after_the_view(tiny_pathsam: PathSam, slide: ArraySlide) -> None:
    stroke = Region(20, 150, 8, 8)
    labels = [(stroke, np.ones(stroke.shape_yx, np.uint8))]
    seen = where_next(tiny_pathsam, slide, mpp=0.5, first=VIEW, painted=labels)
    rank = [
        0 if one.region.intersection(VIEW) else 1 if one.region.intersection(stroke) else 2
        for one in seen
    ]
    assert rank == sorted(rank)
    assert set(rank) == {0, 1, 2}


def test_with_no_tissue_everything_is_looked_at(tiny_pathsam: PathSam) -> None:
    glass = ArraySlide(np.full((*SHAPE, 3), 243, np.uint8), mpp=0.5)
    seen = [*where_next(tiny_pathsam, glass, mpp=0.5)]
    assert not seen[0].tissue
    assert seen[-1].share == 1
    looked_at = np.zeros(SHAPE, bool)
    for one in seen:
        looked_at[one.region.slices] = True
    assert looked_at.all()


def test_a_slide_does_not_push_all_else_out_of_the_cache(
    tiny_pathsam: PathSam, slide: ArraySlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_pathsam.inference.uncertainty.CACHED_TILES", 3)
    cache, asked = EmbeddingCache(), []
    keep = cache.get_or_encode
    monkeypatch.setattr(
        cache, "get_or_encode", lambda key, *a, **k: asked.append(key) or keep(key, *a, **k)
    )
    *_, last = where_next(tiny_pathsam, slide, mpp=0.5, cache=cache)
    assert len(set(asked)) == 3 < last.total


def test_a_pixel_size_that_cannot_be_is_refused(tiny_pathsam: PathSam) -> None:
    class Huge:
        name, shape_yx = "huge", (100_000, 100_000)

    with pytest.raises(BadImageError, match="no slide"):
        next(where_next(tiny_pathsam, Huge(), mpp=500.0))


GRID = WorkingGrid((9_600, 9_600), (9_600, 9_600), 4.0, 64, False)
NAMES = ("background", "gland", "stroma")


def windows_of(kind: np.ndarray, painted: np.ndarray) -> list[Window]:
    """As many, of three kinds."""
    side = WINDOW_CELLS
    return [
        Window(Region(side * i, side * j, side, side), 0.5, float(painted[i, j]),
               np.eye(3, dtype=np.float32)[kind[i, j]], np.array([0.5, 0.3, 0.2], np.float32))
        for i, j in np.ndindex(*kind.shape)
    ]  # fmt: skip


def test_of_many_windows_an_even_sample_says_the_same() -> None:
    kind = np.zeros((100, 97), int)
    kind[:, 55:85], kind[:, 85:] = 1, 2
    painted = np.zeros(kind.shape)
    painted[:4, 85:] = 0.5
    everything, sample = Windows(10**6), Windows(700)
    for start in range(0, kind.size, 500):
        some = windows_of(kind, painted)[start : start + 500]
        everything.add(iter(some))
        sample.add(iter(some))
        assert sum(not w.painted for w in sample) <= 700
    assert sum(w.painted > 0 for w in sample) == 48
    places = np.array([(w.cells.y, w.cells.x) for w in sample if not w.painted]) // WINDOW_CELLS
    counts, *_ = np.histogram2d(*places.T, bins=4, range=[(0, 100)] * 2)
    assert counts.min() > 0.6 * counts.max()  # from everywhere
    region = Region.of(GRID.shape_yx)
    for one, other in zip(
        everything.best(GRID, region, NAMES, 3), sample.best(GRID, region, NAMES, 3), strict=True
    ):
        place = [r.x // (4 * WINDOW_CELLS) for r in (one.region, other.region)]
        assert kind[0, place[0]] == kind[0, place[1]]
        assert one.score == pytest.approx(other.score, abs=0.03)
