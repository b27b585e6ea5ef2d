"""What the dock says of a model with classes before it is used."""

from __future__ import annotations

from napari_pathsam._napari.segment_heads import HeadChoice


def test_nothing_is_claimed_of_tissue_and_stain_that_nobody_stated():
    said = HeadChoice("m", "mine").details
    assert "does not say which tissue and stain" in said
    said = HeadChoice("m", "mine", stain="PAS").details
    assert "Made for <b>a tissue not stated</b>, PAS." in said
    said = HeadChoice("m", "mine", tissue="colon", stain="H&E").details
    assert "Made for <b>colon</b>, H&amp;E." in said
