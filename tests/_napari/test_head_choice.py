"""What the dock says of a model with classes before it is used."""

from __future__ import annotations

from dataclasses import replace

from napari_pathsam._napari.segment_advice import encoding_text
from napari_pathsam._napari.segment_heads import HeadChoice
from napari_pathsam.core.geometry import Region


def test_nothing_is_claimed_of_tissue_and_stain_that_nobody_stated():
    said = HeadChoice("m", "mine").details
    assert "does not say which tissue and stain" in said
    said = HeadChoice("m", "mine", stain="PAS").details
    assert "Made for <b>a tissue not stated</b>, PAS." in said
    said = HeadChoice("m", "mine", tissue="colon", stain="H&E").details
    assert "Made for <b>colon</b>, H&amp;E." in said


class Encoded:
    """As after a run: whatever is asked for is there."""

    def is_encoded(self, *asked: object) -> bool:
        return True


def test_nothing_is_there_already_of_a_network_that_reads_pixels():
    asked = ("image", (Region(0, 0, 64, 64),), 0.5)
    sam = HeadChoice("m", "mine", mpp=0.5, embedding_name="pathsam-nano")
    assert "there already" in encoding_text(Encoded(), sam, *asked)
    assert not encoding_text(Encoded(), replace(sam, embedding_name="pixels"), *asked)
    guided = replace(sam, embedding_name="pixels+pathsam-nano")
    assert "there already" in encoding_text(Encoded(), guided, *asked)
