"""The installed package: a wheel that is made from an sdist, away from the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "configs", "unet_jax")
BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"
MINE = """
from unet_jax.configs import quickstart

def get_config():
    config = quickstart.get_config()
    config.name = "mine"
    config.steps = config.batch_size = 2
    config.crop = (16, 16)
    config.model.widths = (2, 4)
    config.data.update({"shape": (16, 16), "train": 2, "val": 1, "test": 2})
    return config
"""


def build(kind, source, target):
    command = [sys.executable, "-c", BUILD.format(kind), str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return next(target.iterdir())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds the installed package and nothing else."""
    pytest.importorskip("setuptools")
    source, sdist, unpacked, wheel, site = map(
        tmp_path_factory.mktemp, ("source", "sdist", "unpacked", "wheel", "site")
    )
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, source)
    with tarfile.open(build("sdist", source, sdist)) as archive:
        archive.extractall(unpacked, filter="data")
    with zipfile.ZipFile(build("wheel", next(unpacked.iterdir()), wheel)) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_holds_every_file_of_the_package(site):
    def files(root):
        paths = {p.relative_to(root) for p in root.rglob("*") if p.is_file()}
        return {p for p in paths if "__pycache__" not in p.parts}

    package, configs = files(ROOT / "unet_jax"), files(ROOT / "configs")
    assert files(site / "unet_jax") == package | {"configs" / p for p in configs}
    assert {p.name.partition("-")[0] for p in site.iterdir()} == {"unet_jax"}
    (points,) = site.glob("*.dist-info/entry_points.txt")
    assert "unet-jax = unet_jax.__main__:main" in points.read_text()


@pytest.mark.slow
def test_it_runs_from_any_folder_with_any_config(site, tmp_path):
    """Beside a folder `configs/` that is not ours, and a config of one's own."""
    (tmp_path / "configs").mkdir()
    for name in ("__init__", "base", "quickstart", "saved"):
        (tmp_path / f"configs/{name}.py").write_text("1 / 0")
    (tmp_path / "mine.py").write_text(MINE)
    environment = {"PYTHONPATH": str(site), "JAX_NUM_CPU_DEVICES": "1"}

    def run(*flags):
        return subprocess.run(
            [sys.executable, "-m", "unet_jax", *flags],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )

    done = run("--config=mine.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "runs/mine/scores.json").is_file()
    done = run("--workdir=runs/mine", "--mode=evaluate")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("--config=isbi", "--mode=evaluate")
    assert done.returncode == 1
    assert done.stderr.startswith("error: runs/isbi does not exist")
