"""The run folder: the content of config.json, and consent to external code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from unet_jax.build.dataset import load_splits
from unet_jax.configs import saved
from unet_jax.data.folders import survey
from unet_jax.errors import UserError
from unet_jax.run import run_folder, train

RNG = np.random.default_rng(0)
LOSS = {"name": "theirs.losses:focal"}


def test_config_json_names_the_files_of_external_names(theirs, tiny, tmp_path):
    tiny.loss = (ConfigDict(LOSS), ConfigDict({"name": "dice"}))
    tiny.data = ConfigDict({"name": "theirs.sets:squares", "edge": 6})
    run_folder.write_config(tmp_path, tiny, {})
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.pop("external") == {
        "theirs.losses:focal": f"{theirs}/losses.py",
        "theirs.sets:squares": f"{theirs}/sets.py",
    }
    assert run_folder.read_config(tmp_path) == written
    assert saved.get_config(str(tmp_path)) == tiny


def test_a_second_start_reads_no_file_again(tiny, tmp_path, monkeypatch):
    home, workdir = tmp_path / "home", tmp_path / "run"
    for kind, top in (("images", 256), ("masks", 2)):
        (home / kind).mkdir(parents=True)
        for i in range(6):
            array = RNG.integers(0, top, (12, 12), np.uint8)
            Image.fromarray(array).save(home / kind / f"{i}.png")
    tiny.data = ConfigDict({"name": "folder", "root": str(home)})
    first = load_splits(tiny, run_folder.find_notes(workdir, tiny))
    run_folder.create(workdir)
    run_folder.write_config(workdir, tiny, first.notes)
    monkeypatch.setattr(survey, "open_pair", None)
    again = load_splits(tiny, run_folder.find_notes(workdir, tiny))
    assert [r.id for r in again.report.records] == [r.id for r in first.report.records]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"loss": ({"name": "dice"}, LOSS)}, "config.loss[1].name"),
        ({"model": {"name": "theirs.losses:focal"}}, "config.model.name"),
        ({"predict": {"postprocess": [LOSS]}}, "config.predict.postprocess[0].name"),
        ({"data": {"name": "cells", "inner": LOSS}}, "config.data.inner.name"),
    ],
)
def test_external_names_need_trust(theirs, tiny, tmp_path, changes, place):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(run_folder.config_to_json(tiny) | changes))
    for config in (run_folder.read_config(tmp_path), saved.get_config(str(tmp_path))):
        with pytest.raises(UserError) as error:
            run_folder.check_trusted(config, tmp_path, trust=False)
        assert str(error.value) == (
            f"{place} in {tmp_path} is 'theirs.losses:focal', code from outside "
            "unet_jax; if you trust it, add --trust (in Python: trust=True)"
        )
        run_folder.check_trusted(config, tmp_path, trust=True)
    assert not [name for name in sys.modules if name.startswith("theirs")]


def test_names_from_the_command_line_need_no_trust(tiny, tmp_path):
    """A name needs trust only if the folder has it in the same field."""
    saved_config = run_folder.config_to_json(tiny) | {"loss": [{"name": "dice"}, LOSS]}
    used = tiny.copy_and_resolve_references()
    used.loss = (ConfigDict(LOSS), ConfigDict({"name": "dice"}))
    used.model.name = "mine.nets:Net"
    run_folder.check_trusted(saved_config, tmp_path, trust=False, used=used)
    used.loss = (ConfigDict({"name": "mine:loss"}), ConfigDict(LOSS))
    with pytest.raises(UserError, match=r"^config.loss\[1\].name in .*:focal', code"):
        run_folder.check_trusted(saved_config, tmp_path, trust=False, used=used)


def test_names_of_this_package_need_no_trust(tiny, tmp_path):
    tiny.name = "a:b"  # the name of a run, not of a function
    run_folder.check_trusted(tiny, tmp_path, trust=False)
    run_folder.check_trusted(run_folder.config_to_json(tiny), tmp_path, trust=False)


MODULES = {
    "data": "unet_jax.data",
    "normalize": "unet_jax.data.normalize",
    "weight_map": "unet_jax.data.weights",
    "sampling": "unet_jax.data.sampling",
    "model": "unet_jax.models",
    "loss": "unet_jax.losses",
    "augment": "unet_jax.augment",
    "optimizer": "unet_jax.optimizers",
    "schedule": "unet_jax.schedules",
    "parallel": "unet_jax.parallel",
}


@pytest.mark.slow
def test_external_names_of_this_package_give_the_same_run(tiny, trained, tmp_path):
    """Names every function of a small run by its import path."""
    for field, module in MODULES.items():
        specs = tiny[field] if isinstance(tiny[field], tuple) else (tiny[field],)
        for spec in specs:
            spec.name = f"{module}:{spec.name}"
    train(tiny, tmp_path)
    expected, got = (
        json.loads((workdir / run_folder.SCORES).read_text())
        for workdir in (trained[1], tmp_path)
    )
    assert got == expected


@pytest.mark.slow
def test_a_run_folder_of_an_older_format_is_refused_in_one_line(tmp_path):
    """Also from the command line, where the config is read first."""
    (tmp_path / "checkpoints/3/state").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"checkpoint_every": 2, "head": "softmax"}')
    words = "checkpoints/3 is of the format before 0.2, which this version does not"
    with pytest.raises(UserError, match=words):
        saved.get_config(str(tmp_path))
    with pytest.raises(UserError, match=words):
        run_folder.check_trained(tmp_path)
    main = Path(__file__).parents[2] / "main.py"
    command = [sys.executable, str(main), f"--workdir={tmp_path}", "--mode=evaluate"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: checkpoint ")
    assert len(done.stderr.splitlines()) == 1
