"""Mask R-CNN: torchvision's size, objects that stay objects, overlaps given to one of them."""

import numpy as np
import pytest
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.models.catalogue import STARTS
from napari_pathsam.models.mask_rcnn import FoundObjects, MaskRcnn, ObjectTargets
from napari_pathsam.models.task_config import MaskRcnnConfig
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe


def test_as_many_weights_as_torchvision_says():
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    published = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"]
    config = find_task_recipe("mask-rcnn").config("paper").network
    with torch.device("meta"):
        assert sum(p.numel() for p in MaskRcnn(config, 90).parameters()) == published == 44_401_393


def test_it_starts_from_torchvisions_own_file_and_from_no_other(tmp_path, monkeypatch):
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    from napari_pathsam.core.errors import BadWeightsError
    from napari_pathsam.models.coco_start import HASH_STARTS, import_coco, start_from_coco

    entry = STARTS["mask-rcnn-coco"]
    assert entry.weights.url.endswith(f"-{HASH_STARTS}.pth")
    torch.manual_seed(1)
    # With weights torchvision takes fixed norms; without, the ones of the same names that learn.
    published = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    state = {n: t for n, t in published.items() if not n.endswith("num_batches_tracked")}
    path, kept = tmp_path / "published.pth", tmp_path / "kept.safetensors"
    torch.save(state, path)
    with pytest.raises(BadWeightsError, match="does not begin with bf2d0c1e"):
        import_coco(path, "0" * 64, entry.weights.url, kept)
    import_coco(path, HASH_STARTS + "0" * 56, entry.weights.url, kept)
    model = TaskModel(find_task_recipe("mask-rcnn").config("paper"), ClassTable.of("gland"))
    before = model.network.rcnn.roi_heads.mask_predictor.mask_fcn_logits.weight.clone()
    start_from_coco(model, kept)
    found = model.network.rcnn.state_dict()
    name = "backbone.body.layer4.2.conv3.weight"
    assert torch.equal(found[name], state[name])
    assert torch.equal(found["roi_heads.mask_predictor.mask_fcn_logits.weight"], before)
    other = find_task_recipe("mask-rcnn").config(network={"trunk": "resnet18"})
    with pytest.raises(BadWeightsError, match="cannot start from COCO"):
        start_from_coco(TaskModel(other, ClassTable.of("gland")), kept)


def found(*boxes_scores: tuple[tuple[int, int, int, int], float, int]) -> FoundObjects:
    masks = torch.zeros(len(boxes_scores), 20, 20)
    for mask, ((y0, x0, y1, x1), _, _) in zip(masks, boxes_scores, strict=True):
        mask[y0:y1, x0:x1] = 0.9
    scores = torch.tensor([score for _, score, _ in boxes_scores])
    return FoundObjects(scores, torch.tensor([label for _, _, label in boxes_scores]), masks)


def test_where_objects_overlap_the_surer_one_has_the_pixel():
    objects = found(((2, 2, 12, 12), 0.9, 1), ((8, 8, 18, 18), 0.6, 2))
    owner = objects.owned()
    assert (owner[2:12, 2:12] == 1).all()
    assert (owner[12:18, 8:18] == 2).all()
    assert int((owner == 2).sum()) == 100 - 16
    assert int((owner == 0).sum()) == 400 - 200 + 16
    logits = objects.logits(2, union=False)
    assert ((logits[0] > 0) == (owner == 1)).all()
    assert ((logits[1] > 0) == (owner == 2)).all()


def test_dtus_way_keeps_every_mask_and_no_object():
    touching = found(((2, 2, 10, 10), 0.9, 1), ((2, 10, 10, 18), 0.06, 1))
    assert int((touching.logits(1, union=True)[0] > 0).sum()) == 128
    assert int(touching.owned().max()) == 2
    paper = find_task_recipe("mask-rcnn").config("paper")
    assert (paper.network.score, paper.network.merge) == (0.05, "union")
    assert find_task_recipe("mask-rcnn").config().network.merge == "objects"


def test_nothing_found_is_background():
    nothing = FoundObjects(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5, 6))
    assert nothing.owned().shape == (5, 6)
    assert (nothing.logits(2, union=False) < 0).all()


def test_targets_are_the_objects_with_their_boxes_and_classes():
    objects = np.zeros((20, 30), np.int32)
    channels = np.zeros((20, 30), np.int16)
    objects[2:8, 3:9], channels[2:8, 3:9] = 7, 2
    objects[10:18, 20:30], channels[10:18, 20:30] = 300, 1
    objects[0, :4] = 5  # one pixel high
    channels[0, :4] = 1
    channels[15:18, 20:30] = -1  # nobody looked: no part of the object
    found = ObjectTargets.of(objects, channels)
    assert found.boxes.tolist() == [[3, 2, 9, 8], [20, 10, 30, 15]]
    assert found.labels.tolist() == [2, 1]
    assert found.masks.sum((1, 2)).tolist() == [36, 50]
    assert ObjectTargets.of(np.zeros((4, 4), np.int32), channels[:4, :4]).boxes.shape == (0, 4)


@pytest.mark.parametrize("resize", [None, (64, 96)])
def test_pixels_are_seen_as_they_are_unless_asked_otherwise(resize):
    config = MaskRcnnConfig(trunk="resnet18", resize=resize, anchors_px=(8, 16, 24, 32, 48))
    network = MaskRcnn(config, 1).eval()
    images, _ = network.rcnn.transform([torch.rand(3, 40, 50)])
    assert images.image_sizes == [(40, 50) if resize is None else (64, 80)]


def test_it_finds_objects_in_tiles_of_any_shape():
    network = {"trunk": "resnet18", "anchors_px": (8, 16, 24, 32, 48), "score": 0.0, "most": 5}
    config = find_task_recipe("mask-rcnn").config(network=network)
    torch.manual_seed(0)
    model = TaskModel(config, ClassTable.of("gland", "nucleus")).eval()
    image = np.random.default_rng(0).integers(0, 255, (50, 71, 3), np.uint8)
    objects = model.find_objects(model.encode(image))
    assert objects.masks.shape[1:] == (50, 71)
    assert 0 < len(objects.scores) <= 5
    assert set(objects.classes.tolist()) <= {1, 2}
