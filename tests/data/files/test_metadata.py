"""Results keep axes, the size of a pixel, the interval of frames and their units.

They are read with tifffile, Pillow and TensorStore.
"""

import json

import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image

from tests.data.files.test_zarr import save as save_zarr
from unet_jax.data import files
from unet_jax.errors import UserError

SIZES = {"T": 3, "Z": 2, "C": 2, "Y": 8, "X": 9}
RNG = np.random.default_rng(0)


def draw(axes):
    return RNG.integers(0, 250, [SIZES[a] for a in axes], np.uint8)


def copy(path, axes=2, dtype="u1", channels=0, order=""):
    """Writes as results the pixels of the first channel; returns the new path."""
    with files.open_images(path, axes=axes, tiff_axes=order) as file:
        whole = [slice(0, n) for n in file.shape]
        where = path.parent / "out", "a"
        with files.write_images(*where, file, dtype, channels=channels) as writer:
            for image in range(file.count):
                block = file.read(image, whole)[..., :1].astype(dtype)
                block = block.repeat(max(channels, 1), -1)
                writer.write(block if channels else block[..., 0])
    return writer.path


def imagej(path, array, axes, unit="um", **more):
    tifffile.imwrite(
        path,
        array,
        imagej=True,
        metadata={"axes": axes, "unit": unit, "finterval": 2.5, "spacing": 3.0} | more,
        resolution=(5.0, 4.0),
    )


def ome(path, array, axes, **more):
    metadata = {
        "axes": axes,
        "PhysicalSizeX": 0.2,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 3.0,
        "PhysicalSizeZUnit": "µm",
        "TimeIncrement": 2.5,
        "TimeIncrementUnit": "min",
    }
    tifffile.imwrite(path, array, ome=True, metadata=metadata | more)


def first_channel(array, axes):
    return array.take(0, axes.index("C")) if "C" in axes else array


