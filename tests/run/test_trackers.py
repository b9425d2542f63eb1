"""TensorBoard, by what its event files hold; Weights & Biases, by the calls it gets."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from unet_jax.build.field_checks import check_fields
from unet_jax.errors import UserError
from unet_jax.run import evaluate
from unet_jax.run.trackers import (
    Tracker,
    check_installed,
    flatten_config,
    open_trackers,
)

ROOT = Path(__file__).parents[2]
PICTURE = np.zeros((4, 6, 3), np.uint8)


def read_events(folder):
    """The events of a folder: a record is its length, a checksum, data, a checksum."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def list_values(events):
    return [(event.step, value) for event in events for value in event.summary.value]


def test_tensorboard_gets_numbers_pictures_scores_and_hyperparameters(tiny, tmp_path):
    tiny.model.widths = (2, 4)
    with open_trackers(tiny, tmp_path) as (tracker,):
        tracker.start(4)
        tracker.write_scalars(5, {"train/loss": 0.5})
        tracker.write_picture(5, "val/predictions", PICTURE)
        tracker.write_test_scores(4, {"test/dice": 0.25, "test/dice/cell": 0.125})
    assert [path.is_file() for path in tmp_path.iterdir()] == [True]
    events = read_events(tmp_path)
    assert [e.step for e in events if e.session_log.status == SessionLog.START] == [5]
    values = list_values(events)
    numbers = {(step, v.tag): v.simple_value for step, v in values if "/" in v.tag}
    assert numbers == {
        (5, "train/loss"): 0.5,
        (5, "val/predictions"): 0.0,
        (4, "test/dice"): 0.25,
        (4, "test/dice/cell"): 0.125,
        (0, "_hparams_/experiment"): 0.0,
        (0, "_hparams_/session_start_info"): 0.0,
        (0, "_hparams_/session_end_info"): 0.0,
    }
    by_tag = {v.tag: v for _, v in values}
    image = by_tag["val/predictions"].image
    assert (image.height, image.width) == (4, 6)
    assert {v.metadata.plugin_data.plugin_name for _, v in values} == {"", "hparams"}
    plugin = {
        tag.removeprefix("_hparams_/"): HParamsPluginData.FromString(
            value.metadata.plugin_data.content
        )
        for tag, value in by_tag.items()
        if tag.startswith("_hparams_/")
    }
    metrics = plugin["experiment"].experiment.metric_infos
    assert [info.name.tag for info in metrics] == ["test/dice"]
    parameters = plugin["session_start_info"].session_start_info.hparams
    assert parameters["optimizer.learning_rate"].number_value == 1e-3
    assert parameters["loss[1].name"].string_value == "dice"
    assert parameters["model.widths"].string_value == "2, 4"
    assert parameters["model.residual"].WhichOneof("kind") == "bool_value"


def test_an_evaluation_adds_the_test_scores_to_the_run(trained, tmp_path):
    config, folder = trained
    run = shutil.copytree(folder, tmp_path / "run")
    (before,) = run.glob("events.*")
    before.unlink()
    evaluate(config, run)
    scores = json.loads((run / "scores.json").read_text())
    values = {v.tag: (s, v.simple_value) for s, v in list_values(read_events(run))}
    step, dice = values["test/dice/cell"]
    assert step == scores["step"]
    assert dice == pytest.approx(scores["test/dice/cell"], rel=1e-6)
    assert "_hparams_/session_start_info" in values


def test_an_evaluation_sends_nothing(trained, tmp_path, wandb):
    """The config may be that of a stranger's run folder."""
    config, folder = trained
    run = shutil.copytree(folder, tmp_path / "run")
    (run / "wandb.json").write_text('{"id": "strangers"}')
    config = config.copy_and_resolve_references()
    config.logs = ("wandb", "tensorboard")
    for events in run.glob("events.*"):
        events.unlink()
    evaluate(config, run)
    assert wandb.calls == []
    assert list_values(read_events(run))


def test_a_config_is_flattened():
    config = {
        "a": 1,
        "b": {"c": 2.5, "d": {"e": True}},
        "f": [{"name": "x"}, {"name": "y", "z": [[1, 2], [3]]}],
        "g": [],
        "h": None,
    }
    assert flatten_config(config) == {
        "a": 1,
        "b.c": 2.5,
        "b.d.e": True,
        "f[0].name": "x",
        "f[1].name": "y",
        "f[1].z": "[1, 2], [3]",
        "g": "",
    }


@pytest.fixture
def wandb(monkeypatch):
    """A module `wandb` that records its calls."""
    module = ModuleType("wandb")
    module.calls = calls = []

    def record(name):
        return lambda *args, **kwargs: calls.append((name, *args, *kwargs.items()))

    def init(**options):
        calls.append(("init", options))
        names = ("define_metric", "log", "finish")
        run = SimpleNamespace(**{name: record(name) for name in names})
        run.summary = SimpleNamespace(update=record("summary"))
        return run

    module.init, module.Image = init, lambda picture: ("image", picture.shape)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return module


