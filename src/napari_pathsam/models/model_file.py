"""Our model file: one safetensors file whose single metadata key holds a checked model card.

Loading one never executes code. What does not fit is refused as a whole: a missing or unexpected
tensor, another shape, a value that is not a number, a card with unknown fields.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.pathsam_config import Part, PathSamConfig
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import HieraConfig, Sam2Config, VitConfig
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.wsi_sam_config import WsiSamConfig

CARD_KEY = "napari_pathsam"


class BaseWeights(BaseModel):
    """The weights a model was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str | None = None


class ModelCard(BaseModel):
    """What a model file says about itself.

    ``config`` is a whole promptable model's, or that of a model which knows classes; of the latter
    the file holds only the ``trained`` parts (of a task-specific one its network, which is all but
    the guide; of a WSI-SAM its tokens and fusion modules), and ``base`` names the weights the rest
    comes from.
    ``mpp`` is the pixel size in µm the model was trained at, where there is one;
    ``provenance`` is free JSON: data, split, seeds, versions, metrics, date, limits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    config: Sam2Config | PathSamConfig | TaskConfig | WsiSamConfig
    trained: tuple[Part, ...] = ()
    classes: ClassTable | None = None
    mpp: float | None = None
    base: tuple[BaseWeights, ...] = ()
    provenance: dict[str, JsonValue] = {}
    licence: str


def save_model(
    path: str | Path,
    model: Sam2,
    card: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> ModelCard:
    """Write a model file; an older one of that name is replaced only by a whole new one.

    ``card`` has the fields of :class:`ModelCard` except ``config``, which is the model's own;
    ``licence`` is needed. Floating tensors are stored as ``dtype``.
    """
    return save_tensors(
        Path(path), model.state_dict(), ModelCard(config=model.config, **card), dtype
    )


def save_tensors(
    path: Path, state: Mapping[str, torch.Tensor], checked: ModelCard, dtype: torch.dtype
) -> ModelCard:
    """Write tensors under a card, whole or not at all."""
    tensors = {
        name: (t.detach().to(dtype) if t.is_floating_point() else t).cpu().contiguous()
        for name, t in state.items()
    }
    _check_finite(path, tensors)
    with replacing(path) as new:
        save_file(tensors, new, {CARD_KEY: checked.model_dump_json()})
    return checked


def copy_with_provenance(source: Path, target: Path, provenance: Mapping[str, JsonValue]) -> None:
    """Write the same tensors under a card with another provenance; whole or not at all."""
    with _opened(source) as file:
        card = _card(source, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    told = card.model_copy(update={"provenance": dict(provenance)})
    with replacing(target) as new:
        save_file(tensors, new, {CARD_KEY: told.model_dump_json()})


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if nothing goes wrong."""
    new = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        new = Path(name)
        yield new
        new.chmod(0o644)
        new.replace(path)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
    finally:
        if new is not None:
            new.unlink(missing_ok=True)


def cannot_write(path: Path, error: BaseException) -> UnavailableError:
    """The readable form of a full disk or a folder that may not be written to."""
    return UnavailableError(
        f"{path} could not be written ({error}). Free some space, or choose a folder you may "
        "write to; for downloaded models the variable NAPARI_PATHSAM_CACHE names the folder."
    )


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file, without its tensors."""
    with _opened(Path(path)) as file:
        return _card(Path(path), file.metadata())


def load_model_file(path: str | Path) -> tuple[Sam2, ModelCard]:
    """The promptable model in a model file, on the CPU, in eval mode, in float32; and its card.

    Raises
    ------
    BadWeightsError
        The file is damaged, foreign, or not what its card says.
    UnavailableError
        There is no such file.
    """
    path = Path(path)
    card = read_card(path)
    if not isinstance(card.config, Sam2Config):
        raise _refused(path, f"it is {card.config.name}, which knows classes")
    if _smallest_bytes(card.config) > path.stat().st_size:
        raise _refused(path, "it is far too small for the model it says it is")
    model = _built(path, card.config)
    load_tensors(path, model)
    return model.eval(), card


def load_tensors(path: Path, model: nn.Module, names: Collection[str] | None = None) -> None:
    """Fill a model with the tensors of a file: exactly those ``names`` (None: all it has)."""
    state = model.state_dict()
    wanted = {n: tuple(t.shape) for n, t in state.items() if names is None or n in names}
    with _opened(path) as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        check_layout(path, wanted, found)
        tensors = {name: file.get_tensor(name) for name in found}
    _check_finite(path, tensors)
    model.load_state_dict(tensors, strict=False)  # complete: the layout was checked


def check_layout(
    path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Every wanted tensor is there in its shape, and no other one."""
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} does not belong" for name in found if name not in wanted]
    problems += [
        f"{name} has the shape {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more problems" if len(problems) > 3 else ""
        raise _refused(path, "; ".join(problems[:3]) + more)


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise UnavailableError(f"There is no model file {path}. Check the path.")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise _refused(path, f"it is damaged or not a safetensors file ({error})") from error


def _card(path: Path, metadata: Mapping[str, str] | None) -> ModelCard:
    if set(metadata or {}) != {CARD_KEY}:
        raise _refused(path, "it is a safetensors file, but has no napari-pathsam model card")
    assert metadata is not None
    try:
        return ModelCard.model_validate_json(metadata[CARD_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the start"
        raise _refused(path, f"its model card is wrong at {where}: {first['msg']}") from error


def _built(path: Path, config: Sam2Config) -> Sam2:
    try:
        return Sam2(config)
    # What upstream's constructors raise when the parts do not fit each other.
    except (AssertionError, ValueError, RuntimeError, TypeError, IndexError, KeyError) as error:
        raise _refused(path, f"its model card describes no model ({error})") from error


def _smallest_bytes(config: Sam2Config) -> int:
    """Fewer bytes than any such model can have: keeps a small file from building a huge one."""
    weights = 4 * config.width**2 + config.width * (config.mlp_dim + config.iou_hidden_dim)
    if isinstance(config.trunk, HieraConfig):
        widths = [config.trunk.embed_dim * 2**stage for stage in range(len(config.trunk.stages))]
        weights += sum(10 * w * w * n for w, n in zip(widths, config.trunk.stages, strict=True))
    if isinstance(config.trunk, VitConfig):
        weights += 10 * config.trunk.embed_dim**2 * config.trunk.depth
    return weights


def _check_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _refused(path, f"{name} has values that are not finite numbers")


def _refused(path: Path, why: str) -> BadWeightsError:
    return BadWeightsError(
        f"{path} cannot be used as a model: {why}. Nothing was loaded. Fetch or export it again; "
        "`pathsam models import` takes Meta's SAM 2.1 checkpoints (.pt) and files of this package."
    )
