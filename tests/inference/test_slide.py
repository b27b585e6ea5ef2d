"""A slide in blocks: one grid, any order, any interruption, the same labels."""

from __future__ import annotations

from pathlib import Path
from time import sleep

import numpy as np
import pytest
from scipy import ndimage

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.errors import BadFileError, BadImageError, DamagedTileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import SegmentSettings, segment_classes
from napari_pathsam.inference.slide import SlideTile, segment_slide
from napari_pathsam.inference.slide_plan import plan_slide
from napari_pathsam.inference.windows import KEPT_BYTES, Windows
from napari_pathsam.inference.working_grid import RegionWarning
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.models.pathsam import PathSam

SHAPE = (420, 520)
CHUNK = 128


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Pink and purple blobs with a corner of empty glass, 5 × 6 windows of the tiny model."""
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=(*SHAPE, 3)), (6, 6, 0)) * 500
    image = np.clip(smooth + np.array([190, 110, 170]), 0, 255).astype(np.uint8)
    image[:200, 300:] = 243
    return image


@pytest.fixture(autouse=True)
def _as_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of overlap, as for images: there are fewer windows."""
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.OVERLAP", 0.25)


@pytest.fixture
def slide(pixels: np.ndarray) -> ArraySlide:
    return ArraySlide(pixels, mpp=0.5, name="blobs")


def painted(tiles: list[SlideTile]) -> np.ndarray:
    out, seen = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, int)
    for tile in tiles:
        out[tile.region.slices] = tile.class_map
        seen[tile.region.slices] += 1
    assert seen.max() == 1
    return out


@pytest.fixture
def whole(tiny_pathsam: PathSam, slide: ArraySlide) -> np.ndarray:
    return painted([*segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK)])


def test_it_is_what_segmenting_an_image_gives(
    tiny_pathsam: PathSam, slide: ArraySlide, whole: np.ndarray
) -> None:
    assert len(np.unique(whole)) == 3
    assert (whole == segment_classes(tiny_pathsam, slide)).mean() > 0.9999  # logits are rounded


@pytest.mark.slow
def test_neither_view_nor_batch_nor_memory_nor_region_changes_a_pixel(
    tiny_pathsam: PathSam, slide: ArraySlide, whole: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, part = Region(300, 400, 50, 50), Region(100, 90, 200, 140)
    tiles = [*segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK, first=view)]
    assert tiles[0].region.contains(325, 425)
    assert [t.done for t in tiles] == [*range(1, len(tiles) + 1)]
    assert (painted(tiles) == whole).all()
    some = painted([*segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK, region=part)])
    assert (some[part.slices] == whole[part.slices]).all()
    some[part.slices] = 0
    assert not some.any()
    monkeypatch.setattr(
        Windows.__init__, "__kwdefaults__", {"batch": 1, "kept_bytes": 0, "views": None}
    )
    assert (
        painted([*segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK)]) == whole
    ).all()
    assert KEPT_BYTES > 0


def test_of_a_block_no_more_windows_are_run_than_a_region_needs(
    tiny_pathsam: PathSam, slide: ArraySlide
) -> None:
    whole = plan_slide(tiny_pathsam, slide, tissue=False)
    at = Region(100, 90, 40, 30)
    part = plan_slide(tiny_pathsam, slide, tissue=False, region=at)
    assert whole.blocks == part.blocks  # one that is larger than the slide
    assert part.n_windows < whole.n_windows / 4
    (block,) = part.blocks
    reached = [part.grid.level0_of(tile.region) for tile in whole.windows(block)]
    assert part.n_windows >= sum(one.intersection(at) is not None for one in reached)


