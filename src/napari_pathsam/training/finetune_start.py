"""What fine-tuning starts from: a head's alignment, decoder and class prompts, or fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_pathsam.core.errors import BadImageError, BadWeightsError
from napari_pathsam.inference.working_grid import at_home
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.class_prompts import ClassPrompts
from napari_pathsam.models.encoders import find_encoder, load_encoder
from napari_pathsam.models.kan import Kan, KanLinear
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.pathsam_config import PathSamConfig, profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import is_task
from napari_pathsam.training.finetune_config import TRAINED, WHOLE, FineTuneSettings
from napari_pathsam.training.finetune_networks import made_from, network_from, new_network

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_run import FineTuneRun

Load = Callable[[str, str], object]
"""``(name or path, device)`` → a model; ``models.catalogue.load_model`` is one."""


class Start(NamedTuple):
    """The model before its first step, and whether it knows every class it is to learn."""

    model: ClassModel
    knows_all: bool


FRESH_HIDDEN = (32,)
FRESH_OCTAVES = 2


def start_model(
    settings: FineTuneSettings, mpps: Sequence[float | None] = (), load: Load | None = None
) -> Start:
    """The model before its first step, on its device.

    Parameters
    ----------
    mpps
        Pixel sizes of the images: fresh class prompts work at their median, and they say where
        the model is at home.

    Raises
    ------
    BadWeightsError, UnavailableError
        The base or the head to start from is not here, or is none; or it has none of the parts
        that are to be trained.
    BadImageError
        Fresh class prompts, and no pixel size is known.
    """
    start = _started(settings, mpps, load)
    config = start.model.config
    home = at_home(config.mpp, mpps)
    start.model.config = config.model_copy(update={"mpp_range": home})
    return start


def _started(settings: FineTuneSettings, mpps: Sequence[float | None], load: Load | None) -> Start:
    from napari_pathsam.models.catalogue import load_model, pick_device

    where = str(pick_device(settings.device))
    if settings.start is None and is_task(settings.base):
        _check_parts(settings, whole=True)
        return Start(new_network(settings, network_mpp(settings, mpps)), knows_all=False)
    name = settings.start or settings.base
    found = load_model(name, where) if load is None else load(name, where)
    seed = settings.config.seed
    if settings.start is None:
        if not isinstance(found, Sam2):
            raise BadWeightsError(
                f"{settings.base} answers no prompts: choose it as what to start from, or a "
                "promptable model such as pathsam-nano under fresh class prompts."
            )
        _check_parts(settings, whole=False)
        config = fresh_config(settings, found, working_mpp(settings, found, mpps))
        encoder = None if config.encoder is None else load_encoder(config.encoder, where)
        return Start(_built(config, found, settings, seed, encoder), knows_all=False)
    if isinstance(found, TaskModel):
        _check_parts(settings, whole=True)
        return Start(network_from(settings, found), knows_all=True)
    if not isinstance(found, PathSam):
        raise BadWeightsError(
            f"{settings.start} has no class prompts to start from. Start from fresh ones, or "
            "from a head such as pathsam-nano:glands."
        )
    _check_parts(settings, whole=False)
    changes = {"kan": settings.kan, "hidden": settings.hidden, "mpp": settings.mpp}
    given = {k: v for k, v in changes.items() if v is not None}
    config = PathSamConfig.model_validate(
        found.config.model_dump() | {"name": settings.name, "tissue": ""} | given
    )
    model = _built(config, found.base, settings, seed, found.pathology)
    model.alignment.load_state_dict(found.alignment.state_dict())
    model.decoder.load_state_dict(found.decoder.state_dict())
    same = (config.kan, config.hidden, config.head) == (
        found.config.kan, found.config.hidden, found.config.head,
    )  # fmt: skip
    if not same or settings.fresh_prompts:
        return Start(model, knows_all=False)
    _take_prompts(model, found)
    return Start(model, len(model.classes.counterparts(found.classes)) == len(model.classes))


def _check_parts(settings: FineTuneSettings, *, whole: bool) -> None:
    parts = settings.config.parts
    if (parts == WHOLE) == whole:
        return
    have = WHOLE if whole else TRAINED[-1]
    raise BadWeightsError(
        f"{settings.start or settings.base} has none of the parts that were to be trained "
        f"({', '.join(parts)}); it has {', '.join(have)}. Say so in what is to be trained: "
        f"preset_config({settings.preset!r}, parts={have})."
    )


def fresh_config(settings: FineTuneSettings, base: Sam2, mpp: float) -> PathSamConfig:
    """The network of fresh class prompts on a promptable model."""
    fields = {"kan": settings.kan, "hidden": settings.hidden or FRESH_HIDDEN}
    return profiled(
        "recommended",
        name=settings.name,
        base=settings.base,
        encoder=None if settings.encoder is None else find_encoder(settings.encoder),
        mpp=mpp,
        octaves=min(FRESH_OCTAVES, base.config.octaves),
        align_high_res=not base.config.is_sam1,
        **{k: v for k, v in fields.items() if v is not None},
    )


def working_mpp(settings: FineTuneSettings, base: Sam2, mpps: Sequence[float | None]) -> float:
    """The pixel size fresh class prompts work at: the images' own, within the base's range."""
    if settings.mpp is not None:
        return settings.mpp
    low, high = base.config.mpp_range or (0.0, np.inf)
    return round(float(np.clip(network_mpp(settings, mpps), low, high)), 4)


def network_mpp(settings: FineTuneSettings, mpps: Sequence[float | None]) -> float:
    """The pixel size a network from new works at: the images' own."""
    if settings.mpp is not None:
        return settings.mpp
    known = [m for m in mpps if m is not None]
    if not known:
        raise BadImageError(
            "The pixel size of the image is not known, and fresh class prompts work at it. Give "
            "it (mpp, in µm per pixel); 0.5 is usual at 20×."
        )
    return round(float(np.median(known)), 4)


