"""Training for prompts: it learns, it resumes to the same weights, its patches are right."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from napari_pathsam.cli import app
from napari_pathsam.core.errors import BadFileError, BadWeightsError
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import Sam2Config, TimmConfig
from napari_pathsam.training.augment import (
    AugmentConfig,
    cut,
    darkness,
    draw_stain,
    optical_density,
    random_affine,
    stained,
)
from napari_pathsam.training.losses import dice_loss, focal_loss, soft_iou
from napari_pathsam.training.prompt_data import (
    LabelledImage,
    PatchMaker,
    SourceConfig,
    corrections,
    first_prompts,
)
from napari_pathsam.training.prompt_fit import PromptTrainConfig, fit_prompts
from napari_pathsam.training.prompt_recipe import load_trunk, read_recipe

CONFIG = PromptTrainConfig(
    sources=(SourceConfig(dataset="made", scale=(0.9, 1.1)),),
    patch_px={64: 4},
    patch_shares={64: 1.0},
    steps=4,
    warmup=2,
    report_every=2,
    ema=0.5,
)


def discs(n: int = 4) -> list[LabelledImage]:
    """Dark discs on pale ground, each its own id."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:96, :96]
    images = []
    for _ in range(n):
        labels = np.zeros((96, 96), np.int32)
        for i, (y, x) in enumerate([(25, 25), (25, 70), (70, 25), (70, 70)], start=1):
            labels[(yy - y) ** 2 + (xx - x) ** 2 < rng.integers(9, 18) ** 2] = i
        pale = np.full((96, 96, 3), 220) + rng.integers(-8, 8, (96, 96, 1))
        image = np.where(labels[..., None] > 0, [120, 60, 150], pale).astype(np.uint8)
        images.append(LabelledImage(image, labels[None]))
    return images


def tiny(seed: int = 0) -> Sam2:
    torch.manual_seed(seed)
    trunk = TimmConfig(name="mobilenetv2_050")
    config = Sam2Config(
        name="tiny", trunk=trunk, width=64, mlp_dim=64, iou_hidden_dim=32, field_px=128,
        fixed_canvas=False, top_down_levels=(0, 1, 2, 3), object_score=False, position_scale=2.0,
        prompt_map=True,
    )  # fmt: skip
    return Sam2(config)


@pytest.mark.slow
def test_training_brings_the_loss_down() -> None:
    config = CONFIG.model_copy(update={"steps": 40, "report_every": 10, "lr": 2e-3})
    reports = list(fit_prompts(tiny(), discs(), config))
    assert [r.step for r in reports] == [10, 20, 30, 40]
    assert reports[-1].loss < 0.8 * reports[0].loss
    assert reports[-1].iou_first > reports[0].iou_first


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole, halves, state = tiny(), tiny(), tmp_path / "state.pt"
    list(fit_prompts(whole, discs(), CONFIG))
    assert len(list(islice(fit_prompts(halves, discs(), CONFIG, resume=state), 1))) == 1
    fresh = tiny(seed=1)  # another process: nothing of the model survives but the file
    last = list(fit_prompts(fresh, discs(), CONFIG, resume=state))
    assert [r.step for r in last] == [4]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=0, atol=0)
    turned = [replace(one, labels=one.labels[:, ::-1].copy()) for one in discs()]
    longer = CONFIG.model_copy(update={"steps": 9})
    for images, config, says in ((turned, CONFIG, "labels"), (discs(), longer, "steps 4, now 9")):
        with pytest.raises(BadFileError, match=says):
            next(fit_prompts(fresh, images, config, resume=state))
    state.write_bytes(b"nothing of the kind")
    with pytest.raises(BadFileError, match="start anew"):
        next(fit_prompts(fresh, discs(), CONFIG, resume=state))


def test_batch_norm_keeps_its_statistics() -> None:
    model = tiny()
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    list(fit_prompts(model, discs(), CONFIG))
    assert before
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_image_and_labels_are_cut_alike(rng: np.random.Generator) -> None:
    one = discs(1)[0]
    for _ in range(10):
        theta = random_affine(rng, (96, 96), 64, 1.3, AugmentConfig())
        patch, labels = cut(one.image, one.labels, theta, 64)
        dark = patch[0, 0].numpy() < 150
        assert np.mean(dark == (labels[0] > 0)) > 0.97


def test_stain_jitter_leaves_glass_almost_white_and_changes_stain() -> None:
    image = np.full((8, 8, 3), 255, np.uint8)
    image[:, 4:] = (130, 70, 160)
    jittered = [
        stained(
            image, draw_stain(np.random.default_rng(i), AugmentConfig(stain=0.3, brightness=0.0))
        )
        for i in range(20)
    ]
    assert min(j[:, :4].min() for j in jittered) > 215
    assert np.std([j[0, 5] for j in jittered], axis=0).min() > 3