@pytest.mark.parametrize(
    ("axes", "network", "kept"),
    [
        ("TYX", 2, "TYX"),
        ("ZYX", 2, "ZYX"),
        ("TZYX", 2, "TZYX"),
        ("TZCYX", 2, "TZYX"),
        ("CYX", 2, "YX"),
        ("YX", 2, "YX"),
        ("ZYX", 3, "ZYX"),
        ("ZCYX", 3, "ZYX"),
        ("TZYX", 3, "TZYX"),
        ("TZCYX", 3, "TZYX"),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u4"])
def test_a_tiff_of_imagej(tmp_path, axes, network, kept, dtype):
    """32 bits do not fit into ImageJ's format, and become OME-TIFF."""
    array = draw(axes)
    imagej(tmp_path / "a.tif", array, axes)
    path = copy(tmp_path / "a.tif", network, dtype)
    assert path.name == "a.tif"
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == kept
        np.testing.assert_array_equal(file.asarray(), first_channel(array, axes))
        if dtype == "u4":
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            assert pixels["PhysicalSizeX"] == pytest.approx(0.2)
            assert pixels["PhysicalSizeY"] == pytest.approx(0.25)
            assert pixels["PhysicalSizeXUnit"] == "µm"
            assert pixels["PhysicalSizeZ"] == 3  # also of a single slice
            assert pixels["TimeIncrement"] == 2.5
            return
        found, tags = file.imagej_metadata, file.pages[0].tags
        assert tags["XResolution"].value == (5, 1)
        assert tags["YResolution"].value == (4, 1)
        assert found["unit"] == "um"
        assert found["finterval"] == 2.5  # also of a single frame
        assert found["spacing"] == 3
        assert found.get("frames", 1) == (3 if "T" in kept else 1)
        assert found.get("slices", 1) == (2 if "Z" in kept else 1)


@pytest.mark.parametrize(
    ("axes", "network", "kept"),
    [
        ("QYX", 2, "QYX"),
        ("QYX", 3, "QYX"),
        ("QQYX", 2, "QQYX"),
        ("QZYX", 2, "QZYX"),
        ("ZQYX", 2, "QZYX"),  # times and others before slices
        ("RZYX", 2, "RZYX"),
        ("QTYX", 2, "QTYX"),
        ("TQYX", 2, "TQYX"),
        ("QRYX", 2, "QRYX"),
        ("QTZYX", 2, "QTZYX"),
        ("QZYX", 3, "QZYX"),
        ("QCYX", 3, "QYX"),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u4"])
def test_axes_without_a_meaning_do_not_get_one(tmp_path, axes, network, kept, dtype):
    array = RNG.integers(0, 250, [(SIZES | {"Q": 4, "R": 5})[a] for a in axes], "u1")
    metadata = {"axes": axes}
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="minisblack", metadata=metadata
    )
    with tifffile.TiffFile(copy(tmp_path / "a.tif", network, dtype)) as file:
        found, written = file.series[0].axes, file.asarray()
        assert not file.is_imagej
        assert not file.is_ome
    assert found == kept
    array = first_channel(array, axes)
    if axes[0] == "Z":
        array = array.swapaxes(0, 1)
    np.testing.assert_array_equal(written, array)


@pytest.mark.parametrize("network", [2, 3])
def test_plain_pages_stay_plain(tmp_path, network):
    """As another program writes them: no description, only pages and a resolution."""
    frames = [Image.fromarray(page) for page in draw("TYX")]
    path = tmp_path / "a.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:], dpi=(300, 150))
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "IYX"
    with tifffile.TiffFile(copy(path, network)) as file:
        assert file.series[0].axes == "IYX"
        tags = file.pages[0].tags
        assert tags["ResolutionUnit"].value == 2
        assert [tags[f"{a}Resolution"].value for a in "XY"] == [(300, 1), (150, 1)]
    with tifffile.TiffFile(copy(path, network, "f4", channels=2)) as file:
        assert file.series[0].axes == "ICYX"


@pytest.mark.parametrize(("order", "network"), [("ZYX", 3), ("ZYX", 2), ("TYX", 2)])
def test_an_order_of_the_user_is_a_statement(tmp_path, order, network):
    array = draw("TYX")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with tifffile.TiffFile(copy(tmp_path / "a.tif", network, order=order)) as file:
        assert file.is_imagej
        assert file.series[0].axes == order
        np.testing.assert_array_equal(file.asarray(), array)


def test_other_axes_of_an_ome_tiff(tmp_path):
    array = RNG.integers(0, 250, (4, 2, 8, 9), np.uint8)
    ome(tmp_path / "a.ome.tif", array, "PZYX")
    with tifffile.TiffFile(copy(tmp_path / "a.ome.tif", 3, "f4", channels=2)) as file:
        assert file.is_ome
        assert file.series[0].axes == "PZCYX"
        np.testing.assert_array_equal(file.asarray()[:, :, 1], array)


@pytest.mark.parametrize("unit", [r"\u00B5m", "micron", "inch", "pixel", "furlong"])
def test_units_of_imagej_stay_as_they_are(tmp_path, unit):
    imagej(tmp_path / "a.tif", draw("TYX"), "TYX", unit, tunit="min", zunit="nm")
    with tifffile.TiffFile(copy(tmp_path / "a.tif")) as file:
        assert file.imagej_metadata["unit"] == unit
        assert file.imagej_metadata["tunit"] == "min"
    copied = copy(tmp_path / "a.tif", dtype="u4")
    with tifffile.TiffFile(copied) as file:
        text = file.ome_metadata
    lengths = {r"\u00B5m": "µm", "micron": "µm", "inch": "in", "pixel": "pixel"}
    if unit in lengths:
        assert f'PhysicalSizeXUnit="{lengths[unit]}"' in text
    else:  # no unit of OME, and none is invented
        assert "PhysicalSizeX" not in text
    assert 'TimeIncrement="2.5" TimeIncrementUnit="min"' in text


@pytest.mark.parametrize(
    ("axes", "network", "kept"),
    [
        ("TYX", 2, "TYX"),
        ("TCYX", 2, "TYX"),
        ("TZCYX", 2, "TZYX"),
        ("ZTYX", 2, "TZYX"),
        ("YX", 2, "YX"),
        ("ZYX", 3, "ZYX"),
        ("TZYX", 3, "TZYX"),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_an_ome_tiff_becomes_an_ome_tiff(tmp_path, axes, network, kept, dtype):
    array = draw(axes)
    ome(tmp_path / "a.ome.tif", array, axes)
    path = copy(tmp_path / "a.ome.tif", network, dtype)
    assert path.name == "a.ome.tif"
    wanted = np.einsum(f"{axes.replace('C', '')}->{kept}", first_channel(array, axes))
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert file.series[0].axes == kept
        np.testing.assert_array_equal(file.asarray(), wanted)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.2, "nm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == (0.25, "nm")
    assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeZUnit"]) == (3, "µm")
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (2.5, "min")


def test_classes_are_channels_of_each_frame(tmp_path):
    imagej(tmp_path / "a.tif", array := draw("TZYX"), "TZYX")
    path = copy(tmp_path / "a.tif", dtype="f4", channels=2)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TZCYX"
        assert file.imagej_metadata["finterval"] == 2.5
        np.testing.assert_array_equal(file.asarray()[:, :, 1], array)


def test_a_flat_image_without_a_unit_is_a_png_with_its_resolution(tmp_path):
    image = draw("YX")
    tifffile.imwrite(tmp_path / "a.tif", image, resolution=(300, 150), resolutionunit=2)
    path = copy(tmp_path / "a.tif")
    assert path.name == "a.png"
    with Image.open(path) as copied:
        assert copied.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
    tifffile.imwrite(tmp_path / "a.tif", image)
    with Image.open(copy(tmp_path / "a.tif")) as copied:
        assert "dpi" not in copied.info


@pytest.mark.parametrize("name", ["XResolution", "YResolution"])
def test_a_resolution_along_one_axis_is_left_out(tmp_path, name):
    image = draw("YX")
    tifffile.imwrite(tmp_path / "a.tif", image, resolution=(300, 150), resolutionunit=2)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags[name].overwrite((0, 1))
    with Image.open(copy(tmp_path / "a.tif")) as copied:
        assert "dpi" not in copied.info
        np.testing.assert_array_equal(copied, image)


def test_a_time_series_is_no_volume(tmp_path):
    imagej(tmp_path / "a.tif", draw("TYX"), "TYX")
    with pytest.raises(UserError, match=r"a\.tif: is a time series of flat images"):
        copy(tmp_path / "a.tif", 3)


def test_a_turned_image_swaps_the_sizes(tmp_path):
    ome(tmp_path / "a.ome.tif", draw("YX"), "YX")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = file.ome_metadata
    tag = [(274, 3, 1, 6, True)]
    options = {"description": xml.encode(), "metadata": None, "extratags": tag}
    tifffile.imwrite(tmp_path / "a.ome.tif", draw("YX"), **options)
    with tifffile.TiffFile(copy(tmp_path / "a.ome.tif")) as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["SizeX"], pixels["SizeY"]) == (8, 9)
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.2)


@pytest.mark.parametrize("bad", ["nan", "-inf", "0", "x", "1e999"])
def test_a_damaged_calibration_is_left_out(tmp_path, bad):
    text = f"ImageJ=1.54\nimages=3\nframes=3\nunit=um\nfinterval={bad}\nspacing={bad}\n"
    array = draw("TYX")
    options = {"description": text, "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with tifffile.TiffFile(copy(tmp_path / "a.tif")) as file:
        assert file.series[0].axes == "TYX"
        assert "finterval" not in file.imagej_metadata


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "network", "channels", "kept"),
    [
        ("yx", 2, 0, "yx"),
        ("tyx", 2, 0, "tyx"),
        ("tczyx", 2, 0, "tzyx"),
        ("tczyx", 3, 0, "tzyx"),
        ("zyx", 3, 2, "czyx"),
        ("tczyx", 2, 2, "tczyx"),
    ],
)
def test_an_ome_zarr_becomes_an_ome_zarr(
    tmp_path, version, axes, network, channels, kept
):
    array = draw(axes.upper())
    source = save_zarr(tmp_path / "a.ome.zarr", array, axes, version, [2] * len(axes))
    units = {"t": "second", "z": "micrometer", "y": "nanometer", "x": "nanometer"}
    described = [
        {"name": a, "type": "x"} | ({"unit": units[a]} if a in units else {})
        for a in axes
    ]
    name = "zarr.json" if version == "0.5" else ".zattrs"
    metadata = json.loads((source / name).read_text())
    inner = metadata["attributes"]["ome"] if version == "0.5" else metadata
    inner["multiscales"][0]["axes"] = described
    moved = [float(i + 1) for i in range(len(axes))]
    level = inner["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    level.append({"type": "translation", "translation": moved})
    (source / name).write_text(json.dumps(metadata))

    copy(source, network)  # a folder that is there is replaced
    path = copy(source, network, "f4", channels)
    assert path.name == "a.ome.zarr"
    assert [p.name for p in path.parent.iterdir()] == ["a.ome.zarr"]
    written = json.loads((path / name).read_text())
    if version == "0.5":
        assert (written["zarr_format"], written["node_type"]) == (3, "group")
        written = written["attributes"]["ome"]
        assert written["version"] == "0.5"
    (image,) = written["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == [*kept]
    for axis in image["axes"]:
        assert axis.get("unit") == units.get(axis["name"])
        kinds = {"t": "time", "c": "channel"}
        assert axis["type"] == kinds.get(axis["name"], "space")
    (dataset,) = image["datasets"]
    scale, translation = dataset["coordinateTransformations"]
    sizes = {"t": 1.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}
    assert scale == {"type": "scale", "scale": [sizes[a] for a in kept]}
    offsets = {"c": 0.0} | dict(zip(axes, moved, strict=True))
    assert translation["translation"] == [offsets[a] for a in kept]
    store = tensorstore.open(
        {
            "driver": "zarr3" if version == "0.5" else "zarr",
            "kvstore": {"driver": "file", "path": str(path / dataset["path"])},
        }
    ).result()
    expected = first_channel(array, axes.upper())
    if channels:
        expected = np.stack([expected] * 2, kept.index("c"))
    np.testing.assert_array_equal(store.read().result(), expected)
    with files.open_images(path, axes=network) as again:
        assert again.channels == (channels or 1)
