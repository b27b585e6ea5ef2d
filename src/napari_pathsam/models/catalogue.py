"""MODELS, HEADS, encoders, recipes: everything by name; and how to load one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.advice import Advice
from napari_pathsam.models.encoders import (
    ENCODERS,
    EncoderSpec,
    PathologyEncoder,
    load_encoder,
)
from napari_pathsam.models.entries import ModelEntry, Trainable, encoder_entry
from napari_pathsam.models.pathsam import PathSam
from napari_pathsam.models.recipes import RECIPES, find_recipe
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS, Sam2Config
from napari_pathsam.models.sources import HubFile, Packaged, Url
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import TASK_RECIPES, find_task_recipe, is_task
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_config import WsiSamConfig

__all__ = [
    "DEFAULT_MODEL",
    "HEADS",
    "MODELS",
    "RECIPES",
    "STARTS",
    "TASK_RECIPES",
    "TRAINABLE",
    "HubFile",
    "ModelEntry",
    "Packaged",
    "Url",
    "find_entry",
    "is_here",
    "load_model",
    "pick_device",
    "weights_sha256",
]

Model = Sam2 | PathSam | TaskModel | WsiSam
DEFAULT_MODEL = "pathsam-nano"
SAM_LICENCE = "https://github.com/facebookresearch/segment-anything/blob/main/LICENSE"
SAM2_LICENCE = "https://github.com/facebookresearch/sam2/blob/main/LICENSE"
BSD = {"licence": "BSD-3-Clause", "licence_url": "https://opensource.org/license/bsd-3-clause"}


def _sam2(
    name: str, file: str, sha256: str, size: int, summary: str, *, exact_size: bool = False
) -> ModelEntry:
    return ModelEntry(
        name=name,
        title=f"SAM 2.1 {name.removeprefix('sam2.1-')}",
        summary=summary,
        licence="Apache-2.0",
        licence_url=SAM2_LICENCE,
        weights=Url(
            url=f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/{file}",
            sha256=sha256,
            size=size,
            exact_size=exact_size,
        ),
        mpp_range=SAM2_CONFIGS[name].mpp_range,
        field_px=SAM2_CONFIGS[name].field_px,
    )


def _head(noun: str, title: str, summary: str, advised: Advice | None = None) -> ModelEntry:
    return ModelEntry(
        name=f"{DEFAULT_MODEL}:{noun}",
        title=title,
        summary=summary,
        weights=Packaged(file=f"{DEFAULT_MODEL}-{noun}.safetensors"),
        kind="head",
        advised=advised,
        **BSD,
    )


# Sizes and checksums as published; a size without exact_size follows from the number of weights.
MODELS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name=DEFAULT_MODEL,
            title="PathSAM nano",
            summary="Small SAM 2 trained on glands and nuclei in H&E; comes with the package.",
            weights=Packaged(file="pathsam-nano.safetensors"),
            mpp_range=SAM2_CONFIGS[DEFAULT_MODEL].mpp_range,
            field_px=SAM2_CONFIGS[DEFAULT_MODEL].field_px,
            **BSD,
        ),
        _sam2(
            "sam2.1-tiny",
            "sam2.1_hiera_tiny.pt",
            "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
            156_008_466,
            "Meta's smallest; 39 M weights, a few seconds a field on a laptop.",
            exact_size=True,
        ),
        _sam2(
            "sam2.1-small",
            "sam2.1_hiera_small.pt",
            "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
            184_000_000,
            "Meta's second; 46 M weights.",
        ),
        _sam2(
            "sam2.1-base-plus",
            "sam2.1_hiera_base_plus.pt",
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
            323_000_000,
            "Meta's third; 81 M weights, better with a GPU.",
        ),
        _sam2(
            "sam2.1-large",
            "sam2.1_hiera_large.pt",
            "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
            898_000_000,
            "Meta's best; 224 M weights, wants a GPU.",
        ),
        ModelEntry(
            name="medsam2",
            title="MedSAM2",
            summary="SAM 2.1 tiny taught on CT, MRI, PET, ultrasound and endoscopy; a baseline.",
            licence="Research and education only (metadata: CC-BY-SA-4.0)",
            licence_url="https://huggingface.co/wanglab/MedSAM2",
            weights=HubFile(
                repo="wanglab/MedSAM2",
                file="MedSAM2_latest.pt",
                revision="e4a6f35edd7e091619cbc0750f462f1574e23955",
                sha256="c92743b99f00d078bf32a3afcc38aaa9faf1c1692dffe3eaa7a90938c1991060",
                size=156_040_129,
            ),
            field_px=SAM2_CONFIGS["medsam2"].field_px,
        ),
        ModelEntry(
            name="sam-vit-b",
            title="SAM ViT-B",
            summary="The first SAM, Meta's smallest; 94 M weights, a baseline.",
            licence="Apache-2.0",
            licence_url=SAM_LICENCE,
            weights=Url(
                url="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
                sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
                size=375_042_383,
            ),
            field_px=SAM2_CONFIGS["sam-vit-b"].field_px,
        ),
    )
}

HEADS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        _head(
            "glands",
            "Colon glands",
            "Glands of the colon, in H&E.",
            Advice(
                smallest_um2=150,
                fill_holes_um2=1500,
                why="Object F1 rises from .554 to .775 on 28 images of GlaS train (object Dice "
                "falls from .739 to .726), and from .555 to .772 on test A (object Dice stays).",
            ),
        ),
        _head("lesions", "Colon lesion types", "Six diagnoses of colon biopsies, in H&E."),
        _head(
            "nuclei",
            "Nuclei",
            "Cell nuclei, in H&E.",
            Advice(
                threshold=0.73,
                surest=0.94,
                smallest_um2=2.5,
                views=8,
                why="Dice rises from .804 to .824 on TNBC patients 08-09, each of whom chooses "
                "this for the other. Eight views take eight times as long; with one it is .813.",
            ),
        ),
        _head(
            "tissue",
            "Colon tissue types (a starter)",
            "Eight tissues of the colon in H&E, to be refined by painting; not a classifier.",
        ),
    )
}


STARTS: dict[str, ModelEntry] = {
    "mask-rcnn-coco": ModelEntry(
        name="mask-rcnn-coco",
        title="Mask R-CNN (COCO)",
        summary="torchvision's Mask R-CNN on a ResNet-50, trained on COCO: what mask-rcnn starts "
        "from with --start mask-rcnn-coco. It knows no tissue itself.",
        licence="BSD-3-Clause",
        licence_url="https://github.com/pytorch/vision/blob/main/LICENSE",
        weights=Url(
            url="https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
            sha256=None,  # the first eight digits are in the name, and are checked
            size=169_840_000,
            exact_size=False,
        ),
        kind="start",
    )
}
"""Weights from which a network is trained."""

TRAINABLE: dict[str, Trainable] = {
    entry.name: entry
    for entry in (
        Trainable(
            name="wsi-sam",
            title="WSI-SAM",
            summary="Answers clicks and boxes, looking at a field and at what is round it; on "
            "pathsam-nano, or with wsi-sam+sam2.1-tiny on another promptable model. "
            "--config wsi-sam-nano-tnbc is a recipe for nuclei, wsi-sam-nano-glas for glands.",
            source="https://arxiv.org/abs/2403.09257",
            command="pathsam train --model wsi-sam --images FOLDER --labels FOLDER "
            "--out MODEL.safetensors",
        ),
    )
}
"""Promptable models to be trained; NAME+MODEL stands on another promptable model."""


def find_entry(name: str) -> ModelEntry:
    """The entry of this name: promptable model, head or encoder; UnavailableError lists them."""
    if name in MODELS or name in HEADS:
        return (MODELS | HEADS)[name]
    if name in STARTS:
        return STARTS[name]
    if name in ENCODERS:
        return encoder_entry(ENCODERS[name])
    plain = name.partition("+")[0]
    if plain in RECIPES or plain in TRAINABLE:
        command = find_recipe(name).command if plain in RECIPES else TRAINABLE[plain].command
        raise UnavailableError(
            f"{name} has no weights to fetch or load: it is trained on your images, by `{command}`."
        )
    if is_task(name):
        raise UnavailableError(
            f"{name} has no weights to fetch or load: it is trained on your images, by "
            f"`{find_task_recipe(name).command}`."
        )
    raise UnavailableError(
        f"No model is called {name!r}. There are: {', '.join((*MODELS, *HEADS))}. The path of a "
        ".safetensors model file will do as well; `pathsam models list` shows all."
    )


def is_here(name: str) -> bool:
    """Whether a model or an encoder can be loaded without fetching it."""
    from napari_pathsam.models.checkpoints import cached_path
    from napari_pathsam.models.encoder_files import encoder_path, imported_encoders

    known = (MODELS | HEADS).get(name)
    if known is not None and isinstance(known.weights, Packaged):
        return known.weights.path.is_file()
    if name in ENCODERS:
        return encoder_path(ENCODERS[name]).is_file()
    return cached_path(name).is_file() or name in imported_encoders()


def load_model(name_or_path: str | Path = DEFAULT_MODEL, device: str = "auto") -> Model:
    """A model ready to use: in eval mode, on ``device`` (``auto``, ``cuda``, ``mps`` or ``cpu``).

    Parameters
    ----------
    name_or_path
        A name of the catalogue, the name of an imported model, or the path of a model file.
        Nothing is downloaded: weights that were not fetched yet raise UnavailableError, which
        says the command that fetches them.
    device
        ``auto`` takes a CUDA GPU where there is one, then Apple's, then the CPU.

    Returns
    -------
    Sam2, PathSam, TaskModel or WsiSam
        A head, or any other model that knows classes, comes with the promptable model it stands
        on, or that guides it, after the checksum of that was compared with the one it was trained
        on.
    """
    where = pick_device(device)
    return _open(_file_of(name_or_path)).to(where)


def weights_sha256(name: str) -> str:
    """The SHA-256 by which a head knows what it stands on.

    Of a promptable model or an encoder that was published, the published file's; of our own, the
    model file's.
    """
    from napari_pathsam.models.checkpoints import read_card
    from napari_pathsam.models.hub import sha256_of

    path = _file_of(name)
    published = [weights.sha256 for weights in read_card(path).base if weights.name == name]
    return (published[0] if published else None) or sha256_of(path)


def _file_of(name_or_path: str | Path) -> Path:
    """The model file of this name or path; UnavailableError says how to get it."""
    from napari_pathsam.models import checkpoints

    path = Path(name_or_path)
    name = str(name_or_path)
    known = (MODELS | HEADS).get(name)
    if path.suffix == ".safetensors" or (known is None and path.is_file()):
        return path
    if known is None:
        if ":" not in name and checkpoints.cached_path(name).is_file():
            return checkpoints.cached_path(name)
        entry = find_entry(name)  # refuses what is no model
        if entry.kind == "start":
            raise UnavailableError(
                f"{name} is what training starts from, and segments nothing itself: "
                f"`pathsam train --base mask-rcnn --start {name}`."
            )
        raise UnavailableError(
            f"{name} ({entry.title}) is a pathology encoder: it works inside a model that knows "
            f"classes. `pathsam train --model path-sam2-tiny+{name}` trains one."
        )
    if isinstance(known.weights, Packaged):
        if not known.weights.path.is_file():
            raise UnavailableError(
                f"The weights of {name} are not in this installation ({known.weights.path}). "
                "Install the package again."
            )
        return known.weights.path
    cached = checkpoints.cached_path(name)
    if not cached.is_file():
        raise UnavailableError(
            f"The weights of {name} were not fetched yet. `pathsam models fetch {name}` downloads "
            f"them ({known.size_text}, licence {known.licence}: {known.licence_url}); "
            f"`pathsam models import FILE` takes a copy you have."
        )
    return cached


def _open(path: Path) -> Model:
    from napari_pathsam.models.checkpoints import cache_dir, read_card
    from napari_pathsam.models.head_file import load_head
    from napari_pathsam.models.ledger import check_recorded
    from napari_pathsam.models.model_file import load_model_file
    from napari_pathsam.models.task_file import load_task
    from napari_pathsam.models.wsi_sam_file import load_wsi_sam

    if path.parent == cache_dir():
        check_recorded(path)
    card = read_card(path)
    if isinstance(card.config, Sam2Config):
        return load_model_file(path)[0]
    stands_on = {weights.name: weights.sha256 for weights in card.base}
    if isinstance(card.config, TaskConfig):
        return load_task(path, load_base=partial(_base_of, path, stands_on))[0]
    if isinstance(card.config, WsiSamConfig):
        return load_wsi_sam(path, load_base=partial(_base_of, path, stands_on))[0]
    return load_head(
        path,
        load_base=partial(_base_of, path, stands_on),
        load_encoder=partial(_encoder_of, path, stands_on),
    )[0]


def _base_of(path: Path, stands_on: dict[str, str | None], name: str) -> Sam2:
    wanted = stands_on.get(name)
    if wanted is not None and weights_sha256(name) != wanted:
        raise _stands_on_another(path, name)
    base = _open(_file_of(name))
    if not isinstance(base, Sam2):
        raise BadWeightsError(
            f"{path} stands on {name}, which itself knows classes. It was not loaded."
        )
    return base


def _encoder_of(
    path: Path, stands_on: dict[str, str | None], spec: EncoderSpec
) -> PathologyEncoder:
    encoder = load_encoder(spec, "cpu")
    wanted = stands_on.get(spec.name)
    if wanted is not None and encoder.weights_sha256 != wanted:
        raise _stands_on_another(path, spec.name)
    return encoder


def _stands_on_another(path: Path, name: str) -> BadWeightsError:
    return BadWeightsError(
        f"{path} was trained on other weights of {name} than those that are here: their SHA-256 "
        f"differs. It was not loaded. `pathsam models verify {name}` checks what is here; the "
        "model file's card names the weights it needs."
    )


def pick_device(device: str = "auto") -> torch.device:
    """The torch device of this name; UnavailableError when this machine has none."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    kind = device.split(":")[0]
    if not there.get(kind, False):
        usable = ", ".join(name for name, yes in there.items() if yes)
        raise UnavailableError(
            f"The device {device!r} is not available here; choose auto or one of: {usable}."
        )
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UnavailableError(f"{device!r} is no device: {error}") from error
