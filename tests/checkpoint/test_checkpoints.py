"""Checkpoints: which are kept, and what happens to damaged ones."""

import errno
import json
import math
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from unet_jax.checkpoint import (
    Checkpoints,
    check_trained,
    checkpoint_files,
    clean,
    list_steps,
    load_newest_metadata,
)
from unet_jax.checkpoint.state_parts import split_state
from unet_jax.errors import UserError

ABOUT = {"config": {}, "preprocessing": {}}
DEVICE = SingleDeviceSharding(jax.devices()[0])
METADATA = "_CHECKPOINT_METADATA"


def add_device(tree):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=DEVICE), tree
    )


def state(value):
    a, c = (jnp.full(3, x, jnp.float32) for x in (value, -value))
    return {"a": a, "b": (), "c": [c]}


LIKE = add_device(state(0))


def variables(state):
    return {"params": state["a"], "batch_stats": state["b"]}


def make_scores(score):
    return {} if score is None else {"val/dice": score, "val/iou": 1 - score}


def save(workdir, steps, warn=print):
    """Saves one checkpoint after the other; the first step has the best score."""
    with Checkpoints(workdir, "val/dice", warn) as checkpoints:
        for step in steps:
            scores = {"val/dice": 1 / step}
            checkpoints.save(step, state(step), variables, ABOUT, scores)
    return workdir / "checkpoints"


def restore(workdir, warn=print):
    with Checkpoints(workdir, "val/dice", warn) as checkpoints:
        step, restored = checkpoints.restore(LIKE, variables)
    jax.tree.map(np.testing.assert_array_equal, restored, state(step))
    return step


def load_best(workdir, warn=print):
    with Checkpoints(workdir, "val/dice", warn) as checkpoints:
        step, loaded = checkpoints.load_best(add_device)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables(state(step)))
    return step


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    scores = {1: 0.1, 2: 0.9, 3: 0.5, 4: None, 5: 0.9, 6: None, 7: None}
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest is None
        assert checkpoints.restore(LIKE, variables) is None
        with pytest.raises(UserError, match="holds no checkpoint"):
            _ = checkpoints.best
        for step, score in scores.items():
            checkpoints.save(
                step,
                state(step),
                variables,
                ABOUT | {"waiting": [{"step": step}]},
                make_scores(score),
            )
    assert list_steps(tmp_path) == [5, 6, 7]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [*"567"]
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        assert checkpoints.latest == 7
        assert checkpoints.best == 5
        assert checkpoints.load_metadata(5)["waiting"] == [{"step": 5}]
    assert restore(tmp_path) == 7
    assert load_best(tmp_path) == 5
    with Checkpoints(tmp_path, "val/iou") as checkpoints:
        assert checkpoints.best == 5  # among those that were kept
    with (
        Checkpoints(tmp_path, "val/recall") as checkpoints,
        pytest.raises(UserError, match="has the score val/recall; put another"),
    ):
        _ = checkpoints.best


@pytest.mark.parametrize("undefined", [None, math.nan, math.inf])
def test_a_score_that_is_not_finite_is_the_worst(tmp_path, undefined):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        for step, score in ((1, 0.1), (2, undefined), (3, undefined)):
            scores = {"val/dice": score}
            checkpoints.save(step, state(step), variables, ABOUT, scores)
    assert load_best(tmp_path) == 1


def test_without_scores_the_newest_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        checkpoints.save(3, state(3), variables, ABOUT, {})
        checkpoints.wait()
        assert checkpoints.best == 3


def test_the_lowest_loss_is_best(tmp_path):
    with Checkpoints(tmp_path, "val/loss") as checkpoints:
        for step, loss in ((1, 0.9), (2, 0.1), (3, 0.5), (4, None)):
            scores = {"val/loss": loss}
            checkpoints.save(step, state(step), variables, ABOUT, scores)
        checkpoints.wait()
        assert checkpoints.best == 2


