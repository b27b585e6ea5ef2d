"""Recipes of WSI-SAM, and the command that trains by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.models.catalogue import load_model
from napari_pathsam.models.checkpoints import import_checkpoint
from napari_pathsam.models.model_file import read_card, save_model
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.training.wsi_recipe import read_wsi_recipe


@pytest.mark.parametrize("name", ["wsi-sam-nano-tnbc", "wsi-sam-nano-glas"])
def test_packaged_recipes_are_whole(name: str) -> None:
    recipe = read_wsi_recipe(name)
    assert recipe is not None
    network, train = recipe.network_config(), recipe.train_config()
    assert (network.base, network.factor, train.field_px) == ("pathsam-nano", 2.0, 256)


@pytest.mark.parametrize("profile", ["paper", "repo"])
def test_profiles_of_training(profile: str) -> None:
    fields = {"name": "w", "base": "b", "licence": "none", "sources": ({"dataset": "catch"},)}
    recipe = read_wsi_recipe("wsi-sam-nano-tnbc")
    made = type(recipe)(profile=profile, **fields).train_config()
    assert (made.fields_per_step, made.balance, made.schedule) == (1, 0.5, "constant")
    assert (made.target == "field") is (made.low_prompts == "sampled") is (profile == "repo")


def test_other_recipes_are_not_ours(tmp_path: Path) -> None:
    assert read_wsi_recipe("pathsam-nano") is None
    assert read_wsi_recipe("pathsam-nano-glands") is None
    assert read_wsi_recipe("nowhere") is None
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('model = "wsi-sam"\nname = "w"\n')
    with pytest.raises(BadFileError, match="licence"):
        read_wsi_recipe(str(wrong))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two images of dark squares on pale ground, each square its own id."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for n in range(2):
        labels = np.zeros((160, 160), np.uint8)
        for k, y in enumerate(range(10, 140, 40), start=1):
            labels[y : y + 24, 20 + 30 * n : 44 + 30 * n] = k
            labels[y : y + 24, 100:124] = k + 9
        image = np.where(labels[..., None] > 0, [110, 50, 150], 225).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"d{n}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"d{n}.png")
    return tmp_path / "images", tmp_path / "labels"


@pytest.fixture
def _tiny_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Sam2) -> None:
    """``tiny`` is among the imported models."""
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    save_model(tmp_path / "tiny.safetensors", tiny_model, {"licence": "none"})
    assert import_checkpoint(tmp_path / "tiny.safetensors") == "tiny"


@pytest.mark.usefixtures("_tiny_imported")
@pytest.mark.slow
def test_one_command_trains_and_its_model_answers(
    pathsam, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'model = "wsi-sam"\nname = "mine"\nbase = "tiny"\nlicence = "CC0"\n'
        "[train]\nfield_px = 64\nfields = 3\nsteps = 3\nreport_every = 2\nfields_per_step = 2\n"
        "smallest_px = 30\n"
        f'[[sources]]\nimages = "{folders[0].as_posix()}"\nlabels = "{folders[1].as_posix()}"\n'
        'label_kind = "instances"\nhold_out = ["d1"]\n'
    )
    out = tmp_path / "mine.safetensors"
    status, said, told = pathsam("train", "--config", recipe, "--out", out, "--device", "cpu")
    assert status == 0, told
    assert "use it as --model" in said
    assert not list(tmp_path.glob("*.state.pt"))
    card = read_card(out)
    assert card.base[0].name == "tiny"
    assert card.provenance["validation"]["images"] == ["d1"]
    assert card.provenance["validation"]["cut"]["objects"] > 0
    model = load_model(out, "cpu")
    assert isinstance(model, WsiSam)
    image = folders[0] / "d0.png"
    status, _, told = pathsam("prompt", image, "--box", "20,20,60,60", "--model", out,
                              "--out", tmp_path / "mask.png", "--device", "cpu")  # fmt: skip
    assert status == 0, told
    assert (tmp_path / "mask.png").is_file()
    data = ["--images", folders[0], "--labels", folders[1], "--label-kind", "instances"]
    status, said, told = pathsam("evaluate", *data, "--model", out, "--task", "prompts",
                                 "--device", "cpu", "--limit", 1)  # fmt: skip
    assert status == 0, told
    status, _, told = pathsam("evaluate", *data, "--model", out, "--task", "everything",
                              "--device", "cpu")  # fmt: skip
    assert status == 1
    assert "one mask a prompt" in told


def test_the_catalogue_says_how_to_get_it(pathsam, tmp_path: Path) -> None:
    status, said, _ = pathsam("models", "info", "wsi-sam")
    assert status == 0
    assert "pathsam train --model wsi-sam" in " ".join(said.split())
    assert "wsi-sam" in pathsam("models", "list")[1]
    status, _, told = pathsam("prompt", "nowhere.png", "--point", "1,1", "--model", "wsi-sam",
                              "--out", tmp_path / "m.png")  # fmt: skip
    assert status == 1
    status, _, told = pathsam("train", "--model", "wsi-sam", "--out", tmp_path / "m.safetensors")
    assert status == 2
    assert "--images" in told
