"""Model files: what is written comes back; anything else is refused in one readable paragraph."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.model_file import CARD_KEY, load_model_file, read_card, save_model

CARD = {
    "licence": "BSD-3-Clause",
    "classes": ClassTable.of("gland"),
    "mpp": 0.5,
    "base": [{"name": "mobilenetv2_100", "sha256": "ab" * 32}],
    "provenance": {"seed": 1, "metrics": {"iou": 0.8}},
}


@pytest.fixture
def path(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, tiny_model, CARD)
    return path


def rewritten(path, *, tensors=None, card=None, metadata=None):
    """The file again with some of its content replaced."""
    kept = load_file(path)
    kept.update(tensors or {})
    header = json.loads(read_card(path).model_dump_json()) | (card or {})
    out = path.with_name("other.safetensors")
    kept = {name: t for name, t in kept.items() if t is not None}
    save_file(kept, out, {CARD_KEY: json.dumps(header)} if metadata is None else metadata)
    return out


def test_a_saved_model_gives_the_same_masks(tiny_model, path, rng):
    loaded, card = load_model_file(path)
    assert card == read_card(path)
    assert card.classes.names == ("gland",)
    image = rng.integers(0, 256, (80, 100, 3), np.uint8)
    prompts = Prompts(points_yx=((40, 50),), positive=(True,))
    one, two = (m.decode_prompts(m.encode(image), prompts) for m in (tiny_model, loaded))
    np.testing.assert_array_equal(one.low_res_logits, two.low_res_logits)


def test_the_file_is_the_same_each_time_and_replaces_the_old_one_whole(tiny_model, path):
    first = path.read_bytes()
    save_model(path, tiny_model, CARD)
    assert path.read_bytes() == first
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_halves_the_file_and_loads_as_float32(tiny_model, path, tmp_path):
    small = tmp_path / "half.safetensors"
    save_model(small, tiny_model, CARD, dtype=torch.float16)
    assert small.stat().st_size < 0.6 * path.stat().st_size
    loaded, _ = load_model_file(small)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_card_with_an_unknown_field_is_not_written(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="licence_of"):
        save_model(tmp_path / "x.safetensors", tiny_model, CARD | {"licence_of": "me"})
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused(path):
    whole = path.read_bytes()
    for broken in (b"", whole[:4], whole[:2000], whole[:-100], whole + b"x", b"\0" * 4096):
        path.write_bytes(broken)
        with pytest.raises(BadWeightsError, match=r"cannot be used as a model"):
            load_model_file(path)
    path.write_bytes(struct.pack("<Q", 2**62) + whole[8:])
    with pytest.raises(BadWeightsError, match="damaged"):
        load_model_file(path)
    path.unlink()
    with pytest.raises(UnavailableError):
        load_model_file(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tensors": {"no_mem_embed": None}}, "no_mem_embed is missing"),
        ({"tensors": {"extra": torch.zeros(1)}}, "extra does not belong"),
        ({"tensors": {"no_mem_embed": torch.zeros(1, 1, 7)}}, r"shape \(1, 1, 7\)"),
        ({"tensors": {"no_mem_embed": torch.full((1, 1, 64), torch.nan)}}, "not finite"),
        ({"metadata": {}}, "no napari-pathsam model card"),
        ({"metadata": {"format": "pt"}}, "no napari-pathsam model card"),
        ({"metadata": {CARD_KEY: "{"}}, "model card is wrong"),
        ({"card": {"format": 2}}, "wrong at format"),
        ({"card": {"run": "rm -rf"}}, "wrong at run"),
    ],
)
def test_what_does_not_fit_is_refused(path, change, says):
    with pytest.raises(BadWeightsError, match=says):
        load_model_file(rewritten(path, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"width": 1 << 30},
        {"width": 1024, "mlp_dim": 8192},
        {"trunk": {"kind": "timm", "name": "hf-hub:someone/model"}},
        {"trunk": {"kind": "timm", "name": "no_such_network"}},
        {"trunk": {"kind": "hiera", "embed_dim": 256, "stages": [64, 64, 64, 64]}},
        {"trunk": {"kind": "hiera", "stages": [10**9, 1, 1, 1]}},
    ],
)
def test_a_card_that_asks_for_a_monster_or_the_network_is_refused(path, change):
    config = json.loads(read_card(path).model_dump_json())["config"] | change
    with pytest.raises(BadWeightsError):
        load_model_file(rewritten(path, card={"config": config}))
