"""The papers' tables: what was published, what it really measures, and the true value it implies.

The figures are facts, in one CSV a paper (``published/``). What each one is follows from the code
released with the paper, or from the figures themselves; see
:mod:`napari_pathsam.core.published_metrics`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.core.object_metrics import rank_sums
from napari_pathsam.core.published_metrics import implied_iou, implied_precision

ROUNDING = 2.5e-4
"""Two figures of four decimals agree within this when one follows from the other."""

PROMPTED, FINE_TUNED = ("Vanilla", "MedSAM"), ("Fine-tuned SAM", "Fine-tuned SAM2")
"""Rows of Path-SAM2's table that its code for classes did not make."""


@dataclass(frozen=True)
class PublishedRow:
    """One model on one data set: its figures as they stand in the paper, by metric."""

    table: str
    dataset: str
    model: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Reading:
    """What a row really says.

    Attributes
    ----------
    what
        What the figures are, in words.
    implied
        Figures that follow from them. A key ending in ``" ≥"`` holds a lower bound.
    """

    what: str
    implied: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedTable:
    """A paper's tables, with the column heads of its metrics and how its rows are to be read."""

    name: str
    title: str
    citation: str
    columns: Mapping[str, str]
    read: Callable[[PublishedRow], Reading]
    note: str

    def rows(self) -> list[PublishedRow]:
        """In the paper's order."""
        return read_rows(self.name)


def read_rows(name: str) -> list[PublishedRow]:
    """The rows of a packaged CSV."""
    text = files("napari_pathsam.evaluation").joinpath(f"published/{name}.csv").read_text("utf-8")
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for line in csv.DictReader(text.splitlines()):
        key = line["table"], line["dataset"], line["model"]
        found.setdefault(key, {})[line["metric"]] = float(line["value"])
    return [PublishedRow(*key, figures) for key, figures in found.items()]


def published_table(name: str) -> PublishedTable:
    """The paper of this name; UnavailableError lists the names."""
    if name not in PUBLISHED:
        raise UnavailableError(f"No table is called {name!r}; there are {', '.join(PUBLISHED)}.")
    return PUBLISHED[name]


# --- how rows are read ----------------------------------------------------------------------------


def read_sam_path(row: PublishedRow) -> Reading:
    """SAM-Path and Path-SAM2: recall under the name of IoU, but for BCSS and some prompted rows."""
    dice, iou = row.figures["dice"], row.figures["iou_as_published"]
    follows = abs(iou - implied_iou(dice)) <= ROUNDING
    if row.dataset == "BCSS":
        return Reading(
            "“Dice” is the accuracy a of labelled pixels, “IoU” is a / (2 − a); Dice and IoU of "
            "the classes do not follow from it",
            {"accuracy": dice},
        )
    if follows:
        return Reading("IoU, of the same counts as the Dice", {"iou": iou})
    precision = implied_precision(dice, iou)
    if row.model.startswith(PROMPTED) or row.model in FINE_TUNED or math.isnan(precision):
        return Reading(
            "not the IoU of the counts the Dice is of: gland recall, or a mean over images",
            {"iou ≥": implied_iou(dice)},
        )
    return Reading(
        "“IoU” is recall: false positives on background are left out",
        {"precision": precision, "recall": iou, "iou": implied_iou(dice)},
    )


def read_wsi_sam(row: PublishedRow) -> Reading:
    """WSI-SAM: a Dice whose averaging is not told; whichever it is, the IoU has a lower bound."""
    what = "Dice; the code that measured it was not released, so the averaging is not known"
    if row.dataset.endswith("average"):
        what = "mean of the three subtypes, each counting alike; " + what
    return Reading(what, {"iou ≥": implied_iou(row.figures["dice"])})


def read_eunet3plus(_: PublishedRow) -> Reading:
    """SAM-guided eU-Net3+: what follows depends on how much of each image is foreground."""
    return Reading(
        "F1 and Jaccard weighted by pixels with background as a class, at 256 × 256, mean over "
        "images; the Dice of nuclei does not follow without the share of foreground"
    )


