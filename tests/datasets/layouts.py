"""Small data sets in exactly the layouts in which the real ones are distributed.

Loaded by the ``conftest.py`` beside it and by that of the contracts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SHAPE = (20, 30)
OBJECTS = np.zeros(SHAPE, np.uint8)
OBJECTS[2:10, 3:12], OBJECTS[12:18, 15:29] = 1, 2
BINARY = (np.indices(SHAPE).sum(axis=0) % 7 == 0).astype(np.uint8) * 255
DIAGNOSES = (
    "Normal", "Polyp", "Low-grade IN", "High-grade IN", "Serrated adenoma", "Adenocarcinoma",
)  # fmt: skip
TISSUES = ("ADI", "LYM", "MUC", "MUS", "NORM", "STR", "TUM")


class Folder:
    """Writes small images and labels under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str, shape_yx: tuple[int, int] = SHAPE) -> Path:
        rng = np.random.default_rng(len(name))
        return self.save(name, rng.integers(0, 256, (*shape_yx, 3)).astype(np.uint8))

    def labels(self, name: str, array: np.ndarray | None = None) -> Path:
        return self.save(name, OBJECTS if array is None else array)

    def save(self, name: str, array: np.ndarray) -> Path:
        path = self.path(name)
        if path.suffix in (".tif", ".tiff"):
            tifffile.imwrite(path, array)
        else:
            Image.fromarray(array).save(path, lossless=True)
        return path

    def text(self, name: str, text: str) -> Path:
        path = self.path(name)
        path.write_text(text, encoding="utf-8")
        return path

    def path(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def slide(self, name: str, shape_yx: tuple[int, int], *, mpp: float, tissue: bool) -> Path:
        """A tiled TIFF with a pixel size, in half of it tissue, the rest glass."""
        rng = np.random.default_rng(3)
        pixels = np.full((*shape_yx, 3), 240, np.uint8)
        if tissue:
            half = shape_yx[1] // 2
            pixels[:, :half] = (180, 90, 150)
            pixels[:, :half] += rng.integers(0, 20, (shape_yx[0], half, 3)).astype(np.uint8)
        path = self.path(name)
        per_cm = 1e4 / mpp
        tifffile.imwrite(
            path, pixels, tile=(256, 256), photometric="rgb", compression="lzw",
            resolution=(per_cm, per_cm), resolutionunit="CENTIMETER",
        )  # fmt: skip
        return path


def glas(folder: Folder, suffix: str = ".bmp") -> None:
    for name in ("train_1", "train_2", "testA_1", "testA_2", "testA_10", "testB_1"):
        folder.image(f"{name}{suffix}")
        folder.labels(f"{name}_anno{'.png' if suffix == '.webp' else suffix}")
    rows = "".join(
        f"{n}, {p}, benign\r\n" for n, p in (("train_1", 1), ("testA_1", 1), ("testA_2", 3))
    )
    folder.text("Grade.csv", "name, patient ID, grade (GlaS)\r\n" + rows)


def crag(folder: Folder) -> None:
    for part, n in (("train", 3), ("valid", 2)):
        for i in range(1, n + 1):
            name = f"{'test' if part == 'valid' else part}_{i}.png"
            folder.image(f"CRAG/{part}/Images/{name}")
            folder.labels(f"CRAG/{part}/Annotation/{name}")
            folder.image(f"CRAG/{part}/Overlay/{name}")


def ebhi(folder: Folder, suffix: str = ".png") -> None:
    for i, diagnosis in enumerate(DIAGNOSES):
        for case in range(8):
            name = f"GT20120{case}{i}-1-400-001"
            folder.image(f"{diagnosis}/image/{name}{suffix}")
            folder.labels(f"{diagnosis}/label/{name}.png", BINARY)


def crc(folder: Folder, suffix: str = ".png") -> None:
    for code in TISSUES:
        for row in range(5):
            folder.image(f"108px_1.04mpp/{code}/{code}_train_r{row}c03{suffix}")
        folder.image(f"224px_0.5mpp/{code}/{code}-TCGA-ABCDEFGH_101{suffix}")


def tnbc(folder: Folder, suffix: str = ".png") -> None:
    for patient in ("01", "02", "08", "09"):
        for n in (1, 2):
            folder.image(f"Slide_{patient}/{patient}_{n}{suffix}")
            folder.labels(f"GT_{patient}/{patient}_{n}.png", BINARY)


def bcss(folder: Folder) -> None:
    codes = (np.arange(40 * 60).reshape(40, 60) // 100 % 22).astype(np.uint8)
    for name in ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055", "TCGA-BH-A0BW-DX1_xmin42346_ymin30843",
                 "TCGA-OL-A5D6-DX1_xmin115108_ymin40554"):  # fmt: skip
        inside = "0_Public-data-Amgad2019_0.25MPP"
        folder.image(f"{inside}/rgbs_colorNormalized/{name}_MPP-0.2500.png", (40, 60))
        folder.save(f"{inside}/masks/{name}_MPP-0.2500.png", codes)


def cryonuseg(folder: Folder) -> None:
    again = "Annotator 1 (biologist second round of manual marks up)"
    second = "Annotator 2 (bioinformatician)"
    for organ in ("AdrenalGland", "Larynx"):
        for n in ("01", "02", "03"):
            name = f"Human_{organ}_{n}.tif"
            folder.image(f"tissue images/{name}")
            folder.labels(f"Annotator 1 (biologist)/label masks modify/{name}", OBJECTS)
            folder.labels(f"{again}/{again}/label masks modify/{name}", OBJECTS * 3)
            folder.labels(f"{second}/{second}/label masks modify/{name}", OBJECTS * 5)


def nuinsseg(folder: Folder) -> None:
    for organ in ("human bladder", "human brain", "human kidney", "mouse heart", "mouse spleen",
                  "human cardia", "human tongue", "mouse muscle_tibia"):  # fmt: skip
        for n in ("01", "02"):
            name = f"{organ.replace(' ', '_')}_{n}"
            folder.image(f"{organ}/tissue images/{name}.png")
            folder.labels(f"{organ}/label masks modify/{name}.tif", OBJECTS.astype(np.uint16))
            folder.labels(f"{organ}/mask binary/{name}.png", BINARY)


def conic(folder: Folder) -> None:
    sources = ("consep_1", "crag_4", "dpath_6", "glas_2", "dpath_9", "dpath_13", "crag_21")
    names = [f"{source}-{n:04d}" for source in sources for n in range(2)]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(names), 24, 24, 3)).astype(np.uint8)
    labels = np.zeros((len(names), 24, 24, 2), np.uint16)
    labels[:, 2:9, 2:9], labels[:, 12:20, 4:15] = (1, 6), (2, 3)
    np.save(folder.path("images.npy"), images)
    np.save(folder.path("labels.npy"), labels)
    folder.text("patch_info.csv", "patch_info\n" + "\n".join(names) + "\n")
    header = "neutrophil,epithelial,lymphocyte,plasma,eosinophil,connective\n"
    folder.text("counts.csv", header + "0,0,1,0,0,1\n" * len(names))


