"""Patches for teaching classes: determined by (image, variant), labels on the right pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.datasets import folder_samples
from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.class_data import (
    IGNORE,
    PatchMaker,
    TrainingImage,
    at_mpp,
    channels_of,
    load_images,
    logits_at_stride,
    mosaic_of,
    thinned,
)
from napari_pathsam.training.class_split import fold_by_group, split_by_group

Discs = Callable[..., list[TrainingImage]]
CALM = AugmentConfig(stain=0, brightness=0, sharpness=0, noise=0)


def maker(images: list[TrainingImage], augment: AugmentConfig | None = None, **fields):
    about = {"patch_px": 64, "network_px": 96, "scale": (0.8, 1.25), "mosaic": 0.5, "seed": 3}
    return PatchMaker(images, augment or AugmentConfig(), **(about | fields))


def test_a_patch_is_always_the_same(discs: Discs) -> None:
    one, other = maker(discs(3)), maker(discs(3))
    other.patch(2, 0)  # whatever was made before
    for index, variant in [(0, 0), (1, 5), (2, 1)]:
        for found, wanted in zip(
            other.patch(index, variant), one.patch(index, variant), strict=True
        ):
            assert torch.equal(found, wanted)
        assert torch.equal(one.place(index, variant).target, one.patch(index, variant)[1])
    assert not torch.equal(one.patch(0, 0)[0], one.patch(0, 1)[0])
    assert not torch.equal(one.patch(0, 0)[0], maker(discs(3), seed=4).patch(0, 0)[0])


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_labels_stay_on_their_pixels(discs: Discs, mosaic: float) -> None:
    """In images whose colours are the classes', the patch's colour says what its label must be."""
    colors = np.array([[250, 250, 250], [200, 0, 0], [0, 0, 200]], np.uint8)
    images = [TrainingImage(colors[i.target], i.target, i.name) for i in discs(4)]
    made = maker(images, CALM, mosaic=mosaic)
    seen = set()
    for variant in range(12):
        pixels, target = made.patch(0, variant)
        assert pixels.shape == (1, 3, 96, 96)
        assert target.shape == (96, 96)
        nearest = (
            pixels[0].permute(1, 2, 0)[..., None, :] * 255 - torch.tensor(colors).float()
        ).abs()
        distance, channel = nearest.sum(dim=-1).min(dim=-1)
        clear = (distance < 3) & (target >= 0)  # not on a border between two
        assert clear.float().mean() > 0.3
        assert torch.equal(channel[clear], target[clear])
        seen |= set(target.unique().tolist())
    assert seen >= {0, 1, 2}


def test_outside_of_the_image_nothing_is_known() -> None:
    small = TrainingImage(np.full((20, 20, 3), 90, np.uint8), np.ones((20, 20), np.int16))
    pixels, target = maker([small], CALM, mosaic=0.0, network_px=64).patch(0, 0)
    assert set(target.unique().tolist()) == {IGNORE, 1}
    inside = (pixels[0, 0] * 255 - 90).abs() < 1
    assert (target[inside] == 1).all()
    assert 0.05 < float((target == 1).float().mean()) < 0.2


def test_patches_without_labels_are_drawn_anew() -> None:
    """One labelled corner of a large image: a patch holds a part of it far more often than not."""
    target = np.full((160, 160), IGNORE, np.int16)
    target[:40, :40] = 1
    image = TrainingImage(np.zeros((160, 160, 3), np.uint8), target)
    made = maker([image], CALM, mosaic=0.0, network_px=64, patch_px=48, scale=(1, 1))
    placed = [made.place(0, variant) for variant in range(40)]
    at_once = np.mean([p.attempt == 0 for p in placed])
    assert at_once < 0.3
    assert np.mean([bool((p.target >= 0).any()) for p in placed]) > 2 * at_once


def test_channels() -> None:
    table = ClassTable.of("gland", "stroma").without(1).with_class("fat")  # ids 1 fat, 2 stroma
    labels = np.array([[0, 1], [2, 255]])
    names = [c.name for c in table]
    found = channels_of(labels, table)
    assert found.tolist() == [[0, 1 + names.index("fat")], [1 + names.index("stroma"), IGNORE]]
    assert channels_of(labels, table, sparse=True)[0, 0] == IGNORE
    with pytest.raises(BadFileError, match="7"):
        channels_of(np.array([[7]]), table)
    with pytest.raises(BadFileError, match="none of the classes"):
        channels_of(np.array([[-1, 70000]]), table)


def test_another_pixel_size() -> None:
    image, target = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.int16)
    image[:, 30:], target[:, 30:] = 200, 2
    pixels, found = at_mpp(image, target, 0.5, 1.0)
    assert pixels.shape == (20, 30, 3)
    assert (found == np.where(np.arange(30) < 15, 0, 2)).all()
    assert (pixels[:, :14] == 0).all()
    assert (pixels[:, 16:] == 200).all()
    assert at_mpp(image, target, 0.5, 0.5)[1] is target


def write(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}.png")


def test_images_are_read_as_they_are_labelled(tmp_path: Path) -> None:
    table, labels = ClassTable.of("nucleus"), np.zeros((40, 40), int)
    labels[5:10, 5:10], labels[20:30, 20:30] = 3, 9
    write(tmp_path / "i", "a", np.zeros((40, 40, 3)))
    write(tmp_path / "l", "a", labels)
    samples = folder_samples(tmp_path / "i", tmp_path / "l", mpp=0.5)
    (one,) = load_images(samples, table, mpp=0.5)  # objects: all of the one class
    assert (one.target == (labels > 0)).all()
    (half,) = load_images(samples, table, mpp=1.0)
    assert half.target.shape == (20, 20)
    as_classes = folder_samples(tmp_path / "i", tmp_path / "l", label_kind="classes")
    with pytest.raises(BadFileError, match=r"a\.png.*3, 9"):
        load_images(as_classes, table, mpp=0.5)
    write(tmp_path / "l", "a", np.zeros((40, 40)))
    with pytest.raises(BadImageError, match="nothing to learn"):
        load_images(as_classes, table, mpp=0.5, sparse=True)


def test_a_mosaic_of_unequal_images(discs: Discs) -> None:
    small = TrainingImage(np.full((30, 50, 3), 7, np.uint8), np.full((30, 50), 2, np.int16))
    one = discs(1)[0]
    found = mosaic_of([one, small, one, small], 64)
    assert found.target.shape == (128, 128)
    assert (found.target[:30, 64:114] == 2).all()
    assert (found.target[30:64, 64:] == IGNORE).all()
    assert (found.image[64:128, :64] == one.image[:64, :64]).all()


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_logits_and_targets_meet(stride: int) -> None:
    """Where logits are the targets' own blocks, nothing is shifted by the stride."""
    target = torch.zeros(1, 32, 32, dtype=torch.long)
    target[:, 8:16, 16:28] = 1
    low = torch.nn.functional.one_hot(target[:, 2::4, 2::4], 2).permute(0, 3, 1, 2).float()
    found = logits_at_stride(low, stride).argmax(dim=1)
    wanted = thinned(target, stride)
    assert found.shape == wanted.shape
    assert (found != wanted).float().mean() < 0.04


