"""What napari opens and saves through us, in a viewer model: no Qt, no display."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

napari = pytest.importorskip("napari")

from napari.components import ViewerModel  # noqa: E402
from napari.layers import Labels  # noqa: E402
from npe2 import PluginManifest  # noqa: E402
from npe2 import write as npe2_write  # noqa: E402

from napari_pathsam._napari import writer  # noqa: E402
from napari_pathsam._napari.layer_source import source_of  # noqa: E402
from napari_pathsam._napari.pixel_sizes import keep_typed_mpp  # noqa: E402
from napari_pathsam._napari.reader import (  # noqa: E402
    get_reader,
    read_annotations,
    read_slide,
)
from napari_pathsam.core.classes import ClassTable  # noqa: E402
from napari_pathsam.core.errors import BadFileError, BadImageError  # noqa: E402
from napari_pathsam.io.annotations import read_geojson, write_geojson  # noqa: E402
from napari_pathsam.io.images import read_labels  # noqa: E402

PLUGIN = "napari-pathsam"
OPTIONS: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib"}


@pytest.fixture
def viewer(npe2pm: Any, project_root: Path) -> ViewerModel:
    """A viewer model that knows this plugin's manifest and no other plugin."""
    npe2pm.register(
        PluginManifest.from_file(project_root / "src" / "napari_pathsam" / "napari.yaml")
    )
    return ViewerModel()


def opened(viewer: ViewerModel, path: Path) -> Any:
    return viewer.open(path, plugin=PLUGIN)[0]


def pyramid(path: Path, rng: np.random.Generator, *, mpp: float | None = 0.5) -> np.ndarray:
    pixels = rng.integers(0, 256, (600, 800, 3), dtype=np.uint8)
    said = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": 3}
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels, metadata=None, **said, **OPTIONS)
        tif.write(pixels[::2, ::2], subfiletype=1, metadata=None, **OPTIONS)
    return pixels


def test_a_pyramid_opens_lazily_in_microns(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    pixels = pyramid(tmp_path / "p.tif", rng)
    layer = opened(viewer, tmp_path / "p.tif")
    assert layer.multiscale
    assert layer.rgb
    assert [type(level).__module__.split(".")[0] for level in layer.data] == ["dask", "dask"]
    np.testing.assert_array_equal(np.asarray(layer.data[0]), pixels)
    assert tuple(layer.scale) == (0.5, 0.5)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert layer.metadata == {"path": str((tmp_path / "p.tif").resolve()), "mpp": 0.5}
    [(_, options, _)] = read_slide(str(tmp_path / "p.tif"))
    assert options["cache"] is False  # napari's would take a quarter of the memory


def test_without_a_pixel_size_pixels_stay_pixels(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    pyramid(tmp_path / "p.tif", rng, mpp=None)
    layer = opened(viewer, tmp_path / "p.tif")
    assert tuple(layer.scale) == (1.0, 1.0)
    assert [str(unit) for unit in layer.units] == ["pixel", "pixel"]
    assert layer.metadata["mpp"] is None


def test_plain_and_foreign_tiffs_stay_naparis(rng: np.random.Generator, tmp_path: Path) -> None:
    rgb = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "grey.tif", rgb[..., 0])
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 40, 30), np.uint16))
    tifffile.imwrite(tmp_path / "plain.ome.tif", rgb, photometric="rgb", metadata={"axes": "YXS"})
    fluorescence = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(
        tmp_path / "c.ome.tif", np.zeros((4, 40, 30), np.uint16), metadata=fluorescence
    )
    (tmp_path / "text.tif").write_text("no TIFF")
    (tmp_path / "folder").mkdir()
    for path in tmp_path.iterdir():
        assert get_reader(str(path)) is None, path.name
    assert get_reader([str(tmp_path / "rgb.tif"), str(tmp_path / "grey.tif")]) is None


def test_an_ome_tiff_keeps_its_pixel_size(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    rgb = rng.integers(0, 256, (50, 60, 3), dtype=np.uint8)
    size = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "x.ome.tif", rgb, photometric="rgb", metadata=size)
    layer = opened(viewer, tmp_path / "x.ome.tif")
    assert not layer.multiscale
    assert tuple(layer.scale) == (0.25, 0.25)
    np.testing.assert_array_equal(np.asarray(layer.data), rgb)


def test_more_than_16384_pixels_are_never_single_scale(viewer: ViewerModel, tmp_path: Path) -> None:
    wide = np.zeros((64, 20_000, 3), np.uint8)
    wide[:, ::8] = 80
    tifffile.imwrite(tmp_path / "wide.tif", wide, **OPTIONS)
    layer = opened(viewer, tmp_path / "wide.tif")
    assert layer.multiscale
    assert max(layer.data[-1].shape) <= 4096
    assert (np.asarray(layer.data[-1]) == 10).mean() > 0.9  # averaged, not picked