def lizard(folder: Folder) -> None:
    from scipy.io import savemat

    rows = []
    for n, name in enumerate(("consep_1", "crag_4", "dpath_6", "glas_2", "dpath_9", "dpath_12")):
        folder.image(f"lizard_images{1 + n % 2}/Lizard_Images{1 + n % 2}/{name}.png")
        labels = folder.path(f"lizard_labels/Lizard_Labels/Labels/{name}.mat")
        ids = np.array([[1], [2]])
        nuclei = {"inst_map": OBJECTS.astype(np.int32), "id": ids, "class": np.array([[6], [2]])}
        savemat(labels, nuclei | {"bbox": np.zeros((2, 4)), "centroid": np.zeros((2, 2))})
        rows.append(f"{name},{name.split('_')[0]},{1 + n % 3}")
    folder.text("lizard_labels/Lizard_Labels/info.csv", "Filename,Source,Split\n" + "\n".join(rows))


def monuseg(folder: Folder) -> None:
    train = "MoNuSeg 2018 Training Data/MoNuSeg 2018 Training Data"
    for images, outlines, name in (
        (f"{train}/Tissue Images", f"{train}/Annotations", "TCGA-A7-A13E-01Z-00-DX1"),
        (f"{train}/Tissue Images", f"{train}/Annotations", "TCGA-B0-5711-01Z-00-DX1"),
        ("MoNuSegTestData", "MoNuSegTestData", "TCGA-2Z-A9J9-01A-01-TS1"),
    ):
        folder.image(f"{images}/{name}.tif")
        corners = [((3, 2), (12, 2), (12, 10), (3, 10)), ((15, 12), (29, 12), (29, 18), (15, 18))]
        regions = "".join(
            f'<Region Id="{n}" Type="0"><Vertices>'
            + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring)
            + "</Vertices></Region>"
            for n, ring in enumerate(corners, start=1)
        )
        folder.text(
            f"{outlines}/{name}.xml",
            '<Annotations MicronsPerPixel="0.252000"><Annotation Id="1" Name="" Type="4">'
            f"<Attributes/><Regions><RegionAttributeHeaders/>{regions}</Regions><Plots/>"
            "</Annotation></Annotations>",
        )


