"""The catalogue says only what is true, and loading by name fails readably."""

import pytest
import torch

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.catalogue import (
    DEFAULT_MODEL,
    HEADS,
    MODELS,
    RECIPES,
    Packaged,
    find_entry,
    load_model,
    pick_device,
    weights_sha256,
)
from napari_pathsam.models.checkpoints import import_checkpoint
from napari_pathsam.models.encoders import ENCODERS
from napari_pathsam.models.head_file import save_head
from napari_pathsam.models.model_file import save_model
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.recipes import find_recipe
from napari_pathsam.models.sam2_config import SAM2_CONFIGS


def test_every_entry_has_a_licence_a_source_and_a_configuration():
    assert DEFAULT_MODEL in MODELS
    for name, entry in MODELS.items():
        assert name == entry.name == SAM2_CONFIGS[name].name
        assert entry.licence
        assert entry.licence_url.startswith("https://")
        if not isinstance(entry.weights, Packaged):
            assert entry.weights.url.startswith("https://")
            assert entry.weights.sha256 is None or len(entry.weights.sha256) == 64
            assert entry.size_text.startswith("≈") != entry.weights.exact_size


def test_sizes_agree_with_the_published_numbers_of_weights():
    million = {"tiny": 38.96, "small": 46.06, "base-plus": 80.85, "large": 224.45}
    for size, weights in million.items():
        assert MODELS[f"sam2.1-{size}"].size == pytest.approx(weights * 4e6, rel=0.002)


def test_an_unknown_name_lists_the_names_there_are():
    with pytest.raises(UnavailableError, match=r"pathsam-nano, sam2\.1-tiny"):
        load_model("sam2.1-huge")
    with pytest.raises(UnavailableError, match="neither"):
        load_model("../../no/such")


def test_weights_that_were_not_fetched_say_the_command_size_and_licence():
    with pytest.raises(UnavailableError, match=r"pathsam models fetch sam2.1-tiny.*156 MB.*Apache"):
        load_model("sam2.1-tiny")


def test_a_model_file_loads_by_its_path_in_eval_mode(tiny_model, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_model(path, tiny_model, {"licence": "MIT"})
    loaded = load_model(path, device="cpu")
    assert not loaded.training
    assert loaded.device == torch.device("cpu")
    with pytest.raises(UnavailableError, match=r"no model file"):
        load_model(tmp_path / "gone.safetensors")
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    with pytest.raises(BadWeightsError, match=r"notes\.txt"):
        load_model(other)


def test_a_device_that_is_not_there_is_named_with_those_that_are():
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UnavailableError, match=r"choose auto or one of: .*cpu"):
        pick_device("tpu")


def test_encoders_and_heads_are_entries_and_recipes_say_the_command():
    for name in ENCODERS:
        entry = find_entry(name)
        assert entry.kind == "encoder"
        assert entry.licence_url.startswith("https://")
        assert (entry.sha256 or "first download") in entry.revision
    for name, entry in HEADS.items():
        assert name.startswith("pathsam-nano:")
        assert entry.weights.file == name.replace(":", "-") + ".safetensors"
        assert find_entry(name) == entry
    for name in RECIPES:
        with pytest.raises(UnavailableError, match=rf"pathsam train --model {name} "):
            load_model(name)
    with pytest.raises(UnavailableError, match=r"by `pathsam train --model path-sam2-tiny\+uni"):
        load_model("path-sam2-tiny+uni")
    with pytest.raises(UnavailableError, match=r"pathology encoder.*path-sam2-tiny\+uni"):
        load_model("uni")
    assert not {*MODELS, *HEADS} & {*ENCODERS, *RECIPES}


def test_a_recipe_is_a_configuration_with_the_encoder_one_asks_for():
    for recipe in RECIPES.values():
        for profile in ("recommended", "paper", "repo"):
            config = recipe.config(profile)
            assert config.base in MODELS
            assert (config.encoder is None) == recipe.name.startswith("fine-tuned")
    config = find_recipe("path-sam2-large+uni2-h").config("paper", mpp=0.25)
    assert (config.base, config.encoder.name, config.mpp) == ("sam2.1-large", "uni2-h", 0.25)
    assert find_recipe("sam-path").config().encoder.name == "hipt-s16"
    heads = {name: [find_recipe(name).config(p).head for p in ("recommended", "paper", "repo")]
             for name in ("sam-path", "sam-path+uni", "path-sam2-tiny")}  # fmt: skip
    assert heads == {
        "sam-path": ["kan", "mlp", "mlp"],  # its paper has no KAN
        "sam-path+uni": ["kan", "mlp", "mlp"],
        "path-sam2-tiny": ["kan", "kan", "kan"],
    }
    with pytest.raises(UnavailableError, match="without a pathology encoder"):
        find_recipe("fine-tuned-sam2+uni")
    with pytest.raises(UnavailableError, match="There are: dinov2-s"):
        find_recipe("path-sam2-tiny+nothing")


def test_a_head_loads_with_exactly_the_model_it_was_trained_on(
    tiny_model, tiny_pathsam, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    whole, head = tmp_path / "tiny.safetensors", tmp_path / "head.safetensors"
    save_model(whole, tiny_model, {"licence": "MIT"})
    base = {"name": "tiny", "sha256": "0" * 64}
    card = {"licence": "MIT", "base": [base]}
    save_head(head, tiny_pathsam, card, trained=("head", "alignment", "decoder"))
    with pytest.raises(UnavailableError, match="No model is called 'tiny'"):
        load_model(head, "cpu")
    assert import_checkpoint(whole) == "tiny"
    with pytest.raises(BadWeightsError, match="trained on other weights of tiny"):
        load_model(head, "cpu")
    card["base"] = [base | {"sha256": weights_sha256("tiny")}]
    save_head(head, tiny_pathsam, card, trained=("head", "alignment", "decoder"))
    loaded = load_model(head, "cpu")
    assert isinstance(loaded, PathSam)
    for name, tensor in tiny_pathsam.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert import_checkpoint(head) == "tiny-made"
    assert isinstance(load_model("tiny-made", "cpu"), PathSam)
