"""Task-specific models by name, in three profiles; files that do not fit are refused."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.catalogue import (
    HEADS,
    MODELS,
    RECIPES,
    find_entry,
    load_model,
    weights_sha256,
)
from napari_pathsam.models.checkpoints import import_checkpoint
from napari_pathsam.models.model_file import CARD_KEY, load_model_file, read_card, save_model
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_file import load_task, save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import TASK_RECIPES, find_task_recipe, is_task

GLAND = ClassTable.of("gland")


def test_the_catalogue_has_the_seeds_networks_in_three_profiles():
    wanted = {"unet", "unet3plus", "eunet3plus", "guided-eunet3plus", "mask-rcnn"}
    assert wanted <= set(TASK_RECIPES)
    assert not set(TASK_RECIPES) & {*MODELS, *HEADS, *RECIPES}
    for name, recipe in TASK_RECIPES.items():
        assert recipe.source.startswith("https://")
        assert f"--base {name} " in recipe.command
        for profile in ("recommended", "paper", "repo"):
            config = recipe.config(profile, mpp=0.3)
            assert (config.name, config.profile, config.mpp) == (name, profile, 0.3)
            assert (config.guide is not None) == (name == "guided-eunet3plus")
        with pytest.raises(UnavailableError, match=f"pathsam train --base {name} "):
            find_entry(name)
        with pytest.raises(UnavailableError, match=f"pathsam train --base {name} "):
            load_model(name)


def test_profiles_are_the_papers_and_the_released_codes():
    guided = find_task_recipe("guided-eunet3plus")
    fusions = {p: guided.config(p).network.fusion for p in ("recommended", "paper", "repo")}
    assert [f.attend_to for f in fusions.values()] == ["sam", "gated", "unet"]
    assert (fusions["paper"].gate, fusions["repo"].gate) == ("glu", "relu")
    assert [guided.config(p).network.deep_supervision for p in fusions] == [True, True, False]
    assert guided.config("repo").network.dropout == 0.3
    assert find_task_recipe("unet").config("repo").pixel_mean == (0, 0, 0)
    assert find_task_recipe("unet").config("paper").pixel_mean[0] == pytest.approx(200.79 / 255)
    # One field of the network, and the others stay the profile's.
    changed = guided.config("repo", network={"width": 8}).network
    assert (changed.width, changed.dropout, changed.gated) == (8, 0.3, True)


def test_names_with_something_beside():
    assert is_task("unet-timm+resnet34")
    assert not is_task("path-sam2-tiny+uni")
    assert find_task_recipe("unet-timm+resnet34").config().network.trunk == "resnet34"
    assert find_task_recipe("guided-eunet3plus+sam-vit-b").config().guide == "sam-vit-b"
    with pytest.raises(UnavailableError, match="stands on nothing"):
        find_task_recipe("unet+resnet34")
    with pytest.raises(UnavailableError, match="There are: unet, "):
        find_task_recipe("vnet")


def small(name: str = "unet", **fields) -> TaskConfig:
    return find_task_recipe(name).config(network={"width": 4}, **fields)


def test_a_file_that_does_not_fit_is_refused(tmp_path, tiny_model):
    path, other = tmp_path / "unet.safetensors", tmp_path / "other.safetensors"
    model = TaskModel(small(), GLAND)
    save_task(path, model, {"licence": "none"})
    card, tensors = read_card(path), load_file(path)

    def refused(changed, of=None, match=r"cannot be used"):
        told = (of or card).model_dump_json()
        save_file(changed, other, {CARD_KEY: told})
        with pytest.raises(BadWeightsError, match=match):
            load_task(other, load_base=lambda _: tiny_model)

    name = next(iter(tensors))
    refused({n: t for n, t in tensors.items() if n != name}, match=f"{name} is missing")
    refused(tensors | {"network.more": tensors[name].clone()}, match="does not belong")
    refused(tensors | {name: tensors[name] * float("nan")}, match="not finite")
    wide = find_task_recipe("unet").config(network={"width": 256})
    refused(tensors, of=card.model_copy(update={"config": wide}), match="far too small")
    with pytest.raises(BadWeightsError, match="which knows classes"):
        load_model_file(path)
    save_model(other, tiny_model, {"licence": "none"})
    with pytest.raises(BadWeightsError, match="no task-specific model"):
        load_task(other, load_base=lambda _: tiny_model)


def test_a_guided_model_loads_with_exactly_the_sam_it_was_trained_with(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    whole, path = tmp_path / "tiny.safetensors", tmp_path / "guided.safetensors"
    save_model(whole, tiny_model, {"licence": "none"})
    model = TaskModel(small("guided-eunet3plus", guide="tiny"), GLAND, deepcopy(tiny_model))
    base = {"name": "tiny", "sha256": "0" * 64}
    save_task(path, model, {"licence": "none", "base": [base]})
    assert not any(name.startswith("base.") for name in load_file(path))
    with pytest.raises(UnavailableError, match="'tiny'"):
        load_model(path, "cpu")
    assert import_checkpoint(whole) == "tiny"
    with pytest.raises(BadWeightsError, match="trained on other weights of tiny"):
        load_model(path, "cpu")
    save_task(path, model, {"licence": "none", "base": [base | {"sha256": weights_sha256("tiny")}]})
    assert isinstance(load_model(path, "cpu"), TaskModel)
    assert isinstance(load_model(import_checkpoint(path), "cpu"), TaskModel)


def test_views_are_averaged_and_turn_with_the_image(rng):
    """An answer over all eight views does not depend on how the image lies; one view's does."""
    torch.manual_seed(0)
    model = TaskModel(small(), GLAND).eval()
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def answer(pixels, views=None):
        return model.decode_classes(model.encode(pixels), views=views).logits.numpy()

    plain, turned = answer(image), answer(np.rot90(image).copy())
    assert np.abs(np.rot90(plain, axes=(1, 2)) - turned).max() > 1e-3
    each = [
        np.rot90(answer(np.rot90(image, k).copy()), -k, (1, 2)) for k in range(4)
    ] + [
        np.rot90(answer(np.rot90(image[:, ::-1], k).copy()), -k, (1, 2))[..., ::-1]
        for k in range(4)
    ]  # fmt: skip
    together = answer(image, 8)
    np.testing.assert_allclose(together, np.mean(each, 0), atol=1e-4)
    np.testing.assert_allclose(
        answer(np.rot90(image).copy(), 8), np.rot90(together, axes=(1, 2)), atol=1e-4
    )
    model.config = TaskConfig.model_validate(model.config.model_dump() | {"views": 8})
    np.testing.assert_array_equal(answer(image), together)  # its own number of views
    np.testing.assert_array_equal(answer(image, 1), plain)


def test_zooms_are_averaged_at_the_tiles_own_size(rng):
    torch.manual_seed(0)
    model = TaskModel(small(), GLAND).eval()
    image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    larger = np.asarray(Image.fromarray(image).resize((192, 128), Image.Resampling.BILINEAR))

    def answer(zooms, pixels=image):
        model.config = TaskConfig.model_validate(model.config.model_dump() | {"zooms": zooms})
        return model.decode_classes(model.encode(pixels)).logits.numpy()

    plain, twice = answer((1,)), answer((2,))
    assert plain.shape == twice.shape == (2, 64, 96)
    np.testing.assert_allclose(answer((1, 2)), (plain + twice) / 2, atol=1e-5)
    reduced = answer((1,), larger).reshape(2, 64, 2, 96, 2).mean((2, 4))
    assert np.corrcoef(twice[1].ravel(), reduced[1].ravel())[0, 1] > 0.95
    assert answer((0.5, 1.3), image[:37, :53]).shape == (2, 37, 53)
    for name in ("mask-rcnn", "guided-eunet3plus"):
        with pytest.raises(ValueError, match="zooms"):
            find_task_recipe(name).config(zooms=(1.0, 2.0))
