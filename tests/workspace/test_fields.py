"""Which field is encoded: pure, so tested over many images, views and clicks."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadImageError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.workspace import ArraySource, Field, choose_field
from napari_pathsam.workspace.fields import MaskPrompt, resized, serves

SLIDE = (80_000, 100_000)


def choose(shape, view, zoom, at, mpp=None, mpp_range=(0.25, 2.0), field_px=1024):
    return choose_field(
        shape, view, view_px_per_px=zoom, mpp=mpp, mpp_range=mpp_range, field_px=field_px, at_yx=at
    )


def test_a_small_image_is_encoded_whole_at_its_own_resolution():
    field = choose((500, 700), Region.of((500, 700)), 1.4, (10, 10))
    assert field == Field(Region.of((500, 700)), (500, 700))


def test_the_field_is_the_view_at_the_resolution_it_is_seen_at():
    view = Region(10_000, 20_000, 2400, 4000)
    field = choose(SLIDE, view, 0.25, (11_000, 21_000), mpp=0.25)
    assert field.shape_yx == (1024, 1024)
    assert field.scale == pytest.approx(0.25)
    assert field.region.intersection(view) == view
    centre = field.region.y + field.region.height / 2
    assert centre == pytest.approx(view.y + view.height / 2, abs=1)


def test_a_large_canvas_is_encoded_coarser_rather_than_cut():
    view = Region(0, 0, 1500, 2048)
    field = choose(SLIDE, view, 1.0, (10, 10), mpp=0.25)
    assert field.region.intersection(view) == view
    assert field.scale == pytest.approx(0.5)


def test_zoomed_out_beyond_the_range_a_window_round_the_click_at_the_coarsest():
    field = choose(SLIDE, Region.of(SLIDE), 0.01, (40_000, 60_000), mpp=0.25)
    assert 0.25 / field.scale == pytest.approx(2.0)
    assert field.region.shape_yx == (8192, 8192)
    assert field.region.y + 4096 == pytest.approx(40_000, abs=1)
    assert field.region.x + 4096 == pytest.approx(60_000, abs=1)
    corner = choose(SLIDE, Region.of(SLIDE), 0.01, (0, 99_999), mpp=0.25)
    assert corner.region == Region(0, 100_000 - 8192, 8192, 8192)


def test_zoomed_in_never_finer_than_the_range_or_than_the_pixels():
    view = Region(1000, 1000, 60, 80)
    known = choose(SLIDE, view, 12, (1030, 1030), mpp=0.5)
    assert 0.5 / known.scale == pytest.approx(0.25)
    assert choose(SLIDE, view, 12, (1030, 1030), mpp=None).scale == pytest.approx(1)
    fine = choose(SLIDE, view, 12, (1030, 1030), mpp=0.1)
    assert 0.1 / fine.scale == pytest.approx(0.25, rel=0.01)
    assert choose(SLIDE, view, 12, (1030, 1030), mpp=0.5, mpp_range=None).scale == 1


def test_an_image_coarser_than_the_range_is_enlarged_to_it():
    field = choose((300, 300), Region.of((300, 300)), 1.0, (5, 5), mpp=4.0)
    assert field.shape_yx == (600, 600)


def test_a_click_outside_the_view_is_in_the_field():
    field = choose(SLIDE, Region(0, 0, 500, 500), 1.0, (30_000, 30_000))
    assert field.region.contains(30_000, 30_000)
    beyond = choose((400, 400), Region(-900, -900, 100, 100), 1.0, (200, 200))
    assert beyond.region == Region.of((400, 400))


def test_promises_hold_over_many_views():
    rng = np.random.default_rng(3)
    for _ in range(500):
        shape = tuple(int(v) for v in np.exp(rng.uniform(0, 11, 2)).astype(int) + 1)
        height, width = (int(rng.integers(1, 2 * s + 2)) for s in shape)
        y, x = (int(rng.integers(-s, s + 1)) for s in shape)
        zoom = float(np.exp(rng.uniform(-6, 4)))
        mpp = None if rng.random() < 0.3 else float(np.exp(rng.uniform(-3, 2)))
        at = tuple(float(rng.uniform(-0.5, s - 0.51)) for s in shape)
        field_px = int(rng.integers(8, 1200))
        field = choose(shape, Region(y, x, height, width), zoom, at, mpp, field_px=field_px)
        assert field.region.intersection(Region.of(shape)) == field.region
        assert 1 <= min(field.shape_yx)
        assert max(field.shape_yx) <= field_px
        view = Region(y, x, height, width).intersection(Region.of(shape))
        assert field.region.contains(*at) or (view and view.contains(*at))
        if view is None or view.contains(*at):
            assert field.region.contains(*at)
        if mpp is not None and min(field.shape_yx) > 64:
            assert 0.25 * 0.97 <= mpp / field.scale <= 2.0 * 1.03


def test_a_kept_field_serves_small_pans_but_not_its_own_edge_or_another_zoom():
    view = Region(10_000, 10_000, 1000, 1000)
    kept = choose(SLIDE, view, 1.0, (10_500, 10_500), mpp=0.5)
    panned = choose(SLIDE, Region(10_100, 10_100, 1000, 1000), 1.0, (10_500, 10_500), mpp=0.5)
    assert serves(kept, panned, (10_500, 10_500), SLIDE)
    assert not serves(kept, panned, (10_990, 10_500), SLIDE)
    zoomed = choose(SLIDE, Region(10_250, 10_250, 500, 500), 2.0, (10_500, 10_500), mpp=0.5)
    assert not serves(kept, zoomed, (10_500, 10_500), SLIDE)
    whole = choose((300, 300), Region.of((300, 300)), 1.0, (0, 0))
    assert serves(whole, whole, (0, 299), (300, 300))


def test_prompts_go_into_field_pixels_and_what_is_outside_is_cut_off():
    field = Field(Region(100, 200, 400, 400), (200, 200))
    prompts = Prompts(((100, 200), (99.4, 300), (300.5, 400.5)), (True, True, False),
                      (50, 210, 120, 2000))  # fmt: skip
    seen = field.prompts_seen(prompts)
    assert seen.points_yx == ((-0.25, -0.25), (100.0, 100.0))
    assert seen.positive == (True, False)
    assert seen.box == (0.0, 5.0, 10.0, 200.0)
    seen.check(field.shape_yx)
    assert not field.prompts_seen(Prompts(box=(0, 0, 50, 50)))


def test_a_mask_prompt_is_seen_where_it_lies():
    rng = np.random.default_rng(0)
    whole = rng.random((60, 80)) < 0.5
    region = Region(10, 20, 30, 40)
    mask = MaskPrompt(whole[region.slices], region)
    seen = mask.seen_in(Field(Region.of((60, 80)), (60, 80)))
    expected = np.zeros_like(whole)
    expected[region.slices] = whole[region.slices]
    assert np.array_equal(seen, expected)
    part = mask.seen_in(Field(Region(30, 0, 30, 40), (15, 20)))
    assert np.array_equal(part, expected[31:60:2, 1:40:2])
    assert not mask.seen_in(Field(Region(50, 70, 10, 10), (10, 10))).any()


def test_a_lasso_is_the_pixels_it_encloses():
    mask = MaskPrompt.inside(np.array([[-5.0, -5], [-5, 9.5], [9.5, 9.5], [9.5, -5]]), (40, 40))
    assert mask.region == Region(0, 0, 11, 11)
    assert mask.mask.sum() == 100
    with pytest.raises(BadPromptError, match="encloses no pixel"):
        MaskPrompt.inside(np.array([[3.2, 3.2], [3.2, 3.4], [3.4, 3.4]]), (40, 40))


def test_array_source_knows_its_content():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    assert ArraySource(image).key == ArraySource(image.copy()).key
    other = image.copy()
    other[7, 7, 1] ^= 1
    assert ArraySource(other).key != ArraySource(image).key
    assert ArraySource(image).key != ArraySource(image.reshape(30, 20, 3)).key
    crop = ArraySource(image).read(Region(2, 3, 8, 10), (8, 10))
    assert np.array_equal(crop, image[2:10, 3:13])


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)),
                                 np.zeros((0, 4, 3), np.uint8)])  # fmt: skip
def test_array_source_refuses_what_is_no_rgb(bad):
    with pytest.raises(BadImageError, match="uint8"):
        ArraySource(bad)


def test_resizing_averages_areas_and_keeps_positions():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 60, 3), np.uint8)
    third = resized(image, (16, 20))
    slow = image.reshape(16, 3, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(third - slow).max() <= 0.51
    assert np.array_equal(resized(image, (48, 60)), image)
    ramp = np.tile(np.arange(50, dtype=np.uint8)[:, None, None] * 4, (1, 7, 3))
    for n in (1, 13, 20, 49, 51, 120):
        got = resized(ramp, (n, 3))[:, 0, 0].astype(float)
        wanted = 4 * ((np.arange(n) + 0.5) * 50 / n - 0.5)
        assert np.abs(got - np.clip(wanted, 0, 196)).max() <= 1
    assert resized(np.full((1, 1, 3), 7, np.uint8), (5, 9)).mean() == 7
