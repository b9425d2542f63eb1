"""Fine-tuning: what is taken from another run, what begins anew, what stays."""

import json
import shutil
import struct

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from unet_jax.build.training import build
from unet_jax.checkpoint import Checkpoints
from unet_jax.errors import UserError
from unet_jax.optimizers import path_name
from unet_jax.run import train
from unet_jax.run.starting import first_state

KEY = jax.random.key(5)


def named(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): np.asarray(leaf) for path, leaf in leaves}


def start(config):
    """The variables of the first state, and those of a fresh one, by name."""
    parts = build(config)
    variables = parts.evaluation.method.variables
    return named(variables(first_state(config, parts, KEY))), named(
        variables(parts.init(KEY))
    )


def best(workdir):
    with Checkpoints(workdir, "val/dice") as checkpoints:
        like = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                x.shape,
                x.dtype,
                sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
            ),
            checkpoints.load_shapes(checkpoints.best),
        )
        return named(checkpoints.load_variables(checkpoints.best, like))


def test_all_that_fits_is_taken_and_the_rest_is_listed(trained, tiny, capsys):
    _, workdir = trained
    tiny.init_from = str(workdir)
    began, _ = start(tiny)
    jax.tree.map(np.testing.assert_array_equal, began, best(workdir))
    capsys.readouterr()
    tiny.task.name = "multilabel"  # one output in place of two
    tiny.ema = 0.9
    began, fresh = start(tiny)
    said = capsys.readouterr().out
    assert "these begin anew: params/head0/bias, params/head0/kernel" in said
    other = best(workdir)
    for name, array in began.items():
        source = fresh if "head0" in name else other
        np.testing.assert_array_equal(array, source[name], err_msg=name)


@pytest.mark.parametrize("name", ["supervised", "mean_teacher"])
def test_every_copy_of_the_variables_begins_with_the_other_run(trained, tiny, name):
    """Parameters, their average, running statistics, and the teacher."""
    tiny.init_from, tiny.method.name = str(trained[1]), name
    if name == "supervised":
        tiny.ema = 0.9
    else:
        tiny.data.unlabelled = 2
    state = first_state(tiny, build(tiny), KEY)
    other = best(trained[1])
    params = {
        n.partition("/")[2]: a for n, a in other.items() if n.startswith("params")
    }
    stats = {n.partition("/")[2]: a for n, a in other.items() if n.startswith("batch")}
    assert len(params) + len(stats) == len(other)
    assert params
    assert stats
    jax.tree.map(np.testing.assert_array_equal, named(state.params), params)
    jax.tree.map(np.testing.assert_array_equal, named(state.stats), stats)
    ema = params if name == "supervised" else {}
    jax.tree.map(np.testing.assert_array_equal, named(state.ema), ema)
    teacher = other if name == "mean_teacher" else {}
    jax.tree.map(np.testing.assert_array_equal, named(state.extra), teacher)


def test_a_file_of_safetensors_is_read_by_the_names_of_the_arrays(
    trained, tiny, tmp_path
):
    arrays = best(trained[1])
    path = tmp_path / "weights.safetensors"
    save_file({name.replace("/", "."): array for name, array in arrays.items()}, path)
    tiny.init_from = str(path)
    began, _ = start(tiny)
    jax.tree.map(np.testing.assert_array_equal, began, arrays)


def file_of(path, kind, raw):
    """Writes one array of any type of the format, which its own writer may not know."""
    about = {"dtype": kind, "shape": [2], "data_offsets": [0, len(raw)]}
    header = json.dumps({"params.head0.bias": about}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + raw)


def test_bfloat16_is_read_and_other_small_types_are_one_line(tiny, tmp_path):
    path = tmp_path / "weights.safetensors"
    tiny.init_from = str(path)
    file_of(path, "BF16", bytes.fromhex("803f 20c0"))  # the upper halves of 1 and -2.5
    np.testing.assert_array_equal(start(tiny)[0]["params/head0/bias"], [1, -2.5])
    file_of(path, "F8_E4M3", bytes.fromhex("38 40"))
    with pytest.raises(UserError, match=r"config.init_from=.*: has arrays of a type"):
        start(tiny)


def test_a_damaged_run_to_start_from_is_one_line(trained, tiny, tmp_path):
    def copy(name, damage):
        shutil.copytree(trained[1], tmp_path / name)
        for checkpoint in (tmp_path / name / "checkpoints").iterdir():
            damage(checkpoint)
        tiny.init_from = str(tmp_path / name)

    def foreign(checkpoint):
        path = checkpoint / "_CHECKPOINT_METADATA"
        about = {"config": {"lr": 1}, "preprocessing": {}}
        content = json.loads(path.read_text()) | {"custom_metadata": about}
        path.write_text(json.dumps(content))

    damages = {
        "is of the format before 0.2": lambda c: (c / "variables").rename(c / "state"),
        "is damaged": lambda c: shutil.rmtree(c / "variables"),
        "is damaged;": lambda c: (c / "_CHECKPOINT_METADATA").write_text("{"),
        "has no 'config'": lambda c: (c / "_CHECKPOINT_METADATA").write_text("{}"),
        "names no metrics": foreign,
    }
    for i, (words, damage) in enumerate(damages.items()):
        copy(str(i), damage)
        with pytest.raises(
            UserError, match=f"^config.init_from=.*: .*{words}"
        ) as error:
            start(tiny)
        assert "\n" not in str(error.value)


def test_frozen_parameters_stay_and_the_others_learn(trained, tiny, tmp_path):
    """A second data set is learnt from the first run's weights."""
    tiny.init_from, tiny.freeze = str(trained[1]), ("down*",)
    tiny.data.seed = 1
    tiny.model.norm = trained[0].model.norm
    train(tiny, tmp_path)
    before, after = best(trained[1]), best(tmp_path)
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
            r"config.init_from=.*text: is no file of safetens",
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
        ({"freeze": ("*",)}, "config.freeze: all parameters would be kept"),
    ],
    ids=["no run", "no weights", "axes", "nothing", "no match", "all kept"],
)
def test_a_start_that_makes_no_sense_is_one_line(
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
