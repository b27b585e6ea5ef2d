"""One small picture as a slide of every format, as the scanners' files are laid out.

TIFF, OME-TIFF, SVS and OME-Zarr are what their writers write. The scanner formats are made after
their descriptions, as little of each as OpenSlide needs; no real file of theirs was ever here.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from PIL import Image, ImageCms

from napari_pathsam.core.geometry import Region

SHAPE_YX = (700, 501)
TILE_PX = 128
TILE: dict[str, Any] = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}
HALF_MICRON: dict[str, Any] = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}


def picture() -> np.ndarray:
    """Smooth, so that coarse levels resemble it; each corner another colour."""
    y, x = np.mgrid[0 : SHAPE_YX[0], 0 : SHAPE_YX[1]]
    return np.stack([y * 255 // 699, x * 255 // 500, (x + y) * 255 // 1199], -1).astype(np.uint8)


def canvas(shape_yx: tuple[int, int], at_yx: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The picture on white glass."""
    glass = np.full((*shape_yx, 3), 255, np.uint8)
    y, x = at_yx
    glass[y : y + SHAPE_YX[0], x : x + SHAPE_YX[1]] = picture()
    return glass


def levels() -> list[np.ndarray]:
    finest = picture()
    return [finest, finest[: 2 * 350 : 2, : 2 * 250 : 2], finest[: 4 * 175 : 4, : 4 * 125 : 4]]


