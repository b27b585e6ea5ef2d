"""Nuclei: CryoNuSeg, NuInsSeg, CoNIC, Lizard, MoNuSeg, PanNuke; and glands of CRAG."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets import open_dataset
from napari_pathsam.datasets.pannuke import ids_of, kinds_of


def test_crag_s_valid_folder_is_its_test_part(folder, layouts):
    layouts.crag(folder)
    assert [s.name for s in open_dataset("crag", folder.root)] == ["test/test_1", "test/test_2"]
    (one, *_) = open_dataset("crag", folder.root / "CRAG", "train")
    assert (one.mpp, one.nominal_mpp) == (None, 0.55)
    np.testing.assert_array_equal(one.load()[1], layouts.OBJECTS)


def test_cryonuseg_has_two_annotators_one_of_them_twice(folder, layouts):
    layouts.cryonuseg(folder)
    for target, factor in (("annotator-1", 1), ("annotator-1-again", 3), ("annotator-2", 5)):
        samples = open_dataset("cryonuseg", folder.root, "all", target=target)
        assert len(samples) == 6
        np.testing.assert_array_equal(samples[0].load()[1], layouts.OBJECTS * factor)
    held_out = {s.name for s in open_dataset("cryonuseg", folder.root, "val")}
    assert held_out == {"Human_AdrenalGland_03", "Human_Larynx_03"}


def test_nuinsseg_keeps_an_organ_in_one_split(folder, layouts):
    layouts.nuinsseg(folder)
    splits = {}
    for sample in open_dataset("nuinsseg", folder.root, "all"):
        splits.setdefault(sample.group, set()).add(sample.split)
    assert len(splits) == 8
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == {"train", "val"}


def test_conic_reads_one_patch_as_nuclei_or_as_their_kinds(folder, layouts):
    layouts.conic(folder)
    nuclei = open_dataset("conic", folder.root, "all")[3]
    kinds = open_dataset("conic", folder.root, "all", target="kinds")[3]
    assert (nuclei.name, nuclei.group) == ("crag_4-0001", "crag_4")
    image, labels = nuclei.load()
    np.testing.assert_array_equal(image, np.load(folder.root / "images.npy")[3])
    assert set(np.unique(labels)) == {0, 1, 2}
    assert set(np.unique(kinds.load()[1])) == {0, 6, 3}


def test_conic_s_files_must_belong_together(folder, layouts):
    layouts.conic(folder)
    labels = np.load(folder.root / "labels.npy")
    np.save(folder.root / "labels.npy", labels[:-1])
    with pytest.raises(BadFileError, match=r"images\.npy holds 14 images and .*labels\.npy 13"):
        open_dataset("conic", folder.root)
    np.save(folder.root / "labels.npy", labels[..., 0])
    with pytest.raises(BadFileError, match=r"labels\.npy has the shape"):
        open_dataset("conic", folder.root)
    np.save(folder.root / "labels.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(BadFileError, match=r"labels\.npy could not be read"):
        open_dataset("conic", folder.root)


def test_lizard_paints_the_kind_of_each_nucleus(folder, layouts):
    layouts.lizard(folder)
    (sample, *_) = open_dataset("lizard", folder.root, "fold1", target="kinds")
    labels = sample.load()[1]
    assert set(labels[layouts.OBJECTS == 1]) == {6}
    assert set(labels[layouts.OBJECTS == 2]) == {2}
    assert not labels[layouts.OBJECTS == 0].any()
    np.testing.assert_array_equal(sample.objects(sample)[1], layouts.OBJECTS)
    (whole, *_) = open_dataset("lizard", folder.root, "fold1")
    assert whole.objects is None
    np.testing.assert_array_equal(whole.load()[1], layouts.OBJECTS)
    folder.image("lizard_images1/Lizard_Images1/stray_1.png")
    with pytest.raises(BadFileError, match=r"stray_1\.png is not listed in"):
        open_dataset("lizard", folder.root)


def test_monuseg_paints_outlines_and_knows_patients(folder, layouts):
    layouts.monuseg(folder)
    (test,) = open_dataset("monuseg", folder.root)
    assert test.group == "TCGA-2Z-A9J9"
    np.testing.assert_array_equal(test.load()[1], layouts.OBJECTS)
    assert {s.group for s in open_dataset("monuseg", folder.root, "train")} == {
        "TCGA-A7-A13E", "TCGA-B0-5711"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<Annotations><Annotation>", "damaged"),
        ("<Other/>", "'Other'"),
        ("<!DOCTYPE a><Annotations/>", "document type"),
        ('<Annotations><Region><Vertex X="1"/></Region></Annotations>', "no X or Y"),
        ('<Annotations><Region><Vertex X="nan" Y="1"/></Region></Annotations>', "no numbers"),
    ],
)
def test_outlines_that_are_none_name_the_file(folder, layouts, text, told):
    layouts.monuseg(folder)
    (test,) = open_dataset("monuseg", folder.root)
    test.labels_path.write_text(text)
    with pytest.raises(BadFileError, match=f"{test.labels_path.name}.*{told}"):
        test.load()


def test_a_file_without_a_patient_s_barcode_is_refused(folder, layouts):
    layouts.monuseg(folder)
    folder.image("MoNuSegTestData/slide1.tif")
    folder.text("MoNuSegTestData/slide1.xml", "<Annotations/>")
    with pytest.raises(BadFileError, match="slide1 does not begin with a TCGA barcode"):
        open_dataset("monuseg", folder.root)


def test_pannuke_s_channels_become_ids_and_kinds(folder, layouts):
    layouts.pannuke(folder)
    samples = open_dataset("pannuke", folder.root)
    assert [s.name for s in samples] == [
        "fold3/0000 Breast", "fold3/0001 Head&Neck", "fold3/0002 Colon", "fold3/0003 Bile-duct"
    ]  # fmt: skip
    image, labels = samples[1].load()
    stored = np.load(folder.root / "Fold 3/images/fold3/images.npy")
    np.testing.assert_array_equal(image, stored[1])
    assert len(np.unique(labels[2:9, 2:9])) == len(np.unique(labels[12:20, 4:15])) == 1
    assert len(np.unique(labels)) == 4
    kinds = open_dataset("pannuke", folder.root, target="kinds")[1].load()[1]
    assert set(np.unique(kinds)) == {0, 1, 3}


def test_ids_of_several_channels_do_not_collide():
    masks = np.zeros((2, 4, 5))
    masks[0, 0, 0], masks[0, 1, 0], masks[1, 2, 4] = 4, 9, 4
    masks[:, 3, 1] = 1
    found = ids_of(masks)
    assert sorted(np.unique(found)) == [0, 1, 2, 3, 4]
    assert kinds_of(masks).tolist() == [[1, 1, 0, 2], [0, 0, 5, 2]]
    full = np.ones((2, 2, 5))  # no background in a channel
    assert ids_of(full).tolist() == [[5, 5], [5, 5]]
