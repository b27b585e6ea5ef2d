"""The baseline of interactive tools: a random forest on the same features, cell by cell.

As ilastik (Berg et al., Nat. Methods 16, 2019) and convpaint (Hinderling et al. 2024) do it: every
painted cell is a sample, its features what the frozen encoders saw there. Needs scikit-learn (the
extra ``baselines``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.models.embedding import ImageEmbedding

TREES = 100


def cell_features(embedding: ImageEmbedding, octaves: int = 1) -> NDArray[np.float32]:
    """``(C, h, w)`` on the stride-4 cells: every level of the trunk, and the pathology features.

    Of so many magnifications; coarser grids are interpolated. Levels are not normalised: a forest
    does not mind.
    """
    grid = [4 * n for n in embedding.image_embed.shape[-2:]]
    parts = []
    for seen in (embedding, *embedding.coarser)[:octaves]:
        levels = [*(seen.trunk or (seen.image_embed,))]
        levels += [] if seen.pathology is None else [seen.pathology]
        parts += [
            functional.interpolate(level.float(), grid, mode="bilinear", align_corners=False)[0]
            for level in levels
        ]
    return torch.cat(parts).cpu().numpy()


class Forest:
    """A random forest over the cells of embeddings.

    Raises
    ------
    UnavailableError
        scikit-learn is not installed.
    """

    def __init__(self, n_channels: int, *, octaves: int = 1, seed: int = 0) -> None:
        try:
            from sklearn.ensemble import RandomForestClassifier
        except ImportError as error:
            raise UnavailableError(
                "The random forest needs scikit-learn: pip install 'napari-pathsam[baselines]'."
            ) from error
        self.n_channels, self.octaves = n_channels, octaves
        self._trees: Any = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)

    def fit(self, tiles: Sequence[tuple[ImageEmbedding, NDArray[np.int16]]]) -> Forest:
        """Learn from embeddings and ``(h, w)`` targets on their cells, below 0 where not painted.

        Returns itself.
        """
        samples, truth = [], []
        for embedding, target in tiles:
            known = target >= 0
            if known.any():
                samples.append(cell_features(embedding, self.octaves)[:, known].T)
                truth.append(target[known])
        self._trees.fit(np.concatenate(samples), np.concatenate(truth))
        return self

    def probabilities(self, embedding: ImageEmbedding) -> NDArray[np.float32]:
        """``(K, h, w)`` on the cells."""
        features = cell_features(embedding, self.octaves)
        channels, height, width = features.shape
        found = self._trees.predict_proba(features.reshape(channels, -1).T)
        whole = np.zeros((self.n_channels, height * width), np.float32)
        whole[self._trees.classes_.astype(int)] = found.T
        return whole.reshape(self.n_channels, height, width)