def test_ome_zarr_in_colors_is_taken_and_labels_are_not(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    def write(name: str, data: np.ndarray, axes: str) -> Path:
        group = zarr.open_group(tmp_path / name, mode="w")
        group.create_array("0", shape=data.shape, dtype=data.dtype, chunks=data.shape)[...] = data
        described = [{"name": a, **({"unit": "micrometer"} if a in "yx" else {})} for a in axes]
        scale = [{"type": "scale", "scale": [0.5 if a in "yx" else 1.0 for a in axes]}]
        dataset = {"path": "0", "coordinateTransformations": scale}
        group.attrs["ome"] = {
            "version": "0.5", "multiscales": [{"axes": described, "datasets": [dataset]}]
        }  # fmt: skip
        return tmp_path / name

    rgb = rng.integers(0, 256, (3, 40, 50), dtype=np.uint8)
    layer = opened(viewer, write("rgb.zarr", rgb, "cyx"))
    assert layer.rgb
    assert tuple(layer.scale) == (0.5, 0.5)
    np.testing.assert_array_equal(np.asarray(layer.data), np.moveaxis(rgb, 0, -1))
    assert get_reader(str(write("labels.zarr", rgb[0].astype(np.uint16), "yx"))) is None
    assert get_reader(str(write("five.zarr", np.zeros((5, 40, 50), np.uint8), "cyx"))) is None


def test_a_text_file_named_svs_is_one_readable_error(viewer: ViewerModel, tmp_path: Path) -> None:
    (tmp_path / "x.svs").write_text("404 not found")
    reader = get_reader(str(tmp_path / "x.svs"))
    assert reader is not None
    with pytest.raises(BadFileError, match="holds text"):
        reader(str(tmp_path / "x.svs"))


def test_real_slides(viewer: ViewerModel, shared_data: Path) -> None:
    layer = opened(viewer, shared_data / "wsi" / "TCGA-CR-7395-01A-01-TS1.svs")
    assert [level.shape for level in layer.data] == [(3567, 4443, 3), (1783, 2221, 3)]
    layer = opened(viewer, shared_data / "wsi" / "CMU-1-Small-Region.svs")
    assert tuple(layer.scale) == (0.499, 0.499)


# --- GeoJSON -------------------------------------------------------------------------------------


@pytest.fixture
def labels(rng: np.random.Generator) -> np.ndarray:
    coarse = rng.integers(0, 5, (6, 9))
    return np.kron(coarse, np.ones((7, 5), int))


def test_geojson_gives_objects_and_classes(
    viewer: ViewerModel, labels: np.ndarray, class_table: ClassTable, tmp_path: Path
) -> None:
    class_of = {1: 1, 2: 2, 3: 1}
    path = tmp_path / "roi.geojson"
    write_geojson(path, labels, class_of=class_of, classes=class_table, mpp=0.5)
    classes, objects = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(objects.data, labels)
    expected = np.vectorize(lambda i: class_of.get(i, 0))(labels)
    np.testing.assert_array_equal(classes.data, expected)
    assert list(classes.features["class"]) == ["background", "gland", "stroma"]
    assert list(objects.features["class"]) == ["gland", "stroma", "gland", ""]
    for info in class_table:
        shown = np.rint(np.asarray(classes.get_color(info.id))[:3] * 255).astype(int)
        assert "#" + bytes(shown.tolist()).hex() == info.color
    for layer in (classes, objects):
        assert tuple(layer.scale) == (0.5, 0.5)
        assert tuple(layer.translate) == (0.0, 0.0)
        assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]


