"""Checkpoints that fit no network, and the rule for other numbers of channels."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from unet_jax.errors import UserError
from unet_jax.pytorch import adapt_channels, milesial, recognise
from unet_jax.pytorch.tensor import Storage, Tensor


def make_tensors(architecture):
    """Returns zeros for every tensor of a description."""
    return {
        layer.key: np.zeros(layer.shape, np.float32) for layer in architecture.layers
    }


def describe_milesial(outputs=1):
    storage = Storage(np.dtype("f4"), 108, bytes)
    shapes = {
        "inc.double_conv.0.weight": (4, 3, 3, 3),
        "outc.conv.weight": (outputs, 4, 1, 1),
    }
    return milesial.describe(
        {key: Tensor(storage, 0, shape, shape) for key, shape in shapes.items()}
    )


def refuse(tmp_path, arrays, words):
    path = tmp_path / "x.safetensors"
    save_file(arrays, path)
    with pytest.raises(UserError, match=words) as caught:
        recognise(path).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_nearest_network_and_the_first_differences_are_named(tmp_path):
    arrays = make_tensors(describe_milesial())
    save_file(arrays, tmp_path / "x.safetensors")
    assert "milesial" in recognise(tmp_path / "x.safetensors").architecture.name
    del arrays["down2.maxpool_conv.1.double_conv.3.weight"]
    arrays["outc.conv.bias"] = np.zeros(7, np.float32)
    arrays["attention.weight"] = np.zeros((2, 2), np.float32)
    line = refuse(
        tmp_path, arrays, "the nearest is milesial/Pytorch-UNet, bilinear=True"
    )
    assert "down2.maxpool_conv.1.double_conv.3.weight 16x16x3x3 is missing" in line
    assert "outc.conv.bias is 7, not 1" in line
    assert "attention.weight 2x2 is not part of it" in line


def test_tensors_of_something_else_are_refused(tmp_path):
    arrays = {f"layer{i}.weight": np.zeros((3, 3), np.float32) for i in range(50)}
    line = refuse(tmp_path, arrays, "is of no network that is known")
    assert " more. docs/how-to/import.md" in line


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 255], (0, 255)), ([0, 2**100], ()), ([0, [1]], ()), ([0], ())],
)
def test_mask_values_are_values_of_pixels(tmp_path, values, expected):
    torch = pytest.importorskip("torch")
    arrays = make_tensors(describe_milesial(outputs=2))
    content = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(content | {"mask_values": values}, tmp_path / "x.pth")
    assert recognise(tmp_path / "x.pth").mask_values == expected


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    arrays = make_tensors(describe_milesial())
    arrays["inc.double_conv.0.weight"][0, 0, 0, 0] = np.nan
    refuse(
        tmp_path, arrays, "inc.double_conv.0.weight: has numbers that are not finite"
    )


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="a folder without plans.json"):
        recognise(tmp_path)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_equal_channels_give_equal_features(channels):
    """The sum over the channels of a kernel does not change."""
    kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 4))
    kernel = np.repeat(kernel.mean(2, keepdims=True), 3, 2)
    got = adapt_channels(kernel, channels)
    assert got.shape == (7, 7, channels, 4)
    np.testing.assert_allclose(got.sum(2), kernel.sum(2), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_rule_is_that_of_timm(channels):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm.models")
    kernel = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    expected = timm.adapt_input_conv(channels, kernel).numpy()
    got = adapt_channels(np.moveaxis(kernel.numpy(), (0, 1), (-1, -2)), channels)
    np.testing.assert_allclose(
        np.moveaxis(got, (-1, -2), (0, 1)), expected, rtol=1e-5, atol=1e-6
    )
