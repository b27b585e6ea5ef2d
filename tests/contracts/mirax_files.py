"""Glass as a MIRAX slide: photos, some never taken, that may overlap, and levels made of them.

After OpenSlide's description of the format (https://openslide.org/formats/mirax), as far as it
looks at it; no real file was ever here.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO_PX = 128
LEVELS = 3
SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
START = b"01.02" + SLIDE_ID.encode()


def write(folder: Path, glass: np.ndarray, *, overlap_px: int = 0) -> Path:
    """Photos beside each other, ``overlap_px`` of which are in the next one, too.

    ``glass`` ``(H, W, 3)`` is as large as a whole number of photos; where it is blank there is no
    photo.
    """
    path, data_folder = folder / "mirax.mrxs", folder / "mirax"
    data_folder.mkdir()
    step = PHOTO_PX - overlap_px
    rows, columns = ((n - overlap_px) // step for n in glass.shape[:2])
    photos = {
        (i, j): glass[i * step : i * step + PHOTO_PX, j * step : j * step + PHOTO_PX]
        for i in range(rows)
        for j in range(columns)
    }
    data, pages = bytearray(START), []
    for level in range(LEVELS):
        side, entries = 2**level, []
        for row in range(0, rows, side):
            for column in range(0, columns, side):
                image = _joined(photos, row, column, side)
                if (image < 255).any():
                    packed = _jpeg(image)
                    entries.append((row * columns + column, len(data), len(packed), 0))
                    data += packed
        pages.append(entries)
    (data_folder / "Data0000.dat").write_bytes(data)
    (data_folder / "Index.dat").write_bytes(_index(pages))
    (data_folder / "Slidedat.ini").write_text(_header(rows, columns, overlap_px))
    path.write_bytes(_jpeg(glass[::10, ::10]))
    return path


def _joined(
    photos: dict[tuple[int, int], np.ndarray], row: int, column: int, side: int
) -> np.ndarray:
    """An image of a level: so many photos each way, made smaller, overlaps and all."""
    blank = np.full((PHOTO_PX, PHOTO_PX, 3), 255, np.uint8)
    found = [
        [photos.get((row + i, column + j), blank)[::side, ::side] for j in range(side)]
        for i in range(side)
    ]
    return np.concatenate([np.concatenate(line, axis=1) for line in found])


def _index(pages: list[list[tuple[int, ...]]]) -> bytes:
    """Pointers to the levels' lists, each list in one page after an empty one."""
    root = len(START) + 8
    lists, pointers = b"", b""
    for entries in pages:
        here = root + 4 * len(pages) + len(lists)
        pointers += struct.pack("<i", here)
        lists += struct.pack("<iiii", 0, here + 8, len(entries), 0)
        lists += b"".join(struct.pack("<iiii", *entry) for entry in entries)
    return START + struct.pack("<ii", root, 0) + pointers + lists


def _header(rows: int, columns: int, overlap_px: int) -> str:
    names = "".join(f"HIER_0_VAL_{i}_SECTION=LEVEL_{i}\n" for i in range(LEVELS))
    sections = "".join(
        f"[LEVEL_{i}]\nOVERLAP_X={overlap_px / 2**i:g}\nOVERLAP_Y={overlap_px / 2**i:g}\n"
        f"MICROMETER_PER_PIXEL_X={0.5 * 2**i}\nMICROMETER_PER_PIXEL_Y={0.5 * 2**i}\n"
        f"DIGITIZER_WIDTH={PHOTO_PX}\nDIGITIZER_HEIGHT={PHOTO_PX}\nIMAGE_FORMAT=JPEG\n"
        f"IMAGE_FILL_COLOR_BGR=16777215\nIMAGE_CONCAT_FACTOR={int(i > 0)}\n"
        for i in range(LEVELS)
    )
    return (
        f"[GENERAL]\nSLIDE_VERSION=01.02\nSLIDE_ID={SLIDE_ID}\nIMAGENUMBER_X={columns}\n"
        f"IMAGENUMBER_Y={rows}\nOBJECTIVE_MAGNIFICATION=20\nCameraImageDivisionsPerSide=1\n"
        "[HIERARCHICAL]\nHIER_COUNT=1\nNONHIER_COUNT=0\nINDEXFILE=Index.dat\n"
        f"HIER_0_NAME=Slide zoom level\nHIER_0_COUNT={LEVELS}\n{names}"
        f"[DATAFILE]\nFILE_COUNT=1\nFILE_0=Data0000.dat\n{sections}"
    )


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()
