"""The config of a run: config.json, its comparisons, and consent to its names."""

import copy
import functools
import json
import shutil
import sys

import pytest
from ml_collections import ConfigDict

from unet_jax.configs import saved
from unet_jax.errors import UserError
from unet_jax.run import run_config, run_folder, train

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
    assert run_config.read_config(tmp_path) == written
    assert saved.get_config(str(tmp_path)) == tiny


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
    path.write_text(json.dumps(run_config.config_to_json(tiny) | changes))
    for config in (run_config.read_config(tmp_path), saved.get_config(str(tmp_path))):
        with pytest.raises(UserError) as error:
            run_config.check_trusted(config, tmp_path, trust=False)
        assert str(error.value) == (
            f"{place} in {tmp_path} is 'theirs.losses:focal', code from outside "
            "unet_jax; if you trust it, add --trust (in Python: trust=True)"
        )
        run_config.check_trusted(config, tmp_path, trust=True)
    assert not [name for name in sys.modules if name.startswith("theirs")]


def test_names_from_the_command_line_need_no_trust(tiny, tmp_path):
    """A name needs trust only if the folder has it in the same field."""
    saved_config = run_config.config_to_json(tiny) | {"loss": [{"name": "dice"}, LOSS]}
    used = tiny.copy_and_resolve_references()
    used.loss = (ConfigDict(LOSS), ConfigDict({"name": "dice"}))
    used.model.name = "mine.nets:Net"
    run_config.check_trusted(saved_config, tmp_path, trust=False, used=used)
    used.loss = (ConfigDict({"name": "mine:loss"}), ConfigDict(LOSS))
    with pytest.raises(UserError, match=r"^config.loss\[1\].name in .*:focal', code"):
        run_config.check_trusted(saved_config, tmp_path, trust=False, used=used)


def test_names_of_this_package_need_no_trust(tiny, tmp_path):
    tiny.name = "a:b"  # the name of a run, not of a function
    run_config.check_trusted(tiny, tmp_path, trust=False)
    run_config.check_trusted(run_config.config_to_json(tiny), tmp_path, trust=False)


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
def test_external_names_of_this_package_give_the_same_run(
    tiny, trained, tmp_path, read_scores
):
    """Names every function of a small run by its import path."""
    for field, module in MODULES.items():
        specs = tiny[field] if isinstance(tiny[field], tuple) else (tiny[field],)
        for spec in specs:
            spec.name = f"{module}:{spec.name}"
    train(tiny, tmp_path)
    assert read_scores(tmp_path) == read_scores(trained[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.activation", "gelu"),
        ("model.norm", "none"),
        ("normalize.name", "fixed"),
        ("seed", 5),
        ("data.train", 99),
    ],
)
def test_a_config_that_was_edited_after_training_is_named(
    trained, tmp_path, name, value
):
    """Scores would change without a word, or the checkpoint would seem damaged."""
    shutil.copytree(trained[1], tmp_path / "run")
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    *outer, last = name.split(".")
    inner = functools.reduce(dict.__getitem__, outer, config)
    old, inner[last] = inner.get(last, "absent"), value
    file.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        run_config.read_config(tmp_path / "run")
    line = str(error.value)
    assert line.startswith(f"{file} was changed after training: {name} is ")
    assert json.dumps(value) in line
    assert str(old).strip('"') in line
    file.unlink()
    assert run_config.read_config(tmp_path / "run")["name"] == "tiny"


@pytest.mark.slow
def test_fields_that_may_change_may_be_edited(trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "run")
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    config["steps"], config["predict"]["tta"] = 9, "d4"
    file.write_text(json.dumps(config))
    assert run_config.read_config(tmp_path / "run") == config


