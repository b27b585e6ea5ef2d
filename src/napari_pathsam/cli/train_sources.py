"""What ``pathsam train`` trains on, from its options: images, labels, classes, pixel size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.training.class_recipe import ClassRecipe


def sources_of(
    images: Path | None,
    labels: Path | None,
    classes: Path | None,
    dataset: str | None,
    roots: list[str],
    target: str | None,
    split: str | None,
    val_images: Path | None,
    val_labels: Path | None,
    *,
    own_validation: bool = True,
) -> tuple[dict[str, Path], dict[str, Any], dict[str, Any] | None, ClassTable]:
    """Where data sets lie, what is trained on, what is validated on, and the classes.

    With ``own_validation`` a data set's own images for that are validated on, where it has some.
    """
    from napari_pathsam.core.classes import ClassTable

    table = None if classes is None else ClassTable.from_csv(classes.read_text("utf-8-sig"))
    if (val_images is None) != (val_labels is None):
        raise typer.BadParameter("give both or neither.", param_hint="--val-images / --val-labels")
    held_out: dict[str, Any] | None = None
    if val_images is not None:
        held_out = {"images": val_images, "labels": val_labels}
    if dataset is not None and len(roots) == 1 and images is None and labels is None:
        from napari_pathsam.datasets import dataset as find

        found = find(dataset, target, roots[0])
        about: dict[str, Any] = {"dataset": found.name, "target": target}
        has_own = found.val_split is not None and split in (None, found.train_split)
        if held_out is None and own_validation and has_own:
            held_out = about | {"split": found.val_split}
        source = about | {"split": split or found.train_split}
        return (
            {found.name: Path(roots[0])},
            source,
            held_out,
            table or ClassTable.of(*found.classes),
        )
    if images is not None and labels is not None and dataset is None and not roots:
        if split is not None or target is not None:
            raise typer.BadParameter(
                "a folder of images has neither splits nor targets.",
                param_hint="--split / --target",
            )
        if table is None:
            raise typer.BadParameter(
                "a table of the classes is needed: a CSV with the columns id,name,color.",
                param_hint="--classes",
            )
        return {}, {"images": images, "labels": labels}, held_out, table
    raise typer.BadParameter(
        "give --images, --labels and --classes, or --dataset and --root, or --config.",
        param_hint="--images / --dataset / --config",
    )


def mpp_of(source: dict[str, Any], roots: dict[str, Path]) -> float:
    """The data set's pixel size, or what is taken for it; a folder has none."""
    from napari_pathsam.datasets import dataset

    if name := source.get("dataset"):
        found = dataset(name, source["target"], roots[name])
        if found.patches is not None and found.mpp is not None:
            return found.mpp
        one, *_ = found.samples(roots[name], source["split"])
        if known := one.mpp or one.nominal_mpp:
            return known
    raise typer.BadParameter(
        "the pixel size of these images is not known: say it, in microns per pixel.",
        param_hint="--mpp",
    )


def recipe_of(
    name: str,
    base: str,
    encoder: str | None,
    classes: ClassTable,
    *,
    mpp: float,
    tissue: str = "",
    stain: str = "",
    **fields: Any,
) -> ClassRecipe:
    """A recipe from options; ``base`` may be one of the catalogue's recipes.

    ``encoder`` takes the place of that recipe's own; an ablation has none and takes none.
    """
    from pydantic import ValidationError

    from napari_pathsam.core.errors import BadFileError, what_is_wrong
    from napari_pathsam.models.recipes import RECIPES, find_recipe
    from napari_pathsam.training.class_recipe import ClassRecipe

    network: dict[str, Any] = {"mpp": mpp, "tissue": tissue, "stain": stain}
    plain, _, named = base.partition("+")
    if plain in RECIPES:
        if encoder is not None and named not in ("", encoder):
            raise BadFileError(
                f"These options do not go together: {base} takes {named}, and --encoder is "
                f"{encoder}. Say one of them."
            )
        found = find_recipe(base if encoder is None else f"{plain}+{encoder}")
        base, encoder = found.base, found.encoder
        of_network, of_training = found.of_profile(
            fields.get("profile", "recommended"), fields["sources"][0].get("dataset")
        )
        network |= of_network
        fields["train"] = of_training | fields.get("train", {})
    try:
        return ClassRecipe(
            name=name, base=base, encoder=encoder, classes=classes, network=network, **fields
        )
    except ValidationError as error:
        raise BadFileError(f"These options do not go together: {what_is_wrong(error)}.") from error


def with_options(
    recipe: ClassRecipe, *, epochs: int | None, seed: int | None, **fields: Any
) -> ClassRecipe:
    """A recipe with what was said beside it on the command line; None was not said."""
    from pydantic import ValidationError

    from napari_pathsam.core.errors import BadFileError, what_is_wrong

    train = {"epochs": epochs, "seed": seed}
    told = {name: value for name, value in fields.items() if value is not None}
    told["train"] = recipe.train | {n: v for n, v in train.items() if v is not None}
    try:
        return recipe.model_validate(recipe.model_dump() | told)
    except ValidationError as error:
        raise BadFileError(
            f"These options do not go with the recipe: {what_is_wrong(error)}."
        ) from error
