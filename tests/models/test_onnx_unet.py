"""The ONNX graph of a network, computed by onnxruntime, against the network itself."""

import dataclasses

import jax
import numpy as np
import pytest

from unet_jax.errors import UserError
from unet_jax.models import UNet
from unet_jax.models.onnx_layers import ACTIVATIONS, CLIPPED, GATED
from unet_jax.models.onnx_unet import write_unet

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# For each field of UNet: other values than those of SMALL.
OPTIONS = {
    "widths": [(4, 6, 8)],
    "outputs": [3],
    "padding": ["VALID"],
    "norm": ["batch", "group", "instance"],
    "conv_bias": [True],
    "activation": ["relu", "leaky_relu", "silu"],
    "negative_slope": [0.3],
    "encoder": ["residual"],
    "encoder_depths": [(1, 3)],
    "decoder_depths": [(3,)],
    "strides": [((3,),), ((1,),)],
    "kernels": [((5,), (1,))],
    "downsample": ["conv"],
    "upsample": ["nearest", "linear", "aligned"],
    "upsample_conv": [],  # see TOGETHER
    "decoder_widths": [(5,)],
    "decoder_hidden": [(3,)],
    "up_widths": [(3,)],
    "head_kernel": [3],
    "dropout": [0.5],
    "residual": [True],
    "attention": [True],
    "deep_supervision": [True],
    "time_features": [8],
    "remat": [True],
    "dtype": [],  # the graph is float32
    "axis_name": ["devices"],
}
SMALL = {"widths": (4, 6), "padding": "SAME", "activation": "tanh", "dropout": 0.0}
TOGETHER = [
    {"padding": "VALID", "upsample": "linear", "residual": True, "norm": "batch"},
    {"padding": "VALID", "upsample": "nearest", "attention": True, "kernels": ((5,),)},
    {"encoder": "residual", "downsample": "conv", "norm": "instance"},
    {"encoder": "residual", "norm": "batch", "conv_bias": True, "time_features": 4},
    {"norm": "batch", "residual": True, "strides": ((3,),), "downsample": "conv"},
    {"activation": "leaky_relu", "negative_slope": 0.3, "norm": "group"},
    {"upsample": "aligned", "upsample_conv": False, "residual": True},
    {"upsample": "nearest", "upsample_conv": False, "attention": True},
]
RESNETS = [
    {"encoder": "resnet18", "norm": "batch", "attention": True, "head_kernel": 3},
    {"encoder": "resnet50", "norm": "batch", "decoder_widths": (2, 3, 2, 3, 4)},
]
PER_AXIS = {"strides": ((1, 2, 3),), "kernels": ((1, 3, 3), (3, 5, 1))}
CASES = [{field: value} for field in OPTIONS for value in OPTIONS[field]] + TOGETHER


def draw_variables(model, image):
    """Random variables, with variances around 1 in batch norm."""
    rng = np.random.default_rng(0)

    def draw(path, x):
        values = rng.normal(size=x.shape) / np.sqrt(max(np.prod(x.shape[:-1]), 1))
        if path[-1].key in ("var", "scale"):
            values = rng.uniform(0.5, 2, x.shape)
        return values.astype("f4")

    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def compute_both(fields, axes, batch=2):
    """Returns the outputs of the network and of its graph."""
    model = UNet(**(SMALL | fields))
    least = model.geometry(axes).valid_shape((3, 5, 2)[:axes])
    image = np.random.default_rng(1).normal(size=(batch, *least, 3)).astype("f4")
    variables = draw_variables(model, image)
    graph = write_unet(model, variables, {}, axes=axes, channels=3)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    first = np.ascontiguousarray(np.moveaxis(image, -1, 1))
    (output,) = session.run(None, {"image": first})
    return np.asarray(model.apply(variables, image)), np.moveaxis(output, 1, -1)


def test_every_field_has_a_case():
    fields = {field.name for field in dataclasses.fields(UNet)} - {"parent", "name"}
    assert fields == OPTIONS.keys()


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_the_graph_computes_what_the_network_computes(fields):
    expected, got = compute_both(fields, axes=2)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max() + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fields", RESNETS, ids=str)
def test_the_graph_of_a_resnet(fields):
    expected, got = compute_both(fields, axes=2)
    np.testing.assert_allclose(got, expected, atol=4e-6 * np.abs(expected).max() + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [*TOGETHER, PER_AXIS], ids=str)
def test_the_graph_of_a_network_for_volumes(fields):
    expected, got = compute_both(fields, axes=3, batch=1)
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max() + 1e-6)


@pytest.mark.parametrize("name", sorted({*ACTIVATIONS, *CLIPPED, *GATED}))
def test_activations(name):
    expected, got = compute_both({"activation": name}, axes=2, batch=1)
    np.testing.assert_allclose(got, expected, atol=2e-6 * np.abs(expected).max() + 1e-6)


def test_the_sizes_are_dynamic_and_the_bytes_are_determined_by_the_variables():
    model, image = UNet(**SMALL, norm="batch"), np.zeros((1, 8, 8, 1), "f4")
    variables = draw_variables(model, image)
    options = {"axes": 2, "channels": 1}
    graph = write_unet(model, variables, {"key": "value"}, **options)
    assert graph == write_unet(model, variables, {"key": "value"}, **options)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"key": "value"}
    for shape in [(1, 1, 8, 8), (3, 1, 6, 14)]:
        (output,) = session.run(None, {"image": np.zeros(shape, "f4")})
        assert output.shape == (shape[0], 2, *shape[2:])


def test_an_activation_without_an_operator_is_refused():
    with pytest.raises(UserError, match="down0 .*'squareplus', which ONNX cannot"):
        compute_both({"activation": "squareplus"}, axes=2)


def test_parameters_of_more_than_two_gibibytes_are_refused():
    model = UNet(**SMALL)
    large = {"params": {"x": jax.ShapeDtypeStruct((2**29,), np.float32)}}
    with pytest.raises(UserError, match="2 GiB of parameters"):
        write_unet(model, large, {}, axes=2, channels=1)
