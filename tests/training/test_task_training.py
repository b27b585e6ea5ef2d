"""Task-specific networks are taught: papers' settings, losses, patches; stopped runs go on."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets import folder_samples
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import TASK_RECIPES, find_task_recipe
from napari_pathsam.training.class_config import ClassLossConfig, TrainConfig
from napari_pathsam.training.class_data import TrainingImage
from napari_pathsam.training.class_fit import fit_classes, fit_steps
from napari_pathsam.training.class_images import load_images
from napari_pathsam.training.class_recipe import ClassRecipe, read_class_recipe
from napari_pathsam.training.class_start import prepare
from napari_pathsam.training.losses import class_loss, class_sums
from napari_pathsam.training.task_augment import AS_IT_IS, MAKERS, SWAYING
from napari_pathsam.training.task_settings import SETTINGS, task_training
from napari_pathsam.training.task_trainer import TaskTrainer

Discs = Callable[..., list[TrainingImage]]
CLASSES = ClassTable.of("gland", "stroma")


def network(name: str = "unet3plus", guide: Sam2 | None = None, **fields) -> TaskModel:
    about = {"width": 2, **fields} if name != "mask-rcnn" else fields
    guided = {} if guide is None else {"guide": "tiny"}
    config = find_task_recipe(name).config(tile_px=128, network=about, **guided)
    torch.manual_seed(0)
    return TaskModel(config, CLASSES, None if guide is None else deepcopy(guide)).eval()


def quick(**fields) -> TrainConfig:
    given = {"epochs": 2, "batch": 2, "patch_px": 64, "warmup": 1} | fields
    return task_training("unet3plus", "recommended", None, given)


# --- settings ------------------------------------------------------------------------------------


def test_every_model_has_the_settings_of_its_profile() -> None:
    for name in TASK_RECIPES:
        for profile in ("recommended", "paper", "repo"):
            config = task_training(name, profile, None, {})
            assert set(config.parts) == {"network", "trunk"}
            assert config.stride == 1
    for preset in SETTINGS:
        assert task_training("unet", "recommended", preset, {"seed": 4}).seed == 4


def test_the_papers_settings() -> None:
    first = task_training("unet", "paper", None, {})
    assert (first.optimizer, first.lr, first.weight_decay) == ("sgd", 0.1, 1e-5)
    assert (first.batch, first.epochs, first.patch_px, first.momentum) == (6, 900, 512, 0)
    second = task_training("unet", "paper", "dtu-adam", {})
    assert (second.optimizer, second.lr, second.weight_decay) == ("adam", 1e-5, 1e-3)
    assert (second.epochs, second.drawn_as, second.schedule) == (50, "dtu", "constant")
    notebook = task_training("unet", "repo", None, {})
    assert (notebook.lr, notebook.weight_decay) == (1e-4, 0.05)
    guided = task_training("guided-eunet3plus+sam2.1-tiny", "repo", None, {})
    assert (guided.optimizer, guided.lr, guided.weight_decay) == ("adam", 1e-4, 1e-5)
    assert (guided.batch, guided.epochs, guided.patch_px) == (16, 50, 256)
    assert guided.loss.overlap_as == "released"
    rcnn = task_training("mask-rcnn", "paper", None, {})
    assert (rcnn.optimizer, rcnn.momentum, rcnn.lr) == ("sgd", 0.9, 5e-3)
    assert (rcnn.weight_decay, rcnn.batch, rcnn.epochs) == (5e-4, 2, 500)
    assert task_training("unet", "recommended", "quick", {}).epochs == 15
    assert task_training("unet", "paper", "quick", {}).epochs == 900
    trained = {n: torch.zeros(1, requires_grad=True) for n in ("network.trunk.a", "network.b")}
    from napari_pathsam.training.class_trainer import optimizer_of

    optimizer = optimizer_of(trained, second)
    assert type(optimizer) is torch.optim.Adam
    assert [g["lr"] for g in optimizer.param_groups] == [second.lr, second.encoder_lr]


def test_what_does_not_go_together_is_refused() -> None:
    about = {"name": "x", "classes": CLASSES, "sources": (), "licence": "none"}
    with pytest.raises(ValueError, match="no pathology encoder"):
        ClassRecipe(base="unet", encoder="uni", network={"mpp": 1}, **about)
    with pytest.raises(ValueError, match="for task-specific models"):
        ClassRecipe(base="pathsam-nano", preset="dtu-sgd", **about)
    for wrong in ({"trunk": "x.safetensors"}, {"used": {"mpp": 1}}):
        with pytest.raises(ValueError, match="for task-specific models"):
            ClassRecipe(base="pathsam-nano", **wrong, **about)


# --- losses --------------------------------------------------------------------------------------


def loss(logits: torch.Tensor, target: torch.Tensor, **fields) -> torch.Tensor:
    config = ClassLossConfig(beta=0.0, **fields)
    guess = logits.new_zeros(logits.shape[:2])
    sums = class_sums(logits, guess, target, gamma=config.gamma, each_alone=config.each_alone)
    return class_loss(
        sums, alpha=config.alpha, beta=0.0, over_classes=config.over_classes,
        dice_over=config.dice_over, overlap_as=config.overlap_as, weights=config.weights,
    )  # fmt: skip


def test_losses_are_what_they_are_called() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 8, 8, generator=generator)
    target = torch.randint(0, 2, (2, 8, 8), generator=generator)
    one_hot = torch.stack([target == 0, target == 1], 1).float()
    # Binary cross-entropy, as DTU's: of the foreground against a background of 0.
    logits[:, 0] = 0
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 1], one_hot[:, 1])
    found = loss(logits, target, alpha=1, gamma=0, over_classes="sum")
    assert found == pytest.approx(float(wanted) + np.log(2), rel=1e-5)
    # The released eU-Net3+: 1 − 2 IoU of the sigmoids, and focal loss.
    p = logits.sigmoid()
    overlap, total = (p * one_hot).sum((0, 2, 3)), (p + one_hot).sum((0, 2, 3))
    dice = 1 - (2 * overlap + 1e-6) / (total - overlap + 1e-6)
    p_true = p * one_hot + (1 - p) * (1 - one_hot)
    focal = -((1 - p_true) ** 2 * torch.log(p_true + 1e-8))
    wanted = 0.5 * dice.mean() + 0.5 * focal.mean()
    found = loss(logits, target, alpha=0.5, overlap_as="released", each_alone=True)
    assert found == pytest.approx(float(wanted), rel=1e-4)
    # IoU instead of Dice; weights count as they compare.
    certain = 40 * (2 * one_hot - 1)
    assert loss(certain, target, alpha=0, overlap_as="iou") == pytest.approx(0, abs=1e-4)
    dice, iou = (loss(logits, target, alpha=0, overlap_as=o) for o in ("dice", "iou"))
    assert iou > dice
    twice = loss(logits, target, weights=(2.0, 6.0))
    assert twice == pytest.approx(float(loss(logits, target, weights=(1.0, 3.0))), rel=1e-6)
    alone = [loss(logits, target, weights=w) for w in ((2.0, 0.0), (0.0, 2.0))]
    assert loss(logits, target) == pytest.approx(float(sum(alone)) / 2, rel=1e-5)


# --- patches -------------------------------------------------------------------------------------


def maker(kind: str, images: list[TrainingImage], side: int = 64):
    return MAKERS[kind](
        images,
        SWAYING if kind == "eunet3plus" else AS_IT_IS,
        patch_px=side,
        network_px=side,
        scale=(1, 1),
        mosaic=0.0,
        seed=3,
    )


@pytest.mark.parametrize("kind", ["dtu", "eunet3plus"])
def test_papers_patches_keep_pixels_and_labels_together(kind: str) -> None:
    """In a picture of its own labels both can be compared, whatever was done to them."""
    target = np.zeros((120, 90), np.int16)
    target[20:70, 15:60], target[80:110, 30:85] = 1, 2
    image = np.array([250, 130, 10], np.uint8)[target][..., None].repeat(3, 2)
    makes = maker(kind, [TrainingImage(image, target)])
    for variant in range(12):
        pixels, labels = makes.patch(0, variant)
        again, _ = makes.patch(0, variant)
        assert torch.equal(pixels, again)
        assert (labels >= -1).all()
        colour = pixels[0].mean(0)
        means = [float(colour[labels == c].mean()) for c in (0, 1, 2) if (labels == c).any()]
        assert means == sorted(means, reverse=True)
        known = [c for c in (0, 1, 2) if (labels == c).sum() > 50]
        spread = [float(colour[labels == c].std()) for c in known]
        assert max(spread) < 0.2
        assert (labels >= 0).float().mean() > 0.9


def test_dtus_flips_and_squeezes_and_never_turns() -> None:
    target = np.zeros((60, 100), np.int16)
    target[:30, :50] = 1  # one quarter
    image = (255 * target[..., None].repeat(3, 2)).astype(np.uint8)
    makes = maker("dtu", [TrainingImage(image, target)], side=128)
    corners = set()
    for variant in range(24):
        _, labels = makes.patch(0, variant)
        assert (labels == 1).float().mean() == pytest.approx(0.25, abs=0.02)  # the whole image
        corners.add(tuple(bool(labels[y, x] == 1) for y in (4, -4) for x in (4, -4)))
    assert len(corners) == 4


def test_objects_go_with_their_patch() -> None:
    target = np.zeros((80, 80), np.int16)
    objects = np.zeros((80, 80), np.int32)
    for n, (y, x) in enumerate([(5, 5), (5, 45), (45, 5), (45, 45)], start=1):
        target[y : y + 30, x : x + 30], objects[y : y + 30, x : x + 30] = 1, 1000 * n
    image = np.zeros((80, 80, 3), np.uint8)
    for kind in MAKERS:
        for ids in (objects, None):
            makes = maker(kind, [TrainingImage(image, target, objects=ids)])
            makes.with_objects = True
            _, told = makes.patch(0, 1)
            channels, found = told.numpy()
            assert ((channels == 1) == (found > 0)).mean() > 0.97
            wanted = {0, 1000, 2000, 3000, 4000} if ids is not None else set(range(5))
            assert set(np.unique(found)) <= wanted
            assert len(np.unique(found)) > 1


# --- training ------------------------------------------------------------------------------------


def test_a_stopped_run_ends_with_the_bits_of_one_that_was_not(tmp_path: Path, discs: Discs) -> None:
    """Running statistics and dropout, too."""
    state, config = tmp_path / "state.pt", quick(ema=0.5)
    models = [network(dropout=0.3, presence=True) for _ in range(3)]
    list(fit_classes(models[0], discs(4), discs(1, 1), config))
    steps = fit_steps(models[1], discs(4), discs(1, 1), config, resume=state)
    assert len(list(islice(steps, 3))) == 3  # killed in the middle of the second epoch
    steps.close()
    assert [r.epoch for r in fit_classes(models[2], discs(4), discs(1, 1), config, resume=state)]
    found, wanted = models[2].state_dict(), models[0].state_dict()
    assert all(torch.equal(found[n], wanted[n]) for n in wanted if "num_batches" not in n)
    turned = [replace(one, target=2 - one.target) for one in discs(4)]
    with pytest.raises(BadFileError, match="other labels of the training images"):
        next(fit_steps(models[2], turned, discs(1, 1), config, resume=state))
    start = [BaseWeights(name="another", sha256=None)]
    with pytest.raises(BadFileError, match="other weights to start from"):
        next(fit_steps(models[2], discs(4), discs(1, 1), config, resume=state, base=start))


def test_the_best_weights_are_kept_with_their_running_statistics(discs: Discs) -> None:
    trainer = TaskTrainer(network(), discs(2), discs(2, 1), quick())
    list(trainer.train_epoch())
    trainer.validate()
    name = next(n for n in trainer.moving if n.endswith("running_mean"))
    best = trainer.best[name].clone()
    trainer.best_score = 2.0
    list(trainer.train_epoch())
    assert not torch.equal(trainer.moving[name], best)
    trainer.finish()
    assert torch.equal(trainer.model.state_dict()[name], best)


def test_sams_embedding_of_a_patch_is_made_once(discs: Discs, tiny_model: Sam2) -> None:
    model = network("guided-eunet3plus", tiny_model)
    config = quick(variants=2, epochs=4)
    before = {n: t.clone() for n, t in model.base.state_dict().items()}
    reports = list(fit_classes(model, discs(3), discs(1, 1), config, cache=EmbeddingCache()))
    assert sum(r.encoded for r in reports) == 3 * 2 + 1
    assert all(torch.equal(t, before[n]) for n, t in model.base.state_dict().items())
    plain = list(fit_classes(network("eunet3plus"), discs(2), (), config, cache=EmbeddingCache()))
    assert sum(r.encoded for r in plain) == 2 * 4  # pixels alone are not kept


@pytest.mark.slow
def test_presence_is_learned_from_images_with_nothing_in_them(discs: Discs) -> None:
    model = network(presence=True, width=4, deep_supervision=False)
    empty = [
        TrainingImage(np.full((96, 96, 3), 244, np.uint8), np.zeros((96, 96), np.int16), "", f"{i}")
        for i in range(3)
    ]
    config = quick(epochs=15, batch=6, lr=5e-3, ema=None)
    list(fit_classes(model, [*discs(3), *empty], (), config))
    with torch.no_grad():
        there = [
            model.outputs(model.encode(one.image))[1].argmax().item() for one in (*discs(1), *empty)
        ]
    assert there == [1, 0, 0, 0]


def test_gaps_between_objects_are_learned_apart_and_are_background(tmp_path: Path) -> None:
    """Two squares of ids 1 and 2, three pixels apart, on tissue as pale as the gap."""
    ids = np.zeros((64, 64), np.uint8)
    ids[16:48, 8:30], ids[16:48, 33:56] = 1, 2
    pixels = np.where(ids[..., None] > 0, [110, 50, 150], [232, 228, 233]).astype(np.uint8)
    for folder, content in (("images", pixels), ("labels", ids)):
        (tmp_path / folder).mkdir()
        Image.fromarray(content).save(tmp_path / folder / "a.png")
    samples = folder_samples(tmp_path / "images", tmp_path / "labels", label_kind="instances")
    gland = ClassTable.of("gland")
    images = load_images(samples, gland, mpp=0.5, gap_um=2.0)
    assert np.array_equal(np.unique(images[0].target[16:48, 30:33]), [2])
    assert (images[0].target == 1).sum() == (ids > 0).sum()
    assert images[0].objects is None
    torch.manual_seed(0)
    config = find_task_recipe("unet").config(
        mpp=0.5, tile_px=64, gap_um=2.0, network={"width": 8, "levels": 3, "norm": "group"}
    )
    model = TaskModel(config, gland)
    still = {"augment": AS_IT_IS, "scale": (1.0, 1.0), "ema": None, "schedule": "constant"}
    trained = quick(epochs=1, batch=1, lr=1e-2, mosaic=0.3, **still)
    (report,) = fit_classes(model, images * 40, images, trained)
    assert report.validation.dice > 0.97
    embedding = model.encode(pixels)
    channels = model.outputs(embedding)[0][0][0].argmax(0)
    assert (channels[20:44, 30:33] == 2).float().mean() > 0.8
    found = model.decode_classes(embedding)
    assert found.logits.shape == (2, 64, 64)
    assert not found.class_map()[20:44, 31].any()
    raw = model.outputs(embedding)[0][0][0].softmax(0)
    torch.testing.assert_close(found.logits.softmax(0)[0], raw[0] + raw[2])
    with pytest.raises(ValueError, match="gap_um is for class maps"):
        find_task_recipe("mask-rcnn").config(gap_um=2.0)


def test_parts_a_network_does_not_have_are_refused(tmp_path: Path, discs: Discs) -> None:
    for name in ("i", "l"):
        (tmp_path / name).mkdir()
    for n, one in enumerate(discs(2)):
        Image.fromarray(one.image).save(tmp_path / "i" / f"{n}.png")
        Image.fromarray(one.target.astype(np.uint8)).save(tmp_path / "l" / f"{n}.png")
    source = {"images": tmp_path / "i", "labels": tmp_path / "l", "mpp": 0.5}
    recipe = ClassRecipe(
        name="x", base="unet", classes=CLASSES, sources=(source,), licence="none",
        network={"mpp": 0.5, "network": {"width": 2}}, train={"parts": ("head",)},
    )  # fmt: skip
    with pytest.raises(BadFileError, match="it has network"):
        prepare(recipe, {}, "cpu")


def test_every_packaged_recipe_says_what_is_trained_and_how() -> None:
    folder = files("napari_pathsam.training")
    names = [p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")]
    recipes = {name: read_class_recipe(name) for name in names}
    found = {n: r for n, r in recipes.items() if r is not None and r.base in TASK_RECIPES}
    assert {r.base for r in found.values()} >= {"unet", "unet-timm", "unet3plus", "mask-rcnn"}
    for recipe in found.values():
        assert recipe.train_config().patch_px <= recipe.network_config().tile_px
        assert "research only" in recipe.licence or "CC BY" in recipe.licence
    timm = found["unet_timm_glas"]
    trained = timm.network_config()
    assert (trained.gap_um, trained.mpp, trained.views) == (8, 1.0, 1)
    used = timm.used_config(trained)
    assert (used.gap_um, used.mpp, used.views, used.zooms) == (8, 0.85, 8, (1.0, 0.85))
