"""Typos and wrong paths are reported before anything large is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLOW = "chex flax grain matplotlib optax orbax scipy tensorboardX tensorflow_datasets"
SCRIPT = f"""
import os, sys
def report(code):
    loaded = sorted({{*"{SLOW} torch".split()}} & set(sys.modules))
    print(*loaded, flush=True)
    leave(code)
leave, os._exit = os._exit, report
from unet_jax.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--config.stps=3", "config has no field 'stps'; did you mean --config.steps?"),
        ("--config.steps=0", "config.steps must be a whole number of 1 or more, not 0"),
        (
            "--config.crop=7,",
            "config.crop=7 must have 2 or 3 sizes: height and width, or depth, height "
            "and width",
        ),
        (
            "--config=folder --config.data.root=nowhere",
            "config.data: there is no folder nowhere; name the folder of your images",
        ),
        (
            "--config=folder --config.data.root=nowhere --mode=inspect",
            "config.data: there is no folder nowhere; name the folder of your images",
        ),
        (
            "--config.init_from=nowhere",
            "config.init_from=nowhere: holds no checkpoint; name the folder of a "
            "trained run, or a file with weights",
        ),
        (
            "--mode=evaluate --workdir=nowhere",
            "nowhere does not exist; train first, or name another --workdir",
        ),
        (
            "--mode=predict --workdir=nowhere --input=. --output=out",
            "nowhere does not exist; train first, or name another --workdir",
        ),
        (
            "--mode=predict --workdir=nowhere --input=no.png --output=out",
            "no.png: no such file; known extensions are .png, .jpg, .jpeg, .bmp, "
            ".ome.tiff, .ome.tif, .tiff, .tif, .nii.gz, .nii, .ome.zarr, .zarr",
        ),
    ],
)
def test_a_mistake_is_reported_without_slow_imports(tmp_path, flags, line):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *flags.split()],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr == f"error: {line}\n"
    assert done.returncode == 1
    assert done.stdout == "\n"  # none of them is loaded
    assert list(tmp_path.iterdir()) == []
