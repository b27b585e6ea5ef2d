"""What a person chooses before training: plain values, without torch; the library's in a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadImageError

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_config import FineTuneConfig, FineTuneSettings

Preset = Literal["fast", "balanced", "thorough"]
PRESETS: tuple[Preset, ...] = ("fast", "balanced", "thorough")
PARTS: dict[str, tuple[Any, ...]] = {
    "head": ("head",),
    "alignment": ("head", "alignment"),
    "decoder": ("head", "alignment", "decoder"),
}
"""What is trained: each name stands for all up to it."""

NETWORKS: dict[str, str] = {
    "unet-timm": "Train a U-Net on PathSAM nano’s trunk",
    "unet": "Train a U-Net from scratch",
    "unet3plus": "Train a U-Net3+",
    "eunet3plus": "Train an eU-Net3+",
    "guided-eunet3plus": "Train an eU-Net3+ guided by PathSAM nano",
}
"""Networks that are trained whole, as they are offered."""

Trained = Literal["head", "alignment", "decoder"]
HeldOutBy = Literal["region", "image", "layer", "none"]


def file_stem(name: str) -> str:
    """A model's name as a file can have it."""
    kept = "".join(c if c.isalnum() or c in " -_.+" else " " for c in name)
    return " ".join(kept.split()).strip(".") or "my classes"


class Advanced(BaseModel):
    """Numbers behind a preset; None: as the preset has it.

    ``alpha`` and ``beta`` weigh the loss, ``grid``, ``order`` and ``width`` shape the KAN.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: Annotated[float, Field(gt=0, le=1)] | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    beta: Annotated[float, Field(ge=0, le=10)] | None = None
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    variants: Annotated[int, Field(ge=1, le=1000)] | None = None
    seed: int | None = None
    grid: Annotated[int, Field(ge=1, le=64)] | None = None
    order: Annotated[int, Field(ge=1, le=5)] | None = None
    width: Annotated[int, Field(ge=1, le=1024)] | None = None

    @property
    def of_training(self) -> dict[str, Any]:
        """What goes into the training's numbers, as far as it was changed."""
        chosen = self.model_dump(exclude={"grid", "order", "width"})
        return {name: value for name, value in chosen.items() if value is not None}


class Choices(BaseModel):
    """All choices of one training but the images.

    Attributes
    ----------
    name
        Of the model to be made.
    base, start
        The promptable model it stands on, or the task-specific network that is trained whole
        (:data:`NETWORKS`); the model (name or file) that lends its weights, None: from new.
    fresh_prompts
        With ``start``: keep its alignment and decoder only.
    background_id
        The class that is background; None: nobody painted background.
    zero
        What pixels are that nobody painted.
    trained
        See :data:`PARTS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "my classes"
    base: str = "pathsam-nano"
    start: str | None = None
    fresh_prompts: bool = False
    classes: ClassTable = ClassTable()
    background_id: int | None = None
    zero: Literal["unlabelled", "background"] = "unlabelled"
    trained: Trained = "decoder"
    preset: Preset = "fast"
    hold_out: HeldOutBy = "region"
    device: str = "auto"
    advanced: Advanced = Advanced()

    @property
    def model_name(self) -> str:
        """The name as a file has it."""
        return file_stem(self.name)

    def config_of(self, preset: Preset) -> FineTuneConfig:
        """The numbers of a preset, with what was changed; called in a worker."""
        from napari_pathsam.training.finetune_config import WHOLE, preset_config
        from napari_pathsam.training.finetune_networks import trains_network

        parts = WHOLE if trains_network(self.base, self.start) else PARTS[self.trained]
        return preset_config(preset, parts=parts, **self.advanced.of_training)

    def settings(self) -> FineTuneSettings:
        """As the library takes them; imports torch, so it is called in a worker.

        Raises
        ------
        BadImageError
            There is no class yet.
        """
        from napari_pathsam.models.kan import KanConfig
        from napari_pathsam.training.finetune_config import FineTuneSettings, HoldOut

        if not len(self.classes):
            raise BadImageError(
                "There is no class yet: add one for each tissue you want to tell apart, and paint "
                "a few regions of each."
            )
        advanced = self.advanced
        kan = {"grid": advanced.grid, "order": advanced.order}
        kan = {name: value for name, value in kan.items() if value is not None}
        return FineTuneSettings(
            name=self.model_name,
            base=self.base,
            start=self.start,
            fresh_prompts=self.fresh_prompts,
            classes=self.classes,
            background_id=self.background_id,
            zero=self.zero,
            preset=self.preset,
            config=self.config_of(self.preset),
            hold_out=HoldOut(by=self.hold_out),
            kan=KanConfig(**kan) if kan else None,
            hidden=(advanced.width,) * 2 if advanced.width else None,
            device=self.device,
        )
