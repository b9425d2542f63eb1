"""Fine-tuning: arrays of another run, fresh arrays and frozen parameters."""

import json
import shutil
import struct

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from unet_jax import parallel
from unet_jax.build.training import build
from unet_jax.checkpoint import Checkpoints
from unet_jax.errors import UserError
from unet_jax.optimizers import format_path
from unet_jax.run import train
from unet_jax.run.initial_state import create_initial_state

KEY = jax.random.key(5)


def arrays_by_name(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {format_path(path): np.asarray(leaf) for path, leaf in leaves}


def start(config):
    """Returns the variables of the initial state and of a fresh one, by name."""
    parts = build(config)
    variables = parts.evaluation.method.variables
    states = create_initial_state(config, parts, KEY), parts.init(KEY)
    return tuple(arrays_by_name(variables(state)) for state in states)


def best_variables(workdir):
    with Checkpoints(workdir, "val/dice") as checkpoints:
        _, variables = checkpoints.load_best(parallel.local_devices().abstract)
    return arrays_by_name(variables)


@pytest.mark.slow
def test_arrays_that_fit_are_loaded_and_the_others_are_listed(trained, tiny, capsys):
    _, workdir = trained
    tiny.init_from = str(workdir)
    began, _ = start(tiny)
    jax.tree.map(np.testing.assert_array_equal, began, best_variables(workdir))
    capsys.readouterr()
    tiny.task.name = "multilabel"  # one output in place of two
    tiny.ema = 0.9
    began, fresh = start(tiny)
    printed = capsys.readouterr().out
    assert "warning" not in printed
    listed = "params/head0/bias, params/head0/kernel"
    assert f"not loaded, with random initial values: {listed}" in printed
    other = best_variables(workdir)
    for name, array in began.items():
        source = fresh if "head0" in name else other
        np.testing.assert_array_equal(array, source[name], err_msg=name)


@pytest.mark.parametrize("name", ["supervised", "mean_teacher"])
def test_every_copy_of_the_variables_starts_from_the_other_run(trained, tiny, name):
    """Checks parameters, their average, running statistics and the teacher."""
    tiny.init_from, tiny.method.name = str(trained[1]), name
    if name == "supervised":
        tiny.ema = 0.9
    else:
        tiny.data.unlabelled = 2
    state = create_initial_state(tiny, build(tiny), KEY)
    other = best_variables(trained[1])
    params = {
        n.partition("/")[2]: a for n, a in other.items() if n.startswith("params")
    }
    stats = {n.partition("/")[2]: a for n, a in other.items() if n.startswith("batch")}
    assert len(params) + len(stats) == len(other)
    assert params
    assert stats
    jax.tree.map(np.testing.assert_array_equal, arrays_by_name(state.params), params)
    jax.tree.map(np.testing.assert_array_equal, arrays_by_name(state.stats), stats)
    ema = params if name == "supervised" else {}
    jax.tree.map(np.testing.assert_array_equal, arrays_by_name(state.ema), ema)
    teacher = other if name == "mean_teacher" else {}
    jax.tree.map(np.testing.assert_array_equal, arrays_by_name(state.extra), teacher)


def test_a_safetensors_file_is_read_by_array_names(trained, tiny, tmp_path):
    arrays = best_variables(trained[1])
    path = tmp_path / "weights.safetensors"
    save_file({name.replace("/", "."): array for name, array in arrays.items()}, path)
    tiny.init_from = str(path)
    began, _ = start(tiny)
    jax.tree.map(np.testing.assert_array_equal, began, arrays)


def write_safetensors(path, kind, raw):
    """Writes one array of any dtype, also those that `save_file` does not support."""
    about = {"dtype": kind, "shape": [2], "data_offsets": [0, len(raw)]}
    header = json.dumps({"params.head0.bias": about}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw)


def test_bfloat16_is_read_and_float8_is_refused(tiny, tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    tiny.init_from = str(path)
    upper_halves = bytes.fromhex("803f 20c0")  # of 1 and -2.5 in float32
    write_safetensors(path, "BF16", upper_halves)
    np.testing.assert_array_equal(start(tiny)[0]["params/head0/bias"], [1, -2.5])
    assert "warning: most of the network has random" in capsys.readouterr().out
    write_safetensors(path, "F8_E4M3", bytes.fromhex("38 40"))
    with pytest.raises(UserError, match=r"config.init_from=.*: has arrays of a type"):
        start(tiny)


@pytest.mark.slow
def test_a_damaged_run_in_init_from_is_refused_in_one_line(trained, tiny, tmp_path):
    def copy(name, damage):
        shutil.copytree(trained[1], tmp_path / name)
        for checkpoint in (tmp_path / name / "checkpoints").iterdir():
            damage(checkpoint)
        tiny.init_from = str(tmp_path / name)

    def foreign(checkpoint):
        path = checkpoint / "_CHECKPOINT_METADATA"
        about = {"config": {"lr": 1}, "preprocessing": {}, "scores": {}}
        content = json.loads(path.read_text()) | {"custom_metadata": about}
        path.write_text(json.dumps(content))

    damages = {
        "variables is missing": lambda c: shutil.rmtree(c / "variables"),
        "is not valid": lambda c: (c / "_CHECKPOINT_METADATA").write_text("{"),
        "missing required field 'custom_metadata'": (
            lambda c: (c / "_CHECKPOINT_METADATA").write_text("{}")
        ),
        "missing required field 'checksums'": foreign,
    }
    for i, (words, damage) in enumerate(damages.items()):
        copy(str(i), damage)
        with pytest.raises(
            UserError, match=f"^config.init_from=.*: .*{words}"
        ) as error:
            start(tiny)
        assert "\n" not in str(error.value)


def test_a_missing_run_is_noticed_before_the_data_are_read(tiny, tmp_path):
    tiny.init_from, tiny.data.name = str(tmp_path / "none"), "folder"
    with pytest.raises(UserError, match=r"^config.init_from=.*: holds no checkpoint"):
        train(tiny, tmp_path / "run")


@pytest.mark.slow
def test_frozen_parameters_do_not_change_and_the_others_do(trained, tiny, tmp_path):
    """Fine-tunes the first run on another data set."""
    tiny.init_from, tiny.freeze = str(trained[1]), ("down*",)
    tiny.data.seed = 1
    tiny.model.norm = trained[0].model.norm
    train(tiny, tmp_path)
    before, after = best_variables(trained[1]), best_variables(tmp_path)
    for name in before:
        if name.startswith("params/down"):
            np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    moved = [
        n for n in before if n.startswith("params") and (after[n] != before[n]).any()
    ]
    assert {name.split("/")[1] for name in moved} == {"up0", "upconv0", "head0"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init_from": "{tmp}"}, r"config.init_from=.*: holds no checkpoint"),
        (
            {"init_from": "{tmp}/text"},
            r"config.init_from: .*text: is neither a checkpoint of",
        ),
        ({"init_from": "{run}", "crop": (8, 8, 8)}, "another number of axes"),
        (
            {"init_from": "{run}", "widths": (3, 5)},
            "none of its arrays has the name and",
        ),
        (
            {"freeze": ("left*",)},
            r"config.freeze: 'left\*' matches no parameter; .*down0",
        ),
        ({"freeze": ("*",)}, "config.freeze: all parameters would be frozen"),
    ],
    ids=["no run", "no weights", "axes", "nothing", "no match", "all kept"],
)
def test_a_wrong_init_from_or_freeze_is_refused_in_one_line(
    trained, tiny, tmp_path, change, words
):
    (tmp_path / "text").write_text("weights")
    change = dict(change)
    if "init_from" in change:
        places = {"tmp": tmp_path, "run": trained[1]}
        change["init_from"] = change["init_from"].format(**places)
    if "widths" in change:
        tiny.model.widths = change.pop("widths")
        tiny.model.norm = "none"
        tiny.task.name = "multilabel"
        tiny.model.residual = False
    if len(change.get("crop", ())) == 3:
        tiny.data = ConfigDict(
            {"name": "cells", "shape": (12, 12, 12), "train": 1, "val": 1, "test": 1}
        )
    with tiny.ignore_type():
        for name, value in change.items():
            tiny[name] = value
    with pytest.raises(UserError, match=words) as error:
        start(tiny)
    assert "\n" not in str(error.value)