def red_and_blue_exchanged() -> bytes:
    """A colour profile: sRGB with two of its primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0, **options)
    return file.getvalue()


def tiles(pixels: np.ndarray) -> list[np.ndarray]:
    """Row by row; the last ones filled up with white."""
    found = []
    for y in range(0, pixels.shape[0], TILE_PX):
        for x in range(0, pixels.shape[1], TILE_PX):
            piece = pixels[y : y + TILE_PX, x : x + TILE_PX]
            tile = np.full((TILE_PX, TILE_PX, 3), 255, np.uint8)
            tile[: piece.shape[0], : piece.shape[1]] = piece
            found.append(tile)
    return found


# --- TIFF ----------------------------------------------------------------------------------------


def pyramidal_tiff(folder: Path) -> Path:
    path = folder / "pyramid.tif"
    with tifffile.TiffWriter(path) as tif:
        for i, level in enumerate(levels()):
            tif.write(level, subfiletype=int(i > 0), metadata=None, **HALF_MICRON, **TILE)
    return path


def ome_tiff_subifds(folder: Path) -> Path:
    path = folder / "subifds.ome.tif"
    size = {f"PhysicalSize{a}": 500 for a in "XY"} | {f"PhysicalSize{a}Unit": "nm" for a in "XY"}
    finest, *coarser = levels()
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(finest, subifds=2, metadata={"axes": "YXS", **size}, **TILE)
        for level in coarser:
            tif.write(level, subfiletype=1, **TILE)
    return path


def ome_tiff_images(folder: Path) -> Path:
    path = folder / "images.ome.tif"
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as tif:
        for level in levels():
            tif.write(level, metadata={"axes": "YXS", **size}, **TILE)
    return path


def ome_tiff_channels(folder: Path) -> Path:
    path = folder / "channels.ome.tif"
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    finest, *coarser = [np.moveaxis(level, -1, 0) for level in levels()]
    options = {"tile": (128, 128), "photometric": "minisblack"}
    with tifffile.TiffWriter(path) as tif:
        tif.write(finest, subifds=2, metadata=metadata, **options)
        for level in coarser:
            tif.write(level, subfiletype=1, **options)
    return path


def aperio(folder: Path) -> Path:
    """With thumbnail, label, macro and a colour profile."""
    path = folder / "aperio.svs"
    library = "Aperio Image Library v11.2.1"
    said = f"{library} \r\n501x700 (128x128) |AppMag = 20|MPP = 0.5000"
    finest, *coarser = levels()
    profile = red_and_blue_exchanged()
    plain = {"metadata": None, "photometric": "rgb"}
    with tifffile.TiffWriter(path) as tif:
        tif.write(finest, description=said, metadata=None, iccprofile=profile, **TILE)
        tif.write(finest[::5, ::5], description=f"{library} \r\n501x700 -> 101x140", **plain)
        for level in coarser:
            tif.write(level, description=library, metadata=None, iccprofile=profile, **TILE)
        for kind, name in ((1, "label"), (9, "macro")):
            about = f"{library} \r\n{name} 60x50"
            tif.write(finest[:50, :60], description=about, subfiletype=kind, **plain)
    return path


def philips(folder: Path) -> Path:
    path = folder / "philips.tiff"
    spacings = [0.0005, 0.001, 0.002]

    def attribute(name: str, kind: str, value: str) -> str:
        return (
            f'<Attribute Name="{name}" Group="0x0" Element="0x0" PMSVR="{kind}">{value}</Attribute>'
        )

    def spacing(mm: float) -> str:
        return attribute(
            "DICOM_PIXEL_SPACING", "IDoubleArray", f"&quot;{mm}&quot; &quot;{mm}&quot;"
        )

    def array(name: str, values: str) -> str:
        return attribute(name, "IDataObjectArray", f"<Array>{values}</Array>")

    stages = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(mm)}'
        f"{attribute('PIIM_PIXEL_DATA_REPRESENTATION_NUMBER', 'IUInt16', str(i))}</DataObject>"
        for i, mm in enumerate(spacings)
    )
    scanned = (
        f'<DataObject ObjectType="DPScannedImage">'
        f"{attribute('PIM_DP_IMAGE_TYPE', 'IString', 'WSI')}{spacing(spacings[0])}"
        f"{array('PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE', stages)}</DataObject>"
    )
    about = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        f"{attribute('DICOM_MANUFACTURER', 'IString', 'x')}"
        f"{array('PIM_DP_SCANNED_IMAGES', scanned)}</DataObject>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for i in range(3):
            tif.write(
                canvas((768, 512))[:: 2**i, :: 2**i], subfiletype=int(i > 0), metadata=None,
                description=about if i == 0 else None, software="Philips DP v1.0", **TILE,
            )  # fmt: skip
    return path


def leica(folder: Path) -> Path:
    """An area of 501 × 700 pixels, 20 to the right and 40 down on its slide; and a macro."""
    path, stages = folder / "leica.scn", [picture(), picture()[::4, ::4]]
    height, width = (n * 500 for n in SHAPE_YX)  # nanometres
    whole = f'sizeX="{width + 20_000}" sizeY="{height + 40_000}"'
    dimensions = "".join(
        f'<dimension sizeX="{a.shape[1]}" sizeY="{a.shape[0]}" r="{i}" ifd="{i + 1}"/>'
        for i, a in enumerate(stages)
    )

    def image(pixels: str, view: str, objective: float) -> str:
        return (
            f'<image name="x"><creationDate>x</creationDate><device model="m" version="1"/>{pixels}'
            f"<view {view}/><scanSettings><objectiveSettings><objective>{objective:g}</objective>"
            "</objectiveSettings><illuminationSettings><numericalAperture>0.4</numericalAperture>"
            "<illuminationSource>brightfield</illuminationSource></illuminationSettings>"
            "</scanSettings></image>"
        )

    small = '<pixels sizeX="100" sizeY="200"><dimension sizeX="100" sizeY="200" r="0" ifd="0"/>'
    macro = image(f"{small}</pixels>", f'{whole} offsetX="0" offsetY="0"', 1)
    main = f'<pixels sizeX="501" sizeY="700">{dimensions}</pixels>'
    offset = f'sizeX="{width}" sizeY="{height}" offsetX="10000" offsetY="20000"'
    about = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" uuid="u" {whole}><barcode>x</barcode>{macro}'
        f"{image(main, offset, 20)}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for i, pixels in enumerate([np.full((200, 100, 3), 200, np.uint8), *stages]):
            tif.write(
                pixels, metadata=None, description=about if i == 0 else None, software=False,
                resolution=(20_000 if i else 100,) * 2, resolutionunit="CENTIMETER", **TILE,
            )  # fmt: skip
    return path


def ventana(folder: Path) -> Path:
    """Tiles are counted like a snake, from the bottom."""
    path, columns, rows = folder / "ventana.bif", 4, 6
    scan = '<iScan Magnification="20" ScanRes="0.5" Z-layers="1" Z-spacing="1"/>'

    def number(column: int, row: int) -> int:
        return row * columns + (columns - 1 - column if row % 2 else column) + 1

    def joint(direction: str, one: int, other: int) -> str:
        return (
            f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="{direction}" '
            f'Tile1="{one}" Tile2="{other}" OverlapX="0" OverlapY="0"/>'
        )

    joints = [joint("RIGHT", number(c, r), number(c + 1, r))
              for r in range(rows) for c in range(columns - 1)]  # fmt: skip
    joints += [joint("UP", number(c, r), number(c, r + 1))
               for r in range(rows - 1) for c in range(columns)]  # fmt: skip
    stitched = (
        f'<?xml version="1.0"?><EncodeInfo Ver="2"><SlideInfo>{scan}</SlideInfo><SlideStitchInfo>'
        f'<ImageInfo AOIScanned="1" AOIIndex="0" NumRows="{rows}" NumCols="{columns}" '
        f'Width="{TILE_PX}" Height="{TILE_PX}" Pos-X="0" Pos-Y="0">{"".join(joints)}</ImageInfo>'
        '</SlideStitchInfo><AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )

    def packet(text: str) -> list[tuple]:
        return [(700, 1, len(text) + 1, text.encode() + b"\0", True)]

    plain = {"metadata": None, "software": False}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(
            picture()[::5, ::5], photometric="rgb", description="Label Image",
            extratags=packet(f'<?xml version="1.0"?><Metadata>{scan}</Metadata>'), **plain,
        )  # fmt: skip
        for i in range(3):
            tif.write(
                canvas((768, 512))[:: 2**i, :: 2**i],
                description=f"level={i} mag={20 / 2**i:g} quality=90",
                extratags=packet(stitched) if i == 0 else [], **plain, **TILE,
            )  # fmt: skip
    return path


def hamamatsu_ndpi(folder: Path) -> Path:
    """Every level is one JPEG with restart markers; the last picture is the macro."""
    path = folder / "hamamatsu.ndpi"
    whole = canvas((704, 512))
    with tifffile.TiffWriter(path) as tif:
        for step, lens in ((1, 20.0), (4, 5.0), (8, -1.0)):
            pixels = np.ascontiguousarray(whole[::step, ::step])
            own = [(65420, 4, 1, 1, True), (65421, 11, 1, lens, True)]
            own += [(tag, 9, 1, 0, True) for tag in (65422, 65423, 65424)]
            tif.write(
                iter([jpeg(pixels, restart_marker_blocks=pixels.shape[1] // 8)]),
                shape=pixels.shape, dtype=np.uint8, photometric="ycbcr", subsampling=(1, 1),
                compression="jpeg", rowsperstrip=pixels.shape[0], metadata=None, extratags=own,
                resolution=(20_000 / step,) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip
    return path


# --- folders -------------------------------------------------------------------------------------


def hamamatsu_vms(folder: Path) -> Path:
    """Two JPEGs each way, as of what is larger than one may be, and a map of them all."""
    whole, names = canvas((704, 512)), ""
    for row, column in np.ndindex(2, 2):
        part = whole[row * 352 :, column * 256 :][:352, :256]
        (folder / f"{column}{row}.jpg").write_bytes(
            jpeg(np.ascontiguousarray(part), restart_marker_blocks=32)
        )
        names += f"ImageFile{f'({column},{row})' if column or row else ''}={column}{row}.jpg\n"
    (folder / "map.jpg").write_bytes(jpeg(whole[::4, ::4].copy(), restart_marker_blocks=16))
    (folder / "macro.jpg").write_bytes(jpeg(whole[::5, ::5].copy()))
    path = folder / "hamamatsu.vms"
    path.write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=2\nNoJpegRows=2\n"
        f"{names}MapFile=map.jpg\nOptimisationFile=\nMacroImage=macro.jpg\n"
        f"SourceLens=20\nPhysicalWidth={512 * 500}\nPhysicalHeight={704 * 500}\n"
    )
    return path


def dicom(folder: Path) -> Path:
    """Two levels of a whole-slide series, tiled in full, with a colour profile."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, generate_uid

    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    for i, pixels in enumerate([picture(), levels()[2]]):
        found, about = Dataset(), FileMetaDataset()
        about.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
        about.MediaStorageSOPInstanceUID = generate_uid()
        about.TransferSyntaxUID = JPEGBaseline8Bit
        found.file_meta = about
        found.SOPClassUID = about.MediaStorageSOPClassUID
        found.SOPInstanceUID = about.MediaStorageSOPInstanceUID
        found.SeriesInstanceUID, found.StudyInstanceUID = series, study
        found.FrameOfReferenceUID, found.Modality = frame, "SM"
        kind = ("DERIVED", "RESAMPLED") if i else ("ORIGINAL", "NONE")
        found.ImageType = [kind[0], "PRIMARY", "VOLUME", kind[1]]
        found.Rows = found.Columns = TILE_PX
        found.TotalPixelMatrixRows, found.TotalPixelMatrixColumns = pixels.shape[:2]
        found.SamplesPerPixel, found.PhotometricInterpretation = 3, "YBR_FULL_422"
        found.PlanarConfiguration = found.PixelRepresentation = 0
        found.BitsAllocated, found.BitsStored, found.HighBit = 8, 8, 7
        found.DimensionOrganizationType = "TILED_FULL"
        found.TotalPixelMatrixFocalPlanes = found.NumberOfOpticalPaths = 1
        measures, shared, optics = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = [0.0005 * 4**i] * 2
        shared.PixelMeasuresSequence = [measures]
        found.SharedFunctionalGroupsSequence = [shared]
        optics.OpticalPathIdentifier, optics.ObjectiveLensPower = "1", 20.0
        optics.ICCProfile = red_and_blue_exchanged()
        found.OpticalPathSequence = [optics]
        frames = [jpeg(tile) for tile in tiles(pixels)]
        found.NumberOfFrames = len(frames)
        found.PixelData = encapsulate(frames)
        found["PixelData"].is_undefined_length = True
        found.save_as(folder / f"{i}.dcm", enforce_file_format=True)
    return folder / "0.dcm"