def test_no_group_is_on_both_sides(discs: Discs) -> None:
    images = [
        TrainingImage(i.image, i.target, f"{n}", f"case{n // 3}") for n, i in enumerate(discs(12))
    ]
    for seed in range(5):
        train, held = split_by_group(images, 0.25, seed)
        assert len(train) + len(held) == 12
        assert len(held) == 3
        assert not {i.group for i in train} & {i.group for i in held}
        again = split_by_group(images, 0.25, seed)
        assert [i.name for i in again[1]] == [i.name for i in held]
    assert len({split_by_group(images, 0.25, s)[1][0].group for s in range(9)}) > 1
    assert split_by_group(images[:3], 0.25, 0)[1] == []  # one case only
    assert split_by_group(images, 0, 0)[1] == []


def test_folds_hold_every_group_once() -> None:
    sizes = {"a": 5, "b": 3, "c": 3, "d": 2, "e": 1}
    blank = np.zeros((4, 4), np.int16)
    images = [
        TrainingImage(np.zeros((4, 4, 3), np.uint8), blank, f"{group}{n}", group)
        for group, size in sizes.items()
        for n in range(size)
    ]
    folds = [fold_by_group(images, k, 3) for k in (1, 2, 3)]
    assert [sorted({i.group for i in held}) for _, held in folds] == [["a"], ["b", "d"], ["c", "e"]]
    for train, held in folds:
        assert {i.name for i in train} | {i.name for i in held} == {i.name for i in images}
        assert not {i.group for i in train} & {i.group for i in held}
    with pytest.raises(BadImageError, match="5 groups"):
        fold_by_group(images, 1, 6)


def test_a_split_leaves_rare_classes_on_both_sides() -> None:
    def image(group: int, channel: int) -> TrainingImage:
        target = np.full((8, 8), channel, np.int16)
        return TrainingImage(np.zeros((8, 8, 3), np.uint8), target, group=str(group))

    images = [image(g, 2 if g in (3, 7) else 1) for g in range(10)]
    for seed in range(8):
        for side in split_by_group(images, 0.3, seed):
            assert {int(i.target[0, 0]) for i in side} == {1, 2}
