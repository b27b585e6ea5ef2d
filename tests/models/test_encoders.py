"""Encoder weights: strict in every layout, hostile files and specifications refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models import encoder_files, encoders
from napari_pathsam.models.encoder_layout import arrange, check
from napari_pathsam.models.encoders import (
    ENCODERS,
    EncoderSpec,
    Layout,
    VitArgs,
    load_encoder,
    random_encoder,
)
from napari_pathsam.models.sources import LocalFile

SMALL = {"embed_dim": 64, "num_heads": 4, "img_size": 64}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_PATHSAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def own(path: Path, timm: str = "vit_tiny_patch16_224", **fields) -> EncoderSpec:
    """A small encoder by specification, its weights in a local file."""
    vit = {**SMALL, "depth": 2, **fields.pop("vit", {})}
    given = {"name": "own", "token_px": 16, "embed_dim": 64, "licence": "mine", **fields}
    return EncoderSpec(timm=timm, vit=VitArgs(**vit), weights=LocalFile(path=path), **given)


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "own.safetensors"
    save_file(random_encoder(own(path)).net.state_dict(), path)
    return path


def test_a_local_checkpoint_loads_by_specification(weights):
    loaded = load_encoder(own(weights), "cpu")
    made = random_encoder(own(weights))
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(pixels, (4, 4)), made(pixels, (4, 4)))
    assert not loaded.training
    assert loaded.weights_sha256
    with pytest.raises(UnavailableError, match="no file"):
        load_encoder(own(weights.with_name("gone.pt")), "cpu")
    other = own(weights).model_copy(update={"weights": LocalFile(path=weights, sha256="0" * 64)})
    with pytest.raises(BadWeightsError, match="SHA-256 is not the one"):
        load_encoder(other, "cpu")


def test_unis_layer_scale_cannot_be_dropped_silently(tmp_path):
    """The released Path-SAM2 code loads UNI with strict=False into a ViT without LayerScale."""
    path = tmp_path / "uni.bin"
    right = own(path, "vit_large_patch16_224", vit={"depth": 24, "init_values": 1e-5})
    made = random_encoder(right)
    state = made.net.state_dict()
    assert sum(name.endswith("gamma") for name in state) == 48
    for name, tensor in state.items():
        if name.endswith("gamma"):
            tensor.uniform_(0.5, 1.5)
    torch.save(state, path)
    wrong = right.model_copy(update={"vit": right.vit.model_copy(update={"init_values": None})})
    with pytest.raises(BadWeightsError, match=r"0 tensors are missing, 48 do not belong.*gamma"):
        load_encoder(wrong, "cpu")
    pixels = torch.rand(1, 3, 64, 64)
    features = load_encoder(right, "cpu")(pixels, (4, 4))
    silently = random_encoder(wrong)
    silently.net.load_state_dict(state, strict=False)
    assert (features - silently(pixels, (4, 4))).abs().max() > 0.1
    assert ENCODERS["uni"].vit.init_values == 1e-5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("norm.weight"), "1 tensors are missing.*norm.weight"),
        (lambda s: s.update(head=torch.zeros(3)), "1 do not belong.*head"),
        (lambda s: s.update({"norm.bias": torch.zeros(9)}), "norm.bias has the shape"),
        (lambda s: s.update({"norm.bias": torch.full((64,), torch.nan)}), "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_an_error(weights, change, says):
    state = random_encoder(own(weights)).net.state_dict()
    change(state)
    save_file(state, weights)
    with pytest.raises(BadWeightsError, match=says):
        load_encoder(own(weights), "cpu")


def test_positions_are_interpolated_not_cut(tmp_path):
    """A checkpoint of another image size loads whole; the file says which size it was."""
    path = tmp_path / "large.safetensors"
    large = random_encoder(own(path, vit={"img_size": 96}))
    save_file(large.net.state_dict(), path)
    as_it_is = own(path).model_copy(
        update={"vit": own(path).vit.model_copy(update={"img_size": None})}
    )
    loaded = load_encoder(as_it_is, "cpu")
    assert loaded.spec.vit.img_size == 96
    assert torch.equal(loaded.net.pos_embed, large.net.pos_embed)
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(pixels, (4, 4)), large(pixels, (4, 4)))
    with pytest.raises(BadWeightsError, match="pos_embed has the shape"):
        load_encoder(own(path), "cpu")  # 64 px, says the specification


# --- other people's layouts ----------------------------------------------------------------------


def transformers_state(depth, width, cells, *, registers: int, gated: bool, hidden: int):
    """Names and shapes as transformers writes a Dinov2Model, from its documentation."""
    shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.mask_token": (1, width),
        "embeddings.position_embeddings": (1, 1 + cells, width),
        "embeddings.patch_embeddings.projection.weight": (width, 3, 14, 14),
        "embeddings.patch_embeddings.projection.bias": (width,),
        "layernorm.weight": (width,),
        "layernorm.bias": (width,),
    }
    if registers:
        shapes["embeddings.register_tokens"] = (1, registers, width)
    for i in range(depth):
        block = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            shapes[f"{block}attention.attention.{part}.weight"] = (width, width)
            shapes[f"{block}attention.attention.{part}.bias"] = (width,)
        shapes[f"{block}attention.output.dense.weight"] = (width, width)
        shapes[f"{block}attention.output.dense.bias"] = (width,)
        into, out = ("weights_in", "weights_out") if gated else ("fc1", "fc2")
        wide = 2 * hidden if gated else hidden
        shapes[f"{block}mlp.{into}.weight"] = (wide, width)
        shapes[f"{block}mlp.{into}.bias"] = (wide,)
        shapes[f"{block}mlp.{out}.weight"] = (width, hidden)
        shapes[f"{block}mlp.{out}.bias"] = (width,)
        for n in (1, 2):
            shapes[f"{block}layer_scale{n}.lambda1"] = (width,)
            shapes[f"{block}norm{n}.weight"] = (width,)
            shapes[f"{block}norm{n}.bias"] = (width,)
    return shapes


def transformers_forward(state, pixels, *, depth: int, heads: int, gated: bool):
    """A DINOv2 written out from its papers and transformers' names: the reference for numbers."""

    def linear(x, name):
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, name):
        return functional.layer_norm(
            x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6
        )

    patches = "embeddings.patch_embeddings.projection"
    x = functional.conv2d(pixels, state[f"{patches}.weight"], state[f"{patches}.bias"], stride=14)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["embeddings.cls_token"], x], 1) + state["embeddings.position_embeddings"]
    registers = state.get("embeddings.register_tokens")
    if registers is not None:
        x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
    for i in range(depth):
        block = f"encoder.layer.{i}."
        y = norm(x, f"{block}norm1")
        q, k, v = (
            linear(y, f"{block}attention.attention.{part}")
            .unflatten(-1, (heads, -1))
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        y = linear((weights @ v).transpose(1, 2).flatten(2), f"{block}attention.output.dense")
        x = x + y * state[f"{block}layer_scale1.lambda1"]
        y = norm(x, f"{block}norm2")
        if gated:
            first, second = linear(y, f"{block}mlp.weights_in").chunk(2, -1)
            y = linear(functional.silu(first) * second, f"{block}mlp.weights_out")
        else:
            y = linear(functional.gelu(linear(y, f"{block}mlp.fc1")), f"{block}mlp.fc2")
        x = x + y * state[f"{block}layer_scale2.lambda1"]
    prefix = 1 + (0 if registers is None else registers.shape[1])
    return norm(x, "layernorm")[:, prefix:].transpose(1, 2).unflatten(-1, (height, width))


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_transformers_dinov2_gives_the_same_features_here(tmp_path, registers, gated):
    generator = torch.Generator().manual_seed(0)
    shapes = transformers_state(2, 64, 16, registers=registers, gated=gated, hidden=88)
    state = {n: 0.3 * torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    reg = "_reg4" if registers else ""
    vit = {"img_size": 56, "mlp_ratio": (2 if gated else 1) * 88 / 64}
    spec = own(
        path,
        f"vit_small_patch14{reg}_dinov2",
        vit=vit | ({"mlp": "swiglu", "act": "silu"} if gated else {}),
        token_px=14,
        prefix_tokens=1 + registers,
        layout=Layout(names="transformers", left_out=("embeddings.mask_token",)),
    )
    pixels = torch.rand(1, 3, 56, 56, generator=generator)
    mean, std = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.std))
    expected = transformers_forward(state, (pixels - mean) / std, depth=2, heads=4, gated=gated)
    torch.testing.assert_close(
        load_encoder(spec, "cpu")(pixels, (4, 4)), expected, atol=1e-4, rtol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "depth", "width", "registers", "gated", "hidden"),
    [
        ("phikon-v2", 24, 1024, 0, False, 4096),
        ("hibou-b", 12, 768, 4, True, 2048),
        ("hibou-l", 24, 1024, 4, True, 2736),
        ("midnight-12k", 40, 1536, 0, True, 4096),
    ],
)
def test_the_published_transformers_files_fit_to_the_last_tensor(
    name, depth, width, registers, gated, hidden
):
    spec = ENCODERS[name]
    cells = (224 // spec.token_px) ** 2
    shapes = transformers_state(
        depth, width, cells, registers=registers, gated=gated, hidden=hidden
    )
    patch = "embeddings.patch_embeddings.projection.weight"
    shapes[patch] = (width, 3, spec.token_px, spec.token_px)
    with torch.device("meta"):
        table = {key: torch.empty(shape) for key, shape in shapes.items()}
    state = arrange(Path(name), table, spec)
    found = {key: tuple(t.shape) for key, t in state.items()}
    fits = encoder_files.fitted(spec, found)
    assert fits.vit.img_size == 224
    check(Path(name), encoder_files._shapes(encoder_files._skeleton(fits)), found)
    table.pop("encoder.layer.3.attention.attention.key.bias")
    state = arrange(Path(name), table, spec)
    with pytest.raises(BadWeightsError, match=r"blocks\.3\.attn\.qkv\.bias is missing"):
        check(
            Path(name),
            encoder_files._shapes(encoder_files._skeleton(fits)),
            {key: tuple(t.shape) for key, t in state.items()},
        )


def test_metas_own_dinov2_names_are_known(tmp_path):
    path = tmp_path / "dinov2.pth"
    shape = {"img_size": 56, "mlp": "swiglu", "act": "silu", "mlp_ratio": 2.75}
    spec = own(
        path,
        "vit_small_patch14_reg4_dinov2",
        vit=shape,
        token_px=14,
        prefix_tokens=5,
        layout=Layout(names="dinov2", left_out=("mask_token",)),
    )
    ours = random_encoder(spec).net.state_dict()
    table = {}
    for name, tensor in ours.items():
        name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
        table[name.replace("reg_token", "register_tokens")] = tensor
    table["pos_embed"] = torch.cat([torch.ones(1, 1, 64), table["pos_embed"]], 1)
    table["mask_token"] = torch.zeros(1, 64)
    torch.save(table, path)
    loaded = load_encoder(spec, "cpu").net.state_dict()
    torch.testing.assert_close(loaded.pop("cls_token"), ours.pop("cls_token") + 1)
    for name, tensor in loaded.items():
        assert torch.equal(tensor, ours[name])


def test_hipts_checkpoint_is_read_as_dino_wrote_it(tmp_path):
    """The teacher among the student, the optimiser's state and the command line."""
    path = tmp_path / "vit256_small_dino.pth"
    spec = own(path, "vit_small_patch16_224", layout=ENCODERS["hipt-s16"].layout)
    ours = random_encoder(spec).net.state_dict()
    teacher = {f"module.backbone.{name}": tensor for name, tensor in ours.items()}
    teacher["module.head.mlp.0.weight"] = torch.zeros(3, 3)
    torch.save(
        {"teacher": teacher, "student": {}, "epoch": 7, "args": argparse.Namespace(lr=1e-4)}, path
    )
    for name, tensor in load_encoder(spec, "cpu").net.state_dict().items():
        assert torch.equal(tensor, ours[name])
    torch.save({"student": teacher}, path)
    with pytest.raises(BadWeightsError, match="under the name 'teacher'"):
        load_encoder(spec, "cpu")


# --- importing and the cache ---------------------------------------------------------------------


def test_an_imported_checkpoint_is_kept_as_safetensors_and_found_by_name(weights, cache):
    pickled = weights.with_suffix(".pth")
    torch.save(random_encoder(own(weights)).net.state_dict(), pickled)
    assert encoder_files.import_encoder(pickled, own(pickled)) == "own"
    pickled.unlink()
    assert sorted(p.name for p in cache.rglob("*.*")) == ["own.safetensors", "sha256.json"]
    assert encoders.find_encoder("own").embed_dim == 64
    loaded = load_encoder("own", "cpu")
    assert torch.equal(loaded.net.norm.weight, random_encoder(own(weights)).net.norm.weight)
    kept = cache / "encoders" / "own.safetensors"
    with kept.open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(BadWeightsError, match="has changed since it was written"):
        load_encoder("own", "cpu")


def test_a_catalogue_name_never_stands_for_foreign_weights(weights):
    with pytest.raises(BadWeightsError, match="not the published one of uni"):
        encoder_files.import_encoder(weights, ENCODERS["uni"])
    with pytest.raises(BadWeightsError, match="tensors are missing"):
        encoder_files.import_encoder(weights, ENCODERS["kaiko-s16"])  # no published checksum
    with pytest.raises(UnavailableError, match=r"models fetch uni.*1\.2 GB.*CC-BY-NC-ND.*; sha256"):
        load_encoder("uni")
    with pytest.raises(UnavailableError, match="no checksum of it is known here"):
        load_encoder("dinov2-s")


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path):
    proof, path = tmp_path / "executed", tmp_path / "evil.pt"
    torch.save({"norm.weight": torch.zeros(1), "x": Attack(proof)}, path)
    with pytest.raises(BadWeightsError, match="not run"):
        load_encoder(own(path), "cpu")
    for content in (b"", b"not a checkpoint", b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(BadWeightsError):
            load_encoder(own(path), "cpu")
    assert not proof.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"timm": "hf-hub:someone/model"},
        {"timm": "hf_hub:someone/model"},
        {"timm": "vit_tiny/../x"},
        {"name": "../elsewhere"},
        {"embed_dim": 10**6},
        {"prefix_tokens": 500},
        {"window_px": 100},
        {"std": (0, 0, 0)},
        {"unknown": 1},
        {"vit": {"depth": 10**6}},
        {"vit": {"img_size": 10**6}},
        {"weights": {"kind": "packaged", "file": "../../etc/passwd"}},
        {"weights": {"kind": "url", "url": "file:///etc/passwd", "sha256": None, "size": 1}},
    ],
)
def test_a_hostile_specification_is_refused(tmp_path, change):
    fields = own(tmp_path / "x").model_dump(mode="json") | change
    with pytest.raises(ValidationError):
        EncoderSpec.model_validate(fields)


