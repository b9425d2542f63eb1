"""Eight fake devices for every test, no silent broadcasting, and tiny runs."""

import atexit
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

# Most of the tests' time is compilation, and most of that is optimisation.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# A run that resumes, and many a test, compile what was compiled before.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="unet_jax_tests_")
    atexit.register(
        shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True
    )
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tifffile  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def tiny():
    """A run that takes seconds: 4 steps of a network of 2 levels on small cells."""
    return _tiny()


@pytest.fixture(scope="session")
def real_data():
    """A function that returns the folder of a real data set, or skips the test.

    The sets lie in the folder that UNET_JAX_TEST_DATA names, or else in `shared/data`
    beside the checkout.
    """
    beside = Path(__file__).parents[2] / "shared/data"
    root = Path(os.environ.get("UNET_JAX_TEST_DATA", beside)).expanduser()

    def find(name):
        if not (root / name).is_dir():
            pytest.skip(f"no {name} in {root}; UNET_JAX_TEST_DATA names another folder")
        return root / name

    return find


@pytest.fixture(scope="session")
def read_scores():
    """A function that returns the scores of a run, without the account of the run."""

    def read(workdir):
        content = json.loads((workdir / "scores.json").read_text())
        del content["provenance"]
        return content

    return read


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Returns the folder of an external package, importable as `theirs`."""
    package = tmp_path / "path/theirs"
    package.mkdir(parents=True)
    for name, text in THEIRS.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(package.parent)
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "theirs"]:
        del sys.modules[name]


THEIRS = {
    "losses.py": """
import functools
from unet_jax.specs import NonNegative

GAMMA = 2.0

def focal(logits, label, scale=1.0, *, gamma: NonNegative = GAMMA):
    return scale * gamma * logits + label

def vague(x: "not an annotation", *, rate: "nor is this"):
    return x * rate

half = functools.partial(focal, gamma=0.5)
smallest = min
""",
    "nets.py": """
import flax.linen as nn

class Pixelwise(nn.Module):
    width: int
    outputs: int = 2

    @nn.compact
    def __call__(self, image, *, train=False, seed=None):
        hidden = nn.Dense(self.width)(image)
        return nn.Dense(self.outputs)(hidden)
""",
    "sets.py": """
from unet_jax.data import cells

def squares(*, edge: int = 8):
    return cells(shape=(edge, edge), train=2, val=1, test=1)
""",
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The config and the folder of a finished run, both to be left as they are."""
    from unet_jax.run import train

    workdir = tmp_path_factory.mktemp("trained")
    config = _tiny()
    train(config, workdir)
    return config, workdir


def _tiny():
    from unet_jax.configs import base

    config = base.get_config()
    config.name = "tiny"
    config.steps = 4
    config.log_every = 1
    config.eval_every = config.checkpoint_every = 2
    config.crop = (16, 16)
    config.model.widths = (2, 4)
    sizes = {"shape": (20, 24), "train": 3, "val": 2, "test": 3}
    config.data = ConfigDict({"name": "cells", **sizes})
    config.augment = (ConfigDict({"name": "flip"}),)
    objects = ("average_precision", "panoptic_quality", "aggregated_jaccard")
    config.metrics += tuple(ConfigDict({"name": name}) for name in objects)
    return config


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """A folder with a small ISBI-2012-challenge.zip: 10 slices of 64 x 64."""
    folder = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "ISBI-2012-challenge.zip", "w") as z:
        for name in ("train-volume", "train-labels", "test-volume"):
            stack = rng.integers(0, 256, (10, 64, 64), dtype=np.uint8)
            if name == "train-labels":
                stack = np.where(stack > 80, 255, 0).astype(np.uint8)
            tifffile.imwrite(folder / "stack.tif", stack, photometric="minisblack")
            z.write(folder / "stack.tif", f"ISBI-2012-challenge/{name}.tif")
    return folder
