"""Weights from elsewhere: fetched, verified, imported; kept in the user's cache folder.

Meta's checkpoints are read with ``weights_only=True`` and turned into model files of our own, once;
what is loaded afterwards is safetensors. The SHA-256 of every file in the cache is recorded when it
is written, and checked each time it is loaded.
"""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models import sam
from napari_pathsam.models.coco_start import import_coco
from napari_pathsam.models.hub import Progress, sha256_of
from napari_pathsam.models.ledger import cache_dir, fetch_into, record
from napari_pathsam.models.model_file import (
    ModelCard,
    check_layout,
    load_model_file,
    read_card,
    replacing,
    save_model,
)
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS, HieraConfig, Sam2Config
from napari_pathsam.models.sources import HubFile, Url

if TYPE_CHECKING:
    from napari_pathsam.models.catalogue import ModelEntry

__all__ = [
    "ModelCard",
    "cache_dir",
    "cached_path",
    "fetch",
    "import_checkpoint",
    "imported_models",
    "load_model_file",
    "read_card",
    "save_model",
    "verify",
]

# Parts of Meta's checkpoints that follow objects through videos; images need none of them.
VIDEO_PARTS = (
    "memory_attention.", "memory_encoder.", "maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_ptr",
    "no_obj_embed_spatial", "obj_ptr_proj.", "obj_ptr_tpos_proj.", "mask_downsample.",
)  # fmt: skip
ONLY_IN_2_1 = "no_obj_embed_spatial"


def cached_path(name: str) -> Path:
    """Where the model of this name lies, or would lie, in the cache."""
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise UnavailableError(
            f"{name!r} is neither the name of a model nor a file; `pathsam models list` shows "
            "the names there are."
        )
    return cache_dir() / f"{name}.safetensors"


def imported_models() -> tuple[str, ...]:
    """Names of all models in the cache, fetched and imported ones."""
    return tuple(sorted(path.stem for path in cache_dir().glob("*.safetensors")))


def verify(name: str) -> Path:
    """Check a fetched or imported model whole: recorded SHA-256, tensors, shapes, values.

    Raises BadWeightsError when something is wrong, UnavailableError when it was not fetched.
    """
    from napari_pathsam.models.catalogue import load_model

    load_model(name, "cpu")
    return cached_path(name)


# --- fetching ------------------------------------------------------------------------------------


