"""Outlines in XML files, of two programs: Aperio ImageScope and ASAP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import existing_file, reading

Ring = NDArray[np.float64]
"""Corners ``(n, 2)`` as ``x, y`` in level-0 pixels."""


def aperio_rings(path: Path) -> list[Ring]:
    """``Annotations/Annotation/Regions/Region/Vertices/Vertex`` with ``X`` and ``Y``, in order."""
    return [
        ring
        for region in _root(path, "Annotations").iter("Region")
        if (ring := _ring(path, region.iter("Vertex"))) is not None
    ]


def asap_rings(path: Path) -> list[tuple[str, Ring]]:
    """``Annotation/Coordinates/Coordinate`` with ``X`` and ``Y``: group and outline of each."""
    found = []
    for annotation in _root(path, "ASAP_Annotations").iter("Annotation"):
        ring = _ring(path, annotation.iter("Coordinate"))
        if ring is not None:
            found.append((annotation.get("PartOfGroup", "").strip(), ring))
    return found


def _root(path: Path, tag: str) -> ElementTree.Element:
    existing_file(path, wanted="an XML file of outlines")
    with reading(path, "an XML file of outlines"):
        text = path.read_bytes()
        if b"<!DOCTYPE" in text[:4096].upper():
            raise BadFileError(f"{path} declares a document type, which no file of outlines does.")
        root = ElementTree.fromstring(text)
    if root.tag != tag:
        raise BadFileError(
            f"{path} is an XML file of {root.tag!r}, and {tag!r} is wanted. Take it from the "
            "archive again."
        )
    return root


def _ring(path: Path, corners: Iterator[ElementTree.Element]) -> Ring | None:
    """The outline; None where fewer than three corners make no area."""
    try:
        points = [(float(corner.attrib["X"]), float(corner.attrib["Y"])) for corner in corners]
    except (KeyError, ValueError) as error:
        raise BadFileError(f"{path}: a corner of an outline has no X or Y ({error}).") from error
    ring = np.array(points, np.float64).reshape(-1, 2)
    if not (np.abs(ring) < 1e9).all():
        raise BadFileError(f"{path}: an outline has corners that are no numbers, or too large.")
    return ring if len(ring) >= 3 else None