def test_an_area_is_unsure_as_a_whole_whatever_the_blocks(
    tiny_pathsam: PathSam, slide: ArraySlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 128 px say the same as one of all; areas longer than a halo holds stay."""
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.LONGEST_UNSURE_PX", 40)
    monkeypatch.setattr("napari_pathsam.inference.slide_plan.STRIDES", 1)
    about = {"tissue": False, "settings": SegmentSettings(surest=0.6)}
    assert len(plan_slide(tiny_pathsam, slide, **about, chunk_px=CHUNK).blocks) > 9
    small = painted([*segment_slide(tiny_pathsam, slide, **about, chunk_px=CHUNK)])
    whole = painted([*segment_slide(tiny_pathsam, slide, **about, chunk_px=1024)])
    assert (small == whole).all()
    plain = painted([*segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK)])
    lengths = {True: [], False: []}
    for class_id in (1, 2):
        areas, _ = ndimage.label(plain == class_id, np.ones((3, 3)))
        for i, at in enumerate(ndimage.find_objects(areas), start=1):
            unsure = whole[areas == i] == UNSURE
            assert unsure.all() or not unsure.any()
            lengths[bool(unsure.any())].append(max(s.stop - s.start for s in at))
    assert max(lengths[True]) <= 40 < max(lengths[False])


def test_windows_kept_for_neighbours_are_not_run_twice(
    tiny_pathsam: PathSam, slide: ArraySlide
) -> None:
    plan = plan_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK)
    windows = Windows(tiny_pathsam, slide, plan.grid)
    asked = 0
    for block in plan.blocks:
        asked += len([*windows.logits(plan.windows(block))])
    windows.close()
    assert windows.run == plan.n_windows < asked


def test_the_models_share_of_the_time_is_told(
    tiny_pathsam: PathSam, slide: ArraySlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More where the model is slow than where the slide is, however slow the machine."""

    def share_when_slow(who: type, what: str) -> float:
        true = getattr(who, what)

        def slowly(self, *args, **kwargs):
            sleep(0.4)
            return true(self, *args, **kwargs)

        region = Region(0, 0, 200, 200)
        with monkeypatch.context() as patch:
            patch.setattr(who, what, slowly)
            *_, last = segment_slide(
                tiny_pathsam, slide, tissue=False, chunk_px=CHUNK, region=region
            )
        assert last.model_share is not None
        return last.model_share

    of_model = share_when_slow(PathSam, "decode_classes")
    of_slide = share_when_slow(ArraySlide, "read_resampled")
    assert 0 < of_slide < of_model < 1
    assert of_model > 0.5


def test_batches_give_what_single_windows_give(tiny_pathsam: PathSam, slide: ArraySlide) -> None:
    found = [
        painted([*segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK, batch=n)])
        for n in (1, 3, 3)
    ]
    assert (found[0] == found[1]).mean() > 0.99  # an embedding in a batch is not rounded
    assert (found[1] == found[2]).all()


def test_glass_is_left_out(
    tiny_pathsam: PathSam, slide: ArraySlide, whole: np.ndarray, pixels: np.ndarray
) -> None:
    beside = np.concatenate([pixels, np.full((SHAPE[0], 600, 3), 243, np.uint8)], axis=1)
    wide = ArraySlide(beside, mpp=0.5)
    plan = plan_slide(tiny_pathsam, wide, chunk_px=CHUNK)
    everywhere = plan_slide(tiny_pathsam, wide, chunk_px=CHUNK, tissue=False)
    assert plan.n_windows < 0.6 * everywhere.n_windows
    assert len(plan.blocks) < len(everywhere.blocks)
    found = np.zeros(wide.shape_yx, np.uint8)
    for tile in segment_slide(tiny_pathsam, wide, chunk_px=CHUNK):
        found[tile.region.slices] = tile.class_map
    assert not found[:, 760:].any()
    assert (found[:, :390] == whole[:, :390]).mean() > 0.99
    with pytest.raises(BadImageError, match=r"No tissue was found on empty"):
        segment_slide(tiny_pathsam, ArraySlide(np.full_like(pixels, 243), mpp=0.5, name="empty"))


def test_specks_and_holes_are_those_of_the_whole(tiny_pathsam: PathSam, slide: ArraySlide) -> None:
    settings = SegmentSettings(smallest_px=60, fill_holes_px=40, threshold=0.4)
    tiles = segment_slide(tiny_pathsam, slide, tissue=False, chunk_px=CHUNK, settings=settings)
    expected = segment_classes(tiny_pathsam, slide, smallest_px=60, fill_holes_px=40, threshold=0.4)
    assert (painted([*tiles]) == expected).mean() > 0.999