def ngff(folder: Path, version: str, *, channels_last: bool = False) -> Path:
    path = folder / f"image-{version}-{channels_last}.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for i, level in enumerate(levels()):
        data = level if channels_last else np.moveaxis(level, -1, 0)[None]
        chunks = (128, 128, 3) if channels_last else (1, 1, 128, 128)
        group.create_array(str(i), shape=data.shape, chunks=chunks, dtype=data.dtype)[...] = data
    names = "yxc" if channels_last else "tcyx"
    about = {"y": "space", "x": "space", "c": "channel", "t": "time"}
    axes = [{"name": n, "type": about[n]} | ({"unit": "micrometer"} if n in "yx" else {})
            for n in names]  # fmt: skip

    def scaled(step: float) -> list[dict[str, Any]]:
        return [{"type": "scale", "scale": [step if n in "yx" else 1.0 for n in names]}]

    steps = [{"path": str(i), "coordinateTransformations": scaled(0.25 * 2**i)} for i in range(3)]
    # The image's own scale comes on top of each level's: 0.25 · 2 = 0.5 µm.
    multiscale = {"axes": axes, "datasets": steps, "coordinateTransformations": scaled(2.0)}
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return path


def without_tile(path: Path, bad: Region) -> Path:
    """Zeros where a tile of 128 pixels a side of the first picture lay."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        tile = bad.y // 128 * -(-page.imagewidth // 128) + bad.x // 128
        at, size = page.dataoffsets[tile], page.databytecounts[tile]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(size))
    return path
