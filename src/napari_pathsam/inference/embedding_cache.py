"""The embedding cache: what was encoded once is not encoded again; in memory, then on disk.

An entry is found by its key: a digest of the pixels, of the weights that encode and of the
settings. Embeddings are rounded to half precision when they are *made*, whether they are kept or
not, so a hit and a miss give the same numbers. What is on disk may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.inference.embedding_entry import Entry, Precision, read_entry, write_entry
from napari_pathsam.io._files import replacing
from napari_pathsam.models.embedding import ImageEmbedding

if TYPE_CHECKING:
    from napari_pathsam.models.class_model import ClassModel
    from napari_pathsam.models.sam2 import Sam2
    from napari_pathsam.models.wsi_sam import WsiSam

PARTS = frozenset({"image_embed", "high_res", "trunk", "pathology", "coarser"})
MEMORY_BYTES = 2**30
DISK_BYTES = 10 * 2**30
SPARE = 32
"""Of a full folder one part in so many is emptied at once."""
SUFFIX = ".embedding.zarr.zip"
STALE_S = 3600.0
"""Unfinished files older than this were left by a process that was killed."""

ENCODING = (
    "image_encoder.", "no_mem_embed", "sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.",
    "pathology.",
)  # fmt: skip
"""How the names of the tensors begin that take part in encoding."""

logger = logging.getLogger(__name__)
_identities: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


def model_identity(model: Sam2 | ClassModel | WsiSam) -> str:
    """Name and digest of the weights that encode: what an embedding depends on.

    Heads on one base share it; the prompt encoder and the mask decoder do not count, but for the
    two convolutions whose outputs an embedding holds. A changed weight changes it.
    """
    tensors = [(name, t) for name, t in model.state_dict(keep_vars=True).items() if _encodes(name)]
    stamp = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for _, t in tensors)
    known = _identities.get(model)
    if known is None or known[0] != stamp:
        base: Any = model.base if hasattr(model, "base") else model
        digest = hashlib.blake2b(base.config.model_dump_json().encode(), digest_size=16)
        for name, tensor in tensors:
            digest.update(f"{name.removeprefix('base.')} {tensor.dtype} {tensor.shape}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        name = getattr(model, "embedding_name", base.name)
        known = _identities[model] = (stamp, f"{name} {digest.hexdigest()}")
    return known[1]


def _encodes(name: str) -> bool:
    """Whether a tensor of this name takes part in encoding."""
    return name.removeprefix("base.").startswith(ENCODING)


class EmbeddingCache:
    """Embeddings by key: the ones used last in memory, more of them on disk.

    Safe to use from several threads, and from several processes with one folder.

    Parameters
    ----------
    memory_bytes
        Limit of what is kept in memory; the oldest go first.
    disk
        A folder of the cache's own, made when needed; None: memory only.
    disk_bytes
        Limit of what is kept there.
    """

    def __init__(
        self,
        memory_bytes: int = MEMORY_BYTES,
        disk: Path | None = None,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self._memory_bytes, self._disk, self._disk_bytes = memory_bytes, disk, disk_bytes
        self._kept: OrderedDict[str, Entry] = OrderedDict()
        self._held = 0
        self._unlisted = 0  # bytes that may be stored before the folder is listed again
        self._lock, self._listing = threading.Lock(), threading.Lock()
        self._busy: dict[str, tuple[threading.Lock, int]] = {}

    @staticmethod
    def key(pixels: NDArray[np.uint8], identity: str, settings: Any = None) -> str:
        """The name of an embedding.

        Parameters
        ----------
        pixels
            ``(H, W, 3)``, as they are given to the model.
        identity
            :func:`model_identity` of the model.
        settings
            Whatever else changes the result (input size, octaves …); anything JSON can hold.
        """
        about = [identity, list(pixels.shape), str(pixels.dtype), settings]
        digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=20)
        digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()

    @property
    def disk(self) -> Path | None:
        """Where more is kept than memory holds."""
        return self._disk

    def get_or_encode(
        self,
        key: str,
        encode: Callable[[], ImageEmbedding],
        *,
        keep: frozenset[str] | None = None,
        precision: Precision = "half",
        device: torch.device | str = "cpu",
    ) -> ImageEmbedding:
        """The embedding of this key; ``encode`` is called when there is none.

        Parameters
        ----------
        key
            From :meth:`key`.
        encode
            Makes the embedding, with everything in it.
        keep
            The parts wanted, of :data:`PARTS`; None: all. What is not wanted comes back empty
            (``image_embed`` without channels), hit or miss.
        precision
            ``half``: float32 tensors whose values half precision holds. A tensor that reaches
            beyond half precision's range stays single.
        device
            Where the tensors are wanted.
        """
        wanted = PARTS if keep is None else keep
        if unknown := wanted - PARTS:
            raise ValueError(f"keep={sorted(unknown)}: an embedding has {sorted(PARTS)}")
        name = f"{key}-{precision}"
        with self._alone(name):
            found = self._recall(name)
            if found is None or not wanted <= found.parts:
                parts = wanted if found is None else wanted | found.parts
                found = Entry.of(encode(), parts, precision)
                self._keep(name, found)
                self._store(name, found)
        return found.ready(wanted, torch.device(device))

    def has(
        self, key: str, *, keep: frozenset[str] | None = None, precision: Precision = "half"
    ) -> bool:
        """Whether :meth:`get_or_encode` would find it, as far as can be told without reading."""
        name = f"{key}-{precision}"
        with self._lock:
            if name in self._kept:
                return (PARTS if keep is None else keep) <= self._kept[name].parts
        return self._disk is not None and self._path(name).is_file()

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._held

    @property
    def disk_nbytes(self) -> int:
        """What lies on disk."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> None:
        """Let go of everything, on disk too."""
        with self._lock:
            self._kept.clear()
            self._held = 0
        for _, _, path in self._files():
            _remove(path)

    # --- memory ------------------------------------------------------------------------------

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One thread at a time for each entry: the second one finds what the first one made."""
        with self._lock:
            lock, n = self._busy.get(name, (threading.Lock(), 0))
            self._busy[name] = (lock, n + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, n = self._busy.pop(name)
                if n > 1:
                    self._busy[name] = (lock, n - 1)

    def _recall(self, name: str) -> Entry | None:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        if self._disk is None:
            return None
        found = read_entry(self._path(name), name)
        if found is not None:
            self._keep(name, found)
        return found

    def _keep(self, name: str, entry: Entry) -> None:
        if entry.nbytes > self._memory_bytes:
            return
        with self._lock:
            old = self._kept.pop(name, None)
            self._held += entry.nbytes - (0 if old is None else old.nbytes)
            self._kept[name] = entry
            while self._held > self._memory_bytes:
                self._held -= self._kept.popitem(last=False)[1].nbytes

    # --- disk --------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        assert self._disk is not None
        return self._disk / f"{name}{SUFFIX}"

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each entry was used last, its bytes and its path, oldest first."""
        if self._disk is None or not self._disk.is_dir():
            return []
        found = []
        for entry in os.scandir(self._disk):
            if entry.name.endswith(SUFFIX):
                try:
                    about = entry.stat()
                except OSError:  # another process was faster
                    continue
                found.append((about.st_mtime, about.st_size, Path(entry.path)))
        return sorted(found)

    def _store(self, name: str, entry: Entry) -> None:
        """A full or read-only disk costs the entry, not the work."""
        if self._disk is None or entry.nbytes > self._disk_bytes:
            return
        try:
            self._disk.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(name)) as path:
                write_entry(path, name, entry)
            size = self._path(name).stat().st_size
        except (OSError, BadFileError) as error:
            logger.warning("An embedding was not kept on disk: %s", error)
            return
        with self._listing:
            self._unlisted -= size
            if self._unlisted >= 0:
                return
            self._unlisted = self._make_room()

    def _make_room(self) -> int:
        """List the folder, and remove what is too much; so many bytes may come until the next time.

        Ten thousand entries take a third of a second to list. Half of the room that is left is
        others', who write here, too; at the limit a little more is removed than is needed.
        """
        files = self._files()
        used, spare = sum(size for _, size, _ in files), self._disk_bytes // SPARE
        for _, size, path in files[:-1]:
            if used <= self._disk_bytes - spare:
                break
            _remove(path)
            used -= size
        assert self._disk is not None
        newest = files[-1][0] if files else 0.0
        for path in self._disk.glob(f".*{SUFFIX}.*.part"):
            try:
                if path.stat().st_mtime < newest - STALE_S:
                    _remove(path)
            except OSError:
                continue
        return max(0, self._disk_bytes - used) // 2


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # open elsewhere, on Windows: it goes the next time
        logger.debug("%s could not be removed", path)


