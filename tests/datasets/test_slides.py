"""Data sets made of slides or of large regions: BCSS, CATCH, CAMELYON16."""

import json

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets import DATASETS, open_dataset
from napari_pathsam.datasets.bcss import CLASSES as BCSS_CLASSES
from napari_pathsam.datasets.camelyon16 import NOT_EXHAUSTIVE
from napari_pathsam.datasets.slide_patches import around
from napari_pathsam.datasets.windows import cover

UNKNOWN = 255


@pytest.mark.parametrize("shape_yx", [(1, 1), (1024, 1024), (1025, 3000), (7, 40), (5000, 1023)])
def test_parts_of_an_image_meet_and_never_overlap(shape_yx):
    seen = np.zeros(shape_yx, int)
    parts = cover(shape_yx, 1024)
    for part in parts:
        seen[part.slices] += 1
    assert (seen == 1).all()
    assert max(max(p.shape_yx) for p in parts) <= 1024
    assert min(p.height for p in parts) >= min(shape_yx[0], 512)


def test_bcss_groups_codes_as_the_paper_does(folder, layouts, monkeypatch):
    layouts.bcss(folder)
    monkeypatch.setattr("napari_pathsam.datasets.bcss.PATCH_PX", 32)
    (whole,) = DATASETS["bcss"].find(folder.root)[-1:]
    parts = open_dataset("bcss", folder.root)
    assert {p.group for p in parts} == {"TCGA-OL-A5D6"}  # that site's slides are the test part
    assert len(parts) == 4
    codes = np.array(layouts.np.asarray(layouts.Image.open(whole.labels_path)))
    wanted = {0: UNKNOWN, 7: UNKNOWN, 1: 1, 19: 1, 20: 1, 2: 2, 3: 3, 10: 3, 11: 3, 4: 4}
    image, labels = whole.load()
    for code in np.unique(codes):
        assert set(labels[codes == code]) == {wanted.get(int(code), len(BCSS_CLASSES))}
    again = np.zeros_like(labels)
    pixels = np.zeros_like(image)
    for part in parts:
        where = part.reader.part.slices
        pixels[where], again[where] = part.load()
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_array_equal(pixels, image)


def test_bcss_refuses_codes_of_another_data_set_and_shrunken_masks(folder, layouts):
    layouts.bcss(folder)
    (part, *_) = open_dataset("bcss", folder.root)
    relative = str(part.labels_path.relative_to(folder.root))
    folder.save(relative, np.full((40, 60), 22, np.uint8))
    with pytest.raises(BadFileError, match=r"TCGA-OL.*holds the code 22"):
        part.load()


@pytest.mark.parametrize("database", ["CATCH.json", "CATCH.sqlite"])
def test_catch_paints_outlines_at_10x_and_5x(folder, layouts, database):
    layouts.catch(folder, database)
    (at_10x,) = open_dataset("catch", folder.root)
    assert (at_10x.group, at_10x.mpp) == ("MCT_03", 1.0)
    image, labels = at_10x.load()
    assert image.shape == (1024, 1024, 3)
    tumour, dermis, bone, tissue, glass = (150, 200), (300, 300), (275, 375), (20, 20), (20, 800)
    assert [labels[at] for at in (tumour, dermis, bone, tissue, glass)] == [5, 1, 255, 255, 0]
    assert (labels == 5).sum() == 100 * 100
    (at_5x,) = open_dataset("catch", folder.root, target="tissue-5x")
    assert (at_5x.load()[1] == 5).sum() == 50 * 50
    (kinds,) = open_dataset("catch", folder.root, target="kinds")
    assert [kinds.load()[1][at] for at in (tumour, dermis, bone, tissue)] == [9, 3, 1, 255]


def test_catch_patches_lie_where_somebody_outlined(folder, layouts):
    layouts.catch(folder)
    name, outlines = "MCT_03_1.svs", [("Dermis", [(1100, 0), (1150, 0), (1150, 100)])]
    content = json.loads((folder.root / "CATCH.json").read_text())
    (image,) = [i for i in content["images"] if i["file_name"] == name]
    content["annotations"] = [
        {"segmentation": [[c for xy in ring for c in xy]], "image_id": image["id"],
         "category_id": 1 + layouts.CATCH_KINDS.index(kind)}
        for kind, ring in outlines
    ]  # fmt: skip
    folder.text("CATCH.json", json.dumps(content))
    (only,) = open_dataset("catch", folder.root)
    assert only.name == "MCT_03_1/y0_x1024"


