"""The catalogue says only what is true, and loading by name fails readably."""

import pytest
import torch

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.catalogue import DEFAULT_MODEL, MODELS, Packaged, load_model, pick_device
from napari_pathsam.models.model_file import save_model
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