def test_the_documented_specification_is_imported_and_used(tmp_path, cache):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    text = page.split("```json\n")[1].split("```")[0]
    described, file = tmp_path / "my-vit.json", tmp_path / "my-vit.safetensors"
    described.write_text(text)
    net = timm.create_model(json.loads(text)["timm"], pretrained=False, depth=1)
    assert net.head.weight.ndim == 2  # with its classifier, as people have it
    save_file(net.state_dict(), file)
    spec = encoder_files.read_spec(described)
    spec = spec.model_copy(update={"vit": VitArgs(depth=1)})  # the real one is twelve times slower
    assert encoder_files.import_encoder(file, spec) == "my-vit"
    assert load_encoder("my-vit", "cpu")(torch.rand(1, 3, 224, 224), (14, 14)).shape[1] == 192
    for name in EncoderSpec.model_fields.keys() - {"licence_url", "gated"}:
        assert f"`{name}`" in page or f'"{name}"' in page

    whole = spec.model_copy(update={"layout": Layout()})
    with pytest.raises(BadWeightsError, match=r'head\.weight does not belong.*"left_out": \["head'):
        encoder_files.import_encoder(file, whole)
    torch.save({"epoch": 3, "model": net.state_dict()}, file.with_suffix(".pt"))
    with pytest.raises(BadWeightsError, match=r"but epoch, model: `layout` says with `key`"):
        encoder_files.import_encoder(file.with_suffix(".pt"), whole)
    for missing, says in (("kind", '"kind": "local"'), ("path", "path: it is missing")):
        fields = json.loads(text)
        del fields["weights"][missing]
        described.write_text(json.dumps(fields))
        with pytest.raises(BadWeightsError, match=f"weights.*{says}.*docs/training.md"):
            encoder_files.read_spec(described)


def test_what_timm_cannot_build_is_said(tmp_path):
    spec = own(tmp_path / "x")
    with pytest.raises(BadWeightsError, match="cannot build 'vit_nothing'"):
        random_encoder(spec.model_copy(update={"timm": "vit_nothing"}))
    with pytest.raises(BadWeightsError, match="width 64 and 1 prefix tokens, not 64 and 3"):
        random_encoder(spec.model_copy(update={"prefix_tokens": 3}))
    assert isinstance(random_encoder(spec).net, nn.Module)