def test_geojson_lies_on_the_image_in_view(
    viewer: ViewerModel, labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = viewer.add_image(
        np.zeros((100, 120, 3), np.uint8), scale=(0.3, 0.3), translate=(5, 7), rotate=30,
        units=("um", "um"),
    )  # fmt: skip
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    write_geojson(tmp_path / "x.geojson", labels, offset_yx=(10, 20))
    (layer,) = viewer.open(tmp_path / "x.geojson", plugin=PLUGIN)
    assert layer.data.shape == (100, 120)
    np.testing.assert_array_equal(layer.data[10:52, 20:65], labels)
    for corner in ((0, 0), (99, 119)):
        np.testing.assert_allclose(layer.data_to_world(corner), image.data_to_world(corner))
    assert layer.units == image.units


def test_geojson_of_a_slide_covers_its_polygons(
    viewer: ViewerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 60,000 pixels a side: only the polygons' extent; a pyramid when that is too large too."""
    import dask.array as da

    levels = [da.zeros((60_000 // n, 60_000 // n, 3), np.uint8, chunks=4096) for n in (1, 16)]
    image = viewer.add_image(levels, rgb=True, multiscale=True, scale=(0.5, 0.5), units=("um",) * 2)
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)

    def square(y: int, x: int) -> dict[str, Any]:
        ring = [[x, y], [x + 90, y], [x + 90, y + 90], [x, y + 90], [x, y]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        return {"type": "Feature", "geometry": geometry, "properties": {}}

    for second, is_pyramid in (((50_200, 40_400), False), ((50_200, 0), True)):
        features = [square(50_000, 40_000), square(*second)]
        (tmp_path / "x.geojson").write_text(json.dumps(features))
        (layer,) = viewer.open(tmp_path / "x.geojson", plugin=PLUGIN)
        assert layer.multiscale == is_pyramid
        if is_pyramid:
            assert layer.data[0].shape == (60_000, 60_000)
            assert layer.data[0][50_010, 40_010] == 1  # at full resolution
        else:
            assert max(layer.data.shape) <= 16_384
        for centre in ((50_044.5, 40_044.5), (second[0] + 44.5, second[1] + 44.5)):
            assert np.any(layer.get_value(image.data_to_world(centre), world=True))
        beside = layer.get_value(image.data_to_world((50_145, 40_145)), world=True)
        assert not (beside[-1] if is_pyramid else beside)
    with pytest.raises(BadImageError, match="pathsam export"):
        writer.write_geojson(str(tmp_path / "y.geojson"), *layer.as_layer_data_tuple()[:2])


def test_damaged_geojson_is_one_readable_error(tmp_path: Path) -> None:
    (tmp_path / "x.geojson").write_text("{")
    with pytest.raises(BadFileError):
        read_annotations(str(tmp_path / "x.geojson"))


# --- saving --------------------------------------------------------------------------------------


def save(layer: Labels, path: Path) -> list[str]:
    return npe2_write(str(path), [layer.as_layer_data_tuple()], plugin_name=PLUGIN)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_labels_layer_is_saved_as_an_image(
    suffix: str, viewer: ViewerModel, labels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / f"x{suffix}"
    assert save(Labels(labels), path) == [str(path)]
    np.testing.assert_array_equal(read_labels(path), labels)


def test_a_labels_layer_is_saved_as_geojson_with_its_classes(
    viewer: ViewerModel, labels: np.ndarray, tmp_path: Path
) -> None:
    features = {"index": [1, 2, 4], "class": ["gland", "stroma", "gland"]}
    layer = Labels(labels, features=features, scale=(500, 500), units=("nm", "nm"))
    path = tmp_path / "x.geojson"
    assert save(layer, path) == [str(path)]
    instances, class_map, classes = read_geojson(path, labels.shape)
    np.testing.assert_array_equal(instances, labels)
    assert classes.names == ("gland", "stroma")
    np.testing.assert_array_equal(class_map, np.array([0, 1, 2, 0, 1])[labels])
    assert json.loads(path.read_text())["napari_pathsam"]["mpp"] == pytest.approx(0.5)


def test_what_was_read_is_saved_the_same(
    viewer: ViewerModel, labels: np.ndarray, class_table: ClassTable, tmp_path: Path
) -> None:
    first, again, areas = (tmp_path / f"{n}.geojson" for n in ("first", "again", "areas"))
    write_geojson(first, labels, class_of={1: 2, 2: 1}, classes=class_table, mpp=0.25)
    class_layer, object_layer = viewer.open(first, plugin=PLUGIN)
    save(object_layer, again)
    assert json.loads(again.read_text()) == json.loads(first.read_text())
    save(class_layer, areas)
    _, class_map, classes = read_geojson(areas, labels.shape)
    np.testing.assert_array_equal(class_map, class_layer.data)
    assert classes == class_table


def test_objects_and_classes_saved_together_come_back_exactly(
    viewer: ViewerModel, labels: np.ndarray, class_table: ClassTable, tmp_path: Path
) -> None:
    """Through File > Save Selected Layers and File > Open, areas that are no objects included."""
    from napari_pathsam._napari.layer_source import OWN

    labels = labels.astype(np.int32)
    class_of = {1: 2, 2: 1, 3: 2, 4: 1}
    class_map = np.array([0, *class_of.values()], np.uint8)[labels]
    class_map[:6, :20][labels[:6, :20] == 0] = 2  # painted with the brush, touching objects
    class_map[labels == 3] = 1  # an object somebody painted over
    names = class_table.names
    objects = viewer.add_labels(
        labels, metadata={OWN: "instances", "classes": class_table, "offset_yx": (0, 0)},
        features={"index": [0, *class_of], "class": ["background", *(names[c - 1] for c in
                                                                   class_of.values())]},
    )  # fmt: skip
    areas = viewer.add_labels(
        class_map, metadata={OWN: "classes", "classes": class_table, "offset_yx": (0, 0)},
        features={"index": [0, 1, 2], "class": ["background", *names]},
    )  # fmt: skip
    path = tmp_path / "both.geojson"
    viewer.layers.selection = {objects, areas}
    assert viewer.layers.save(str(path), selected=True) == [str(path)]
    viewer.layers.clear()
    class_layer, object_layer = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(object_layer.data, labels)
    np.testing.assert_array_equal(class_layer.data, class_map)
    assert class_layer.metadata["classes"] == class_table
    again = tmp_path / "again.geojson"
    viewer.layers.selection = {class_layer, object_layer}
    viewer.layers.save(str(again), selected=True)
    _, found, _ = read_geojson(again, labels.shape)
    np.testing.assert_array_equal(found, class_map)


def test_two_layers_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    layer = Labels(np.ones((4, 5), int)).as_layer_data_tuple()
    with pytest.raises(BadImageError, match="file of its own"):
        writer.write_geojson_of_both(str(tmp_path / "x.geojson"), [layer, layer])
    assert not list(tmp_path.iterdir())


def test_stacks_are_refused(labels: np.ndarray, tmp_path: Path) -> None:
    layer = Labels(np.stack([labels, labels]))
    for write in (writer.write_geojson, writer.write_label_image):
        with pytest.raises(BadImageError, match="one plane"):
            write(str(tmp_path / "x.geojson"), *layer.as_layer_data_tuple()[:2])
    assert not list(tmp_path.iterdir())


def test_a_pixel_size_told_once_is_known_when_the_slide_is_opened_again(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    pyramid(tmp_path / "p.tif", rng, mpp=None)
    told: list[str] = []
    layer = opened(viewer, tmp_path / "p.tif")
    assert source_of(layer, viewer).mpp is None
    keep_typed_mpp(layer, 0.25, say=told.append)
    assert source_of(layer, viewer).mpp == 0.25  # another dock, the same layer
    (tmp_path / "p.tif").rename(tmp_path / "moved.tif")
    again = opened(viewer, tmp_path / "moved.tif")
    assert tuple(again.scale) == (0.25, 0.25)
    assert [str(unit) for unit in again.units] == ["micrometer", "micrometer"]
    keep_typed_mpp(again, 0.5, say=told.append)  # corrected
    assert tuple(opened(viewer, tmp_path / "moved.tif").scale) == (0.5, 0.5)
    assert told == []
    keep_typed_mpp(again, 900.0, say=told.append)
    assert "no pixel size" in told.pop()
    keep_typed_mpp(again, None, say=told.append)
    assert tuple(opened(viewer, tmp_path / "moved.tif").scale) == (1.0, 1.0)


def test_what_a_file_says_of_itself_is_not_overruled(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    pyramid(tmp_path / "p.tif", rng)
    layer = opened(viewer, tmp_path / "p.tif")
    keep_typed_mpp(layer, 0.25, say=pytest.fail)
    keep_typed_mpp(viewer.add_image(np.zeros((9, 9))), 0.25, say=pytest.fail)  # no file at all
    assert tuple(opened(viewer, tmp_path / "p.tif").scale) == (0.5, 0.5)


def test_a_damaged_tile_is_shown_grey_and_said_once(
    viewer: ViewerModel, rng: np.random.Generator, tmp_path: Path
) -> None:
    pixels = pyramid(tmp_path / "p.tif", rng)
    with tifffile.TiffFile(tmp_path / "p.tif") as tif:
        at, size = tif.pages[0].dataoffsets[5], tif.pages[0].databytecounts[5]
    with (tmp_path / "p.tif").open("r+b") as file:
        file.seek(at)
        file.write(bytes(size))
    layer = opened(viewer, tmp_path / "p.tif")
    with pytest.warns(UserWarning, match=r"row 256, column 256 .* shown grey"):
        shown = np.asarray(layer.data[0])
    expected = pixels.copy()
    expected[256:512, 256:512] = 128
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(
        np.asarray(layer.data[0][200:300, 500:600]), expected[200:300, 500:600]
    )


def test_dicom_that_is_no_slide_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "ct.dcm").write_bytes(bytes(128) + b"DICM")
    assert get_reader(str(tmp_path / "ct.dcm")) is None
