"""Exported functions and files against tiled inference, for images of any size."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from unet_jax import parallel, runtime, views
from unet_jax.data import normalize
from unet_jax.data.files import channel_converter
from unet_jax.errors import UserError
from unet_jax.export.onnx_pipeline import write_onnx
from unet_jax.export.onnx_session import open_onnx
from unet_jax.export.pipeline import (
    Border,
    Pipeline,
    convert_channels,
    find_borders,
    make_function,
)
from unet_jax.export.stablehlo import open_stablehlo, write_stablehlo
from unet_jax.inference import Inference, Request
from unet_jax.models import UNet
from unet_jax.tasks import TaskData, flow, multilabel, regression, semantic

SMALL = {"widths": (4, 6), "padding": "SAME", "norm": "batch", "dropout": 0.0}
DATA = {
    2: TaskData(("background", "a", "b"), axes=2, channels=3, target_channels=3),
    3: TaskData(("background", "a"), axes=3, channels=3, target_channels=3),
}
NNUNET = {
    "name": "nnunet",
    "schemes": ("ct", "zscore", "rescale"),
    "mean": (90.0, 0.0, 0.0),
    "std": (40.0, 1.0, 1.0),
    "low": (30.0, 0.0, 0.0),
    "high": (200.0, 0.0, 0.0),
}
RESNET = {"fields": {"encoder": "resnet18", "widths": (8, 4, 4, 4, 4)}}
# Each field of a pipeline with all of its values; the others are those of `make`.
CASES = [
    {},
    {"fields": {"padding": "VALID"}, "tta": "paper"},
    {"fields": {"widths": (4, 6, 8), "norm": "instance"}, "tta": "d4"},
    {"fields": {"strides": ((3,),)}, "dtype": "uint16"},
    {"fields": {"strides": ((1, 2),)}, "tta": "flips"},
    {"task": multilabel, "tta": "rot4", "dtype": "uint8"},
    {"task": flow, "tta": "d4"},
    {"task": regression, "dtype": "int16"},
    {"task": functools.partial(regression, units="own")},
    {"spec": {"name": "percentile", "low": 3.7, "high": 96.0}, "dtype": "uint8"},
    {"spec": {"name": "fixed", "mean": (90.0, 80.0, 70.0), "std": (40.0,)}},
    {"spec": {"name": "fixed", "mean": (9.0,), "std": (4.0,), "low": (20.0, 0, 9)}},
    {"spec": NNUNET, "dtype": "int16"},
    {"axes": 3, "spec": NNUNET | {"schemes": ("zscore",) * 3}},
    {"task": functools.partial(semantic, average="logits"), "tta": "flips"},
    RESNET,
    {"channels": 1, "dtype": "uint8"},
    {"channels": 3, "network_channels": 1, "dtype": "uint16"},
    {"channels": 3, "network_channels": 1},
    {"members": 2, "tta": "flips"},
    {"members": 2, "tta": "flips", "task": functools.partial(regression, units="own")},
    {"axes": 3, "fields": {"upsample": "linear"}, "tta": "flips"},
    {"axes": 3, "task": flow, "fields": {"norm": "instance"}, "tta": "rot4"},
]


def name_case(case):
    """Returns a name that is the same in every process."""
    words = {k: getattr(v, "func", v) for k, v in case.items()}
    return str({k: getattr(v, "__name__", v) for k, v in words.items()})


def make(
    *,
    axes=2,
    fields=None,
    task=semantic,
    tta="none",
    channels=3,
    network_channels=3,
    dtype="float32",
    spec=None,
    members=1,
):
    """Returns a pipeline with a random network."""
    meaning = task(DATA[axes]._replace(channels=network_channels))
    model = UNet(**(SMALL | (fields or {})), outputs=meaning.channels)
    image = np.zeros((1, *(32,) * axes, network_channels), np.float32)
    if model.padding == "VALID":
        image = np.zeros((1, *model.geometry(axes).valid_shape((1,) * axes), 3), "f4")
    chosen = getattr(views, tta)(axes)
    scales = []
    if meaning.units == "own":
        offset, width = np.array([[5, -2, 3.0], [2, 4, 0.5]])[:, : meaning.channels]
        scales = [[offset.tolist(), (width / k).tolist()] for k in (1, 3)]
    return Pipeline(
        model=model,
        members=tuple(draw(model, image, seed) for seed in range(members)),
        task=meaning,
        views=chosen,
        borders=find_borders(model.geometry(axes), chosen),
        channels=channels,
        network_channels=network_channels,
        dtype=np.dtype(dtype),
        normalize=spec or {"name": "standard"},
        target_scale=scales[0] if scales else (),
        member_scales=scales if members > 1 else (),
    )


def draw(model, image, seed):
    """Returns random variables, as after training."""
    rng = np.random.default_rng(seed)

    def change(path, x):
        noise = rng.normal(size=x.shape).astype("f4")
        return (
            np.exp(0.3 * noise) if path[-1].key in ("var", "scale") else x + 0.1 * noise
        )

    variables = jax.jit(model.init)(jax.random.key(seed), image)
    return jax.tree_util.tree_map_with_path(change, variables)


def draw_image(p, shape):
    """Returns a raw image of the type of the pipeline."""
    values = np.random.default_rng(sum(shape)).gamma(2, 40, (*shape, p.channels))
    image = values.astype(p.dtype)
    image[..., 0].flat[:3] = 7
    image[:2] = 0  # outside the box of nnU-Net's schemes
    return image


def predict(p, image):
    """Returns the prediction of tiled inference, and the values in their units."""
    devices = parallel.local_devices()
    inference = Inference(
        runtime.xla(p.model, devices.put_state, devices.batch_sharding),
        geometry=p.model.geometry,
        task=p.task,
        channels=p.network_channels,
        devices=devices,
        scales=p.member_scales,
    )
    image = channel_converter(p.channels, p.network_channels, convert=True)(image)
    options = {k: v for k, v in p.normalize.items() if k != "name"}
    measure = functools.partial(getattr(normalize, p.normalize["name"]), **options)
    scale = normalize.in_memory(measure)(image)
    seen = scale(image)
    (answer,) = inference.predict_images(
        [inference.place(member) for member in p.members],
        image.shape[:-1],
        [lambda box: seen[tuple(box)]],
        views=p.views,
        request=Request(prediction=True),
    )
    prediction = answer["prediction"]
    if p.task.units == "image":
        return scale._replace(clip=False).invert(prediction)
    if p.task.units == "own":
        return normalize.Scale(*np.array(p.target_scale)).invert(prediction)
    return prediction


def check(p, function):
    for shape in ((21, 34), (1, 5)):
        image = draw_image(p, (shape + (9,))[: p.axes])
        expected = predict(p, image)
        found = np.asarray(function(image[None]))[0]
        assert found.dtype == np.float32
        limit = 2e-5 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=limit, err_msg=str(shape)
        )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow) if case is RESNET else case
        for case in CASES
    ],
    ids=name_case,
)
def test_the_onnx_file_predicts_as_tiled_inference(case):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    p = make(**case)
    check(p, open_onnx(write_onnx(p, "result", {})))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in CASES if "fields" not in case], ids=name_case
)
def test_the_function_of_jax_predicts_as_tiled_inference(case):
    p = make(**case)
    check(p, jax.jit(make_function(p)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        {"fields": {"padding": "VALID"}, "tta": "paper"},
        {"fields": {"norm": "instance"}, "task": multilabel, "tta": "rot4"},
        {"spec": {"name": "percentile", "low": 3.7, "high": 96.0}, "dtype": "uint8"},
        {"axes": 3, "task": flow, "tta": "flips", "channels": 1},
    ],
    ids=name_case,
)
def test_stablehlo_predicts_as_tiled_inference(case):
    pytest.importorskip("flatbuffers")
    p = make(**case)
    check(p, open_stablehlo(write_stablehlo(p)))


def test_the_images_of_a_batch_are_scaled_by_themselves():
    pytest.importorskip("onnxruntime")
    p = make(spec={"name": "percentile", "low": 1.0, "high": 99.0})
    function = open_onnx(write_onnx(p, "result", {}))
    images = np.stack([draw_image(p, (9, 12)), 3 * draw_image(p, (9, 12)) + 5])
    found = function(images)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[:1], function(images[:1]), atol=1e-6)


def test_a_constant_image_is_no_division_by_zero():
    pytest.importorskip("onnxruntime")
    p = make(dtype="uint8")
    image = np.full((1, 9, 9, 3), 200, np.uint8)
    function = open_onnx(write_onnx(p, "result", {}))
    np.testing.assert_allclose(function(image)[0], predict(p, image[0]), atol=1e-5)


def test_normalised_images_for_programs_that_predict_tiles():
    pytest.importorskip("onnxruntime")
    p = make(channels=1, dtype="uint8")
    image = draw_image(p, (12, 20))
    grey = channel_converter(1, 3, convert=True)(image)
    seen = normalize.in_memory(normalize.standard)(grey)(grey)
    function = open_onnx(write_onnx(p, "result", {}, raw=False))
    np.testing.assert_allclose(function(seen[None])[0], predict(p, image), atol=1e-5)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_a_tile_equals_the_whole_image_inside_its_halo(padding):
    """The file mirrors the border of a tile, so that the halo is that of SAME."""
    pytest.importorskip("onnxruntime")
    p = make(fields={"padding": padding, "widths": (4, 6, 8)})
    geometry = p.model.geometry(2)
    halo, multiple = geometry.halo[0], geometry.multiple[0]
    size = 2 * halo + 3 * multiple
    seen = np.random.default_rng(0).normal(size=(1, 2 * size, size, 3)).astype("f4")
    function = open_onnx(write_onnx(p, "result", {}, raw=False))
    tile = function(seen[:, multiple : multiple + size])[:, halo:-halo]
    whole = function(seen)[:, multiple + halo : multiple + size - halo]
    np.testing.assert_allclose(tile, whole, atol=1e-5)


def test_half_precision_is_near():
    pytest.importorskip("onnxruntime")
    p = make(tta="flips")
    image = draw_image(p, (16, 16))[None]
    half = write_onnx(p, "r", {}, precision=np.float16)
    difference = np.abs(open_onnx(half)(image)[0] - predict(p, image[0])).max()
    assert 0 < difference < 0.02


def test_the_views_of_a_network_share_its_weights():
    pytest.importorskip("onnx")
    one, eight = (len(write_onnx(make(tta=v), "r", {})) for v in ("none", "d4"))
    weights = sum(x.nbytes for x in jax.tree.leaves(make().members))
    assert eight - one < 8 * 25_000  # names and nodes
    assert one > weights


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_halves_of_a_grey_level_are_rounded_to_even(dtype):
    # 299 * 1 + 587 * 0 + 114 * 99 = 11585, and the like; 500 is a half
    image = np.array([[[2, 1, 3], [0, 0, 250], [1, 1, 1], [250, 250, 250]]], dtype)
    thousandths = image.astype(int) @ [299, 587, 114]
    halves = [np.round(np.float64(n) / 1000) for n in thousandths.ravel()]
    expected = channel_converter(3, 1, convert=True)(image)
    np.testing.assert_array_equal(expected.ravel(), halves)
    np.testing.assert_array_equal(
        convert_channels(jax.numpy.asarray(image), 1), expected
    )


def test_the_border_of_the_network_of_the_paper():
    geometry = UNet().geometry(2)
    borders = find_borders(geometry, views.d4(2))
    assert borders == (Border(margin=92, least=188, multiple=16),) * 2
    steps = borders[0].count_steps(388)
    assert 188 + 16 * steps == 572


def test_turned_images_need_equal_sizes():
    geometry = UNet(**SMALL, strides=((1, 2),)).geometry(2)
    find_borders(geometry, views.flips(2))
    with pytest.raises(UserError, match="set --config.predict.tta=flips, or none"):
        find_borders(geometry, views.d4(2))


def test_other_networks_and_activations_are_refused():
    p = make()
    with pytest.raises(UserError, match="hold the network UNet only, not Dense"):
        write_onnx(p._replace(model=nn.Dense(3)), "r", {})
    task = p.task._replace(activate=jax.nn.softmax)
    with pytest.raises(UserError, match="cannot express the activation of this task"):
        write_onnx(p._replace(task=task), "r", {})
