"""Sample and DataSet: what every data set is to the rest of the package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.datasets.checking import Checked, checking
from napari_pathsam.datasets.layout import checked_folder, images_by_stem, natural_key

__all__ = [
    "UNKNOWN_ID",
    "Checked",
    "DataSet",
    "LabelKind",
    "Pixels",
    "Sample",
    "StainNorm",
    "checked_folder",
    "images_by_stem",
    "leaking",
    "overriding",
    "read_files",
    "refuse_duplicates",
    "refuse_leaks",
]

LabelKind = Literal["instances", "classes", "binary"]
"""What the ids of a label image are: objects, classes, or just "labelled"."""
StainNorm = Literal["macenko"]
UNKNOWN_ID = 255
"""The id of class labels that means "nobody looked here"."""

Pixels = tuple[NDArray[np.uint8], NDArray]
"""An image ``(H, W, 3)`` and its label map ``(H, W)``."""


def read_files(sample: Sample) -> Pixels:
    """An image file and its label image; without one, all of the image is of its class."""
    from napari_pathsam.io.images import read_labels, read_rgb

    image, _ = read_rgb(sample.image_path)
    if sample.labels_path is None:
        return image, np.full(image.shape[:2], sample.class_id or 0, np.uint8)
    return image, read_labels(sample.labels_path)


@dataclass(frozen=True)
class Sample:
    """One labelled image on disk; its pixels are read by :meth:`load`, not before.

    Attributes
    ----------
    name
        Unique in its data set; part of every report.
    group
        Patient, slide or case: what must never be on both sides of a split.
    split
        The part of the data set it belongs to.
    mpp
        Microns per pixel, or None where nobody published it.
    label_kind
        What the ids of the label image are.
    class_id
        When given, every labelled pixel is of this class, whatever its id on disk.
    nominal_mpp
        What to take for an unpublished pixel size: an estimate, and to be reported as one.
    reader
        How the files become pixels; a value that travels to worker processes.
    stain_norm
        How the image's stains are brought to a common look, if at all.
    objects
        Where labels are classes: how their objects' ids are read, if anybody drew them.
    """

    name: str
    group: str
    split: str
    image_path: Path
    labels_path: Path | None
    mpp: float | None
    label_kind: LabelKind
    class_id: int | None = None
    nominal_mpp: float | None = None
    reader: Callable[[Sample], Pixels] = read_files
    stain_norm: StainNorm | None = None
    objects: Callable[[Sample], Pixels] | None = None

    @property
    def homogeneous(self) -> bool:
        """Whether the image shows one class and has no label image: a tile sorted into a folder."""
        return self.labels_path is None and self.reader is read_files

    def load(self) -> Pixels:
        """Image ``(H, W, 3)`` uint8 and label map ``(H, W)``.

        Raises
        ------
        BadImageError, BadFileError
            A file is damaged, or the two differ in size; the message names the file.
        """
        image, labels = self.reader(self)
        if image.shape[:2] != labels.shape:
            raise BadImageError(
                f"{self.image_path.name} has {image.shape[0]} × {image.shape[1]} pixels, its "
                f"labels {self.labels_path} have {labels.shape[0]} × {labels.shape[1]}. "
                "An image and its labels must be of one size; export the labels again."
            )
        if self.class_id is not None:
            labels = np.where(labels != 0, self.class_id, 0).astype(np.uint8)
        if self.stain_norm is not None:
            from napari_pathsam.core.stain_norm import macenko

            image = macenko(image)
        return image, labels


@dataclass(frozen=True)
class DataSet:
    """A data set: where it is from, what it is, and how its folder is read.

    Attributes
    ----------
    find
        From the folder to every sample in it, with its split; reads names, not pixels. Nothing
        where the folder is not this data set's.
    splits
        Names a split may be asked for by; ``"all"`` is always one more.
    default_split, train_split, val_split
        What is measured, trained on and validated on when no split is named.
    expected
        Number of images (slides) of each split, or of each folder that names begin with, in the
        complete download; "all": of all of them.
    names
        Names of the complete download's images, by the same parts, where they are known.
    official_split
        Whether the split is the publishers'; one of ours never shares a group.
    targets
        Where the labels can be read in more than one way: each way by name.
    patches
        Where images are too large to be read whole: what each is cut into, without overlap.
    archives
        SHA-256 of the published archives, by file name.
    of_root
        Where classes and splits stand in the folder: the data set with those of this one.
    """

    name: str
    title: str
    licence: str
    citation: str
    url: str
    mpp: float | None
    label_kind: LabelKind
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    default_split: str
    expected: Mapping[str, int]
    layout: str
    notes: str
    find: Callable[[Path], list[Sample]]
    official_split: bool = False
    train_split: str | None = "train"
    val_split: str | None = None
    targets: Mapping[str, DataSet] = field(default_factory=dict)
    patches: Callable[[Sample], list[Sample]] | None = None
    archives: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    of_root: Callable[[DataSet, Path], DataSet] | None = None

    @property
    def known_ids(self) -> set[int]:
        """What label images of classes may hold."""
        return {0, UNKNOWN_ID, *range(1, len(self.classes) + 1)}

    def with_splits(self, found: Iterable[str]) -> DataSet:
        """The data set with the splits that are there, called train, val and test, or "all"."""
        splits = tuple(dict.fromkeys(found))
        return replace(
            self,
            splits=splits,
            default_split="test" if "test" in splits else "all",
            train_split="train" if "train" in splits else "all",
            val_split="val" if "val" in splits else None,
        )

    def aiming(self, target: str | None) -> DataSet:
        """The data set with its labels read in this way; None: as they are read by default.

        Raises
        ------
        UnavailableError
            The data set cannot be read so.
        """
        if target is None:
            return self
        if target not in self.targets:
            ways = f"there are {', '.join(self.targets)}" if self.targets else "it has one kind"
            raise UnavailableError(f"{self.name} has no target {target!r}; {ways}.")
        return self.targets[target]

    def at(self, root: Path) -> DataSet:
        """The data set with the classes and splits it has in this folder."""
        return self if self.of_root is None else self.of_root(self, checked_folder(root))

    def samples(self, root: Path, split: str | None = None) -> list[Sample]:
        """The samples of one split (None: the default one; ``"all"``: whatever there is).

        Several splits are named with commas between them.

        Raises
        ------
        BadFileError
            The folder is not this data set's, the split is unknown or empty, a partner is missing.
        """
        data = self.at(root)
        found = data._of_split(data.images(root), root, split)
        if self.patches is None:
            return found
        cut = [patch for whole in found for patch in self.patches(whole)]
        if not cut:
            raise BadFileError(
                f"No part of the {len(found)} images of {self.name} in {root} is labelled; look "
                "whether the annotations belong to these images."
            )
        return cut

    def images(self, root: Path) -> list[Sample]:
        """Every image or slide in a folder, whole.

        Raises
        ------
        BadFileError
            There is none, two have one name, a group is on both sides of a split of ours.
        """
        found = self.find(checked_folder(root))
        if not found:
            raise BadFileError(
                f"{root} holds no image of {self.title}. Its layout is: {self.layout}. "
                "Give the folder that holds it."
            )
        refuse_duplicates(found)
        if not self.official_split:
            refuse_leaks(found)
        return found

    def _of_split(self, found: list[Sample], root: Path, split: str | None) -> list[Sample]:
        wanted = [_plain(part) for part in (split or self.default_split).split(",")]
        if wanted == ["all"]:
            return found
        known = {_plain(s): s for s in (*self.splits, *(s.split for s in found))}
        for part in wanted:
            if part not in known:
                raise BadFileError(
                    f"{self.name} has no split {split!r}; there are "
                    f"{', '.join(dict.fromkeys(known.values()))} and all."
                )
            if not any(_in_split(_plain(s.split), part) for s in found):
                here = ", ".join(sorted({s.split for s in found}))
                raise BadFileError(
                    f"The split {known[part]!r} of {self.name} is empty: {root} holds images of "
                    f"{here} only. Complete the download, or choose another split."
                )
        return [s for s in found if any(_in_split(_plain(s.split), part) for part in wanted)]

    def verify(self, root: Path, *, sums: bool = False) -> list[str]:
        """What is missing or wrong in a download, one sentence each; empty when it is complete."""
        return [one.problem for one in self.checking(root, sums=sums) if one.problem]

    def checking(self, root: Path, *, sums: bool = False) -> Iterator[Checked]:
        """:func:`~napari_pathsam.datasets.checking.checking` of this data set's folder."""
        return checking(self, root, sums=sums)


