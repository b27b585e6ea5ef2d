"""Embeddings for training: each patch encoded once, when it is first needed, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_pathsam.inference.embedding_cache import EmbeddingCache, model_identity
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.models.pathsam_config import Part
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_data import Arrays, PatchMaker

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_entry import Precision


@dataclass(frozen=True)
class Reads:
    """What training reads of an embedding; the rest is not kept.

    ``aligned``: the alignment is frozen, so what comes out of it is kept instead of what goes in.
    ``trunk`` names levels, finest first.
    """

    aligned: bool
    trunk: tuple[int, ...] = ()
    high_res: bool = False
    pathology: bool = False

    @classmethod
    def of(cls, model: PathSam, parts: Sequence[Part]) -> Reads:
        """What training these parts of a model reads."""
        if "alignment" not in parts:
            return cls(aligned=True, high_res=model.reads_high_res)
        own = model.alignment.makes_high_res
        return cls(
            aligned=False,
            trunk=model.alignment.levels,
            high_res=model.reads_high_res and not own,
            pathology=model.pathology is not None,
        )

    def slim(self, model: PathSam, made: ImageEmbedding) -> ImageEmbedding:
        """An embedding without what is not read: tensors left out have no channels."""
        if self.aligned:
            image_embed, high_res = model.align(made)
            return replace(
                made, image_embed=image_embed, high_res=high_res, trunk=(), pathology=None,
                coarser=(),
            )  # fmt: skip
        return replace(
            made,
            image_embed=made.image_embed[:, :0],
            high_res=made.high_res if self.high_res else (),
            trunk=tuple(t if i in self.trunk else t[:, :0] for i, t in enumerate(made.trunk)),
            coarser=(),
        )

    def logits(
        self, model: PathSam, embedding: ImageEmbedding, window_yx: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """Class logits and IoU from :meth:`slim`'s answer."""
        if self.aligned:
            return model.decode_aligned(
                embedding.image_embed, embedding.high_res, window_yx=window_yx
            )
        return model.class_logits(embedding, window_yx=window_yx)


@dataclass(frozen=True)
class TaskReads:
    """What a task-specific network reads: pixels, and SAM's embedding of them, as they are."""

    def slim(self, model: TaskModel, made: ImageEmbedding) -> ImageEmbedding:
        """All of it, what an image was filled up with too: patches are cut from it."""
        return replace(made, shape_yx=made.input_yx)

    def logits(
        self, model: TaskModel, embedding: ImageEmbedding, window_yx: tuple[int, int] = (0, 0)
    ) -> tuple[Tensor, Tensor]:
        """Class logits of the image's own pixels; a network does not guess its IoU."""
        height, width = embedding.shape_yx
        found = model.without_gaps(model.outputs(embedding)[0][0])[..., :height, :width]
        return found, found.new_zeros(found.shape[:2])


def reads_of(model: ClassModel, parts: Sequence[Part]) -> Reads | TaskReads:
    """What training these parts of a model reads."""
    return TaskReads() if isinstance(model, TaskModel) else Reads.of(model, parts)