@pytest.mark.parametrize(
    ("key", "prepared"),
    [("records", "0/about.json"), ("data_dir", "set/1.0.0/dataset_info.json")],
)
def test_a_run_folder_writes_no_data_elsewhere_without_trust(
    tiny, tmp_path, key, prepared
):
    place = tmp_path / "place"
    saved_config = run_config.config_to_json(tiny)
    saved_config["data"] = {"name": "folder", key: str(place)}
    with pytest.raises(UserError) as error:
        run_config.check_trusted(saved_config, tmp_path, trust=False)
    assert str(error.value) == (
        f"config.data.{key} in {tmp_path} is '{place}', a folder without prepared "
        "data, which would be written; if you trust it, add --trust (in Python: "
        "trust=True)"
    )
    run_config.check_trusted(saved_config, tmp_path, trust=True)
    run_config.check_trusted(saved_config, tmp_path, trust=False, predicts=True)
    used = saved_config | {"data": {"name": "folder", key: "/another"}}
    run_config.check_trusted(saved_config, tmp_path, trust=False, used=used)
    (place / prepared).parent.mkdir(parents=True)
    (place / prepared).touch()  # the user has chosen this folder before
    run_config.check_trusted(saved_config, tmp_path, trust=False)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("optimizer", 1.0, "config.optimizer must be a spec"),
        ("predict", None, "config.predict must be a dict"),
        ("predict", {"a.b": 1}, "config.predict is not a field .*dots"),
        ("a.b", 1, "config.a.b is not a field .*dots"),
        ("crop", [16, None], "config.crop must be a tuple"),
        ("keys", 1, "config.keys is not a field|config has no field 'keys'"),
        ("metrics", [{"name": ["dice"]}], "config.metrics must be a tuple of specs"),
    ],
)
def test_an_odd_config_of_a_run_is_one_line(tiny, tmp_path, field, value, words):
    """Also for `load_config` and `evaluate` of Python, which parse no flags."""
    odd = run_config.config_to_json(tiny) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(odd))
    with pytest.raises(UserError, match=f"^{tmp_path}: (?:{words})") as error:
        saved.get_config(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_field_that_was_renamed_or_removed_in_config_json_is_named(trained, tmp_path):
    """It must not be explained as a field that is newer than the run."""
    shutil.copytree(trained[1], tmp_path / "run")
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    config["log_evry"] = config.pop("log_every")
    file.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        run_config.read_config(tmp_path / "run")
    line = str(error.value)
    assert line.startswith(f"{file} was changed after training: ")
    assert "log_every is absent" in line
    assert "log_evry is 1, and absent in the checkpoint" in line


@pytest.mark.slow
def test_a_config_json_that_is_no_json_is_named(trained, tmp_path, capsys):
    shutil.copytree(trained[1], tmp_path / "run")
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    for damage in (lambda: file.write_text('{"seed": 2,,}'), file.unlink):
        damage()
        assert run_config.read_config(tmp_path / "run") == config
        assert run_config.read_config(tmp_path / "run") == config
        (line,) = capsys.readouterr().out.splitlines()  # once
        assert line.startswith(f"warning: {file} is not ")
        assert line.endswith("; the config of the newest checkpoint is used")


def test_classes_of_an_older_run_that_are_one_text_are_words(tmp_path):
    data = {"name": "folder", "classes": ["background, cell"]}
    (tmp_path / "config.json").write_text(json.dumps({"data": data}))
    assert run_config.read_config(tmp_path)["data"]["classes"] == ["background", "cell"]


def test_a_run_that_is_older_than_a_key_of_the_network_continues(
    trained, tmp_path, monkeypatch
):
    config, workdir = trained
    older = run_config.read_config(workdir)
    for key in ("head_kernel", "decoder_widths"):
        del older["model"][key]
    monkeypatch.setattr(run_config, "read_config", lambda _: older)
    run_config.check_continues(workdir, config)
    changed = copy.deepcopy(config)
    changed.model.head_kernel = 3
    with pytest.raises(UserError, match="model.head_kernel is absent in the folder"):
        run_config.check_continues(workdir, changed)
