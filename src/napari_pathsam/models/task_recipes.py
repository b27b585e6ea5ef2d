"""TASK_RECIPES: the task-specific models by name, to be trained on somebody's images.

``unet-timm`` stands on the trunk named here, ``unet-timm+resnet34`` on any other of timm;
``guided-eunet3plus+sam2.1-tiny`` is guided by another promptable model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.models.pathsam_config import Profile
from napari_pathsam.models.recipes import TRAINED_AT_MPP
from napari_pathsam.models.task_config import TaskConfig

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class TaskRecipe:
    """A task-specific model to be trained.

    ``fields`` are those of its :class:`TaskConfig` in every profile; ``profiles`` what each profile
    has differently, its ``network`` field by field. ``beside`` is what a name after ``+`` replaces:
    the trunk of the network, or the guide.
    """

    name: str
    title: str
    summary: str
    source: str
    fields: Fields
    profiles: Mapping[Profile, Fields] = field(default_factory=dict)
    beside: str | None = None

    def config(
        self, profile: Profile = "recommended", *, mpp: float = TRAINED_AT_MPP, **fields: Any
    ) -> TaskConfig:
        """What is trained; ``network`` may hold only the fields to be replaced."""
        found: dict[str, Any] = {"name": self.name, "profile": profile, "mpp": mpp}
        for more in (self.fields, self.profiles.get(profile, {}), fields):
            network = {**found.get("network", {}), **more.get("network", {})}
            found |= {**more, "network": network}
        return TaskConfig.model_validate(found)

    @property
    def command(self) -> str:
        """What trains it."""
        return (
            f"pathsam train --base {self.name} --images FOLDER --labels FOLDER --classes FILE "
            "--mpp UM --out MODEL.safetensors"
        )


DTU = "https://github.com/s153048/02456DL_Finalproject"
EUNET3PLUS = "https://github.com/CVPR-KIT/SAM-Guided-Enhanced-Nuclei-Segmentation"
# Mean and standard deviation of GlaS, as DTU gives them, of pixels in 0 … 1.
GLAS_COLOURS = {
    "pixel_mean": (200.79 / 255, 130.35 / 255, 200.21 / 255),
    "pixel_std": (39.21 / 255, 53.64 / 255, 28.70 / 255),
}
PLAIN = {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0)}
EUNET = {"kind": "unet3plus", "width": 32, "gated": True, "blur_pool": True}
# The released code: no deep supervision, pixels as they are, two channels with a sigmoid each.
EUNET_REPO: dict[str, Any] = {"network": {"deep_supervision": False, "dropout": 0.3}, **PLAIN}
RELEASED_FUSION = {
    "pool": "max-blur", "gate": "relu", "attend_to": "unet", "heads": 1, "residual": False,
}  # fmt: skip
PAPER_FUSION = {"pool": "mean", "gate": "glu", "attend_to": "gated", "heads": 1, "residual": False}

TASK_RECIPES: dict[str, TaskRecipe] = {
    recipe.name: recipe
    for recipe in (
        TaskRecipe(
            "unet",
            "U-Net",
            "The classic U-Net; paper and repo: DTU's on GlaS, 31.03 M weights.",
            DTU,
            {"network": {"kind": "unet", "width": 32, "norm": "batch"}},
            {
                "paper": {"network": {"width": 64, "norm": "none"}, "outputs": "foreground"}
                | GLAS_COLOURS,
                "repo": {"network": {"width": 64, "norm": "none"}, "outputs": "foreground"} | PLAIN,
            },
        ),
        TaskRecipe(
            "unet-timm",
            "U-Net on a timm trunk",
            "segmentation_models_pytorch's U-Net, an honest baseline; unet-timm+resnet34 stands "
            "on another trunk of timm's. Start it from ImageNet with --trunk.",
            "https://github.com/qubvel-org/segmentation_models.pytorch",
            {"network": {"kind": "timm-unet"}},
            beside="trunk",
        ),
        TaskRecipe(
            "unet3plus",
            "U-Net3+",
            "Full-scale skip connections and deep supervision; paper: 26.97 M weights and the "
            "heads of the sides.",
            "https://arxiv.org/abs/2004.08790",
            {"network": {"kind": "unet3plus", "width": 32}},
            {"paper": {"network": {"width": 64}}, "repo": {"network": {"width": 64}}},
        ),
        TaskRecipe(
            "eunet3plus",
            "eU-Net3+",
            "U-Net3+ with gated linear units and blurred pooling; 11.47 M weights.",
            EUNET3PLUS,
            {"network": EUNET},
            {"repo": EUNET_REPO},
        ),
        TaskRecipe(
            "guided-eunet3plus",
            "SAM-guided eU-Net3+",
            "eU-Net3+ whose bottleneck sees the embedding of a frozen SAM; "
            "guided-eunet3plus+sam2.1-tiny takes another one.",
            EUNET3PLUS,
            {"network": EUNET, "guide": "pathsam-nano"},
            {
                "paper": {"network": {"fusion": PAPER_FUSION}, "guide": "sam-vit-b"},
                "repo": {
                    **EUNET_REPO,
                    "network": {**EUNET_REPO["network"], "fusion": RELEASED_FUSION},
                    "guide": "sam-vit-b",
                },
            },
            beside="guide",
        ),
        TaskRecipe(
            "mask-rcnn",
            "Mask R-CNN",
            "Objects one by one (torchvision, ResNet-50); trains on instance labels. paper and "
            "repo: DTU's settings, all masks merged into one picture.",
            DTU,
            {"network": {"kind": "mask-rcnn"}, "outputs": "foreground"},
            {
                profile: {
                    "network": {
                        "resize": (800, 1333),
                        "score": 0.05,
                        "most": 100,
                        "merge": "union",
                    }
                }
                for profile in ("paper", "repo")
            },
        ),
    )
}


def is_task(name: str) -> bool:
    """Whether this is the name of a task-specific model, with or without something after ``+``."""
    return name.partition("+")[0] in TASK_RECIPES


def find_task_recipe(name: str) -> TaskRecipe:
    """The recipe of this name, with the trunk or the guide after ``+`` if there is one."""
    plain, plus, beside = name.partition("+")
    if plain not in TASK_RECIPES:
        raise UnavailableError(
            f"No task-specific model is called {name!r}. There are: {', '.join(TASK_RECIPES)}."
        )
    recipe = TASK_RECIPES[plain]
    if not plus:
        return recipe
    if recipe.beside is None:
        raise UnavailableError(
            f"{plain} stands on nothing that {beside} could replace; "
            "unet-timm+TRUNK and guided-eunet3plus+MODEL do."
        )
    if recipe.beside == "trunk":
        network = {**recipe.fields["network"], "trunk": beside}
        return TaskRecipe(
            name, f"U-Net on {beside}", recipe.summary, recipe.source, {"network": network}
        )
    profiles = {
        profile: {k: v for k, v in fields.items() if k != "guide"}
        for profile, fields in recipe.profiles.items()
    }
    fields = {**recipe.fields, "guide": beside}
    title = f"{recipe.title} by {beside}"
    return TaskRecipe(name, title, recipe.summary, recipe.source, fields, profiles)
