"""A workspace on a small image of discs, with a model that finds them by their grey value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.embedding import PromptedMask
from napari_pathsam.workspace import ArraySource, Workspace

DISCS = {"a": (30, 30, 12), "b": (30, 80, 15), "c": (75, 50, 10)}
SHAPE = (100, 120)


def disc(name: str) -> np.ndarray:
    y, x, r = DISCS[name]
    mask = np.zeros(SHAPE, bool)
    mask[disk((y, x), r, shape=SHAPE)] = True
    return mask


def discs_image() -> np.ndarray:
    image = np.full((*SHAPE, 3), 240, np.uint8)
    for k, name in enumerate(DISCS):
        image[disc(name)] = 60 + 40 * k
    return image


class Wide(ArraySource):
    """A slide's worth of the same colour."""

    shape_yx = (17_000, 640)

    def __init__(self) -> None:
        super().__init__(np.zeros((1, 1, 3), np.uint8))

    def read(self, region, shape_yx):
        return np.full((*shape_yx, 3), 9, np.uint8)


@dataclass(frozen=True)
class Config:
    field_px: int = 128
    mpp_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Encoded:
    image: np.ndarray
    mpp: float | None

    @property
    def nbytes(self) -> int:
        return self.image.nbytes


class GrowModel:
    """Grows regions of equal grey from the positive clicks, or fills the box or the mask.

    Mask 0 is the region, mask 1 the region less its edge, mask 2 empty; negative clicks cut a
    square of 7 pixels out; ``previous`` is added to what is found.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.encoded: list[tuple[tuple[int, int], float | None]] = []
        self.decoded: list[tuple[Prompts, PromptedMask | None]] = []

    def encode(self, image, *, mpp=None):
        self.encoded.append((image.shape[:2], mpp))
        return Encoded(image[..., 0].astype(int), mpp)

    def decode_prompts(self, embedding, prompts, *, previous=None, multimask=None):
        self.decoded.append((prompts, previous))
        grey = embedding.image
        prompts.check(grey.shape)
        found = np.zeros(grey.shape, bool) if previous is None else previous.mask_at(previous.best)
        if prompts.mask is not None:
            found = found | prompts.mask
        elif prompts.box is not None:
            y0, x0, y1, x1 = (round(v) for v in prompts.box)
            found[y0:y1, x0:x1] = True
        for (y, x), positive in zip(prompts.points_yx, prompts.positive, strict=True):
            y, x = round(y), round(x)
            if positive:
                same, _ = ndimage.label(abs(grey - grey[y, x]) < 10)
                found = found | (same == same[y, x])
            else:
                found = found.copy()
                found[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = False
        masks = [found, ndimage.binary_erosion(found), np.zeros_like(found)]
        logits = np.stack([np.where(m, 5.0, -5.0) for m in masks]).astype(np.float32)
        return PromptedMask(logits, np.array([0.9, 0.8, 0.1], np.float32), 0, grey.shape)

    def decode_many(self, embedding, many):
        return [self.decode_prompts(embedding, prompts) for prompts in many]


class LateRunner:
    """Keeps work until it is told to run it: the order of things is the test's."""

    class Job:
        def __init__(self, *work):
            self.work = work
            self.cancelled = False

        def cancel(self):
            self.cancelled = True

    def __init__(self):
        self.jobs = []

    def submit(self, fn, *args, then, failed):
        self.jobs.append(self.Job(fn, args, then, failed))
        return self.jobs[-1]

    def run(self, job=None, *, late=False):
        """Run the oldest job, or this one; ``late``: also when it was cancelled."""
        job = job or self.jobs[0]
        self.jobs.remove(job)
        fn, args, then, failed = job.work
        if job.cancelled and not late:
            return
        try:
            result = fn(*args)
        except Exception as error:  # noqa: BLE001
            failed(error)
        else:
            then(result)

    def run_first(self, n=1):
        for _ in range(n):
            self.run()

    def run_all(self):
        while self.jobs:
            self.run()


class Heard:
    """Everything a workspace said, by signal."""

    def __init__(self, workspace: Workspace) -> None:
        self.failed: list[str] = []
        self.status: list[str] = []
        self.busy: list[str | None] = []
        self.labels: list = []
        self.candidates: list = []
        workspace.failed.connect(self.failed.append)
        workspace.status.connect(self.status.append)
        workspace.busy_changed.connect(self.busy.append)
        workspace.labels_changed.connect(self.labels.append)
        workspace.candidate_changed.connect(self.candidates.append)