def test_a_wider_patch_has_the_same_centre(folder, layouts):
    layouts.catch(folder)
    (narrow,) = open_dataset("catch", folder.root)
    wide = around(narrow, 2)
    assert (wide.mpp, wide.load()[0].shape) == (2.0, (1024, 1024, 3))
    middle = wide.load()[1][256:768, 256:768]
    np.testing.assert_array_equal(middle == 5, narrow.load()[1][::2, ::2] == 5)


def test_catch_says_what_is_missing_or_does_not_fit(folder, layouts):
    layouts.catch(folder)
    folder.slide("CATCH/MCT/MCT_03_1.svs", (300, 600), mpp=2.0, tissue=True)
    (patch,) = open_dataset("catch", folder.root)
    with pytest.raises(BadFileError, match=r"MCT_03_1\.svs has 300 × 600.*drawn on 600 × 1200"):
        patch.load()
    (folder.root / "datasets.csv").unlink()
    with pytest.raises(BadFileError, match=r"no datasets\.csv"):
        open_dataset("catch", folder.root)


def test_catch_refuses_kinds_it_does_not_know(folder, layouts):
    layouts.catch(folder)
    text = (folder.root / "CATCH.json").read_text().replace('"Dermis"', '"Cartoon"')
    folder.text("CATCH.json", text)
    with pytest.raises(BadFileError, match=r"CATCH\.json.*Cartoon, which is no class"):
        open_dataset("catch", folder.root)
    folder.text("CATCH.json", "{}")
    with pytest.raises(BadFileError, match=r"CATCH\.json could not be read"):
        open_dataset("catch", folder.root)


def test_camelyon_cuts_areas_out_and_knows_what_nobody_looked_at(folder, layouts):
    layouts.camelyon16(folder)
    samples = {s.name: s for s in open_dataset("camelyon16", folder.root, "all")}
    # Two patches a row; glass on the right gives none.
    slides = ("normal_001", "tumor_001", "tumor_010", "test_001", "test_002")
    assert set(samples) == {f"{name}/y0_x0" for name in slides}
    tumour = samples["tumor_001/y0_x0"].load()[1]
    assert [tumour[at] for at in ((120, 120), (175, 175), (20, 20))] == [1, 0, 0]
    assert (tumour == 1).sum() == 200 * 200 - 50 * 50
    assert "tumor_010" in NOT_EXHAUSTIVE
    partly = samples["tumor_010/y0_x0"].load()[1]
    assert [partly[at] for at in ((120, 120), (175, 175), (20, 20))] == [1, 0, UNKNOWN]
    assert not samples["normal_001/y0_x0"].load()[1].any()
    assert not samples["normal_001/y0_x0"].homogeneous


def test_camelyon_in_its_older_folders(folder, layouts):
    for part in (
        "training/normal/normal_001",
        "training/tumor/tumor_001",
        "testing/images/test_001",
    ):
        folder.slide(f"{part}.tif", (600, 1200), mpp=1.0, tissue=True)
    folder.text("training/lesion_annotations/tumor_001.xml", layouts.asap("Tumor", "Exclusion"))
    folder.slide("testing/images/test_001_mask.tif", (100, 100), mpp=0.5, tissue=False)
    samples = open_dataset("camelyon16", folder.root, "all")
    assert [s.split for s in samples] == ["test", "train", "train"]
    assert samples[-1].load()[1].any()


def test_camelyon_names_slides_whose_outlines_are_not_there(folder, layouts):
    layouts.camelyon16(folder)
    annotations = folder.root / "CAMELYON16" / "annotations"
    (annotations / "test_001.xml").unlink()  # reference.csv says it has tumour
    with pytest.raises(BadFileError, match=r"test_001\.xml is missing"):
        open_dataset("camelyon16", folder.root)
    (annotations / "test_001.xml").write_text(layouts.asap("_0", "Lumen"))
    with pytest.raises(BadFileError, match=r"test_001\.xml: outlines of the group 'Lumen'"):
        open_dataset("camelyon16", folder.root)


def test_slides_without_a_pixel_size_are_refused(folder, layouts):
    layouts.camelyon16(folder)
    path = folder.root / "CAMELYON16" / "images" / "test_001.tif"
    layouts.tifffile.imwrite(path, np.full((600, 1200, 3), 240, np.uint8), photometric="rgb")
    with pytest.raises(BadFileError, match=r"test_001\.tif does not say its pixel size"):
        open_dataset("camelyon16", folder.root)
