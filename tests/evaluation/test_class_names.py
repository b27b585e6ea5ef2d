"""Classes of a model and of labels find each other by name."""

import pytest

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.evaluation.class_names import match_classes

MODEL = ClassTable.of("Tumour", "normal-mucosa", "stroma")


def test_same_names_whatever_their_ids():
    labels = ClassTable.of("other", "normal mucosa", "tumour").without(1)
    match = match_classes(MODEL, labels)
    assert match.names == ("background", "normal mucosa", "tumour")
    assert match.of_model[:4].tolist() == [0, 2, 1, 0]
    assert match.of_label[:4].tolist() == [0, -1, 1, 2]
    assert match.unknown == ()
    assert match.of_model[255] == 0  # unsure


def test_the_only_ones_belong_together():
    match = match_classes(ClassTable.of("glands"), ClassTable.of("nucleus"))
    assert match.of_model[1] == 1


def test_a_mapping_comes_first_and_the_star_last():
    labels = ClassTable.of("gland", "stroma")
    match = match_classes(MODEL, labels, {"*": "Gland", "tumour": "background"})
    assert match.of_model[:4].tolist() == [0, 0, 1, 2]
    many = match_classes(MODEL, ClassTable.of("tissue"), {"*": "tissue"})
    assert many.of_model[:4].tolist() == [0, 1, 1, 1]


def test_background_may_have_an_id_of_its_own():
    match = match_classes(ClassTable.of("gland"), ClassTable.of("Background", "glands"))
    assert match.names == ("background", "glands")
    assert match.of_label[:3].tolist() == [0, 0, 1]
    assert match.of_model[1] == 1


def test_classes_nobody_predicts_are_told():
    match = match_classes(MODEL, ClassTable.of("mucus", "stroma", "debris"))
    assert match.unknown == ("mucus", "debris")


def test_names_that_are_not_there_are_told_with_those_that_are():
    with pytest.raises(BadFileError, match=r"None of the model's classes.*--map"):
        match_classes(MODEL, ClassTable.of("gland"))
    with pytest.raises(BadFileError, match=r"'nerve', which is no class of the model.*stroma"):
        match_classes(MODEL, ClassTable.of("stroma"), {"nerve": "stroma"})
    with pytest.raises(BadFileError, match="'nerve', which is no class of the labels"):
        match_classes(MODEL, ClassTable.of("stroma"), {"stroma": "nerve"})