def track(config, folder):
    with open_trackers(config, folder) as (tracker,):
        tracker.start(4)
        tracker.write_scalars(5, {"train/loss": 0.5})
        tracker.write_picture(5, "val/predictions", PICTURE)
        tracker.write_test_scores(4, {"test/dice": 0.25})


def test_wandb_gets_numbers_pictures_scores_and_the_config(tiny, tmp_path, wandb):
    tiny.logs = ("wandb",)
    run = tmp_path / "run"
    run.mkdir()
    track(tiny, run)
    (_, options), *calls = wandb.calls
    assert options["config"]["optimizer"]["learning_rate"] == 1e-3
    assert options["name"] == "run"
    assert (options["project"], options["dir"]) == ("unet_jax", str(run))
    assert json.loads((run / "wandb.json").read_text()) == {"id": options["id"]}
    assert calls == [
        ("define_metric", "step"),
        ("define_metric", "*", ("step_metric", "step")),
        ("log", {"step": 5, "train/loss": 0.5}),
        ("log", {"step": 5, "val/predictions": ("image", (4, 6, 3))}),
        ("summary", {"test/dice": 0.25}),
        ("finish", ("exit_code", 0)),
    ]


def test_a_resumed_run_goes_on_in_the_same_run_of_wandb(tiny, tmp_path, wandb):
    tiny.logs = ("wandb",)
    track(tiny, tmp_path)
    with pytest.raises(KeyError), open_trackers(tiny, tmp_path):
        raise KeyError
    assert wandb.calls[-1] == ("finish", ("exit_code", 1))
    first, second = (call[1] for call in wandb.calls if call[0] == "init")
    assert first["id"] == second["id"]
    assert first["resume"] == second["resume"] == "allow"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"abc"', b'{"id": 5}', b'{"id": ""}', b'{"id": "../x"}']
    + [b'{"id": "a", "url": "http://x"}', b"\xff", b"[" * 9999, b'{"id": "a\\n"}'],
)
def test_a_wandb_json_that_is_not_ours_is_one_line(tiny, tmp_path, wandb, content):
    tiny.logs = ("wandb",)
    (tmp_path / "wandb.json").write_bytes(content)
    with pytest.raises(
        UserError, match=r"wandb\.json is not valid .*; delete the file"
    ) as error:
        track(tiny, tmp_path)
    assert "\n" not in str(error.value)
    assert wandb.calls == []


def test_wandb_that_does_not_start_is_one_line(tiny, tmp_path, wandb):
    def init(**_):
        raise RuntimeError("api_key not configured (no-tty).\n  Run wandb login")

    wandb.init = init
    tiny.logs = ("tensorboard", "wandb")
    with pytest.raises(UserError, match=r"does not start \(api_key not .*offline") as e:
        track(tiny, tmp_path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("module", [None, ModuleType("wandb")], ids=["none", "folder"])
def test_wandb_that_is_not_installed_is_one_line(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "wandb", module)
    check_installed(("tensorboard",))
    with pytest.raises(UserError, match=r"pip install 'unet_jax\[wandb\]'"):
        check_installed(("tensorboard", "wandb"))


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        (("tensorbord",), "config.logs must be a tuple.* 'tensorboard'.*'wandb'"),
        ("wandb", r"config.logs needs a tuple: \('wandb',\), not 'wandb'"),
        (("wandb", 3), "config.logs must be a tuple.* not \\('wandb', 3\\)"),
    ],
)
def test_an_unknown_tracker_is_refused(tiny, logs, words):
    with tiny.ignore_type():
        tiny.logs = logs
    with pytest.raises(UserError, match=words):
        check_fields(tiny)


def test_open_trackers_are_closed_with_the_others(tiny, tmp_path):
    calls = []
    nothing = [lambda *_: None] * 4
    own = Tracker(*nothing, close=lambda *, failed: calls.append(failed))
    with open_trackers(tiny, tmp_path, [own]) as opened:
        assert opened[0] is own
        assert len(opened) == 2
    with pytest.raises(KeyError), open_trackers(tiny, tmp_path, [own]):
        raise KeyError
    assert calls == [False, True]


def test_trackers_are_for_the_first_process_and_may_be_none(
    tiny, tmp_path, monkeypatch
):
    tiny.logs = ()
    with open_trackers(tiny, tmp_path) as opened:
        assert opened == []
    tiny.logs = ("tensorboard",)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with open_trackers(tiny, tmp_path) as opened:
        assert opened == []
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_does_not_load_pytorch(tmp_path):
    """An import of the fake package would end the process."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    script = (
        "import sys, pathlib\n"
        "from unet_jax.run import trackers\n"
        "assert 'tensorboardX' not in sys.modules\n"
        "trackers.tensorboard(pathlib.Path('run'), {}).close(failed=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "run").iterdir())