def refuse_duplicates(samples: Iterable[Sample]) -> None:
    """BadFileError when two samples have one name."""
    seen: dict[str, Sample] = {}
    for sample in samples:
        if sample.name in seen:
            raise BadFileError(
                f"{seen[sample.name].image_path} and {sample.image_path} are both called "
                f"{sample.name}; remove one of them."
            )
        seen[sample.name] = sample


def leaking(samples: Iterable[Sample]) -> list[str]:
    """Groups with images in more than one split, in natural order."""
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    return sorted((g for g, s in splits.items() if len(s) > 1), key=natural_key)


def refuse_leaks(samples: Sequence[Sample]) -> None:
    """BadFileError when a group is in more than one split, naming the groups."""
    if found := leaking(samples):
        named = ", ".join(found[:10]) + (" …" if len(found) > 10 else "")
        raise BadFileError(
            f"The split puts images of one patient on both sides: {named}. A figure measured so "
            "would be too good; put each patient, slide or case into one split only."
        )


def overriding(
    samples: Iterable[Sample],
    *,
    mpp: float | None = None,
    label_kind: LabelKind | None = None,
    stain_norm: StainNorm | None = None,
) -> list[Sample]:
    """The samples with this pixel size, kind of labels, stains; None leaves each its own."""
    return [
        replace(
            s,
            mpp=mpp or s.mpp,
            label_kind=label_kind or s.label_kind,
            stain_norm=stain_norm or s.stain_norm,
        )
        for s in samples
    ]


def _plain(split: str) -> str:
    return re.sub(r"[^a-z0-9]", "", split.lower())


def _in_split(split: str, wanted: str) -> bool:
    """Whether it is the one asked for, or a part of it: "test" asks for testA and testB alike."""
    return re.fullmatch(re.escape(wanted) + "([a-z]|[0-9]+)?", split) is not None
