"""Workspace: the open image, its prompts, labels, undo and pending work; no GUI, no torch."""

from napari_pathsam.workspace.annotations import AcceptedObject, Annotations
from napari_pathsam.workspace.candidate import Candidate
from napari_pathsam.workspace.fields import ArraySource, Field, ImageSource, choose_field
from napari_pathsam.workspace.journal import SavedWork
from napari_pathsam.workspace.runner import InlineRunner, Job, Runner
from napari_pathsam.workspace.workspace import Workspace

__all__ = [
    "AcceptedObject",
    "Annotations",
    "ArraySource",
    "Candidate",
    "Field",
    "ImageSource",
    "InlineRunner",
    "Job",
    "Runner",
    "SavedWork",
    "Workspace",
    "choose_field",
]
