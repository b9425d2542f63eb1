"""The run folder: its data, its format, its lock and its links."""

import os
import re
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
from unet_jax.run import evaluate, run_folder, train

RNG = np.random.default_rng(0)


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


@pytest.mark.slow
def test_masks_that_change_after_training_are_named_until_training_goes_on(
    tiny, tmp_path, capfd
):
    home, workdir = tmp_path / "home", tmp_path / "run"
    for kind, top in (("images", 256), ("masks", 3)):
        (home / kind).mkdir(parents=True)
        for i in range(10):
            array = RNG.integers(0, top, (16, 16), np.uint8)
            Image.fromarray(array).save(home / kind / f"{i}.png")
    tiny.data = ConfigDict({"name": "folder", "root": str(home)})
    tiny.metrics = (ConfigDict({"name": "dice"}),)
    words = "10 files have changed since this run began (masks/0.png, masks/1.png and"
    train(tiny, workdir)
    for path in (home / "masks").iterdir():
        swapped = np.array([0, 2, 1], np.uint8)[np.asarray(Image.open(path))]
        Image.fromarray(swapped).save(path)
    assert words not in "".join(capfd.readouterr())
    for _ in range(2):
        evaluate(tiny, workdir)
        assert words in "".join(capfd.readouterr())
    tiny.steps += 2
    train(tiny, workdir)
    assert words in "".join(capfd.readouterr())
    evaluate(tiny, workdir)
    assert words not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_run_folder_of_another_format_is_refused_in_one_line(tmp_path):
    """Also from the command line, where the config is read first."""
    (tmp_path / "checkpoints/3/state").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"checkpoint_every": 2, "head": "softmax"}')
    words = "checkpoints/3/_CHECKPOINT_METADATA is not a file; .* so train again in"
    with pytest.raises(UserError, match=words):
        saved.get_config(str(tmp_path))
    main = Path(__file__).parents[2] / "main.py"
    command = [sys.executable, str(main), f"--workdir={tmp_path}", "--mode=evaluate"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.match(f"error: .*{words}", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_a_second_process_may_not_train_in_the_folder(tmp_path):
    run_folder.check_unlocked(tmp_path / "new")
    command = (
        "import pathlib, sys; from unet_jax.run import run_config, run_folder\n"
        f"with run_folder.lock(pathlib.Path({str(tmp_path)!r})):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        for check in (run_folder.check_unlocked, enter_lock):
            with pytest.raises(UserError, match="is in use: another process trains"):
                check(tmp_path)
        other.kill()
    enter_lock(tmp_path)  # a killed process leaves no lock
    run_folder.check_unlocked(tmp_path)


def enter_lock(workdir):
    with run_folder.lock(workdir):
        pass


@pytest.mark.parametrize("make", [os.symlink, lambda _, path: os.mkfifo(path)])
def test_a_lock_that_is_no_file_is_neither_opened_nor_followed(tmp_path, make):
    (tmp_path / "run").mkdir()
    make(tmp_path / "elsewhere", tmp_path / "run/.lock")
    with pytest.raises(UserError, match=r"run/.lock cannot be opened .*; delete it"):
        enter_lock(tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["checkpoints", "damaged", "profile", "checkpoints/2"])
def test_training_does_not_change_what_links_name(tiny, tmp_path, name):
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    (elsewhere / ".removed-1").mkdir(parents=True)
    link = run / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{link} is a symbolic link, and training"):
        run_folder.check_links(run)
    (tmp_path / "real/checkpoints/2").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    run_folder.check_links(tmp_path / "link")