def read_glas(row: PublishedRow) -> Reading:
    """The challenge's methods as they were ranked; DTU's with figures of its own."""
    if not row.model.startswith("DTU"):
        return Reading("the challenge's definitions")
    return Reading(
        "“F1” is pixel Dice; “object Dice” leaves out what is found beside an object; “Hausdorff” "
        "ends at the object's bounding box; all at 512 × 512 of connected areas: not to be ranked",
        {"pixel iou ≥": implied_iou(row.figures["object_f1"])},
    )


PUBLISHED: dict[str, PublishedTable] = {
    t.name: t
    for t in (
        PublishedTable(
            "path-sam2",
            "Path-SAM2",
            "Zhang et al. 2024, arXiv 2408.03651",
            {"dice": "Dice", "iou_as_published": "“IoU”"},
            read_sam_path,
            "The released code trains on 133 GlaS images, 48 of them official test images, and "
            "tests on 32; ours follow the official split. The training epoch of "
            "pathsam-nano:glands was chosen on EBHI-Seg val itself; no image of GlaS trained it. "
            "Rows of the ablation have a KAN unless they say MLP, and were taught on 246 images "
            "of 48 training cases of EBHI-Seg, or on 65 of GlaS train; small-vit is a second "
            "encoder of 2.8 M weights, taught here what EBHI-Seg's training cases and other tissue "
            "show. The weights of dinov2-s, UNI and the like were not at hand.",
        ),
        PublishedTable(
            "sam-path",
            "SAM-Path",
            "Zhang et al. 2023, arXiv 2307.09570",
            {"dice": "Dice", "iou_as_published": "“IoU”"},
            read_sam_path,
            "A public reproduction on CRAG reports a Dice of 0.874 and a true IoU of 0.779 "
            "(issue 26 of the project).",
        ),
        PublishedTable(
            "wsi-sam",
            "WSI-SAM",
            "Liu et al. 2024, arXiv 2403.09257",
            {"dice": "Dice"},
            read_wsi_sam,
            "The DCIS images are private. With boxes from nnU-Net the paper's text says 59.9 where "
            "its table says 57.37.",
        ),
        PublishedTable(
            "eunet3plus",
            "SAM-guided eU-Net3+",
            "Swain et al., MICCAI 2024",
            {"dice_as_published": "“Dice”", "miou_as_published": "“mIoU”"},
            read_eunet3plus,
            "Where a quarter of an image is foreground and its Dice is 0.80, these come to 0.90 "
            "and 0.82.",
        ),
        PublishedTable(
            "glas-challenge",
            "GlaS challenge 2015, and DTU 2020",
            "Sirinukunwattana et al., Med. Image Anal. 35 (2017) 489-502; Lehmann et al. 2020",
            {"object_f1": "F1", "object_dice": "object Dice", "object_hausdorff": "Hausdorff, px"},
            read_glas,
            "Ranks are recomputed from the published, rounded figures with the rows measured here "
            "among them; ties share the better rank. The least sum wins. Sizes of what is tidied "
            "were chosen on GlaS train.",
        ),
    )
}
"""By the name ``pathsam tables`` takes."""

GLAS_METRICS = {"object_f1": True, "object_dice": True, "object_hausdorff": False}
"""What the challenge ranks, and whether larger is better."""


def glas_ranks(
    figures: Mapping[str, Mapping[str, float]], metrics: Mapping[str, bool] = GLAS_METRICS
) -> dict[str, int]:
    """Rank sums on one part, of the methods that have all three figures."""
    complete = {
        model: [values[m] for m in metrics]
        for model, values in figures.items()
        if all(not math.isnan(values.get(m, math.nan)) for m in metrics)
    }
    return rank_sums(complete, larger_is_better=tuple(metrics.values())) if complete else {}