class Features:
    """Embeddings of patches and of validation images, as far as training reads them.

    Where encoders are frozen and a cache is given they are made one at a time (so that a batch
    does not depend on what was kept before), rounded, and kept. ``encoded`` counts what was made,
    ``seconds`` how long that took.
    """

    def __init__(
        self,
        model: ClassModel,
        maker: PatchMaker,
        config: TrainConfig,
        cache: EmbeddingCache | None,
    ) -> None:
        self.model, self.maker, self.config = model, maker, config
        self.frozen = "encoder" not in config.parts
        self.reads: Any = reads_of(model, config.parts)
        pixels_alone = isinstance(model, TaskModel) and model.guide is None
        self._cache = cache if self.frozen and not pixels_alone else None
        self._sources: dict[int, str] = {}
        self._ready: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._identity = ""
        self.encoded, self.seconds = 0, 0.0

    @property
    def keeps(self) -> bool:
        """Whether a patch is encoded once for all."""
        return self._cache is not None and self.config.variants is not None

    def take(self, items: Sequence[tuple[int, int]], made: Arrays) -> None:
        """Patches that were made already, in another process; :meth:`batch` will ask for them."""
        patches = ((torch.from_numpy(pixels), torch.from_numpy(target)) for pixels, target in made)
        self._ready = dict(zip(items, patches, strict=True))

    def batch(self, items: Sequence[tuple[int, int]]) -> tuple[ImageEmbedding, Tensor]:
        """Embedding ``(B, …)`` and ``(B, P, P)`` targets of ``(image, variant)`` patches."""
        device = self.model.device
        if self.keeps:
            found = [self._kept(*item) for item in items]
            targets = torch.stack([target for _, target in found])
            return stacked([embedding for embedding, _ in found]), targets.to(device)
        patches = [self._ready.get(item) or self.maker.patch(*item) for item in items]
        pixels = torch.cat([pixels for pixels, _ in patches]).to(device)
        targets = torch.stack([target for _, target in patches]).to(device)
        return self._made(pixels), targets

    def whole(self, image: NDArray[np.uint8]) -> ImageEmbedding:
        """Embedding of a validation image, which is at most a field."""

        def encode() -> ImageEmbedding:
            with self._counted(1):
                model = self.model
                if isinstance(model, TaskModel):
                    return model.encode(image)
                return self.reads.slim(model, model.encode(image, octaves=1))

        if self._cache is None:
            return encode()
        return self._recall(EmbeddingCache.key(image, self._about()), encode)

    def _made(self, pixels: Tensor) -> ImageEmbedding:
        with self._counted(len(pixels)):
            return self.reads.slim(self.model, self.model.encode_batch(pixels))

    @contextmanager
    def _counted(self, n: int) -> Iterator[None]:
        started = perf_counter()
        with torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()):
            yield
        self.encoded += n
        self.seconds += perf_counter() - started

    def _kept(self, index: int, variant: int) -> tuple[ImageEmbedding, Tensor]:
        placed = self.maker.place(index, variant)

        def encode() -> ImageEmbedding:
            return self._made(self.maker.pixels(placed).to(self.model.device))

        images = [self._source(i) for i in placed.sources]
        # Which patch of the image it is; all else about it is in the digests.
        key = f"{images[0]}-{'-'.join(map(str, (index, variant, placed.attempt)))}"
        key += "".join(f"-{image[:8]}" for image in images[1:])
        return self._recall(key, encode), placed.target

    def _recall(self, key: str, encode: Callable[[], ImageEmbedding]) -> ImageEmbedding:
        assert self._cache is not None
        precision: Precision = self.config.precision

        def exactly() -> ImageEmbedding:
            with torch.autocast(self.model.device.type, enabled=False):
                return encode()

        return self._cache.get_or_encode(
            key, exactly, precision=precision, device=self.model.device
        )

    def _source(self, index: int) -> str:
        """Digest of an image, the encoders and the settings."""
        if index not in self._sources:
            about = [self._about(), self.maker.settings()]
            pixels = self.maker.images[index].image
            self._sources[index] = EmbeddingCache.key(pixels, about[0], about[1])
        return self._sources[index]

    def _about(self) -> str:
        """The model as far as kept embeddings depend on it."""
        if not self._identity:
            self._identity = f"{model_identity(self.model)} {self.reads}"
            if isinstance(self.reads, Reads) and self.reads.aligned:
                self._identity += f" {_alignment_identity(self.model)}"
        return self._identity


def _alignment_identity(model: ClassModel) -> str:
    """Digest of a frozen alignment's weights."""
    state = model.state_dict()
    weights = [state[n].cpu().float().numpy().ravel() for n in state if part_of(n) == "alignment"]
    everything = np.concatenate(weights).astype(np.float32).view(np.uint8)
    return EmbeddingCache.key(everything, model.config.model_dump_json())


def stacked(embeddings: Sequence[ImageEmbedding]) -> ImageEmbedding:
    """Embeddings of equal size as one of a batch."""
    pathology = [e.pathology for e in embeddings if e.pathology is not None]
    return replace(
        embeddings[0],
        image_embed=torch.cat([e.image_embed for e in embeddings]),
        high_res=_level_by_level([e.high_res for e in embeddings]),
        trunk=_level_by_level([e.trunk for e in embeddings]),
        pathology=torch.cat(pathology) if pathology else None,
        coarser=(),
    )


def _level_by_level(images: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(level) for level in zip(*images, strict=True))
