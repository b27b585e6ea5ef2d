"""What looks into an embedding: with a model that has none, too."""

from __future__ import annotations

from napari_pathsam.core.geometry import Region
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.workspace import ArraySource
from napari_pathsam.workspace.fields import MaskPrompt
from napari_pathsam.workspace.prompting import DEFAULT_MODEL
from napari_pathsam.workspace.similar_work import Look, principal_components, similar_objects

from .conftest import SHAPE, disc, discs_image  # noqa: TID252


def test_the_default_model_stands_in_for_one_without_prompts(tiny_model, tiny_pathsam, class_table):
    config = find_task_recipe("unet").config(tile_px=64, network={"width": 2, "levels": 2})
    models = {
        "own": TaskModel(config, class_table).eval(),
        "head": tiny_pathsam,
        DEFAULT_MODEL: tiny_model,
    }
    whole = Region.of(SHAPE)
    examples = [MaskPrompt(disc("a"), whole)]
    for name in models:
        look = Look(
            ArraySource(discs_image()), whole, name, "cpu", 0.5,
            lambda name, device: models[name], lambda: None,
        )  # fmt: skip
        components, proposals = principal_components(look), similar_objects(look, examples)
        assert components.rgb.ndim == 3
        assert proposals.labels.shape == SHAPE
        assert components.said == proposals.said
        assert (f"{tiny_model.name} was used" in components.said) == (name == "own")