@pytest.fixture
def model() -> GrowModel:
    return GrowModel()


@pytest.fixture
def source() -> ArraySource:
    return ArraySource(discs_image(), name="discs", mpp=0.5)


@pytest.fixture
def workspace(model, source, tmp_path) -> Workspace:
    opened = Workspace(model_loader=lambda name, device: model, journal_dir=tmp_path / "journals")
    opened.open_image(source)
    yield opened
    opened.close_image()


@pytest.fixture
def heard(workspace) -> Heard:
    return Heard(workspace)


def check_rules(workspace: Workspace) -> None:
    """The maps and the objects tell the same story, by a slow count."""
    instances, class_map = np.asarray(workspace.instances), np.asarray(workspace.class_map)
    ids = set(np.unique(instances).tolist()) - {0}
    assert ids == set(workspace.objects)
    known = {info.id for info in workspace.classes}
    assert set(np.unique(class_map).tolist()) <= known | {0}
    for i, found in workspace.objects.items():
        own = instances == i
        assert found.id == i
        assert found.area_px == own.sum()
        assert set(np.unique(class_map[own]).tolist()) == {found.class_id}
        rows, cols = np.nonzero(own)
        box = (found.box.y, found.box.x, found.box.height, found.box.width)
        assert box == (rows.min(), cols.min(), np.ptp(rows) + 1, np.ptp(cols) + 1)
    for info in workspace.classes:
        assert workspace.class_area_px(info.id) == (class_map == info.id).sum()
        same = [o for o in workspace.objects.values() if o.class_id == info.id]
        assert workspace.class_count(info.id) == len(same)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journals"


@pytest.fixture
def opened(model, source, folder):
    """A function that opens the image in a new workspace, as a new session would."""
    open_ones = []

    def open_it(other=None):
        workspace = Workspace(model_loader=lambda *a: model, journal_dir=folder)
        heard = Heard(workspace)
        workspace.open_image(other or source)
        open_ones.append(workspace)
        return workspace, heard

    yield open_it
    for workspace in open_ones:
        workspace.close_image()


def files(folder, suffix=".jsonl"):
    return sorted(p for p in folder.iterdir() if p.suffix == suffix)


def add(workspace, name, **how):
    workspace.add_point(*DISCS[name][:2])
    return workspace.accept(**how)


def stroke(workspace, kind, rows, cols, new):
    """As napari paints: the array has the new values already when the stroke is told."""
    array = workspace.instances if kind == "instances" else workspace.class_map
    rows, cols = np.asarray(rows), np.asarray(cols)
    old = array[rows, cols].copy()
    array[rows, cols] = new
    workspace.record_stroke(kind, (rows, cols), old, new)


def square(y, x, n):
    rows, cols = np.mgrid[y : y + n, x : x + n]
    return rows.ravel(), cols.ravel()


def random_action(workspace, rng):
    """Something a person may do; most of it possible."""
    classes = [info.id for info in workspace.classes]
    objects = list(workspace.objects) or [1]
    y, x = int(rng.integers(0, 90)), int(rng.integers(0, 110))
    n = int(rng.integers(1, 10))
    kind = rng.integers(0, 14)
    if kind <= 3:
        h, w = (int(v) for v in rng.integers(2, 40, 2))
        workspace.set_box((y, x, y + h, x + w))
        workspace.accept(class_id=int(rng.choice(classes)), overwrite=bool(rng.integers(2)))
    elif kind == 4:
        workspace.delete_object(int(rng.choice(objects)))
    elif kind == 5:
        workspace.set_object_class(int(rng.choice(objects)), int(rng.choice(classes)))
    elif kind == 6:
        workspace.refine(int(rng.choice(objects)))
        workspace.add_point(y, x, positive=bool(rng.integers(2)))
        workspace.accept(overwrite=bool(rng.integers(2)))
    elif kind <= 8:
        new = int(rng.choice([0, *objects, max(objects) + 1]))
        stroke(workspace, "instances", *square(y, x, n), new)
    elif kind == 9:
        stroke(workspace, "classes", *square(y, x, n), int(rng.choice([0, *classes])))
    elif kind == 10 and len(classes) < 6:
        workspace.add_class(f"c{rng.integers(1_000_000)}")
    elif kind == 11 and len(classes) > 3:
        workspace.delete_class(int(rng.choice(classes)))
    elif kind == 12:
        for _ in range(n):
            workspace.undo()
    else:
        for _ in range(n):
            workspace.redo()