@pytest.mark.parametrize("shade", [0.3, 1.0, 2.0])
def test_density_makes_tissue_as_dark_as_asked_whatever_it_was(shade: float) -> None:
    tissue = np.random.default_rng(0).integers(60, 160, (40, 40, 3))
    image = (255 * (tissue / 255) ** shade).astype(np.uint8)
    config = AugmentConfig(stain=0, brightness=0, density=(0.5, 0.5))
    made = stained(image, draw_stain(np.random.default_rng(1), config))
    assert darkness(optical_density(made)) == pytest.approx(0.5, rel=0.03)
    glass = np.full((40, 40, 3), 250, np.uint8)
    assert stained(glass, draw_stain(np.random.default_rng(1), config)).min() > 215


def test_prompts_of_a_batch_lie_on_their_objects(rng: np.random.Generator) -> None:
    maker = PatchMaker(discs(), CONFIG.sources, AugmentConfig())
    batch = maker.batch(rng, 4, 64)
    points, signs = first_prompts(batch.targets, rng, box_share=0.0)
    for (x, y), target in zip(points[:, 0].tolist(), batch.targets[:, 0], strict=True):
        assert target[int(y), int(x)] == 1
    assert (signs[:, 0] == 1).all()
    assert (signs[:, 1] == -1).all()
    empty = torch.full((len(batch.targets), 1, 16, 16), -5.0)
    points, signs = corrections(batch.targets, empty, rng)
    assert (signs == 1).all()  # all of it is missing
    full = torch.full_like(empty, 5.0)
    _, signs = corrections(batch.targets, full, rng)
    assert (signs == 0).any()  # too much of it


def test_losses_against_hand_made_values() -> None:
    target = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    sure = (target * 2 - 1) * 30
    assert float(dice_loss(sure, target)) == pytest.approx(0, abs=1e-4)
    assert float(focal_loss(sure, target)) == pytest.approx(0, abs=1e-6)
    even = torch.zeros_like(target)  # p = 1/2 everywhere: 0.5 · 0.25 · ln 2
    assert float(focal_loss(even, target)) == pytest.approx(0.125 * np.log(2), rel=1e-5)
    assert float(dice_loss(even, target)) == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))
    assert float(soft_iou(torch.tensor([[[1.0, 1.0], [-1, -1]]]), target)) == 0.5


@pytest.mark.parametrize("name", ["pathsam-nano", "pathsam-nano-stains"])
def test_the_packaged_recipes_are_read(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.model_config_used().name == "pathsam-nano"
    assert {s.dataset for s in recipe.train.sources} == {"ebhi-seg", "tnbc"}


@pytest.mark.parametrize("text", ["base = 3", "not toml [", 'base = "x"\nunknown = 1'])
def test_a_wrong_recipe_is_one_readable_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(BadFileError, match=r"recipe\.toml"):
        read_recipe(str(path))


def test_a_trunk_of_another_network_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(BadWeightsError, match="does not fit"):
        load_trunk(tiny(), tmp_path / "w.safetensors")


def test_the_command_says_which_data_set_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    arguments = ["train", "--config", "pathsam-nano", "--root", f"tnbc={tmp_path}", "--out", out]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, BadFileError)
    assert "ebhi-seg" in str(result.exception)
    assert not out.exists()


def test_the_command_goes_on_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "Slide_01").mkdir()
    (tmp_path / "GT_01").mkdir()
    one = discs()[0]
    Image.fromarray(one.image).save(tmp_path / "Slide_01" / "01_1.png")
    Image.fromarray((one.labels[0] > 0).astype(np.uint8) * 255).save(tmp_path / "GT_01/01_1.png")
    train = {"steps": 1, "lr": 0.0, "trunk_lr": 0.0, "from_scratch": False}
    fields = "\n".join(f"{k} = {str(v).lower()}" for k, v in train.items())
    recipe, out = tmp_path / "recipe.toml", tmp_path / "m.safetensors"
    recipe.write_text(
        f'base = "pathsam-nano"\nlicence = "none"\n[train]\n{fields}\n'
        "[train.patch_px]\n64 = 2\n[train.patch_shares]\n64 = 1.0\n"
        '[[train.sources]]\ndataset = "tnbc"\n'
    )
    start = str(files("napari_pathsam.weights") / "pathsam-nano.safetensors")
    arguments = ["train", "--config", recipe, "--root", f"tnbc={tmp_path}", "--out", out]
    result = CliRunner().invoke(app, [str(a) for a in [*arguments, "--start", start]])
    assert result.exit_code == 0, result.output
    before, after = load_file(start), load_file(out)
    assert all(torch.allclose(before[k].float(), after[k].float(), atol=1e-3) for k in before)
