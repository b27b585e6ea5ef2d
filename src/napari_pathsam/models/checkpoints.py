"""Weights from elsewhere: fetched, verified, imported; kept in the user's cache folder.

Meta's checkpoints are read with ``weights_only=True`` and turned into model files of our own, once;
what is loaded afterwards is safetensors. The SHA-256 of every file in the cache is recorded when it
is written, and checked each time it is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError, Cancelled, UnavailableError
from napari_pathsam.models.model_file import (
    ModelCard,
    cannot_write,
    check_layout,
    load_model_file,
    read_card,
    replacing,
    save_model,
)
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS, HieraConfig, Sam2Config

if TYPE_CHECKING:
    from napari_pathsam.models.catalogue import ModelEntry, Url

__all__ = [
    "ModelCard",
    "cache_dir",
    "cached_path",
    "fetch",
    "import_checkpoint",
    "imported_models",
    "load_cached",
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
SIZE_TOLERANCE = 0.02  # of sizes that follow from the number of weights
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def cache_dir() -> Path:
    """Where fetched and imported models are kept; NAPARI_PATHSAM_CACHE overrides it."""
    from platformdirs import user_cache_dir

    base = os.environ.get("NAPARI_PATHSAM_CACHE") or user_cache_dir("napari-pathsam", False)
    return Path(base) / "models"


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


def load_cached(path: Path) -> Sam2:
    """A model from the cache, after its SHA-256 was compared with the recorded one."""
    _verify_recorded(path)
    return load_model_file(path)[0]


def verify(name: str) -> Path:
    """Check a fetched or imported model whole: recorded SHA-256, tensors, shapes, values.

    Raises BadWeightsError when something is wrong, UnavailableError when it was not fetched.
    """
    path = cached_path(name)
    load_cached(path)
    return path


# --- fetching ------------------------------------------------------------------------------------


def fetch(
    entry: ModelEntry,
    *,
    progress: Callable[[int, int], None] | None = None,
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
    from napari_pathsam.models.catalogue import Packaged

    if isinstance(entry.weights, Packaged):
        return entry.weights.path
    path = cached_path(entry.name)
    if path.is_file():
        try:
            _verify_recorded(path)
            return path
        except BadWeightsError:
            path.unlink()  # damaged since it was written: fetch it again
    _check_room(entry)
    checkpoint = _download(entry, entry.weights, _Meter(entry, progress, cancelled))
    try:
        _check_size(checkpoint, entry)
        digest = sha256_of(checkpoint)
        _import_meta(checkpoint, entry.name, digest, entry.weights.url, SAM2_CONFIGS[entry.name])
        if entry.weights.sha256 is None:
            _record(entry.weights.url, digest)
    finally:
        checkpoint.unlink(missing_ok=True)
    return path


class _Meter:
    """Pooch's progress object: passes progress on, and stops a download by raising."""

    def __init__(
        self,
        entry: ModelEntry,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.entry, self.progress, self.cancelled = entry, progress, cancelled
        self.total, self.done = entry.size, 0

    def update(self, n: int) -> None:
        if self.cancelled and self.cancelled():
            raise Cancelled(f"Fetching {self.entry.name} was cancelled; nothing was kept.")
        self.done += n
        if self.done > 1.1 * self.entry.size + 2**21:
            raise BadWeightsError(
                f"The server sends more than the {self.entry.size_text} that {self.entry.name} "
                "has; the download was stopped and nothing was kept. Try another network."
            )
        if self.progress:
            expected = self.total or self.entry.size
            self.progress(min(self.done, expected), expected)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        pass


def _download(entry: ModelEntry, source: Url, meter: _Meter) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    known = source.sha256 or _recorded().get(source.url)
    meter.update(0)  # a cancel that came first needs no connection
    try:
        return Path(
            pooch.retrieve(
                source.url,
                known_hash=f"sha256:{known}" if known else None,
                fname=source.url.rsplit("/", 1)[-1],
                path=cache_dir(),
                downloader=pooch.HTTPDownloader(progressbar=meter, chunk_size=2**20, timeout=30),
            )
        )
    except BadWeightsError:
        raise
    except ValueError as error:
        raise BadWeightsError(
            f"What {source.url} sent is not the published file of {entry.name}: its SHA-256 is "
            "another one. It was thrown away. Try again, or from another network."
        ) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            raise cannot_write(cache_dir(), error) from error
        raise UnavailableError(
            f"{entry.name} could not be fetched from {source.url}: {error}. Check the network, or "
            "get the file elsewhere and give it to `pathsam models import FILE`."
        ) from error


def _check_room(entry: ModelEntry) -> None:
    """The checkpoint and the model file made from it both lie in the cache for a moment."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    free, needed = shutil.disk_usage(folder).free, 2 * entry.size
    if free < needed:
        raise UnavailableError(
            f"Fetching {entry.name} needs {needed / 1e6:.0f} MB in {folder}, where "
            f"{free / 1e6:.0f} MB are free. Free some space, or name another folder in the "
            "variable NAPARI_PATHSAM_CACHE."
        )


def _check_size(path: Path, entry: ModelEntry) -> None:
    assert not isinstance(entry.weights, str)
    size = path.stat().st_size
    exact = getattr(entry.weights, "exact_size", False)
    allowed = 0 if exact else SIZE_TOLERANCE * entry.size
    if abs(size - entry.size) > allowed:
        raise BadWeightsError(
            f"What was fetched for {entry.name} has {size:,} bytes instead of "
            f"{'' if exact else 'about '}{entry.size:,}. It was thrown away. Try again."
        )


# --- recorded hashes -----------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recorded() -> dict[str, str]:
    """SHA-256 by file name, or by URL where nobody published one."""
    try:
        found = json.loads((cache_dir() / "sha256.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _record(key: str, digest: str) -> None:
    known = {**_recorded(), key: digest}
    with replacing(cache_dir() / "sha256.json") as new:
        new.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")


def _verify_recorded(path: Path) -> None:
    if not path.is_file():
        raise UnavailableError(
            f"{path.stem} was not fetched yet; `pathsam models fetch {path.stem}` does it."
        )
    known = _recorded().get(path.name)
    if known is not None and sha256_of(path) != known:
        raise BadWeightsError(
            f"{path} has changed since it was written: its SHA-256 is not the recorded one. It "
            f"was not loaded. `pathsam models fetch {path.stem}` or `pathsam models import` "
            "replaces it."
        )


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
    from napari_pathsam.models.catalogue import MODELS, Url

    path = Path(path).expanduser()
    if not path.is_file():
        raise UnavailableError(f"There is no file {path}. Check the path.")
    if path.suffix == ".safetensors":
        model, card = load_model_file(path)
        name = _free_name(model.name)
        model.config = model.config.model_copy(update={"name": name})
        rest = card.model_dump(exclude={"config", "format"})
        _keep(name, model, rest)
        return name
    digest = sha256_of(path)
    for entry in MODELS.values():
        if isinstance(entry.weights, Url) and entry.weights.sha256 == digest:
            _import_meta(path, entry.name, digest, entry.weights.url, SAM2_CONFIGS[entry.name])
            return entry.name
    name = _free_name(path.stem)
    _import_meta(path, name, digest, path.name, None)
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
    state = read_meta_checkpoint(path)
    recognised = recognise(path, state)
    if config is not None and recognised.name != config.name:
        raise _foreign(path, f"it is {recognised.name}, not {config.name}")
    model = Sam2(recognised.model_copy(update={"name": name}))
    wanted = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    for_images = {key: t for key, t in state.items() if not key.startswith(VIDEO_PARTS)}
    check_layout(path, wanted, {key: tuple(t.shape) for key, t in for_images.items()})
    model.load_state_dict(for_images)
    card = {
        "licence": "Apache-2.0",
        "base": [{"name": recognised.name, "sha256": digest}],
        "provenance": {"source": source, "converted_from": "Meta's checkpoint layout"},
    }
    _keep(name, model, card)


def _keep(name: str, model: Sam2, card: dict) -> None:
    path = cached_path(name)
    save_model(path, model, card)
    _record(path.name, sha256_of(path))


def read_meta_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of ``{"model": state_dict}``; nothing in the file is executed."""
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
    state = found.get("model") if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(t, Tensor) and t.is_floating_point()
        for key, t in state.items()
    ):
        raise _foreign(path, 'it has no table of tensors under the name "model"')
    return state


def recognise(path: Path, state: dict[str, Tensor]) -> Sam2Config:
    """Which SAM 2.1 these tensors are, by the width and the depth of the trunk."""
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
        f"{path} was not imported: {why}. Wanted is one of Meta's released SAM 2.1 checkpoints "
        "(.pt, tiny to large) or a .safetensors model file of this package. Nothing was changed."
    )
