"""ClassModel: whatever knows classes, on a SAM or by a network of its own."""

from __future__ import annotations

from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.task_model import TaskModel

ClassModel = PathSam | TaskModel
"""Has ``encode(image)`` → ``ImageEmbedding``, ``decode_classes(embedding)`` → ``ClassLogits``,
``classes``, and ``config.mpp``; good for ``isinstance``, too."""
