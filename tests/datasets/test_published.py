"""GlaS, EBHI-Seg, TNBC and CRC tissue: their splits, groups and quirks."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.datasets import DATASETS, open_dataset, recognise
from napari_pathsam.datasets.base import refuse_leaks
from napari_pathsam.datasets.crc_tissue import CLASSES, fold_of
from napari_pathsam.datasets.ebhi_seg import DIAGNOSES, NOMINAL_MPP, split_of
from napari_pathsam.datasets.layout import natural_key


@pytest.mark.parametrize("name", ["glas", "ebhi-seg", "tnbc", "crc-tissue"])
def test_reduced_copies_in_webp_are_read_too(folder, layouts, name):
    layouts.BUILD[name](folder, ".webp")
    assert recognise(folder.root) is DATASETS[name]
    samples = open_dataset(name, folder.root, "all")
    assert all(s.image_path.suffix == ".webp" for s in samples)
    assert samples[0].load()[1].any()


def test_a_name_that_is_none_lists_the_names(tmp_path):
    with pytest.raises(BadFileError, match="does not exist"):
        open_dataset("glas", tmp_path / "nowhere")
    with pytest.raises(UnavailableError, match="ebhi-seg"):
        open_dataset("glass", tmp_path)


def test_glas_splits_patients_and_order(folder, layouts):
    layouts.glas(folder)
    names = [s.name for s in open_dataset("glas", folder.root, "testA")]
    assert names == ["testA_1", "testA_2", "testA_10"]
    assert [s.name for s in open_dataset("glas", folder.root, "Test-A")] == names
    assert len(open_dataset("glas", folder.root, "test")) == 4
    groups = {s.name: s.group for s in open_dataset("glas", folder.root, "all")}
    assert groups["train_1"] == groups["testA_1"] == "patient 1"
    assert DATASETS["glas"].verify(folder.root)[0].startswith("train: 2 images")


def test_glas_in_the_folder_its_archive_unpacks_into(tmp_path, folder, layouts):
    folder.root = tmp_path / "Warwick QU Dataset (Released 2016_07_08)"
    layouts.glas(folder)
    assert len(open_dataset("glas", tmp_path, "all")) == 6


def test_ebhi_splits_by_case_without_a_csv_and_by_it_where_there_is_one(folder, layouts):
    layouts.ebhi(folder)
    samples = open_dataset("ebhi-seg", folder.root, "all")
    assert {s.split for s in samples} == {"train", "val"}
    assert all(s.split == split_of(s.group) for s in samples)
    assert 0.1 < np.mean([split_of(f"GT{n}") == "val" for n in range(2000)]) < 0.3
    rows = [f"{s.name.replace('/', '/image/')}.png,{s.group},test" for s in samples]
    (folder.root / "splits.csv").write_text("image,case_id,split\n" + "\n".join(rows))
    assert len(open_dataset("ebhi-seg", folder.root, "test")) == len(samples)


def test_a_split_that_leaks_a_case_is_refused_by_name(folder, layouts):
    layouts.ebhi(folder)
    folder.image("Normal/image/GT2012000-1-400-002.png")
    folder.labels("Normal/label/GT2012000-1-400-002.png", layouts.BINARY)
    (folder.root / "splits.csv").write_text(
        "image,split\nNormal/image/GT2012000-1-400-001.png,train\n"
        "Normal/image/GT2012000-1-400-002.png,val\n"
    )
    with pytest.raises(BadFileError, match="both sides: GT2012000"):
        open_dataset("ebhi-seg", folder.root, "val")


def test_a_split_file_that_is_none_is_told(folder, layouts):
    layouts.ebhi(folder)
    (folder.root / "splits.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadFileError, match=r"splits\.csv"):
        open_dataset("ebhi-seg", folder.root)


def test_ebhi_lesions_take_their_image_s_diagnosis(folder, layouts):
    layouts.ebhi(folder)
    glands = open_dataset("ebhi-seg", folder.root, "all", target="glands")
    assert glands == open_dataset("ebhi-seg", folder.root, "all")
    lesions = open_dataset("ebhi-seg", folder.root, "all", target="lesions")
    assert DATASETS["ebhi-seg"].aiming("lesions").classes == DIAGNOSES
    assert len(lesions) == len(glands)
    for gland, lesion in zip(glands, lesions, strict=True):
        assert (gland.mpp, gland.nominal_mpp, lesion.nominal_mpp) == (None, *[NOMINAL_MPP] * 2)
        assert (gland.label_kind, lesion.label_kind) == ("binary", "classes")
        assert DIAGNOSES[lesion.class_id - 1] == lesion.name.split("/")[0]
        np.testing.assert_array_equal(lesion.load()[1], (gland.load()[1] > 0) * lesion.class_id)
    with pytest.raises(UnavailableError, match="'polyps'; there are glands, lesions"):
        open_dataset("ebhi-seg", folder.root, target="polyps")
    with pytest.raises(UnavailableError, match="one kind"):
        open_dataset("glas", folder.root, target="glands")


def test_crc_tissue_folds_are_a_tile_s_own_and_hold_every_class_alike(folder, layouts):
    layouts.crc(folder)
    folds = [open_dataset("crc-tissue", folder.root, f"fold{n}") for n in range(1, 6)]
    for fold in folds:
        assert sorted(s.class_id for s in fold) == list(range(1, len(CLASSES) + 1))
        assert {s.mpp for s in fold} == {1.04}
    together = open_dataset("crc-tissue", folder.root, "fold")
    assert {s.name for s in together} == {s.name for fold in folds for s in fold}
    rest = open_dataset("crc-tissue", folder.root, "fold2,fold3,fold4,fold5")
    assert {s.name for s in rest} == {s.name for s in together} - {s.name for s in folds[0]}
    unseen = open_dataset("crc-tissue", folder.root)
    assert {(s.split, s.mpp) for s in unseen} == {("unseen", 0.5)}
    _, labels = unseen[-1].load()
    assert CLASSES[labels[0, 0] - 1] == "tumour"
    assert (labels == labels[0, 0]).all()
    spread = np.bincount([fold_of(f"TUM-TCGA-{n}") for n in range(2000)])
    assert (spread[1:] > 300).all()


def test_crc_tissue_as_published_or_one_folder_of_it(folder, layouts):
    layouts.crc(folder)
    inner = open_dataset("crc-tissue", folder.root / "108px_1.04mpp", "fold1")
    assert {s.mpp for s in inner} == {1.04}
    folder.image("whole/TUM/TUM-TCGA-ABCDEFGH.tif")
    folder.image("whole/BACK/BACK-TCGA-ABCDEFGH.tif")
    (only,) = open_dataset("crc-tissue", folder.root / "whole", "whole")
    assert (only.class_id, only.mpp) == (7, 0.5)
    with pytest.raises(BadFileError, match="'unseen' of crc-tissue is empty"):
        open_dataset("crc-tissue", folder.root / "whole")


def test_several_splits_at_once(folder, layouts):
    layouts.glas(folder)
    assert len(open_dataset("glas", folder.root, "train,testB")) == 3
    with pytest.raises(BadFileError, match="no split 'train,middle'"):
        open_dataset("glas", folder.root, "train,middle")


def test_tnbc_holds_patients_08_and_09_back(folder, layouts):
    layouts.tnbc(folder)
    assert {s.group for s in open_dataset("tnbc", folder.root)} == {"08", "09"}
    assert {s.group for s in open_dataset("tnbc", folder.root, "train")} == {"01", "02"}


def test_helpers():
    assert sorted(["a10", "a9", "a1"], key=natural_key) == ["a1", "a9", "a10"]
    refuse_leaks([])
