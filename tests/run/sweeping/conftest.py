"""Stubs for the runs of sweeps."""

import sys

import pytest

from tests.run.sweeping.parts import STUB
from unet_jax import command
from unet_jax.run.sweeping import trial, worker


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Makes runs stubs, and looks for runs without pauses."""
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    monkeypatch.setattr(trial, "PROGRAM", (sys.executable, str(path)))
    monkeypatch.setattr(worker, "POLL", 0.02)
    monkeypatch.setattr(worker, "PAUSE", 0.02)
    return path


@pytest.fixture(scope="module")
def config():
    config = command.load_config("quickstart")
    config.batch_size = 8
    return config