def flip(path):
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [flip, cut, zero, empty, remove, pipe])
def test_every_damaged_file_is_noticed_or_without_effect(tmp_path, damage):
    """The sound checkpoint before is used and named, or all values are right."""
    (tmp_path / "run").mkdir()
    whole = save(tmp_path / "run", [1, 2, 3])
    noticed = set()
    for file in [path for path in (whole / "3").rglob("*") if path.is_file()]:
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "run", copy)
        damage(copy / file.relative_to(tmp_path / "run"))
        lines = []
        step = restore(copy, lines.append)  # compares all values
        assert step in (2, 3)
        assert (step == 2) == bool(lines)
        if step == 2:
            assert "checkpoints/3" in lines[0]
            assert "\n" not in lines[0]
            assert (copy / "damaged/3").is_dir()
            assert list_steps(copy) == [1, 2]
            noticed.add(str(file.relative_to(whole / "3")))
        shutil.rmtree(copy)
    assert METADATA in noticed
    data = {name for name in noticed if "/d/" in name}
    assert {name.split("/")[0] for name in data} == {"variables", "training"}


def test_variables_larger_than_the_memory_are_not_allocated(tmp_path, monkeypatch):
    """`init_from` reads any checkpoint, and missing chunks are zeros: a bomb."""
    save(tmp_path, [1])
    monkeypatch.setattr(os, "sysconf", lambda _: 3)  # 9 bytes of memory
    with pytest.raises(UserError, match="variables need 12 bytes, more than the"):
        load_best(tmp_path)


def test_the_best_of_the_sound_checkpoints_predicts(tmp_path):
    checkpoints = save(tmp_path, [1, 2, 3])
    for file in (checkpoints / "1/variables").rglob("*"):
        if file.is_file():
            zero(file)
    lines = []
    assert load_best(tmp_path, lines.append) == 2
    assert [line.split("checkpoints/")[1][0] for line in lines] == ["1"]
    assert "using that of step 2" in lines[0]
    assert list_steps(tmp_path) == [1, 2, 3]  # a reader moves nothing


def test_without_a_sound_checkpoint_there_is_one_line(tmp_path):
    checkpoints = save(tmp_path, [1, 2, 3])
    for file in checkpoints.rglob("*/d/*"):
        zero(file)
    for call in (restore, load_best):
        with pytest.raises(UserError, match=r"has no other checkpoint of this") as e:
            call(tmp_path, [].append)
        assert "\n" not in str(e.value)
    assert list_steps(tmp_path) == [1, 2, 3]


def foreign_file(folder):
    (folder / "9").write_text("not a checkpoint")


def foreign_folder(folder):
    (folder / "9").mkdir()
    (folder / "9/notes.txt").write_text("mine")


def empty_folder(folder):
    (folder / "9").mkdir()


def other_names(folder):
    for name in ("007", "x", "-1", "١", "9.orbax-checkpoint-tmp-3"):
        (folder / name).mkdir()


def test_every_bit_of_the_metadata_counts(tmp_path):
    """A flip is noticed, or changes only what this package does not read."""
    path = save(tmp_path, [1, 2]) / "2" / METADATA
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        lines = []
        with Checkpoints(tmp_path, "val/dice", lines.append) as checkpoints:
            if lines:
                assert checkpoints.latest == 1
                assert lines[0].startswith(str(path))
            else:
                about = checkpoints.load_metadata(2)
                assert about["scores"] == {"val/dice": 0.5}
                assert about["config"] == {}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        ValueError(f"orbax: {os.strerror(errno.EMFILE)}"),
    ],
)
def test_a_sound_checkpoint_that_cannot_be_read_now_stays(tmp_path, monkeypatch, error):
    save(tmp_path, [1, 2])

    def fail(*_):
        raise error

    monkeypatch.setattr(ocp, "load_checkpointables", fail)
    with pytest.raises(UserError, match="variables cannot be read now .*; try again"):
        restore(tmp_path, pytest.fail)
    monkeypatch.undo()
    assert restore(tmp_path, pytest.fail) == 2


@pytest.mark.parametrize(
    "add", [foreign_file, foreign_folder, empty_folder, other_names]
)
def test_what_is_no_checkpoint_is_left_out(tmp_path, add):
    add(save(tmp_path, [1, 2]))
    assert restore(tmp_path, [].append) == 2
    assert load_best(tmp_path, [].append) == 1


def edit(change):
    """Returns a function that changes the JSON data of a checkpoint."""

    def damage(checkpoint):
        path = checkpoint / METADATA
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content)))

    return damage


def without(*keys):
    def change(content):
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return content

    return edit(change)


def setting(key, value):
    def change(content):
        content["custom_metadata"][key] = value
        return content

    return edit(change)


