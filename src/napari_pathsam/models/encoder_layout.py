"""Published encoder weights: read without executing anything, put under timm's names, all of them.

The layouts: timm's own; Meta's DINOv2; transformers' ``Dinov2Model`` (with or without registers).
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.encoder_spec import EncoderSpec

_FROM_TRANSFORMERS = (
    (r"^embeddings\.(cls_token|mask_token)$", r"\1"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
_FROM_DINOV2 = (
    (r"^register_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
_RENAMED = {"timm": (), "dinov2": _FROM_DINOV2, "transformers": _FROM_TRANSFORMERS}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a ``.safetensors`` file or a PyTorch checkpoint holds; nothing in it is executed.

    Raises
    ------
    BadWeightsError
        It is damaged, of another kind, or holds more than tensors and plain values.
    UnavailableError
        There is no such file.
    """
    if not path.is_file():
        raise UnavailableError(f"There is no file {path}. Check the path.")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        packed = zipfile.is_zipfile(path)
        if packed:
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(item.file_size for item in archive.infolist())
            if unpacked > path.stat().st_size:
                raise refused(path, "it is compressed, which PyTorch checkpoints are not")
        # DINO keeps its command line in its checkpoints: a bare holder of values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=packed)
    except pickle.UnpicklingError as error:
        raise refused(
            path, "it is no checkpoint, or holds more than tensors, perhaps code, which was not run"
        ) from error
    except (zipfile.BadZipFile, SafetensorError, RuntimeError, EOFError, OSError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise refused(path, f"it is damaged, truncated or of another kind ({why})") from error
    except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise refused(path, f"it is damaged or of another kind ({error})") from error
    return found if isinstance(found, dict) else {}


def arranged(path: Path, spec: EncoderSpec) -> dict[str, Tensor]:
    """The tensors of a published checkpoint under timm's names."""
    return arrange(path, read_checkpoint(path), spec)


def arrange(path: Path, table: Any, spec: EncoderSpec) -> dict[str, Tensor]:
    """What was read from ``path`` under timm's names.

    Nothing is dropped except what the specification names; what does not fit the network is left
    for :func:`check` to find.
    """
    layout = spec.layout
    if layout.key is not None:
        table = table.get(layout.key, {})
    if not isinstance(table, dict) or not any(isinstance(t, Tensor) for t in table.values()):
        where = "" if layout.key is None else f" under the name {layout.key!r}"
        held = ", ".join(map(str, list(table)[:5])) if isinstance(table, dict) else ""
        raise refused(
            path,
            f"it has no table of tensors{where}"
            + (f", but {held}: `layout` says with `key` which of them is one" if held else ""),
        )
    state: dict[str, Tensor] = {}
    for name, tensor in table.items():
        key = str(name)
        for prefix in layout.strip:
            key = key.removeprefix(prefix)
        if key.startswith(layout.left_out):
            continue
        if not isinstance(tensor, Tensor):
            raise refused(path, f"{name} is not a tensor")
        for old, new in _RENAMED[layout.names]:
            key = re.sub(old, new, key)
        state[key] = tensor
    state = _joined_qkv(state)
    return state if layout.names == "timm" else _without_class_position(state)


def _joined_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of a block become one tensor, where all three are there."""
    joined = dict(state)
    for name in state:
        if ".attn.query." not in name:
            continue
        three = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in joined for part in three):
            qkv = torch.cat([joined.pop(part) for part in three])
            joined[name.replace(".query.", ".qkv.")] = qkv
    return joined


def _without_class_position(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With registers timm adds no position to the class token: it becomes part of the token."""
    if not {"reg_token", "cls_token", "pos_embed"} <= set(state):
        return state
    position = state["pos_embed"]
    return state | {
        "cls_token": state["cls_token"] + position[:, :1],
        "pos_embed": position[:, 1:],
    }


def fitted(spec: EncoderSpec, shapes: Mapping[str, tuple[int, ...]]) -> EncoderSpec:
    """The specification with the image size whose positions these weights store.

    Position embeddings are never cut or dropped: the network is built for as many as there are,
    and interpolates them when it is used.
    """
    shape = shapes.get("pos_embed", ())
    if spec.vit is None or spec.vit.img_size is not None or len(shape) != 3:
        return spec
    for cells in (shape[1] - spec.prefix_tokens, shape[1]):
        side = math.isqrt(max(0, cells))
        if side > 0 and side * side == cells:
            vit = spec.vit.model_dump() | {"img_size": side * spec.token_px}
            return EncoderSpec.model_validate(spec.model_dump() | {"vit": vit})
    return spec


def check(
    path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Every tensor of the network is there in its shape, and no other one."""
    missing = [f"{name} is missing" for name in wanted if name not in found]
    extra = [f"{name} does not belong" for name in found if name not in wanted]
    other = [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if problems := missing + extra + other:
        shown = "; ".join(problems[:3]) + ("; …" if len(problems) > 3 else "")
        raise refused(
            path,
            f"{len(missing)} tensors are missing, {len(extra)} do not belong, {len(other)} have "
            f"another shape: {shown}{_advice(missing, extra)}",
        )


def _advice(missing: Sequence[str], extra: Sequence[str]) -> str:
    """What of the specification may put other names right."""
    if not extra:
        return ""
    if missing:
        return (
            ". If these are the same tensors under other names, `layout` says so: `strip` takes "
            "prefixes off, `names` is timm, dinov2 or transformers"
        )
    return (
        ". What is no part of the network, such as a classifier, is named in `layout`: "
        '"layout": {"left_out": ["head."]}. What is part of it `vit` has to ask for, as '
        "`init_values` does for LayerScale (gamma)"
    )


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Every weight is a number."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise refused(path, f"{name} has values that are not finite numbers")


def refused(path: Path, why: str) -> BadWeightsError:
    """The readable form of a file that is not the encoder it should be."""
    return BadWeightsError(
        f"{path} cannot be used as an encoder: {why}. Nothing was loaded. Take the file its "
        "authors publish, or correct the specification it is read by."
    )
