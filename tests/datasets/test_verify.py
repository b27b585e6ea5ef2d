"""Looking through a download: counts, damage, checksums, and splits that leak."""

import hashlib
from dataclasses import replace

import pytest

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets import DATASETS, open_dataset
from napari_pathsam.datasets.base import overriding
from napari_pathsam.datasets.layout import listed_sums, table


def test_checksums_of_archives_and_of_listed_files(folder, layouts, monkeypatch):
    layouts.tnbc(folder)
    data, root = DATASETS["tnbc"], folder.root
    (counted,) = data.verify(root, sums=True)
    archive = folder.text("TNBC_NucleiSegmentation.zip", "not the archive")
    assert data.verify(root) == [counted]
    wrong = [p for p in data.verify(root, sums=True) if p != counted]
    assert wrong == [f"{archive.name} is not the published file (sha256); download it again."]
    archive.unlink()
    digest = hashlib.md5((root / "Slide_01" / "01_1.png").read_bytes()).hexdigest()
    folder.text("checksums.md5", f"{digest} *./Slide_01/01_1.png\n{digest}  Slide_01/gone.png\n")
    wrong = [p for p in data.verify(root, sums=True) if p != counted]
    assert wrong == ["gone.png is missing; download it again."]
    assert len(listed_sums(root / "checksums.md5")) == 2


def test_images_that_are_not_here_are_named(folder, layouts):
    layouts.glas(folder)
    first = DATASETS["glas"].verify(folder.root)[0]
    assert first.startswith("train: 2 images, the complete data set has 85; not here: train_")
    assert first.endswith(" and 75 more.")
    data = replace(DATASETS["glas"], expected={"testA": 3}, names={"testA": ["testA_1", "testA_9"]})
    (problem,) = data.verify(folder.root)
    assert problem == "testA: 3 images, the complete data set has 3; not here: testA_9."


def test_counts_are_told_by_diagnosis(folder, layouts):
    layouts.ebhi(folder)
    problems = DATASETS["ebhi-seg"].verify(folder.root)
    assert "Serrated adenoma: 8 images, the complete data set has 58." in problems
    assert len(problems) == 6


def test_progress_goes_from_the_first_image_to_the_last(folder, layouts):
    layouts.monuseg(folder)
    steps = list(DATASETS["monuseg"].checking(folder.root))
    read = [s for s in steps if s.done]
    assert [s.done for s in read] == [1, 2, 3]
    assert {s.total for s in steps} == {3}


def test_ids_that_are_no_classes_are_told(folder, layouts):
    layouts.conic(folder)
    labels = layouts.np.load(folder.root / "labels.npy")
    labels[3, 0, 0, 1] = 9
    layouts.np.save(folder.root / "labels.npy", labels)
    problems = DATASETS["conic"].aiming("kinds").verify(folder.root)
    assert any("crag_4-0001" in p and "[9]" in p for p in problems)


def test_two_files_of_one_slide_are_refused(folder, layouts):
    layouts.catch(folder)
    folder.slide("copy/MCT_03_1.svs", layouts.CATCH_SHAPE, mpp=1.0, tissue=True)
    with pytest.raises(BadFileError, match=r"both called MCT_03_1"):
        open_dataset("catch", folder.root)


def test_a_table_without_its_columns_is_told(folder):
    path = folder.text("info.csv", "Filename,Source\na,b\n")
    with pytest.raises(BadFileError, match=r"info\.csv is not the table.*Split"):
        table(path, "Filename", "Split")
    path.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(BadFileError, match=r"info\.csv"):
        table(path, "Filename")


def test_stains_are_normalised_on_request(folder, layouts):
    layouts.catch(folder)
    (plain,) = open_dataset("catch", folder.root)
    (normal,) = overriding([plain], stain_norm="macenko")
    image, labels = normal.load()
    assert (image != plain.load()[0]).any()
    assert (labels == plain.load()[1]).all()
