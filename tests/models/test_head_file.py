"""Heads as files: only what was trained, and nothing that does not fit."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.head_file import load_head, save_head
from napari_pathsam.models.model_file import CARD_KEY, read_card, save_model
from napari_pathsam.models.pathsam import PathSam, part_of

CARD = {"licence": "none", "base": [{"name": "tiny", "sha256": "0" * 64}]}
ALL = ("head", "alignment", "decoder")


@pytest.fixture
def head(tiny_pathsam: PathSam, tmp_path: Path) -> Path:
    path = tmp_path / "head.safetensors"
    with torch.no_grad():
        for name, tensor in tiny_pathsam.state_dict().items():
            if part_of(name) in ALL:
                tensor.add_(0.01 * torch.randn(tensor.shape))
    save_head(path, tiny_pathsam, CARD, trained=ALL)
    return path


def loaded(path: Path, model: PathSam) -> PathSam:
    """With a base as the catalogue would give it: nothing of the trained model in it."""

    def no_encoder(spec):
        raise AssertionError("it has none")

    return load_head(path, load_base=lambda name: deepcopy(model.base), load_encoder=no_encoder)[0]


def test_round_trip(head: Path, tiny_pathsam: PathSam) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found = loaded(head, tiny_pathsam)
    wanted = tiny_pathsam.decode_classes(tiny_pathsam.encode(image))
    assert torch.equal(found.decode_classes(found.encode(image)).logits, wanted.logits)
    assert found.classes == tiny_pathsam.classes
    assert found.config == tiny_pathsam.config
    assert not found.training
    card = read_card(head)
    assert (card.trained, card.mpp, card.base[0].name) == (ALL, 0.5, "tiny")


@pytest.mark.parametrize("trained", [("head",), ("head", "decoder"), ALL])
def test_it_holds_what_was_trained_and_nothing_else(
    trained: tuple, tiny_pathsam: PathSam, tmp_path: Path
) -> None:
    path = tmp_path / "head.safetensors"
    save_head(path, tiny_pathsam, CARD, trained=trained)
    assert {part_of(name) for name in load_file(path)} == set(trained)
    assert loaded(path, tiny_pathsam).decoder is not None
    assert path.stat().st_size < 4 * sum(t.numel() for t in load_file(path).values()) + 20_000


def rewritten(path: Path, **changes: torch.Tensor | None) -> None:
    """The file with tensors replaced, added or (None) left out; the card as it was."""
    tensors = load_file(path) | changes
    card = read_card(path).model_dump_json()
    save_file({n: t for n, t in tensors.items() if t is not None}, path, {CARD_KEY: card})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"head.tokens": None}, "head.tokens is missing"),
        ({"head.extra": torch.zeros(2)}, "head.extra does not belong"),
        ({"base.no_mem_embed": torch.zeros(1, 1, 64)}, "base.no_mem_embed does not belong"),
        ({"head.tokens": torch.zeros(4, 64)}, "has the shape"),
        ({"head.tokens": torch.full((3, 64), torch.nan)}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict, told: str, head: Path, tiny_pathsam: PathSam
) -> None:
    rewritten(head, **change)
    with pytest.raises(BadWeightsError, match=told):
        loaded(head, tiny_pathsam)


def test_damaged_and_foreign_files_are_refused(
    head: Path, tiny_pathsam: PathSam, tmp_path: Path
) -> None:
    content = head.read_bytes()
    for damaged in (content[:2000], content[:-10], b"", b"PK\x03\x04" + content):
        head.write_bytes(damaged)
        with pytest.raises(BadWeightsError, match=r"head\.safetensors"):
            loaded(head, tiny_pathsam)
    with pytest.raises(UnavailableError):
        loaded(tmp_path / "none.safetensors", tiny_pathsam)
    whole = tmp_path / "whole.safetensors"
    save_model(whole, tiny_pathsam.base, {"licence": "none"})
    with pytest.raises(BadWeightsError, match="knows classes"):
        loaded(whole, tiny_pathsam)
    save_file({"a": torch.zeros(1)}, head)
    with pytest.raises(BadWeightsError, match="no napari-pathsam model card"):
        loaded(head, tiny_pathsam)


def test_a_base_it_does_not_fit_is_refused(head: Path, tiny_pathsam: PathSam) -> None:
    from napari_pathsam.models.sam2 import Sam2

    config = tiny_pathsam.base.config.model_copy(update={"width": 32})
    with pytest.raises(BadWeightsError, match=r"shape|cannot be used"):
        load_head(head, load_base=lambda name: Sam2(config), load_encoder=lambda spec: None)


def test_the_base_must_be_the_one_it_was_trained_on(
    head: Path, tiny_pathsam: PathSam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the catalogue: an imported model of that name, and then another one."""
    from napari_pathsam.models.catalogue import load_model, weights_sha256
    from napari_pathsam.models.checkpoints import import_checkpoint

    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "tiny.safetensors"
    save_model(base, tiny_pathsam.base, {"licence": "none"})
    assert import_checkpoint(base) == "tiny"
    with pytest.raises(BadWeightsError, match="other weights of tiny"):
        load_model(head, "cpu")
    known = [{"name": "tiny", "sha256": weights_sha256("tiny")}]
    save_head(head, tiny_pathsam, CARD | {"base": known}, trained=ALL)
    found = load_model(head, "cpu")
    assert isinstance(found, PathSam)
    assert torch.equal(found.head.tokens, tiny_pathsam.head.tokens)
    with torch.no_grad():
        tiny_pathsam.base.no_mem_embed.add_(1)
    save_model(base, tiny_pathsam.base, {"licence": "none"})
    import_checkpoint(base)
    with pytest.raises(BadWeightsError, match="other weights of tiny"):
        load_model(head, "cpu")