def test_uncertainty_and_probabilities_have_pyramids(
    tiny_pathsam: PathSam, slide: ArraySlide, tmp_path: Path
) -> None:
    settings = SegmentSettings(keep_probabilities=True)
    path = tmp_path / "blobs.zarr"
    for tile in segment_slide(
        tiny_pathsam, slide, store=path, tissue=False, chunk_px=CHUNK, settings=settings,
        uncertainty=True,
    ):  # fmt: skip
        for name, values in {"classes": tile.class_map, **tile.maps}.items():
            assert (LabelStore.open(path, name).read(tile.region) == values).all()
    unsure, *shares = (
        LabelStore.open(path, name).read(Region.of(SHAPE)).astype(int)
        for name in ("uncertainty", "probability-gland", "probability-stroma")
    )
    classes = LabelStore.open(path)
    assert classes.classes == tiny_pathsam.classes
    assert (unsure <= 255 * 2 / 3 + 1).all()
    inside = classes.read(Region.of(SHAPE)) == 1
    assert shares[0][inside].mean() > shares[0][~inside].mean() + 10
    coarse = classes.read(Region.of(SHAPE), level=1)
    assert np.isin(coarse, [0, 1, 2]).all()
    assert coarse.any()


def test_a_stopped_run_goes_on_and_another_is_refused(
    tiny_pathsam: PathSam, slide: ArraySlide, whole: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "blobs.zarr"
    about = {"store": path, "tissue": False, "chunk_px": CHUNK}
    run = segment_slide(tiny_pathsam, slide, **about)
    next(run)
    run.close()
    with pytest.raises(BadFileError, match="--resume"):
        segment_slide(tiny_pathsam, slide, **about)
    rest = [*segment_slide(tiny_pathsam, slide, **about, resume=True)]
    assert rest[-1].done == rest[-1].total
    assert 0 < len(rest) < rest[-1].total
    stored = LabelStore.open(path)
    assert (stored.read(Region.of(SHAPE)) == whole).all()
    assert [*segment_slide(tiny_pathsam, slide, **about, resume=True)] == []
    other = ArraySlide(255 - slide.read(Region.of(SHAPE)), mpp=0.5)
    with pytest.raises(BadFileError, match="something else: “slide”"):
        segment_slide(tiny_pathsam, other, **about, resume=True)
    settings = SegmentSettings(threshold=0.5)
    with pytest.raises(BadFileError, match="something else: “settings”"):
        segment_slide(tiny_pathsam, slide, **about, resume=True, settings=settings)


def test_absurd_wishes_are_refused_before_any_work(
    tiny_pathsam: PathSam, slide: ArraySlide, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "x.zarr"
    with pytest.raises(BadImageError, match="not known"):
        segment_slide(tiny_pathsam, ArraySlide(pixels), store=path)
    with pytest.raises(BadImageError, match="no pixel size"):
        segment_slide(tiny_pathsam, slide, mpp=1e-9, store=path)
    with pytest.raises(BadImageError, match="no slide"):
        segment_slide(tiny_pathsam, slide, mpp=900.0, store=path)
    with pytest.raises(BadImageError, match="outside"):
        segment_slide(tiny_pathsam, slide, region=Region(9000, 0, 5, 5), store=path)
    assert not path.exists()


def test_a_region_beyond_the_slide_is_cut_and_said(
    tiny_pathsam: PathSam, slide: ArraySlide
) -> None:
    height, width = slide.shape_yx
    with pytest.warns(RegionWarning, match=f"has {height} × {width} pixels"):
        tiles = segment_slide(
            tiny_pathsam, slide, region=Region(height - 40, 0, 90, 60), tissue=False, chunk_px=CHUNK
        )
    fits = Region(height - 40, 0, 40, 60)
    expected = segment_slide(tiny_pathsam, slide, region=fits, tissue=False, chunk_px=CHUNK)
    assert (painted([*tiles]) == painted([*expected])).all()


class Damaged(ArraySlide):
    """A slide with a place that does not decode."""

    def read_resampled(self, region: Region, shape_yx: tuple[int, int]) -> np.ndarray:
        found = super().read_resampled(region, shape_yx)
        bad = Region(256, 128, 32, 32)
        if region.intersection(bad) is None:
            return found
        error = DamagedTileError.at((bad,), name=self.name, reason="a broken JPEG")
        error.pixels = found
        raise error


def test_what_does_not_decode_is_told_with_its_place(
    tiny_pathsam: PathSam, pixels: np.ndarray, whole: np.ndarray
) -> None:
    tiles = [*segment_slide(tiny_pathsam, Damaged(pixels, mpp=0.5), tissue=False, chunk_px=CHUNK)]
    told = {damage.region for tile in tiles for damage in tile.damage}
    assert told == {Region(256, 128, 32, 32)}
    assert (painted(tiles) == whole).all()  # the pixels it came with are used