def _built(
    config: PathSamConfig, base: Sam2, settings: FineTuneSettings, seed: int, encoder: object
) -> PathSam:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # On the CPU: random numbers of another device are others.
        model = PathSam(config, base, settings.model_classes, encoder)  # type: ignore[arg-type]
    return model.to(base.device).eval()


@torch.no_grad()
def _take_prompts(model: PathSam, start: PathSam) -> None:
    """Class prompts of the classes of the same name, now or before, and of background."""
    row = {info.id: i for i, info in enumerate(start.classes, start=1)}
    same = model.classes.counterparts(start.classes)
    rows = enumerate(model.classes, start=1)
    pairs = [(0, 0)] + [(to, row[same[info.id]]) for to, info in rows if info.id in same]
    head, known = model.head, start.head
    for to, other in pairs:
        head.tokens[to] = known.tokens[other]
        head.to_weights[to].load_state_dict(known.to_weights[other].state_dict())
    _take_iou(head, known, pairs)


def _take_iou(head: ClassPrompts, known: ClassPrompts, pairs: Sequence[tuple[int, int]]) -> None:
    """The IoU head is shared: all its layers but the last, and there a row for each class."""
    if not (isinstance(head.to_iou, Kan) and isinstance(known.to_iou, Kan)):
        return
    *layers, last = zip(head.to_iou.layers, known.to_iou.layers, strict=True)
    for mine, other in layers:
        mine.load_state_dict(other.state_dict())
    mine, other = last
    assert isinstance(mine, KanLinear)
    assert isinstance(other, KanLinear)
    for to, source in pairs:
        mine.coefficients[to] = other.coefficients[source]
        if mine.base is not None and other.base is not None:
            mine.base.weight[to] = other.base.weight[source]


def check_start(model: ClassModel, run: FineTuneRun) -> None:
    """Refuse a model that is not what a run started from."""
    here = {b.name: b.sha256 for b in made_from(model, run.settings.start)}
    if run.start is not None:
        from napari_pathsam.models.catalogue import weights_sha256

        here[run.start.name] = weights_sha256(run.start.name)
    for wanted in (*run.base, *([run.start] if run.start else [])):
        if here.get(wanted.name) != wanted.sha256:
            raise BadWeightsError(
                f"The run started from other weights of {wanted.name} than those that are here: "
                "their SHA-256 differs, so it cannot be run again. `pathsam models verify "
                f"{wanted.name}` checks what is here."
            )
    if model.config != run.network:
        raise BadWeightsError(
            "The run was made for a network that what it starts from no longer has. Freeze it "
            "again from its labels."
        )
