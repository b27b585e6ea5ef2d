"""Files of a data set on disk: found by stem, paired with their labels, counted, summed."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from napari_pathsam.core.errors import BadFileError

IMAGE_SUFFIXES = (".png", ".bmp", ".webp", ".tif", ".tiff", ".jpg", ".jpeg")


def checked_folder(root: Path) -> Path:
    """The folder, when it is one; BadFileError otherwise."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise BadFileError(f"{root} {what}; give the folder that holds the data set.")
    return root


def folder_holding(root: Path, *names: str, deep: int = 2) -> Path | None:
    """``root`` or a folder below it, at most ``deep`` down, in which all these names lie."""
    level = [root]
    for _ in range(deep + 1):
        for folder in level:
            if all((folder / name).exists() for name in names):
                return folder
        level = [p for folder in level for p in subfolders(folder)]
    return None


def subfolders(folder: Path) -> list[Path]:
    """Folders right inside one, in natural order; not hidden ones, nor a Mac's ``__MACOSX``."""
    found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    return sorted(found, key=natural_key)


def images_by_stem(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Image files of one folder by name without suffix, in natural order.

    Raises
    ------
    BadFileError
        Two images have one stem, so that it is not clear which the labels belong to.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=natural_key):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
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


def partner(
    labels: dict[str, Path],
    stem: str,
    image: Path,
    folder: Path,
    suffixes: Iterable[str] = IMAGE_SUFFIXES,
) -> Path:
    """The label file of this stem; BadFileError names the image that has none."""
    if stem not in labels:
        raise BadFileError(
            f"{image.name} has no labels: {folder} holds no {stem} with one of the suffixes "
            f"{' '.join(suffixes)}. Add the label file, or move the image elsewhere."
        )
    return labels[stem]


def paired(images: Path, labels: Path) -> Iterator[tuple[str, Path, Path]]:
    """Stem, file and label file of every image of a folder, labels being called alike in another.

    Raises
    ------
    BadFileError
        The folder of labels or one of its files is missing, or two images have one stem.
    """
    if not labels.is_dir():
        raise missing_labels(images, labels)
    files = images_by_stem(labels)
    for stem, path in images_by_stem(images).items():
        yield stem, path, partner(files, stem, path, labels)


def missing_labels(images: Path, labels: Path) -> BadFileError:
    """The error for a folder of images whose folder of labels is not there."""
    return BadFileError(
        f"{images} has no folder of labels beside it: {labels} is missing. Unpack it there, or "
        "take the archive again."
    )


def tcga_patient(name: str) -> str:
    """``TCGA-A1-A0SK`` of a TCGA barcode: project, tissue source site, participant.

    Source: GDC, "TCGA Barcode". BadFileError where the name is none.
    """
    found = re.match(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}", name)
    if found is None:
        raise BadFileError(
            f"{name} does not begin with a TCGA barcode such as TCGA-A1-A0SK, from which the "
            "patient is known. Give the file its published name again."
        )
    return found[0]


def table(path: Path, *columns: str, delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a CSV file by column name; BadFileError where a column is not there."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter=delimiter, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFileError(f"{path} cannot be read as a table: {error}.") from error
    for number, row in enumerate(rows, start=2):
        if any(row.get(name) is None for name in columns):
            raise BadFileError(
                f"{path} is not the table it should be: a CSV with the columns "
                f"{', '.join(columns)} is wanted (line {number}). Take it from the archive again."
            )
    return rows


def checksum(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def listed_sums(path: Path) -> dict[str, str]:
    """``digest  name`` lines, as md5sum and sha256sum write them: digest by name."""
    found = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        digest, _, name = line.strip().partition(" ")
        if re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{64}", digest) and name:
            found[name.strip().lstrip("*").removeprefix("./")] = digest.lower()
    return found
