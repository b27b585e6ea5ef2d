"""A model and samples → a report, whatever is asked of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.evaluation.class_figures import class_headlines, class_metrics
from napari_pathsam.evaluation.class_scores import ClassScore
from napari_pathsam.evaluation.classes import ClassSettings, evaluate_classes
from napari_pathsam.evaluation.everything import (
    EverythingScore,
    EverythingScoring,
    evaluate_everything,
    everything_headlines,
    everything_metrics,
)
from napari_pathsam.evaluation.gallery import (
    SHOWN,
    GalleryPicture,
    class_gallery,
    everything_gallery,
    prompt_gallery,
)
from napari_pathsam.evaluation.headlines import Headline
from napari_pathsam.evaluation.prompting import (
    ImageScore,
    PromptSettings,
    evaluate_prompts,
    prompt_headlines,
    prompt_metrics,
)
from napari_pathsam.evaluation.report import Report
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.wsi_sam import WsiSam

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.datasets.base import Sample

Settings = ClassSettings | PromptSettings | EverythingScoring
"""Their type is the task."""
Score = ClassScore | ImageScore | EverythingScore


def evaluate(
    model: ClassModel | Sam2 | WsiSam,
    samples: Sequence[Sample],
    settings: Settings | None = None,
    *,
    classes: ClassTable | None = None,
    dataset: str = "",
    split: str = "",
) -> Report:
    """Measure a model on samples, for example those of :func:`open_dataset`.

    Parameters
    ----------
    settings
        What is asked: :class:`ClassSettings`, :class:`PromptSettings` or
        :class:`EverythingScoring`. None: classes where the model knows any, simulated clicks
        otherwise.
    classes
        What the ids of class labels mean; None: the model's own.
    dataset, split
        What the report says of the samples.
    """
    if settings is None:
        settings = ClassSettings() if isinstance(model, ClassModel) else PromptSettings()
    scores = list(scoring(model, samples, settings, classes=classes))
    data = {"dataset": dataset, "split": split}
    return report_of(model, samples, settings, scores, name=model.name, data=data)


def scoring(
    model: ClassModel | Sam2 | WsiSam,
    samples: Sequence[Sample],
    settings: Settings,
    *,
    classes: ClassTable | None = None,
) -> Iterator[Score]:
    """One score an image, as it is finished; closing the generator cancels.

    Raises
    ------
    UnavailableError
        Classes are to be measured, and the model knows none; or prompts, and it answers none.
    """
    if isinstance(settings, ClassSettings):
        if isinstance(model, ClassModel):
            return evaluate_classes(model, samples, settings, classes=classes)
        raise UnavailableError(
            f"{model.name} answers prompts and knows no classes. Choose a model with classes, such "
            "as pathsam-nano:glands (`pathsam models list`), or --task prompts."
        )
    asked = promptable(model)
    if isinstance(settings, PromptSettings):
        knows = model if isinstance(model, PathSam) else None
        return evaluate_prompts(asked, samples, settings, classes=knows)
    if isinstance(asked, WsiSam):
        raise UnavailableError(
            f"{model.name} gives one mask a prompt, and segmenting everything chooses among three. "
            f"Ask what it stands on, {asked.base.name}, or take --task prompts."
        )
    return evaluate_everything(asked, samples, settings)


def promptable(model: ClassModel | Sam2 | WsiSam) -> Sam2 | WsiSam:
    """What answers a model's prompts: itself, or what it stands on.

    Raises
    ------
    UnavailableError
        It answers none.
    """
    if isinstance(model, TaskModel):
        raise UnavailableError(
            f"{model.name} is trained for its classes and answers no clicks. Choose a promptable "
            "model, such as pathsam-nano (`pathsam models list`), or --task classes."
        )
    return model.base if isinstance(model, PathSam) else model


def report_of(
    model: ClassModel | Sam2 | WsiSam,
    samples: Sequence[Sample],
    settings: Settings,
    scores: Sequence[Any],
    *,
    name: str,
    data: dict[str, str],
    seed: int = 0,
    **told: Any,
) -> Report:
    """The figures of all of :func:`scoring`'s scores, with what they were made with.

    ``data`` names the data set and the split, ``seed`` is the bootstrap's; ``told`` joins the
    settings. The same device with as many ``threads`` gives the same figures to the last digit.
    """
    task, figures = _TASKS[type(settings)]
    kinds = sorted({s.label_kind for s in samples})
    threads = torch.get_num_threads()
    made_with = {
        "label_kind": ", ".join(kinds), "device": str(model.device), "threads": threads,
        "bootstrap_seed": seed,
    }  # fmt: skip
    return Report(
        model=name,
        **data,
        task=task,
        n_images=len(samples),
        metrics=figures(scores, settings, seed),
        settings=settings.model_dump(mode="json") | made_with | told,
    )


def headlines_of(settings: Settings, scores: Sequence[Any]) -> dict[str, Headline]:
    """The figures of scores by name, each with its counts by image."""
    if isinstance(settings, ClassSettings):
        return class_headlines(scores)
    if isinstance(settings, PromptSettings):
        return prompt_headlines(scores, settings)
    return everything_headlines(scores)


def task_of(settings: Settings) -> str:
    """What is asked by these settings."""
    return _TASKS[type(settings)][0]


def gallery_of(
    model: ClassModel | Sam2 | WsiSam,
    samples: Sequence[Sample],
    scores: Sequence[Any],
    headlines: Mapping[str, Headline],
    settings: Settings,
    *,
    classes: ClassTable | None = None,
    shown: int = SHOWN,
) -> Iterator[GalleryPicture]:
    """Pictures of the worst images, the model asked once more."""
    if isinstance(settings, ClassSettings) and isinstance(model, ClassModel):
        yield from class_gallery(
            model, samples, scores, headlines, settings, classes=classes, shown=shown
        )
    elif isinstance(settings, PromptSettings) and not isinstance(model, TaskModel):
        asked = promptable(model)
        yield from prompt_gallery(asked, samples, scores, headlines, settings, shown=shown)
    elif isinstance(settings, EverythingScoring) and isinstance(asked := promptable(model), Sam2):
        yield from everything_gallery(asked, samples, scores, headlines, settings, shown=shown)


def settings_of(task: str, values: dict[str, Any]) -> Settings:
    """The settings a report of this task was made with; what else it says is passed over."""
    kind = next(kind for kind, (name, _) in _TASKS.items() if name == task)
    return kind.model_validate({k: v for k, v in values.items() if k in kind.model_fields})


_TASKS: dict[
    type[Settings], tuple[str, Callable[[Sequence[Any], Any, int], dict[str, Any]]]
] = {
    ClassSettings: ("classes", lambda scores, _, seed: class_metrics(scores, seed=seed)),
    PromptSettings: (
        "prompts", lambda scores, settings, seed: prompt_metrics(scores, settings, seed=seed)
    ),
    EverythingScoring: (
        "everything", lambda scores, _, seed: everything_metrics(scores, seed=seed)
    ),
}  # fmt: skip