def pannuke(folder: Folder) -> None:
    rng = np.random.default_rng(1)
    for fold in (1, 2, 3):
        images = rng.integers(0, 256, (fold + 1, 24, 24, 3)).astype(np.float64)
        masks = np.zeros((fold + 1, 24, 24, 6), np.float64)
        masks[:, 2:9, 2:9, 0], masks[:, 2:9, 12:20, 0] = 3, 7
        masks[:, 12:20, 4:15, 2] = 11
        masks[..., 5] = masks[..., :5].sum(axis=3) == 0
        base = f"Fold {fold}"
        np.save(folder.path(f"{base}/images/fold{fold}/images.npy"), images)
        np.save(folder.path(f"{base}/masks/fold{fold}/masks.npy"), masks)
        types = np.array(["Breast", "Head&Neck", "Colon", "Bile-duct"][: fold + 1])
        np.save(folder.path(f"{base}/images/fold{fold}/types.npy"), types)


CATCH_SLIDES = {
    "Melanoma_01_1.svs": "train", "Melanoma_01_2.svs": "train", "SCC_02_1.svs": "val",
    "MCT_03_1.svs": "test",
}  # fmt: skip
CATCH_SHAPE = (600, 1200)
CATCH_OUTLINES = (
    ("Mast Cell Tumor", [(150, 100), (250, 100), (250, 200), (150, 200)]),
    ("Dermis", [(50, 50), (500, 50), (500, 450), (50, 450)]),
    ("Bone", [(350, 250), (400, 250), (400, 300), (350, 300)]),
)
CATCH_KINDS = (
    "Bone", "Cartilage", "Dermis", "Epidermis", "Subcutis", "Inflamm/Necrosis", "Melanoma",
    "Plasmacytoma", "Mast Cell Tumor", "PNST", "SCC", "Trichoblastoma", "Histiocytoma",
)  # fmt: skip


def catch(folder: Folder, database: str = "CATCH.json") -> None:
    for name in CATCH_SLIDES:
        folder.slide(f"CATCH/{name.split('_')[0]}/{name}", CATCH_SHAPE, mpp=1.0, tissue=True)
    rows = "".join(f"{name};{part};ScanScope v1\n" for name, part in CATCH_SLIDES.items())
    folder.text("datasets.csv", "Slide;Dataset;Scanner\n" + rows)
    (_catch_json if database.endswith(".json") else _catch_sqlite)(folder.path(database))


def _catch_json(path: Path) -> None:
    height, width = CATCH_SHAPE
    images, annotations = [], []
    for n, name in enumerate(CATCH_SLIDES, start=1):
        images.append({"license": 1, "file_name": name, "id": n, "width": width, "height": height})
        annotations += [
            {"segmentation": [float(c) for xy in (*ring, ring[0]) for c in xy], "iscrowd": 0,
             "image_id": n, "category_id": 1 + CATCH_KINDS.index(kind), "id": 10 * n + i}
            for i, (kind, ring) in enumerate(CATCH_OUTLINES)
        ]  # fmt: skip
    categories = [{"id": i, "name": kind} for i, kind in enumerate(CATCH_KINDS, start=1)]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


