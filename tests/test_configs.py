"""Every config builds and takes one step; base.py has a key for every choice."""

import importlib
import inspect
import math
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile

from tests.data import archives
from unet_jax import models
from unet_jax.build.training import build
from unet_jax.configs import base, saved
from unet_jax.run import run_folder

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = sorted({p.stem for p in CONFIGS.glob("*.py")} - {"__init__", "base", "saved"})


@pytest.fixture(scope="session")
def published(archive):
    """A folder with a small archive of every public data set."""
    archives.every(archive)
    return archive


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("quickstart", "isbi")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in NAMES
    ],
)
def test_every_config_builds_and_takes_one_step(name, published, tmp_path):
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
    state = parts.layout.put_state(parts.init(jax.random.key(0)))
    batch = parts.layout.put_batch(next(parts.read_batches(0, 1)))
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


def test_base_names_every_choice_of_the_model():
    fields = set(inspect.signature(models.UNet).parameters)
    built = {"outputs", "dtype", "axis_name", "parent", "name"}
    assert set(base.get_config().model) - {"name"} == fields - built


def test_a_saved_config_is_the_one_that_ran(tiny, tmp_path):
    run_folder.write_config(tmp_path, tiny, {})
    assert saved.get_config(str(tmp_path)) == tiny
