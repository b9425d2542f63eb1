"""Training that starts from a checkpoint of another program."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.pytorch.test_recognition import describe_milesial, make_tensors
from unet_jax.build.early_checks import check_source
from unet_jax.build.fields import from_plain
from unet_jax.build.training import build
from unet_jax.errors import UserError
from unet_jax.pytorch import adapt_channels, recognise
from unet_jax.pytorch.resnet import describe
from unet_jax.pytorch.tensor import Storage, Tensor
from unet_jax.run.initial_state import create_initial_state
from unet_jax.run.weights import list_arrays

KEY = jax.random.key(5)


def write_weights(path, architecture):
    """Writes random weights of a description; variances are positive."""
    rng = np.random.default_rng(0)
    arrays = {
        name: np.abs(rng.normal(size=array.shape)).astype("f4")
        for name, array in make_tensors(architecture).items()
    }
    save_file(arrays, path)
    return path


def start(config):
    """Returns the variables of the initial state, by name."""
    parts = build(config)
    state = create_initial_state(config, parts, KEY)
    return list_arrays(parts.evaluation.method.variables(state))


def test_all_but_the_head_is_taken(tiny, tmp_path, capsys):
    """Two classes in place of one, and one channel in place of three."""
    path = write_weights(tmp_path / "x.safetensors", describe_milesial())
    imported = recognise(path)
    tiny.init_from = str(path)
    tiny.crop = (16, 16)
    with tiny.ignore_type():
        for key, value in imported.architecture.model.items():
            tiny.model[key] = from_plain(value)
    check_source(tiny)
    began, loaded = start(tiny), imported.load()
    other = {n for n in began if not np.array_equal(began[n], loaded[n])}
    assert other == {
        "params/down0/Conv_0/kernel",
        "params/head0/kernel",
        "params/head0/bias",
    }
    printed = capsys.readouterr().out
    assert "has the weights of milesial/Pytorch-UNet, bilinear=True" in printed
    assert "not loaded, with random initial values: params/down0/Conv_0" in printed
    assert "its images have 3 channels, and these have 1" in printed
    assert "warning" not in printed


def test_fields_that_do_not_suit_the_weights_are_named(tiny, tmp_path, capsys):
    path = write_weights(tmp_path / "x.safetensors", describe_milesial())
    tiny.init_from, tiny.model.widths = str(path), (4, 8)
    start(tiny)
    printed = capsys.readouterr().out
    assert "warning: config.model has other options than this network" in printed
    assert "--config.model.widths=" in printed
    assert "--config.model.upsample=aligned" in printed
    assert "--config.model.upsample_conv=False" in printed


@pytest.mark.slow
def test_a_pretrained_encoder_for_grey_images(tiny, tmp_path, capsys):
    first = Tensor(Storage(np.dtype("f4"), 9408, bytes), 0, (64, 3, 7, 7), (1,) * 4)
    architecture = describe({"conv1.weight": first})
    path = write_weights(tmp_path / "resnet.safetensors", architecture)
    loaded = recognise(path).load()
    tiny.init_from, tiny.model.encoder = str(path), "resnet18"
    tiny.crop = (32, 32)
    began = start(tiny)
    kernel = loaded.pop("params/stem/Conv_0/kernel")
    assert kernel.shape == (7, 7, 3, 64)
    for name, array in loaded.items():
        np.testing.assert_array_equal(began[name], array, err_msg=name)
    np.testing.assert_allclose(
        began["params/stem/Conv_0/kernel"], adapt_channels(kernel, 1), rtol=1e-6
    )
    printed = capsys.readouterr().out
    assert "the channels of the first kernel are summed" in printed
    assert "this network was trained with --config.normalize=" in printed


def test_wrong_sources_are_refused_early(tiny, tmp_path):
    wrong = tmp_path / "x.pth"
    wrong.write_bytes(b"PK\x03\x04 no archive")
    for source, words in (
        (wrong, "is cut off or damaged"),
        (tmp_path, "holds no checkpoint"),
        (tmp_path / "absent.pth", "holds no checkpoint"),
        ("hub:name", "write it as hub:OWNER/NAME|unet_jax\\[hub\\]"),
    ):
        tiny.init_from = str(source)
        with pytest.raises(UserError, match=words) as caught:
            check_source(tiny)
        assert str(caught.value).startswith("config.init_from")
        assert "\n" not in str(caught.value)
