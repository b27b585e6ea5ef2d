"""RECIPES: the papers' models, which have no weights to fetch: configurations to be trained.

``path-sam2-tiny`` takes the encoder named here; ``path-sam2-tiny+uni`` any other of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.models.encoders import EncoderSpec, find_encoder
from napari_pathsam.models.pathsam_config import PathSamConfig, Profile, profiled

TRAINED_AT_MPP = 0.5


@dataclass(frozen=True)
class Recipe:
    """A model to be trained. ``encoder`` is a name of the catalogue, None for an ablation.

    ``published`` and ``published_training`` are the fields of :class:`PathSamConfig` and of the
    training settings in which its paper and released code differ from Path-SAM2's;
    ``published_on`` those of training on a data set of its own settings, by name.
    """

    name: str
    title: str
    base: str
    encoder: str | None
    summary: str
    source: str
    published: Mapping[str, Any] = field(default_factory=dict)
    published_training: Mapping[str, Any] = field(default_factory=dict)
    published_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config(
        self, profile: Profile = "recommended", *, mpp: float = TRAINED_AT_MPP
    ) -> PathSamConfig:
        """What is trained, in one of the three profiles, for images of this pixel size."""
        encoder: EncoderSpec | None = None if self.encoder is None else find_encoder(self.encoder)
        fields = {"name": self.name, "base": self.base, "encoder": encoder, "mpp": mpp}
        return profiled(profile, **(fields | self.of_profile(profile)[0]))

    def of_profile(
        self, profile: Profile, dataset: str | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fields of the network and of the training that the profile alone does not say."""
        if profile == "recommended":
            return {}, {}
        training = {**self.published_training, **self.published_on.get(dataset or "", {})}
        return dict(self.published), training

    @property
    def command(self) -> str:
        """What trains it."""
        return (
            f"pathsam train --model {self.name} --images FOLDER --labels FOLDER --mpp UM "
            "--out MODEL.safetensors"
        )


PATH_SAM2 = "https://arxiv.org/abs/2408.03651"
SAM_PATH = "https://arxiv.org/abs/2307.09570"
# SAM-Path's masks come from a copy of SAM's own MLP for each class, it learns faster, and from its
# guess of the IoU on BCSS only.
OF_SAM_PATH: dict[str, Any] = {
    "published": {"head": "mlp"},
    "published_training": {"lr": 1e-4, "loss": {"alpha": 0.125, "beta": 0.0}},
    "published_on": {"bcss": {"loss": {"alpha": 0.25, "beta": 0.0625}}},
}
SIZES = {
    "nano": "pathsam-nano",
    "tiny": "sam2.1-tiny",
    "small": "sam2.1-small",
    "base-plus": "sam2.1-base-plus",
    "large": "sam2.1-large",
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *(
            Recipe(
                f"path-sam2-{size}",
                f"Path-SAM2 on {base}",
                base,
                "dinov2-s",
                "SAM 2's encoder and a pathology encoder, class prompts through a KAN; "
                f"path-sam2-{size}+uni takes UNI, as the paper, and so with every other encoder.",
                PATH_SAM2,
            )
            for size, base in SIZES.items()
        ),
        Recipe(
            "sam-path",
            "SAM-Path",
            "sam-vit-b",
            "hipt-s16",
            "SAM 1 ViT-B and HIPT's ViT-S, as in the paper; class prompts through a KAN, but "
            "through the paper's MLPs with --profile paper.",
            SAM_PATH,
            **OF_SAM_PATH,
        ),
        Recipe(
            "fine-tuned-sam2",
            "Fine-tuned SAM 2",
            "sam2.1-base-plus",
            None,
            "Path-SAM2 without a pathology encoder: its ablation.",
            PATH_SAM2,
        ),
        Recipe(
            "fine-tuned-sam",
            "Fine-tuned SAM",
            "sam-vit-b",
            None,
            "SAM-Path without a pathology encoder: its ablation.",
            SAM_PATH,
            **OF_SAM_PATH,
        ),
    )
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name, with the encoder after ``+`` if there is one."""
    plain, plus, encoder = name.partition("+")
    if plain not in RECIPES:
        raise UnavailableError(
            f"Nothing to train is called {name!r}. There are: {', '.join(RECIPES)}; "
            "NAME+ENCODER takes another encoder."
        )
    recipe = RECIPES[plain]
    if not plus:
        return recipe
    if recipe.encoder is None:
        raise UnavailableError(
            f"{plain} is the model without a pathology encoder. With {encoder} beside it, it is "
            "path-sam2-base-plus or sam-path."
        )
    spec = find_encoder(encoder)
    title = f"{recipe.title} with {spec.title or spec.name}"
    return replace(recipe, name=name, title=title, encoder=encoder)
