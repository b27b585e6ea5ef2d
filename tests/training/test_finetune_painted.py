"""What was painted: what of it is read, held out and scored; what is wrong is said in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from napari_pathsam.core.errors import BadImageError, BadLabelsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.class_maps import segment_tiles
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.io.slides import ArraySlide
from napari_pathsam.training.finetune import Teacher
from napari_pathsam.training.finetune_check import table_of
from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut
from napari_pathsam.training.finetune_run import FineTuneImage, freeze
from napari_pathsam.training.finetune_score import rescore, worst_regions
from napari_pathsam.training.finetune_state import Best

Settings = Callable[..., FineTuneSettings]


def test_only_touched_tiles_are_read(settings: Settings) -> None:
    class Counting(ArraySlide):
        reads = 0

        def read_resampled(self, region, shape_yx):
            self.reads += 1
            return super().read_resampled(region, shape_yx)

    image = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
    slide = Counting(image, mpp=0.5, name="large")
    labels = np.zeros((400, 600), np.uint8)
    labels[20:30, 20:40], labels[20:30, 60:80] = 1, 2
    frozen = freeze(settings(), [FineTuneImage(slide, labels, 0.5)])
    assert (slide.reads, frozen.n_tiles) == (1, 1)
    labels[380:390, 580:590] = 1
    assert freeze(settings(), [FineTuneImage(slide, labels, 0.5)]).n_tiles == 2
    # The tiles are those of the region that is segmented.
    field = Region(100, 100, 128, 128)
    here = np.zeros((400, 600), np.uint8)
    here[150:160, 150:170], here[150:160, 190:210] = 1, 2
    cache = EmbeddingCache()
    frozen = freeze(settings(), [FineTuneImage(slide, here, 0.5, region=field)])
    teacher = Teacher(frozen, cache=cache)
    assert list(segment_tiles(teacher.model, slide, mpp=0.5, region=field, cache=cache))
    next(teacher.steps())
    assert teacher.crops.encoded == 0


def test_part_of_a_slide_and_a_layer_of_held_out_labels(
    settings: Settings, painted: list[FineTuneImage]
) -> None:
    one = painted[0]
    at = Region(10, 20, 60, 70)
    part = replace(one, labels=one.labels[at.slices], labels_at=at)
    frozen = freeze(settings(hold_out=HoldOut(by="none")), [part])
    (record,) = frozen.run.images
    assert record.labels_at.region == at
    assert frozen.held_px == 0
    own = np.zeros_like(one.labels)
    own[40:44, 40:60] = 1
    frozen = freeze(
        settings(hold_out=HoldOut(by="layer")), [replace(one, held_out=own), painted[1]]
    )
    assert frozen.held_px == 80
    assert frozen.labels[0].labels[40, 50] == 1


def test_unpainted_is_background_only_when_said(
    settings: Settings, painted: list[FineTuneImage]
) -> None:
    from napari_pathsam.training.finetune_data import tile_pixels_of

    for zero in ("unlabelled", "background"):
        frozen, held = freeze(settings(zero=zero), painted), set()
        for one, (pixels,) in zip(painted, tile_pixels_of(frozen), strict=True):
            known = int((one.labels > 0).sum())
            assert len(pixels.y) == (known if zero == "unlabelled" else one.labels.size)
            held |= {*pixels.channel[pixels.held].tolist()}
        if zero == "background":  # held-out regions with the ground round them
            assert held == {0, 1, 2}


def test_unsure_pixels_are_left_out_and_never_background(
    settings: Settings, painted: list[FineTuneImage]
) -> None:
    from napari_pathsam.training.finetune_data import tile_pixels_of

    unsure = painted[0].labels.copy()
    unsure[(unsure == 0) & (np.indices(unsure.shape)[0] < 30)] = 255  # as "Segment" writes it
    for zero, n in (("unlabelled", (painted[0].labels > 0).sum()), ("background", None)):
        frozen = freeze(settings(zero=zero), [replace(painted[0], labels=unsure)])
        ((pixels,),) = tile_pixels_of(frozen)
        assert len(pixels.y) == ((unsure != 255).sum() if n is None else n)


@pytest.mark.slow
def test_the_worst_regions_are_found(settings: Settings, painted: list[FineTuneImage]) -> None:
    wrong = painted[0].labels.copy()
    wrong[2:10, 2:14] = 0
    teacher = Teacher(
        freeze(settings(epochs=8, steps=10, batch=4, lr=1e-2, body_lr=1.0, crop_px=128), painted)
    )
    list(teacher.steps())
    frozen = freeze(settings(hold_out=HoldOut(by="none")), painted)
    swapped = frozen.labels[0].labels.copy()
    first = painted[0].labels == 1
    swapped[first] = 2  # a mistake of the person
    mistaken = replace(frozen, labels=(replace(frozen.labels[0], labels=swapped), frozen.labels[1]))
    worst = worst_regions(teacher.result().model, mistaken)[0]
    assert worst.image_name == "discs 0"
    assert worst.class_name == "stroma"
    assert worst.said == "gland"
    assert worst.disagreement > 0.8
    assert swapped[worst.region.slices].max() > 0


def test_what_is_wrong_is_said(settings: Settings, painted: list[FineTuneImage]) -> None:
    one = painted[0]
    blank = np.zeros_like(one.labels)

    def refused(labels: np.ndarray, said: str, **fields) -> None:
        with pytest.raises(BadLabelsError, match=said) as told:
            freeze(settings(), [replace(one, labels=labels, **fields)])
        assert len(str(told.value).split()) < 45

    refused(blank, "Nothing is painted on discs 0 yet")
    refused(np.where(one.labels == 1, 1, 0), "Only one class is painted, “gland”")
    few = one.labels.copy()
    few[few == 2] = 0
    few[50, 50:53] = 2
    refused(few, "“stroma” has 3 painted pixels, too few")
    off = np.zeros((200, 200), np.uint8)
    off[150:170, 150:170] = 1
    refused(off, "lie off the image, which has 96 × 96 pixels")
    refused(one.labels, "lie off the image", labels_at=Region(500, 500, 96, 96))
    refused(np.where(one.labels == 1, 9, one.labels), "hold the ids 9, which no class has")
    refused(one.labels, "they must be of one size", held_out=blank[:10])
    refused(np.where(one.labels == 1, 255, 0), "255 means “unsure”: give what you marked a label")
    with pytest.raises(BadLabelsError, match="Two classes are called “Gland”"):
        table_of([(1, "gland", None), (2, "Gland ", None)])
    with pytest.raises(BadLabelsError, match="There is no image"):
        freeze(settings(), [])
    with pytest.raises(BadImageError, match="pixel size"):
        freeze(settings(), [replace(one, mpp=None)])
    single = np.zeros_like(one.labels)
    single[5:15, 5:30], single[40:50, 5:30], single[70:80, 5:30] = 1, 1, 2
    said = freeze(settings(), [replace(one, labels=single)]).warnings
    assert any("“stroma” has one region only" in text for text in said)
    assert any("“ground” is not painted" in text for text in said)


def test_few_held_out_pixels_are_not_taken_for_more(
    settings: Settings, painted: list[FineTuneImage]
) -> None:
    frozen = freeze(settings(), painted[:1])
    scores = rescore(Teacher(frozen).model, frozen)
    assert any("too few to mean much" in text for text in scores.sentences)
    counts = np.array([[900, 100], [100, 900]])
    few = replace(scores, counts=counts, names=("ground", "gland"), regions=(2, 2))
    many = replace(few, regions=(20, 20))
    assert few.mean_dice == pytest.approx(0.9)
    assert few.noise == pytest.approx(0.15)  # √(0.9 · 0.1 / 4)
    assert many.noise < 0.05
    assert [row.sentence for row in many.rows] == ["", ""]
    # Newer weights that score a little less are as good, as far as so few regions can tell.
    best = Best(1, few, {}, highest=0.95)
    assert best.beaten_by(few)
    assert not best.beaten_by(many)