def broken(checkpoint):
    (checkpoint / METADATA).write_text("{")


def deep(checkpoint):
    (checkpoint / METADATA).write_text("[" * 10**5)


def missing(checkpoint):
    (checkpoint / METADATA).unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (broken, "is not valid"),
        (deep, "is not valid"),
        (missing, "is not a file"),
        (edit(lambda _: []), "is not valid"),
        (edit(lambda _: None), "is not valid"),
        (without("custom_metadata"), "is not valid .*custom_metadata"),
        (without("custom_metadata", "config"), "required field 'config'"),
        (without("custom_metadata", "preprocessing"), "field 'preprocessing'"),
        (without("custom_metadata", "checksums"), "required field 'checksums'"),
        (without("custom_metadata", "checksums", "metadata"), "field 'metadata'"),
        (without("custom_metadata", "scores"), "required field 'scores'"),
        (setting("checksums", []), "is not valid"),
        (setting("scores", {"val/dice": "high"}), "is not valid"),
        (setting("scores", {"val/dice": 0.25}), "is damaged"),
        (setting("config", {"seed": 1}), "is damaged"),
    ],
)
def test_changed_metadata_are_one_line_of_error(tmp_path, damage, words):
    checkpoints = save(tmp_path, [3])
    damage(checkpoints / "3")
    with pytest.raises(UserError, match=words) as one:
        load_newest_metadata(tmp_path)
    with pytest.raises(UserError, match=words) as other:
        Checkpoints(tmp_path, "val/dice")
    for error in (one, other):
        assert "\n" not in str(error.value)
        assert f"checkpoints/3/{METADATA}" in str(error.value)


def test_each_array_is_in_one_of_two_parts(tmp_path):
    """Prediction needs the variables only, even if the other part is lost."""
    save(tmp_path, [3])
    assert list(split_state(LIKE, variables).training) == ["c.0"]
    assert restore(tmp_path) == 3
    shutil.rmtree(tmp_path / "checkpoints/3/training")
    assert load_best(tmp_path) == 3


def test_a_full_disk_is_one_line_before_anything_is_written(tmp_path, monkeypatch):
    save(tmp_path, [1])
    space = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(checkpoint_files.shutil, "disk_usage", lambda _: space)
    with pytest.raises(UserError, match="cannot be written .No space left") as error:
        save(tmp_path, [2])
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    monkeypatch.undo()
    assert restore(tmp_path) == 1


def test_a_save_that_fails_in_the_background_is_one_line(tmp_path, monkeypatch):
    """Whatever exception Orbax has, which may have many lines."""

    class Response:
        def result(self):
            text = f"lines\nof text: {os.strerror(errno.ENOSPC)}\nmore"
            raise ValueError(text)

    with Checkpoints(tmp_path, "val/dice") as checkpoints:
        monkeypatch.setattr(
            ocp,
            "save_checkpointables_async",
            lambda *_, **__: Response(),
        )
        checkpoints.save(1, state(1), variables, ABOUT, {})
        with pytest.raises(UserError) as error:
            checkpoints.wait()
    assert "(No space left on device); the checkpoints before it" in str(error.value)


def test_a_run_folder_that_was_deleted_is_not_made_again(tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with Checkpoints(workdir, "val/dice") as checkpoints:
        checkpoints.save(1, state(1), variables, ABOUT, {})
        checkpoints.wait()
        shutil.rmtree(workdir)
        with pytest.raises(UserError, match="run was removed or emptied"):
            checkpoints.save(2, state(2), variables, ABOUT, {})
    assert not workdir.exists()


def test_remains_of_interrupted_saves_are_removed(tmp_path):
    folder = save(tmp_path, [1, 2])
    for name in ("3.orbax-checkpoint-tmp-17", ".removed-0"):
        (folder / name / "variables").mkdir(parents=True)
    (folder / "notes").mkdir()
    clean(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "notes"]


def test_the_folder_of_a_sweep_is_no_run(tmp_path):
    (tmp_path / "journal.log").touch()
    with pytest.raises(UserError, match="the runs of a sweep; name one of them$"):
        check_trained(tmp_path)
    for name in ("b-0", "a-0"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=f"one of them, such as {tmp_path}/a-0$"):
        check_trained(tmp_path)