def embedding_of(
    model: Any,
    pixels: NDArray[np.uint8],
    *,
    mpp: float | None = None,
    cache: EmbeddingCache | None = None,
    surroundings: NDArray[np.uint8] | None = None,
) -> tuple[ImageEmbedding, bool]:
    """The embedding of an image by any model, and whether it had to be made.

    Every dock and every command asks here: equal pixels and equal encoders are one entry, whoever
    made it. It has all the model's magnifications and is rounded, kept or not.

    Parameters
    ----------
    model
        Encodes: a ``Sam2``, a ``PathSam``, a ``TaskModel``, a ``WsiSam``.
    pixels
        ``(H, W, 3)``.
    mpp
        Their pixel size; it is kept with the embedding and changes nothing else.
    surroundings
        What is round them, for a model that looks at it.
    """
    more: dict[str, Any] = {} if surroundings is None else {"surroundings": surroundings}
    made: list[bool] = []

    def encode() -> ImageEmbedding:
        made.append(True)
        found: ImageEmbedding = model.encode(pixels, mpp=mpp, **more)
        return found

    kept = EmbeddingCache(memory_bytes=0) if cache is None else cache
    octaves = getattr(model, "octaves", None) or getattr(model.config, "octaves", 1)
    about: dict[str, Any] = {
        "input_yx": model.input_yx((pixels.shape[0], pixels.shape[1])),
        "octaves": octaves,
    }
    if surroundings is not None:
        about["surroundings"] = kept.key(surroundings, "")
    key = kept.key(pixels, model_identity(model), about)
    embedding = kept.get_or_encode(key, encode, device=model.device)
    return replace(embedding, mpp=mpp), bool(made)