def fetch(
    entry: ModelEntry,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Download a model's weights once, verify them and keep them as a model file.

    Parameters
    ----------
    entry
        From the catalogue; packaged models need no fetching and give their own path.
    progress
        Called with the bytes received and the bytes expected.
    cancelled
        Asked now and then; once it says True the download stops and leaves nothing.

    Raises
    ------
    Cancelled, UnavailableError, BadWeightsError
        Stopped by the user; no network, space or permission; not the file it should be.
    """
    source = entry.weights
    if not isinstance(source, Url | HubFile):
        return source.path
    path = cached_path(entry.name)

    def keep(checkpoint: Path, digest: str) -> None:
        if entry.kind == "start":
            import_coco(checkpoint, digest, source.url, path)
            record(path, sha256_of(path))
        else:
            _import_meta(checkpoint, entry.name, digest, source.url, SAM2_CONFIGS[entry.name])

    return fetch_into(path, entry.name, source, keep, progress=progress, cancelled=cancelled)


# --- importing -----------------------------------------------------------------------------------


def import_checkpoint(path: str | Path) -> str:
    """Take a copy of a local file into the cache; returns the name to load it by.

    Parameters
    ----------
    path
        Meta's ``.pt`` of a SAM 2.1 model (tiny to large are told apart by their shapes), or a
        model file of this package. A file with Meta's published SHA-256 gets the catalogue's name,
        any other one its own, so that a catalogue name never stands for foreign weights.

    Raises
    ------
    BadWeightsError
        The file is damaged, of another model, or wants to execute code; nothing was changed.
    """
    from napari_pathsam.models.catalogue import MODELS

    path = Path(path).expanduser()
    if not path.is_file():
        raise UnavailableError(f"There is no file {path}. Check the path.")
    if path.suffix == ".safetensors":
        found = read_card(path).config
        if not isinstance(found, Sam2Config):
            return _import_knowing(path, found.name)
        model, card = load_model_file(path)
        name = _free_name(model.name)
        model.config = model.config.model_copy(update={"name": name})
        rest = card.model_dump(exclude={"config", "format"})
        _keep(name, model, rest)
        return name
    digest = sha256_of(path)
    for entry in MODELS.values():
        if isinstance(entry.weights, Url | HubFile) and entry.weights.sha256 == digest:
            _import_meta(path, entry.name, digest, entry.weights.url, SAM2_CONFIGS[entry.name])
            return entry.name
    name = _free_name(path.stem)
    _import_meta(path, name, digest, path.name, None)
    return name


def _import_knowing(path: Path, wish: str) -> str:
    """A copy of the file of a model with classes, once it was loaded with what it stands on."""
    from napari_pathsam.models.catalogue import load_model

    load_model(path, "cpu")
    name = _free_name(wish)
    kept = cached_path(name)
    with replacing(kept) as new:
        shutil.copyfile(path, new)
    record(kept, sha256_of(kept))
    return name


def _free_name(wish: str) -> str:
    """A plain name that is not the catalogue's."""
    from napari_pathsam.models.catalogue import MODELS

    name = re.sub(r"[^\w.+-]+", "-", wish).lstrip(".+-") or "model"
    return f"{name}-imported" if name in MODELS else name


def _import_meta(
    path: Path, name: str, digest: str, source: str, config: Sam2Config | None
) -> None:
    """Meta's checkpoint → a model file in the cache under ``name``."""
    from napari_pathsam.models.catalogue import MODELS

    state = read_meta_checkpoint(path)
    recognised = recognise(path, state)
    if config is not None and recognised.trunk != config.trunk:
        raise _foreign(path, f"it is {recognised.name}, not {config.name}")
    recognised = config or recognised  # MedSAM2 has the shapes of SAM 2.1 tiny
    model = Sam2(recognised.model_copy(update={"name": name}))
    wanted = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    if recognised.is_sam1:
        state = sam.renamed(state)
    for_images = {key: t for key, t in state.items() if not key.startswith(VIDEO_PARTS)}
    check_layout(path, wanted, {key: tuple(t.shape) for key, t in for_images.items()})
    model.load_state_dict(for_images)
    card = {
        "licence": MODELS[recognised.name].licence,
        "base": [{"name": recognised.name, "sha256": digest}],
        "provenance": {"source": source, "converted_from": "Meta's checkpoint layout"},
    }
    _keep(name, model, card)


def _keep(name: str, model: Sam2, card: dict) -> None:
    path = cached_path(name)
    save_model(path, model, card)
    record(path, sha256_of(path))


def read_meta_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of ``{"model": state_dict}`` or a plain one; nothing in it is executed."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > path.stat().st_size:
            raise _foreign(path, "it is compressed, which PyTorch checkpoints are not")
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _foreign(
            path, "it holds more than tensors, perhaps code, which was not executed"
        ) from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _foreign(path, f"it is damaged, truncated or of another kind ({why})") from error
    state = found.get("model", found) if isinstance(found, dict) else None  # SAM 1: no "model"
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(t, Tensor) and t.is_floating_point()
        for key, t in state.items()
    ):
        raise _foreign(path, 'it has no table of tensors, with or without the name "model"')
    return state


def recognise(path: Path, state: dict[str, Tensor]) -> Sam2Config:
    """Which SAM these tensors are, by the width and the depth of the trunk."""
    if sam.PATCHES in state:
        if sam.vit_size(state) != (768, 12):
            raise _foreign(path, "it is a SAM 1 of another size than ViT-B")
        return SAM2_CONFIGS["sam-vit-b"]
    patch = state.get("image_encoder.trunk.patch_embed.proj.weight")
    block = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
    depth = len({m[1] for key in state if (m := block.match(key))})
    width = patch.shape[0] if patch is not None and patch.ndim else 0
    for config in SAM2_CONFIGS.values():
        trunk = config.trunk
        if not isinstance(trunk, HieraConfig) or trunk.embed_dim != width:
            continue
        if sum(trunk.stages) == depth:
            if ONLY_IN_2_1 not in state:
                raise _foreign(path, "it looks like SAM 2.0, and only 2.1 is known here")
            return config
    raise _foreign(path, "its trunk is that of no SAM 2.1 model")


def _foreign(path: Path, why: str) -> BadWeightsError:
    return BadWeightsError(
        f"{path} was not imported: {why}. Wanted is one of Meta's released checkpoints of "
        "SAM 2.1 (.pt, tiny to large) or SAM ViT-B (.pth), a fine-tune of one, or a .safetensors "
        "model file of this package. Nothing was changed."
    )
