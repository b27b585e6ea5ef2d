"""GlaS, EBHI-Seg and TNBC in their official layouts, and the contract of every data set."""

import numpy as np
import pytest

from napari_pathsam.core.errors import BadFileError, BadImageError, UnavailableError
from napari_pathsam.datasets import DATASETS, open_dataset, recognise
from napari_pathsam.datasets.base import natural_key, refuse_leaks
from napari_pathsam.datasets.ebhi_seg import DIAGNOSES, split_of

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


BUILD = {"glas": glas, "ebhi-seg": ebhi, "tnbc": tnbc}


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
        assert sample.mpp == data.mpp
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
    lost.labels_path.unlink()
    with pytest.raises(BadFileError, match=lost.image_path.name):
        data.samples(root, "all")


def test_sizes_that_differ_are_told_with_both_files(built):
    data, root = built
    sample = data.samples(root, "all")[0]
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
