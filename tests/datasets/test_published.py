"""GlaS, EBHI-Seg and TNBC in their official layouts, and the contract of every data set."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.datasets import DATASETS, open_dataset, recognise
from napari_pathsam.datasets.base import refuse_leaks
from napari_pathsam.datasets.crc_tissue import CLASSES, TISSUES, fold_of
from napari_pathsam.datasets.ebhi_seg import DIAGNOSES, NOMINAL_MPP, split_of
from napari_pathsam.datasets.layout import natural_key

BINARY = (np.indices((20, 30)).sum(axis=0) % 7 == 0).astype(np.uint8) * 255


def glas(folder, suffix=".bmp"):
    for name in ("train_1", "train_2", "testA_1", "testA_2", "testA_10", "testB_1"):
        folder.image(f"{name}{suffix}")
        folder.labels(f"{name}_anno{'.png' if suffix == '.webp' else suffix}")
    text = "name, patient ID, grade (GlaS)\r\n" + "".join(
        f"{n}, {p}, benign\r\n" for n, p in (("train_1", 1), ("testA_1", 1), ("testA_2", 3))
    )
    (folder.root / "Grade.csv").write_text(text)


def ebhi(folder, suffix=".png"):
    for i, diagnosis in enumerate(DIAGNOSES):
        for case in range(8):
            name = f"GT20120{case}{i}-1-400-001"
            folder.image(f"{diagnosis}/image/{name}{suffix}")
            folder.labels(f"{diagnosis}/label/{name}.png", BINARY)


def tnbc(folder, suffix=".png"):
    for patient in ("01", "02", "08", "09"):
        for n in (1, 2):
            folder.image(f"Slide_{patient}/{patient}_{n}{suffix}")
            folder.labels(f"GT_{patient}/{patient}_{n}.png", BINARY)


def crc(folder, suffix=".png"):
    for code in TISSUES:
        for row in range(5):
            folder.image(f"108px_1.04mpp/{code}/{code}_train_r{row}c03{suffix}")
        folder.image(f"224px_0.5mpp/{code}/{code}-TCGA-ABCDEFGH_101{suffix}")


BUILD = {"glas": glas, "ebhi-seg": ebhi, "tnbc": tnbc, "crc-tissue": crc}


@pytest.fixture(params=[(name, s) for name in DATASETS for s in ("original", ".webp")])
def built(request, folder):
    name, suffix = request.param
    BUILD[name](folder, *([] if suffix == "original" else [suffix]))
    return DATASETS[name], folder.root


def test_every_data_set_keeps_the_contract(built):
    data, root = built
    everything = data.samples(root, "all")
    assert recognise(root) is data
    assert len({s.name for s in everything}) == len(everything)
    for sample in everything:
        image, labels = sample.load()
        assert image.shape == (20, 30, 3)
        assert image.dtype == np.uint8
        assert labels.shape == (20, 30)
        assert labels.any()
        assert sample.mpp == data.mpp or sample.split.startswith("fold")
        if sample.class_id is not None:
            assert set(np.unique(labels)) <= {0, sample.class_id}
            assert 1 <= sample.class_id <= len(data.classes)
    parts = {s.split: data.samples(root, s.split) for s in everything}
    assert sum(map(len, parts.values())) == len(everything)
    assert data.samples(root) == data.samples(root, data.default_split)
    if not data.official_split:
        groups = [{s.group for s in part} for part in parts.values()]
        assert not set.intersection(*groups)


def test_an_unknown_split_lists_the_known_ones(built):
    data, root = built
    with pytest.raises(BadFileError, match=f"'middle'.*{data.splits[0]}"):
        data.samples(root, "middle")


def test_an_image_without_labels_is_named(built):
    data, root = built
    lost = data.samples(root, "all")[-1]
    if lost.homogeneous:
        pytest.skip("tiles that show one class have no labels")
    lost.labels_path.unlink()
    with pytest.raises(BadFileError, match=lost.image_path.name):
        data.samples(root, "all")


def test_sizes_that_differ_are_told_with_both_files(built):
    data, root = built
    sample = data.samples(root, "all")[0]
    if sample.homogeneous:
        pytest.skip("tiles that show one class have no labels")
    sample.labels_path.unlink()
    from PIL import Image

    Image.fromarray(BINARY[:5]).save(sample.labels_path)
    with pytest.raises(BadImageError, match=f"{sample.image_path.name}.*20 × 30.*5 × 30"):
        sample.load()
    assert any("5 × 30" in problem for problem in data.verify(root))


def test_an_empty_folder_says_what_it_should_hold(tmp_path):
    for data in DATASETS.values():
        with pytest.raises(BadFileError, match="Its layout is"):
            data.samples(tmp_path)
    with pytest.raises(BadFileError, match="does not exist"):
        open_dataset("glas", tmp_path / "nowhere")
    with pytest.raises(UnavailableError, match="ebhi-seg"):
        open_dataset("glass", tmp_path)


def test_glas_splits_patients_and_order(folder):
    glas(folder)
    names = [s.name for s in open_dataset("glas", folder.root, "testA")]
    assert names == ["testA_1", "testA_2", "testA_10"]
    assert [s.name for s in open_dataset("glas", folder.root, "Test-A")] == names
    assert len(open_dataset("glas", folder.root, "test")) == 4
    groups = {s.name: s.group for s in open_dataset("glas", folder.root, "all")}
    assert groups["train_1"] == groups["testA_1"] == "patient 1"
    assert DATASETS["glas"].verify(folder.root)[0].startswith("train: 2 images")


def test_glas_in_the_folder_its_archive_unpacks_into(tmp_path, folder):
    folder.root = tmp_path / "Warwick QU Dataset (Released 2016_07_08)"
    glas(folder)
    assert len(open_dataset("glas", tmp_path, "all")) == 6


def test_ebhi_splits_by_case_without_a_csv_and_by_it_where_there_is_one(folder):
    ebhi(folder)
    samples = open_dataset("ebhi-seg", folder.root, "all")
    assert {s.split for s in samples} == {"train", "val"}
    assert all(s.split == split_of(s.group) for s in samples)
    assert 0.1 < np.mean([split_of(f"GT{n}") == "val" for n in range(2000)]) < 0.3
    rows = [f"{s.name.replace('/', '/image/')}.png,{s.group},test" for s in samples]
    (folder.root / "splits.csv").write_text("image,case_id,split\n" + "\n".join(rows))
    assert len(open_dataset("ebhi-seg", folder.root, "test")) == len(samples)


def test_a_split_that_leaks_a_case_is_refused_by_name(folder):
    ebhi(folder)
    folder.image("Normal/image/GT2012000-1-400-002.png")
    folder.labels("Normal/label/GT2012000-1-400-002.png", BINARY)
    (folder.root / "splits.csv").write_text(
        "image,split\nNormal/image/GT2012000-1-400-001.png,train\n"
        "Normal/image/GT2012000-1-400-002.png,val\n"
    )
    with pytest.raises(BadFileError, match="both sides: GT2012000"):
        open_dataset("ebhi-seg", folder.root, "val")


def test_a_split_file_that_is_none_is_told(folder):
    ebhi(folder)
    (folder.root / "splits.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadFileError, match=r"splits\.csv"):
        open_dataset("ebhi-seg", folder.root)


def test_ebhi_lesions_take_their_image_s_diagnosis(folder):
    ebhi(folder)
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


def test_crc_tissue_folds_are_a_tile_s_own_and_hold_every_class_alike(folder):
    crc(folder)
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


def test_crc_tissue_as_published_or_one_folder_of_it(folder):
    crc(folder)
    inner = open_dataset("crc-tissue", folder.root / "108px_1.04mpp", "fold1")
    assert {s.mpp for s in inner} == {1.04}
    folder.image("whole/TUM/TUM-TCGA-ABCDEFGH.tif")
    folder.image("whole/BACK/BACK-TCGA-ABCDEFGH.tif")
    (only,) = open_dataset("crc-tissue", folder.root / "whole", "whole")
    assert (only.class_id, only.mpp) == (7, 0.5)
    with pytest.raises(BadFileError, match="'unseen' of crc-tissue is empty"):
        open_dataset("crc-tissue", folder.root / "whole")


def test_several_splits_at_once(folder):
    glas(folder)
    assert len(open_dataset("glas", folder.root, "train,testB")) == 3
    with pytest.raises(BadFileError, match="no split 'train,middle'"):
        open_dataset("glas", folder.root, "train,middle")


def test_tnbc_holds_patients_08_and_09_back(folder):
    tnbc(folder)
    assert {s.group for s in open_dataset("tnbc", folder.root)} == {"08", "09"}
    assert {s.group for s in open_dataset("tnbc", folder.root, "train")} == {"01", "02"}


def test_samples_travel_to_workers(built):
    import pickle

    data, root = built
    sample = data.samples(root, "all")[0]
    again = pickle.loads(pickle.dumps(sample))
    np.testing.assert_array_equal(again.load()[0], sample.load()[0])


def test_helpers():
    assert sorted(["a10", "a9", "a1"], key=natural_key) == ["a1", "a9", "a10"]
    refuse_leaks([])
