"""Tiles blended to class maps: no seams, no order, any pixel size, readable refusals."""

from __future__ import annotations

import gc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.errors import BadImageError, BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import plan_tiles
from napari_pathsam.inference.blending import Blend
from napari_pathsam.inference.class_maps import (
    ClassTile,
    PixelSizeWarning,
    SegmentSettings,
    filled_up,
    finish,
    paint,
    plan_segmenting,
    segment_classes,
    segment_tiles,
    unfinished,
)
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.inference.working_grid import RegionWarning, WorkingGrid, at_home
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.sam2 import Sam2


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    """Blobs of colours, 200 × 220: with tiles of 128 px a grid of 2 × 2."""
    smooth = ndimage.gaussian_filter(rng.normal(size=(200, 220, 3)), (6, 6, 0))
    return np.clip(smooth * 900 + 128, 0, 255).astype(np.uint8)


def whole(tiles: list[ClassTile], shape: tuple[int, int]) -> np.ndarray:
    """The tiles painted one after the other; 254 where there was none."""
    out = np.full(shape, 254, np.uint8)
    for tile in tiles:
        paint(out, Region.of(shape), tile)
    return out


def test_one_field_is_the_models_own_answer(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    field = image[:128, :96]
    logits = tiny_pathsam.decode_classes(tiny_pathsam.encode(field))
    expected = logits.class_map()
    found = segment_classes(tiny_pathsam, field, mpp=0.5)
    assert len(np.unique(expected)) > 1
    assert (found == expected).mean() > 0.999  # the embedding was rounded to half precision


def test_tiles_come_as_they_are_done_and_cover_everything(
    tiny_pathsam: PathSam, image: np.ndarray
) -> None:
    view = Region(150, 160, 40, 40)
    tiles = list(segment_tiles(tiny_pathsam, ArraySlide(image), mpp=0.5, first=view))
    assert [t.done for t in tiles] == [1, 2, 3, 4]
    assert {t.total for t in tiles} == {4}
    assert tiles[0].region.contains(170, 180)
    assert all(t.encoded and t.warning is None and t.probabilities is None for t in tiles)
    assert tiles[-1].seconds_left == 0 < tiles[0].seconds_left
    assert set(np.unique(whole(tiles, (200, 220)))) <= {0, 1, 2}


def test_areas_of_which_the_model_is_not_sure_are_unsure(
    tiny_pathsam: PathSam, image: np.ndarray
) -> None:
    """Each area of the plain map is kept whole or unsure whole, by its mean probability."""
    plain = segment_classes(tiny_pathsam, image, 0.5)
    slide, settings = ArraySlide(image, mpp=0.5), SegmentSettings(surest=0.5)
    drawn, likely = unfinished(tiny_pathsam, slide, settings=settings)
    assert likely is not None
    assert (drawn == plain).all()
    areas = [
        (class_id, found == i)
        for class_id in (1, 2)
        for found, n in [ndimage.label(plain == class_id, np.ones((3, 3)))]
        for i in range(1, n + 1)
    ]
    means = [float(likely[area].astype(float).mean()) for _, area in areas]
    enough = float(np.median(means)) + 1e-6
    found = segment_classes(tiny_pathsam, image, 0.5, surest=enough)
    assert min(means) < enough < max(means)
    for (class_id, area), mean in zip(areas, means, strict=True):
        assert (found[area] == (class_id if mean >= enough else UNSURE)).all()
    assert (found[plain == 0] == 0).all()
    certain = segment_classes(tiny_pathsam, image, 0.5, threshold=0.6)
    assert (likely[certain == UNSURE] < 0.601).all()  # it is the same probability
    with pytest.raises(ValueError, match="from 0 to 1"):
        SegmentSettings(surest=1.2)


def test_neither_order_nor_view_changes_the_result(
    tiny_pathsam: PathSam, image: np.ndarray
) -> None:
    slide, cache = ArraySlide(image), EmbeddingCache()
    results = [
        whole(
            list(segment_tiles(tiny_pathsam, slide, mpp=0.5, first=first, cache=cache)), (200, 220)
        )
        for first in (None, Region(180, 0, 20, 20), Region(0, 200, 9, 9))
    ]
    assert all((a == b).mean() > 0.9999 for a, b in pairwise(results))


def test_a_tile_is_corrected_when_its_neighbour_comes(
    tiny_pathsam: PathSam, image: np.ndarray
) -> None:
    tiles = list(segment_tiles(tiny_pathsam, ArraySlide(image), mpp=0.5))
    once = np.zeros((200, 220), int)
    for tile in tiles:
        once[tile.region.slices] += 1
    overlap = once > 1
    first_said, last_said = whole(tiles[::-1], (200, 220)), whole(tiles, (200, 220))
    assert (first_said != last_said)[overlap].any()
    assert (first_said == last_said)[~overlap].all()


def test_blended_logits_against_a_slow_second_implementation(rng: np.random.Generator) -> None:
    """Every pixel's logits, one by one, from the weighted means of the cells round it."""
    grid = WorkingGrid((90, 70), (45, 35), 4.0, 8, False)
    plan = plan_tiles(grid.cells_yx, tile_px=8, overlap_px=3)
    cover = Region.of(grid.cells_yx)
    blend = Blend(3, cover)
    total, weight = np.zeros((3, *cover.shape_yx)), np.zeros(cover.shape_yx)
    for tile in plan:
        logits = rng.normal(size=(3, *tile.region.shape_yx)).astype(np.float32)
        blend.add(tile, torch.from_numpy(logits))
        total[(slice(None), *tile.region.slices)] += logits * tile.weights()
        weight[tile.region.slices] += tile.weights()
    mean = total / weight
    ys, xs = ((np.arange(n) + 0.5) / 8 - 0.5 for n in (90, 70))
    at = np.meshgrid(ys, xs, indexing="ij")
    slow = np.stack([ndimage.map_coordinates(m, at, order=1, mode="nearest") for m in mean])
    ids = np.array([0, 7, 9], np.uint8)
    assert (blend.class_map(grid, Region.of((90, 70)), ids, 0.0) == ids[slow.argmax(0)]).all()
    part = Region(13, 21, 40, 33)
    assert (blend.class_map(grid, part, ids, 0.0) == ids[slow.argmax(0)][part.slices]).all()
    share = np.exp(slow) / np.exp(slow).sum(0)
    unsure = blend.class_map(grid, part, ids, 0.5) == UNSURE
    assert (unsure == (share.max(0) < 0.5)[part.slices]).all()


@pytest.mark.parametrize("mpp", [0.2, 0.5, 1.3])
def test_any_pixel_size_of_the_image(tiny_pathsam: PathSam, image: np.ndarray, mpp: float) -> None:
    """The classes come at the image's own pixels, and a part of it agrees with the whole."""
    field = image[: int(90 / mpp), : int(75 / mpp)]
    found = segment_classes(tiny_pathsam, field, mpp=mpp)
    assert found.shape == field.shape[:2]
    assert {0, 1, 2} >= set(np.unique(found))


def test_the_image_is_seen_at_the_models_pixel_size(
    tiny_pathsam: PathSam, image: np.ndarray
) -> None:
    """An image enlarged threefold, its pixels three times smaller: the same map, enlarged."""
    field = image[:96, :128]
    large = field.repeat(3, 0).repeat(3, 1)
    fine = segment_classes(tiny_pathsam, large, mpp=0.5 / 3)
    expected = segment_classes(tiny_pathsam, field, mpp=0.5)
    assert (fine[1::3, 1::3] == expected).mean() > 0.98


def test_a_square_canvas_gets_square_tiles(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    """Mirrored to the canvas, never stretched to it."""
    base = tiny_pathsam.base
    base.config = base.config.model_copy(update={"fixed_canvas": True})
    seen = []
    encode = tiny_pathsam.encode

    def watched(pixels: np.ndarray, **options: object) -> object:
        seen.append(pixels)
        return encode(pixels, **options)  # type: ignore[arg-type]

    tiny_pathsam.encode = watched  # type: ignore[assignment, method-assign]
    found = segment_classes(tiny_pathsam, image[:50, :200], mpp=0.5)
    assert [s.shape for s in seen] == [(128, 128, 3)] * 2
    assert (seen[0][:50] == image[:50, :128]).all()
    assert (seen[0][50:99] == seen[0][:49][::-1]).all()
    assert found.shape == (50, 200)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 33), (129, 2)])