def _catch_sqlite(path: Path) -> None:
    height, width = CATCH_SHAPE
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE Classes (uid INTEGER, name TEXT, color TEXT)")
        db.execute(
            "CREATE TABLE Slides (uid INTEGER, filename TEXT, width INTEGER, height INTEGER)"
        )
        db.execute(
            "CREATE TABLE Annotations (uid INTEGER, slide INTEGER, type INTEGER, "
            "agreedClass INTEGER, deleted INTEGER)"
        )
        db.execute(
            "CREATE TABLE Annotations_coordinates (uid INTEGER, coordinateX INTEGER, "
            "coordinateY INTEGER, slide INTEGER, annoId INTEGER, orderIdx INTEGER)"
        )
        for i, kind in enumerate(CATCH_KINDS, start=1):
            db.execute("INSERT INTO Classes VALUES (?, ?, '#000000')", (i, kind))
        for n, name in enumerate(CATCH_SLIDES, start=1):
            db.execute("INSERT INTO Slides VALUES (?, ?, ?, ?)", (n, name, width, height))
            drawn = [*CATCH_OUTLINES, ("SCC", [(0, 0), (50, 0), (50, 50)])]
            for i, (kind, ring) in enumerate(drawn):
                uid, deleted = 10 * n + i, int(kind == "SCC")
                db.execute(
                    "INSERT INTO Annotations VALUES (?, ?, 3, ?, ?)",
                    (uid, n, 1 + CATCH_KINDS.index(kind), deleted),
                )
                for order, (x, y) in enumerate([*ring, ring[0]]):
                    db.execute(
                        "INSERT INTO Annotations_coordinates VALUES (0, ?, ?, ?, ?, ?)",
                        (x, y, n, uid, order),
                    )
    db.close()


def camelyon16(folder: Folder) -> None:
    for name, tissue in (
        ("normal_001", True), ("tumor_001", True), ("tumor_010", True), ("test_001", True),
        ("test_002", True),
    ):  # fmt: skip
        folder.slide(f"CAMELYON16/images/{name}.tif", (600, 1200), mpp=1.0, tissue=tissue)
    for name in ("tumor_001", "tumor_010", "test_001"):
        folder.text(f"CAMELYON16/annotations/{name}.xml", asap())
    rows = "test_001,Tumor,IDC,Micro\ntest_002,Normal,None,None\n"
    folder.text("CAMELYON16/evaluation/reference.csv", rows)


def asap(*groups: str) -> str:
    rings = [((100, 100), (300, 100), (300, 300), (100, 300)),
             ((150, 150), (200, 150), (200, 200), (150, 200))]  # fmt: skip
    annotations = "".join(
        f'<Annotation Name="Annotation {n}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
        "<Coordinates>"
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(ring))
        + "</Coordinates></Annotation>"
        for n, (group, ring) in enumerate(zip(groups or ("_0", "_2"), rings, strict=True))
    )
    return (
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        f'{annotations}</Annotations><AnnotationGroups><Group Name="_0" PartOfGroup="None" '
        'Color="#00ff00"><Attributes /></Group></AnnotationGroups></ASAP_Annotations>'
    )


def coco(folder: Folder) -> None:
    categories = [{"id": 7, "name": "gland"}, {"id": 9, "name": "vessel"}]
    for part, names in (("train", ("a.png", "b.png")), ("val", ("c.png",))):
        images, annotations = [], []
        for n, name in enumerate(names, start=1):
            folder.image(f"{part}/{name}")
            images.append({"id": n, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]})
            annotations += [
                {"id": 10 * n, "image_id": n, "category_id": 9, "iscrowd": 0,
                 "segmentation": [[3, 2, 12, 2, 12, 10, 3, 10]]},
                {"id": 10 * n + 1, "image_id": n, "category_id": 7, "iscrowd": 0,
                 "segmentation": {"size": list(SHAPE), "counts": runs(OBJECTS == 2)}},
            ]  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": categories}
        folder.text(f"annotations/instances_{part}.json", json.dumps(content))


def runs(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of a mask, the slow way."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def folders(folder: Folder) -> None:
    for part in ("train", "val", "test"):
        for n in range(2):
            folder.image(f"{part}/images/{part}{n}.png")
            folder.labels(f"{part}/labels/{part}{n}_anno.png")
    folder.text("classes.csv", "id,name\n1,gland\n2,stroma\n")


BUILD: dict[str, Callable[[Folder], None]] = {
    "glas": glas, "crag": crag, "ebhi-seg": ebhi, "crc-tissue": crc, "bcss": bcss,
    "cryonuseg": cryonuseg, "nuinsseg": nuinsseg, "conic": conic, "lizard": lizard,
    "monuseg": monuseg, "tnbc": tnbc, "pannuke": pannuke, "catch": catch,
    "camelyon16": camelyon16, "coco": coco, "folder": folders,
}  # fmt: skip
