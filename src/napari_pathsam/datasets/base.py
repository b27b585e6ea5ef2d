"""Sample and DataSet: what every published data set is to the rest of the package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError

LabelKind = Literal["instances", "classes", "binary"]
"""What the ids of a label image are: objects, classes, or just "labelled"."""

IMAGE_SUFFIXES = (".png", ".bmp", ".webp", ".tif", ".tiff", ".jpg", ".jpeg")


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

    @property
    def homogeneous(self) -> bool:
        """Whether the image shows one class and has no label image: a tile sorted into a folder."""
        return self.labels_path is None

    def load(self) -> tuple[NDArray[np.uint8], NDArray]:
        """Image ``(H, W, 3)`` and label map ``(H, W)``.

        Raises
        ------
        BadImageError, BadFileError
            A file is damaged, or the two differ in size; the message names the file.
        """
        from napari_pathsam.io.images import read_labels, read_rgb

        image, _ = read_rgb(self.image_path)
        if self.labels_path is None:
            return image, np.full(image.shape[:2], self.class_id or 0, np.uint8)
        labels = read_labels(self.labels_path)
        if image.shape[:2] != labels.shape:
            raise BadImageError(
                f"{self.image_path.name} has {image.shape[0]} × {image.shape[1]} pixels, its "
                f"labels {self.labels_path} have {labels.shape[0]} × {labels.shape[1]}. "
                "An image and its labels must be of one size; export the labels again."
            )
        if self.class_id is not None:
            labels = np.where(labels != 0, self.class_id, 0).astype(np.uint8)
        return image, labels


@dataclass(frozen=True)
class DataSet:
    """A published data set: where it is from, what it is, and how its folder is read.

    Attributes
    ----------
    find
        From the folder to every sample in it, with its split; reads names, not pixels.
    splits
        Names a split may be asked for by; ``"all"`` is always one more.
    default_split
        The split that is measured when none is named.
    expected
        Number of images of each split in the complete download.
    official_split
        Whether the split is the publishers'; one of ours never shares a group.
    targets
        Where the labels can be read in more than one way: each way by name.
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
    expected: dict[str, int]
    layout: str
    notes: str
    find: Callable[[Path], list[Sample]]
    official_split: bool = False
    targets: Mapping[str, DataSet] = field(default_factory=dict)

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

    def samples(self, root: Path, split: str | None = None) -> list[Sample]:
        """The samples of one split (None: the default one; ``"all"``: whatever there is).

        Several splits are named with commas between them.

        Raises
        ------
        BadFileError
            The folder is not this data set's, the split is unknown or empty, a partner is missing.
        """
        found = self.find(checked_folder(root))
        if not found:
            raise BadFileError(
                f"{root} holds no image of {self.title}. Its layout is: {self.layout}. "
                "Give the folder that holds it with --root."
            )
        refuse_duplicates(found)
        if not self.official_split:
            refuse_leaks(found)
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

    def verify(self, root: Path) -> list[str]:
        """What is missing or wrong in a download, one sentence each; empty when it is complete."""
        try:
            found = self.samples(root, "all")
        except BadFileError as error:
            return [str(error)]
        problems = []
        for split, n in self.expected.items():
            here = sum(s.split == split for s in found)
            if here != n:
                problems.append(f"{split}: {here} images, the complete data set has {n}.")
        for sample in found:
            try:
                sample.load()
            except (BadFileError, BadImageError, OSError) as error:
                problems.append(f"{sample.name}: {error}")
        return problems


def checked_folder(root: Path) -> Path:
    """The folder, when it is one; BadFileError otherwise."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise BadFileError(f"{root} {what}; give the folder that holds the data set.")
    return root


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Image files of one folder by name without suffix, in natural order.

    Raises
    ------
    BadFileError
        Two images have one stem, so that it is not clear which the labels belong to.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=natural_key):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise BadFileError(
                f"{folder} holds both {found[path.stem].name} and {path.name}; labels find their "
                "image by its name without suffix, so one of the two has to go."
            )
        found[path.stem] = path
    return found


def natural_key(path: Path | str) -> list[tuple[int, str]]:
    """Sort key that puts ``testA_2`` before ``testA_10``."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts]


def partner(labels: dict[str, Path], stem: str, image: Path, folder: Path) -> Path:
    """The label image of this stem; BadFileError names the image that has none."""
    if stem not in labels:
        raise BadFileError(
            f"{image.name} has no labels: {folder} holds no {stem} with one of the suffixes "
            f"{' '.join(IMAGE_SUFFIXES)}. Add the label image, or move the image elsewhere."
        )
    return labels[stem]


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


def refuse_leaks(samples: Sequence[Sample]) -> None:
    """BadFileError when a group is in more than one split, naming the groups."""
    splits: dict[str, set[str]] = {}
    for sample in samples:
        splits.setdefault(sample.group, set()).add(sample.split)
    leaking = sorted((g for g, s in splits.items() if len(s) > 1), key=natural_key)
    if leaking:
        named = ", ".join(leaking[:10]) + (" …" if len(leaking) > 10 else "")
        raise BadFileError(
            f"The split puts images of one patient on both sides: {named}. A figure measured so "
            "would be too good; put each patient, slide or case into one split only."
        )


def overriding(
    samples: Iterable[Sample], *, mpp: float | None = None, label_kind: LabelKind | None = None
) -> list[Sample]:
    """The samples with this pixel size and kind of labels; None leaves each its own."""
    return [replace(s, mpp=mpp or s.mpp, label_kind=label_kind or s.label_kind) for s in samples]


def _plain(split: str) -> str:
    return re.sub(r"[^a-z0-9]", "", split.lower())


def _in_split(split: str, wanted: str) -> bool:
    """Whether it is the one asked for, or a part of it: "test" asks for testA and testB alike."""
    return re.fullmatch(re.escape(wanted) + "([a-z]|[0-9]+)?", split) is not None