def test_images_of_any_shape(tiny_pathsam: PathSam, shape: tuple[int, int]) -> None:
    found = segment_classes(tiny_pathsam, np.full((*shape, 3), 200, np.uint8), mpp=0.5)
    assert found.shape == shape
    assert filled_up(np.zeros((1, 5, 3), np.uint8), (4, 16)).shape == (4, 16, 3)


def test_a_region_sees_what_lies_round_it(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    region = Region(60, 100, 70, 80)
    (tile,) = segment_tiles(tiny_pathsam, ArraySlide(image), mpp=0.5, region=region)
    assert tile.region == region
    plan = plan_segmenting(tiny_pathsam, ArraySlide(image), mpp=0.5, region=region)
    assert plan.tiles[0].region == Region(8, 24, 32, 31)  # to the image's end
    assert segment_classes(tiny_pathsam, image, 0.5, region=region).shape == (70, 80)


def test_probabilities_and_uncertainty(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    settings = SegmentSettings(keep_probabilities=True)
    *_, tile = segment_tiles(tiny_pathsam, ArraySlide(image), mpp=0.5, settings=settings)
    assert tile.probabilities is not None
    assert tile.probabilities.shape == (3, *tile.cells.shape_yx)
    assert tile.probabilities.sum(0) == pytest.approx(1, abs=0.01)
    assert tile.uncertainty == pytest.approx(1 - tile.probabilities.max(0), abs=0.01)
    assert tile.cell_yx == (4, 4)


def test_below_the_threshold_is_unsure(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    free = segment_classes(tiny_pathsam, image, 0.5)
    some = segment_classes(tiny_pathsam, image, 0.5, threshold=0.6)
    unsure = some == UNSURE
    assert 0.02 < unsure.mean() < 0.98
    assert (some[~unsure] == free[~unsure]).all()
    assert (segment_classes(tiny_pathsam, image, 0.5, threshold=1.0) == UNSURE).all()


def test_another_head_reuses_the_embedding(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    cache, slide = EmbeddingCache(), ArraySlide(image)
    first = list(segment_tiles(tiny_pathsam, slide, mpp=0.5, cache=cache))
    torch.nn.init.normal_(tiny_pathsam.head.tokens)
    tiny_pathsam.config = tiny_pathsam.config.model_copy(update={"name": "tiny:other"})
    second = list(segment_tiles(tiny_pathsam, slide, mpp=0.5, cache=cache))
    assert all(t.encoded for t in first)
    assert not any(t.encoded for t in second)
    assert (whole(first, (200, 220)) != whole(second, (200, 220))).any()
    again = list(segment_tiles(tiny_pathsam, slide, mpp=0.5))
    assert (whole(second, (200, 220)) == whole(again, (200, 220))).all()


def test_closing_stops_reading(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    reads = []

    class Watched(ArraySlide):
        def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
            reads.append(region)
            return super().read_resampled(region, shape_yx)

    tiles = segment_tiles(tiny_pathsam, Watched(image), mpp=0.5)
    next(tiles)
    tiles.close()  # type: ignore[attr-defined]
    gc.collect()
    assert len(reads) == 1


def test_an_unknown_pixel_size_is_asked_for(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    with pytest.raises(BadImageError, match=r"tiny:made works at 0\.5 µm per pixel"):
        segment_classes(tiny_pathsam, image)
    with pytest.raises(BadImageError, match="no pixel size"):
        segment_classes(tiny_pathsam, image, mpp=-1)


def test_outside_the_models_range_there_is_a_warning(
    tiny_pathsam: PathSam, image: np.ndarray
) -> None:
    tiny_pathsam.config = tiny_pathsam.config.model_copy(update={"mpp_range": (0.4, 0.8)})
    (tile,) = segment_tiles(tiny_pathsam, ArraySlide(image[:30, :30]), mpp=1.7)
    assert tile.warning is not None
    assert "1.7 µm" in str(tile.warning)
    assert "between 0.4 and 0.8" in str(tile.warning)
    with pytest.warns(PixelSizeWarning, match="coarser"):
        segment_classes(tiny_pathsam, image[:30, :30], mpp=1.7)
    (tile,) = segment_tiles(tiny_pathsam, ArraySlide(image[:30, :30]), mpp=0.6)
    assert tile.warning is None


@pytest.mark.parametrize(
    ("mpp", "seen", "home"),
    [
        (0.5, [0.5], (0.25, 0.75)),
        (0.5, [0.25, 0.8], (0.125, 1.2)),
        (1.4, [0.5], (0.25, 2.1)),
        (0.5, [0.5, None], None),
        (0.5, [], None),
    ],
)
def test_where_a_model_is_at_home_follows_from_what_it_learned_from(
    mpp: float, seen: list[float | None], home: tuple[float, float] | None
) -> None:
    assert at_home(mpp, seen) == home


def test_what_is_cut_off_is_said(tiny_pathsam: PathSam, image: np.ndarray) -> None:
    slide, asked = ArraySlide(image[:30, :40], mpp=0.5, name="small"), Region(-5, 10, 90, 20)
    plan = plan_segmenting(tiny_pathsam, slide, mpp=0.5, region=asked)
    assert plan.region == Region(0, 10, 30, 20)
    assert str(plan.cut).startswith(
        "Rows -5 to 85, columns 10 to 30 were asked for, and small has 30 × 40 pixels: only rows "
        "0 to 30, columns 10 to 30 are segmented, 30 × 20 pixels."
    )
    with pytest.warns(RegionWarning, match="Rows -5 to 85"):
        found = segment_classes(tiny_pathsam, slide, region=asked)
    assert found.shape == (30, 20)
    for fits in (None, Region.of(slide.shape_yx), Region(3, 3, 4, 4)):
        assert plan_segmenting(tiny_pathsam, slide, mpp=0.5, region=fits).cut is None


def test_what_cannot_be_done_is_said_before_anything_is_read(
    tiny_pathsam: PathSam, tiny_model: Sam2
) -> None:
    class Huge:
        name, shape_yx = "slide.svs", (100_000, 80_000)

        def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
            raise AssertionError

    with pytest.raises(BadImageError, match=r"100000 × 80000 pixels of slide\.svs.*--region"):
        segment_tiles(tiny_pathsam, Huge(), mpp=0.25)
    region = Region(0, 0, 16_000, 16_000)
    assert plan_segmenting(tiny_pathsam, Huge(), mpp=0.25, region=region).tiles
    with pytest.raises(BadImageError, match="GiB"):  # 2 µm read at 0.5: sixteen times the pixels
        plan_segmenting(tiny_pathsam, Huge(), mpp=2.0, region=region)
    with pytest.raises(BadImageError, match="outside"):
        plan_segmenting(tiny_pathsam, Huge(), mpp=0.25, region=Region(200_000, 0, 5, 5))
    with pytest.raises(BadWeightsError, match="pathsam-nano:glands"):
        segment_tiles(tiny_model, Huge(), mpp=0.25)  # type: ignore[arg-type]


def test_small_areas_and_holes_go_at_the_end() -> None:
    before = np.zeros((40, 40), np.uint8)
    before[5:30, 5:30] = 1
    before[10:13, 10:13] = 0
    before[35, 35] = 2
    settings = SegmentSettings(smallest_px=4, fill_holes_px=9)
    after = finish(before, settings)
    assert (after[5:30, 5:30] == 1).all()
    assert after.sum() == 25 * 25
    assert (finish(before, replace(settings, smallest_px=0, fill_holes_px=0)) == before).all()
    with pytest.raises(ValueError, match="threshold"):
        SegmentSettings(threshold=1.5)


@pytest.mark.slow
def test_where_the_tiles_begin_hardly_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged gland head on a mosaic of colon, its tiles at two sets of places."""
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.samples import load_sample

    model = load_model("pathsam-nano:glands", "cpu")
    assert isinstance(model, PathSam)
    monkeypatch.setattr(PathSam, "tile_px", 256)
    one = np.hstack([load_sample(n).image for n in ("colon_normal", "colon_low_grade")])
    mosaic = np.vstack([np.hstack([one, one[:, ::-1]]), np.hstack([one[::-1], one[::-1, ::-1]])])
    region = Region(0, 150, mosaic.shape[0], mosaic.shape[1] - 150)
    whole_map = segment_classes(model, mosaic, model.config.mpp)
    part = segment_classes(model, mosaic, model.config.mpp, region=region)
    slide, mpp = ArraySlide(mosaic), model.config.mpp
    plans = [plan_segmenting(model, slide, mpp=mpp, region=r) for r in (None, region)]
    places = [{tile.region.x for tile in plan.tiles} for plan in plans]
    assert places[0] != places[1]
    assert 0.05 < (whole_map > 0).mean() < 0.95
    assert (whole_map[region.slices] != part).mean() < 0.01
