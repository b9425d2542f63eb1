"""The modules of the page against NumPy, Pillow, tifffile and `tasks/flow.py`."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from unet_jax.data import normalize
from unet_jax.run.exporting.web import NORMALIZATIONS
from unet_jax.tasks import TaskData, flow

WEB = Path(__file__).parents[2] / "web"

pytestmark = pytest.mark.slow
TYPES = {
    "f4": "Float32Array",
    "i4": "Int32Array",
    "u1": "Uint8Array",
    "u2": "Uint16Array",
}
SPECS = [  # of each normalisation that is exported
    {"name": "standard"},
    {"name": "percentile", "low": 3.7, "high": 96.0},
    {"name": "fixed", "mean": (300.5,), "std": (57.5,), "low": (), "high": ()},
    {
        "name": "fixed",
        "mean": (30000.5, 3.0),
        "std": (5000.0, 0.7),
        "low": (21000.25, 1.0),
        "high": (40000.75,),
    },
]


def compute(page, code, *arrays, **values):
    """Returns the numbers that the body of an async function returns, as float64.

    The function has the arrays as `a`, the values as `v`, and `load(module)`.
    """
    given = [
        f"new {TYPES[array.dtype.str[1:]]}(Uint8Array.fromBase64("
        f"'{base64.b64encode(array.tobytes()).decode()}').buffer)"
        for array in map(np.ascontiguousarray, arrays)
    ]
    answer = page.evaluate(
        f"(async (a, v, load) => {{ {code} }})([{', '.join(given)}], "
        f"{json.dumps(values)}, (name) => import(`./${{name}}.js`)).then("
        "(r) => new Uint8Array(Float64Array.from(r).buffer).toBase64())"
    )
    return np.frombuffer(base64.b64decode(answer))


def read(page, path):
    """Returns an image file as the page reads it, `[H, W, C]`."""
    code = """
      const image = await (await load('image')).readImage(a[0]);
      return [image.height, image.width, image.channels, image.largest, ...image.data];
    """
    found = compute(page, code, np.frombuffer(path.read_bytes(), np.uint8))
    *shape, largest = found[:4].astype(int)
    return found[4:].reshape(shape), largest


def draw(dtype, channels=(), shape=(21, 35)):
    most = 1 if dtype == np.float32 else np.iinfo(dtype).max
    values = np.random.default_rng(0).random((*shape, *channels)) * most
    smooth = ndimage.gaussian_filter(values, (1, 1, *(0 for _ in channels)))
    return smooth.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(np.uint8, ()), (np.uint16, ()), (np.uint8, (3,)), (np.uint8, (4,))],
)
def test_a_png_has_the_pixels_that_pillow_reads(page, tmp_path, dtype, channels):
    image = draw(dtype, channels)
    Image.fromarray(image).save(tmp_path / "a.png")
    found, largest = read(page, tmp_path / "a.png")
    expected = image[..., None] if image.ndim == 2 else image[..., :3]
    np.testing.assert_array_equal(found, expected)
    assert largest == np.iinfo(dtype).max


def test_black_and_white_and_a_palette_are_expanded(page, tmp_path):
    black = draw(np.uint8) > 127
    Image.fromarray(black).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read(page, tmp_path / "a.png")[0][..., 0], 255 * black
    )
    colours = Image.fromarray(draw(np.uint8, (3,))).quantize(7)
    colours.save(tmp_path / "b.png")
    found, _ = read(page, tmp_path / "b.png")
    np.testing.assert_array_equal(found, np.array(colours.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_has_the_pixels_that_pillow_reads(page, tmp_path, mode):
    image = Image.fromarray(draw(np.uint8, (3,))).convert(mode)
    image.save(tmp_path / "a.jpg", quality=95, subsampling=0)
    found, _ = read(page, tmp_path / "a.jpg")
    expected = np.array(Image.open(tmp_path / "a.jpg")).reshape(found.shape)
    assert np.abs(found - expected).max() <= 2  # decoders round differently


@pytest.mark.parametrize(
    ("dtype", "channels", "options"),
    [
        (np.uint8, (), {}),
        (np.uint16, (), {"byteorder": ">", "rowsperstrip": 4}),
        (np.float32, (), {"tile": (16, 16)}),
        (np.uint16, (), {"compression": "zlib", "predictor": True}),
        (np.uint8, (3,), {"compression": "zlib", "photometric": "rgb"}),
        (np.uint8, (), {"compression": "lzw"}),
        (np.uint16, (), {"compression": "packbits"}),
    ],
)
def test_a_tiff_has_the_pixels_that_were_written(
    page, tmp_path, dtype, channels, options
):
    if "compression" in options and options["compression"] != "zlib":
        pytest.importorskip("imagecodecs")
    image = draw(dtype, channels, (61, 75))
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    found, _ = read(page, tmp_path / "a.tif")
    np.testing.assert_array_equal(found.reshape(image.shape), image)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits"])
def test_a_tiff_of_pillow_is_read(page, tmp_path, compression):
    image = draw(np.uint8, (), (200, 160))
    Image.fromarray(image).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read(page, tmp_path / "a.tif")[0][..., 0], image)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_normalisation_is_that_of_the_package(page, spec):
    image = draw(np.uint16, (2,))
    image[..., 1] = 7  # constant
    options = {k: v for k, v in spec.items() if k != "name"}
    measure = getattr(normalize, spec["name"])
    scale = normalize.in_memory(lambda chunks: measure(chunks, **options))(image)
    code = """
      const [height, width] = [21, 35];
      const image = {data: a[0], height, width, channels: 2, largest: 65535};
      return (await load('normalize')).normalize(image, v.spec);
    """
    found = compute(page, code, image, spec=spec).reshape(2, 21, 35)
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), scale(image), atol=1e-6)


def test_the_page_has_the_normalisations_that_are_exported(page):
    code = """
      const {hasNormalization} = await load('normalize');
      return v.names.map(hasNormalization);
    """
    has = compute(page, code, names=normalize.__all__)
    names = [name for name, found in zip(normalize.__all__, has, strict=True) if found]
    assert names == sorted(NORMALIZATIONS)
    assert {spec["name"] for spec in SPECS} == set(NORMALIZATIONS)


def test_grey_of_colours_rounds_halves_to_the_even_number(page):
    code = """
      const [height, width, channels, largest] = [1, 3, 3, 255];
      const image = {data: a[0], height, width, channels, largest};
      return (await load('image')).convertChannels(image, 1, true).data;
    """
    # 0.299 * 250 = 74.75, 0.587 * 4 + 0.114 * 10 = 3.488,
    # 0.299 * 5 + 0.114 * 35 = 5.485
    colours = np.array([250, 0, 0, 0, 4, 10, 5, 0, 35], np.uint8)
    assert compute(page, code, colours).tolist() == [75, 3, 5]
    code = "return [0.5, 1.5, 2.5, 2.4].map((await load('image')).roundHalfToEven);"
    assert compute(page, code).tolist() == [0, 2, 2, 2]


@pytest.mark.parametrize("size", [1, 511, 512, 513, 700, 1023, 1030, 2600, 4096])
@pytest.mark.parametrize(
    ("halo", "multiple"), [(51, 8), (92, 16), (256, 32), (560, 32)]
)
def test_tiles_cover_each_pixel_once_with_its_context(page, size, halo, multiple):
    code = """
      const {planAxis} = await load('tiles');
      const spans = planAxis(v.size, {...v, blend: false});
      return spans.flatMap((s) => [s.start, s.stop, s.first, s.last]);
    """
    spans = compute(page, code, size=size, halo=halo, multiple=multiple).reshape(-1, 4)
    position = 0
    for start, stop, first, last in spans.astype(int):
        assert start % multiple == 0
        assert first == position
        assert start == 0 or start <= first - halo
        assert stop == size or (stop >= last + halo and stop % multiple == 0)
        position = last
    assert position == size


@pytest.mark.parametrize(
    ("halo", "blend", "expected"),
    [
        ([51, 51], False, False),
        ([542, 542], False, False),  # of a ResNet: tiles of 2208 pixels
        ([51, 575], False, True),  # tiles would have 2312
        (None, True, True),
        (None, False, True),
        ([0, 0], True, True),  # of older files
    ],
)
def test_tiles_are_blended_without_a_halo_that_fits(page, halo, blend, expected):
    about = json.loads((WEB / "model/model.json").read_text())
    about["network"]["halo"] = halo
    about["page"]["blend"] = blend
    code = """
      const {rules} = (await load('model')).readModel(v.text);
      return [(await load('tiles')).mustBlend(rules)];
    """
    assert compute(page, code, text=json.dumps(about)) == [expected]


@pytest.mark.parametrize("blend", [False, True])
def test_tiles_of_a_function_of_each_pixel_are_joined(page, blend):
    code = """
      const shape = {height: 530, width: 1100, channels: 2};
      const rules = {halo: [20, 20], multiple: [8, 8], blend: v.blend};
      const run = (tile) => tile.map((x) => 2 * x);
      const {predictTiles} = await load('tiles');
      return predictTiles(a[0], shape, rules, run, () => {});
    """
    image = np.random.default_rng(0).random((2, 530, 1100), np.float32)
    found = compute(page, code, image, blend=blend).reshape(image.shape)
    np.testing.assert_allclose(found, 2 * image, atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 0.9, 1.3])
def test_objects_of_a_random_field_are_those_of_the_task(page, limit):
    rng = np.random.default_rng(0)
    vectors = ndimage.gaussian_filter(rng.normal(size=(2, 60, 83)), (0, 6, 6))
    vectors /= np.abs(vectors).max() / 1.5
    logits = ndimage.gaussian_filter(rng.normal(size=(1, 60, 83)), (0, 4, 4))
    probability = 1 / (1 + np.exp(-3 * logits / logits.std()))
    prediction = np.concatenate([vectors, probability]).astype(np.float32)
    task = flow(TaskData(("a", "b"), axes=2, channels=1), flow_threshold=limit)
    last = np.moveaxis(prediction, 0, -1)
    assert task.segment
    expected = task.segment(task.decide(last), last).objects
    assert expected is not None
    options = {"steps": 200, "probability": 0.5, "pixels": 15, "flow_threshold": limit}
    code = """
      const model = {kind: 'objects', options: v.options};
      return (await load('labels')).segment(a[0], model, 60, 83, 0.5).objects;
    """
    found = compute(page, code, prediction, options=options).reshape(60, 83)
    assert np.mean(found != expected) < 1e-3
    assert expected.max() > 0


def test_classes_that_overlap_and_a_threshold(page):
    p = np.array([[0.2, 0.6, 0.5, 0.51], [0.7, 0.8, 0.1, 0.49]], np.float32)
    code = """
      const model = {kind: v.kind, background: v.background, classes: v.classes};
      return (await load('labels')).segment(a[0], model, 1, 4, v.threshold).label;
    """
    both = {"kind": "independent", "background": False, "classes": ["a", "b"]}
    found = compute(page, code, p, threshold=0.5, **both)
    assert found.tolist() == [0, 1, 0, 1, 1, 1, 0, 0]
    binary = {"kind": "exclusive", "background": True, "classes": ["background", "a"]}
    found = compute(page, code, np.stack([1 - p[0], p[0]]), threshold=0.5, **binary)
    assert found.tolist() == [0, 1, 0, 1]
    found = compute(page, code, np.stack([1 - p[0], p[0]]), threshold=0.55, **binary)
    assert found.tolist() == [0, 1, 0, 0]
    three = {"kind": "exclusive", "background": True, "classes": ["a", "b", "c"]}
    p = np.array([[0.4, 0.2, 0.3, 0.1], [0.5, 0.3, 0.3, 0.2], [0.1, 0.5, 0.4, 0.7]])
    found = compute(page, code, p.astype(np.float32), threshold=0, **three)
    assert found.tolist() == [1, 2, 2, 2]
    found = compute(page, code, p.astype(np.float32), threshold=0.45, **three)
    assert found.tolist() == [1, 2, 0, 2]
