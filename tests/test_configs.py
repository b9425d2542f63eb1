"""Every config builds and takes one step; base.py has a key for every choice."""

import importlib
import inspect
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from tests.data import archives
from unet_jax import models
from unet_jax.build import binding, field_checks
from unet_jax.build.training import build
from unet_jax.configs import base, saved
from unet_jax.errors import UserError
from unet_jax.run import run_folder

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = sorted({p.stem for p in CONFIGS.glob("*.py")} - {"__init__", "base", "saved"})
TAKE_A_STEP = "isbi", "nnunet2d"  # to compile the steps of all would take a minute


@pytest.fixture(scope="session")
def published(archive):
    """A folder with a small archive of every public data set."""
    archives.every(archive)
    return archive


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_config_builds_and_its_step_is_traced(name, published, tmp_path):
    """Traces the step of every config; those of `TAKE_A_STEP` compile and take it."""
    config = importlib.import_module(f"unet_jax.configs.{name}").get_config()
    assert config.name == name
    assert set(config) == set(base.get_config())
    config.model.widths = (2, 4)
    config.batch_size = 8
    config.crop = (44,) * len(config.crop)
    if "manual_dir" in config.data:
        config.data.update({"manual_dir": str(published), "data_dir": str(tmp_path)})
    if "train" in config.data:
        config.data.update({"train": 2, "val": 1, "test": 1, "shape": (48, 48)})
    if "root" in config.data:
        axes = config.data.axes
        given = {"root": folder_of(tmp_path, axes), "spacing": (1.0,) * axes}
        config.data.update(given)
    parts = build(config)
    state = jax.eval_shape(parts.init, jax.random.key(0))
    batch = parts.layout.put_batch(next(parts.read_batches(0, 1)))
    step = parts.train_step, parts.layout.abstract(state), batch, jax.random.key(0)
    after, scalars = jax.eval_shape(*step)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, step[1])
    assert scalars["loss"].shape == ()
    if name in TAKE_A_STEP:
        state = parts.layout.put_state(parts.init(jax.random.key(0)))
        state, scalars = parts.train_step(state, batch, jax.random.key(0))
        assert int(state.step) == 1
        assert math.isfinite(scalars["loss"])


def folder_of(root, axes):
    """A folder with a few images of so many axes, of three classes."""
    rng = np.random.default_rng(0)
    for kind, most in (("images", 256), ("masks", 3)):
        (root / kind).mkdir()
        for i in range(8):
            pixels = rng.integers(0, most, (20,) * axes, dtype=np.uint8)
            path = root / kind / f"{i}.tif"
            tifffile.imwrite(path, pixels, photometric="minisblack")
    return str(root)


@pytest.mark.parametrize("name", NAMES)
def test_every_docstring_is_a_lab_note(name):
    note = inspect.getdoc(importlib.import_module(f"unet_jax.configs.{name}"))
    for word in ("Paper", "Command", "Measured"):
        assert f"\n{word} " in note


@pytest.mark.parametrize(
    ("name", "encoder", "parameters"),
    [
        ("nnunet2d", "plain", 46_324_558),
        ("nnunet2d", "residual", 140_017_038),
        ("nnunet3d", "plain", 31_195_594),
        ("nnunet3d", "residual", 102_349_770),
    ],
)
def test_nnunet_has_as_many_parameters(name, encoder, parameters):
    """The numbers are those of dynamic-network-architectures 0.4.4 in PyTorch.

    One channel, two classes; 8 stages for 512 x 512 pixels and 6 for 128 x 128 x 128,
    as nnU-Net plans them.
    """
    module = importlib.import_module(f"unet_jax.configs.{name}")
    config = module.get_config(encoder)
    field_checks.check_fields(config)
    config.crop = tuple(size // 4 for size in config.crop)  # the same parameters
    model = binding.build_model(config, None).clone(outputs=2)
    shapes = binding.read_variable_shapes(config, model, 1)["params"]
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize(("name", "degrees"), [("nnunet2d", 180), ("nnunet3d", 30)])
def test_nnunet_augments_as_nnunet_does(name, degrees):
    """`get_training_transforms` of nnUNetTrainer, in its order."""
    module = importlib.import_module(f"unet_jax.configs.{name}")
    found = []
    for spec in module.get_config().augment:
        low, high = spec.get("low", 0), spec.get("high", 0)
        span = {"rotation": spec.get("degrees"), "noise": spec.get("sigma")}
        row = spec.name, span.get(spec.name, (low, high)), spec.get("probability", 1)
        found.append((*row, spec.get("channel_probability", 1)))
    assert found == [
        ("rotation", degrees, 0.2, 1),
        ("scale", (1 / 1.4, 1 / 0.7), 0.2, 1),
        ("noise", 0.1, 0.1, 1),
        ("blur", (0.5, 1), 0.2, 0.5),
        ("multiplicative_brightness", (0.75, 1.25), 0.15, 1),
        ("contrast", (0.75, 1.25), 0.15, 1),
        ("low_resolution", (0.5, 1), 0.25, 0.5),
        ("gamma", (0.7, 1.5), 0.1, 1),
        ("gamma", (0.7, 1.5), 0.3, 1),
        ("flip", (0, 0), 1, 1),
    ]
    contrast, inverted, plain = (module.get_config().augment[i] for i in (5, 7, 8))
    assert contrast.preserve_range
    assert inverted.invert
    assert not plain.get("invert", False)
    assert inverted.retain_stats
    assert plain.retain_stats


@pytest.mark.parametrize(("name", "crop"), [("nnunet2d", 64), ("nnunet3d", 32)])
def test_nnunet_predicts_as_nnunet_does(name, crop):
    """Its tiles have the size of the crop, also of one that is set later."""
    config = importlib.import_module(f"unet_jax.configs.{name}").get_config()
    config.crop = (crop,) * len(config.crop)
    options = config.predict
    assert options.tile == config.crop
    assert (options.tiling, options.tta) == ("nnunet", "flips")


@pytest.mark.parametrize("name", ["nnunet2d", "nnunet3d"])
def test_an_unknown_encoder_of_nnunet_is_named(name):
    module = importlib.import_module(f"unet_jax.configs.{name}")
    with pytest.raises(UserError, match=f"'Residual'; write configs/{name}.py:resid"):
        module.get_config("Residual")


def test_base_names_every_choice_of_the_model():
    fields = set(inspect.signature(models.UNet).parameters)
    built = {"outputs", "dtype", "axis_name", "parent", "name"}
    assert set(base.get_config().model) - {"name"} == fields - built


def test_a_saved_config_is_the_one_that_ran(tiny, tmp_path):
    run_folder.write_config(tmp_path, tiny, {})
    assert saved.get_config(str(tmp_path)) == tiny
