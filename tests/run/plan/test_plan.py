import json
import math
import types

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from unet_jax.build import binding
from unet_jax.build.surveying import survey
from unet_jax.data import sampling, weights
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.record import measure_record
from unet_jax.errors import UserError
from unet_jax.models import UNet
from unet_jax.run import train
from unet_jax.run.plan import Choice, cost, plan, sizing, written


def returned(source):
    """What the `get_config` of a file returns."""
    names = {}
    exec(compile(source, "plan.py", "exec"), names)
    return names["get_config"]()


def test_a_plan_is_measured_and_its_file_trains(tiny, tmp_path):
    tiny.data.shape = (18, 40)
    tiny.metrics = tiny.metrics[:1]
    splits = survey(tiny)
    made = plan(tiny, splits.report, splits)
    chosen = {choice.field: choice.value for choice in made.choices}
    assert chosen["crop"] == made.config.crop == (20, 40)
    assert chosen["model.widths"] == made.config.model.widths == (2, 4, 8)
    assert chosen["batch_size"] == made.config.batch_size == 8  # one for each device
    assert made.memory > 20 * 40 * 4 * 2 * 4  # one image, four times as wide as level 0
    assert made.seconds > 0
    assert (tiny.crop, tiny.model.widths) == ((16, 16), (2, 4))  # as it was given

    whole = written(made, "cells")
    for source in (whole, written(made, 'a """quoted\\" root\nof two lines')):
        config = returned(source)
        assert json.loads(config.to_json()) == json.loads(made.config.to_json())
        assert config == made.config  # and its tuples are tuples
        assert max(map(len, source.splitlines())) <= 88
    assert "# it holds the median image, 18 x 40" in whole
    config.steps = 1
    assert train(config, tmp_path) == 0


def test_memory_grows_with_the_batch_and_is_that_of_one_device(tiny):
    tiny.parallel = ConfigDict({"name": "mesh", "space": 2})
    tiny.crop, tiny.batch_size = (32, 32), 4
    splits = survey(tiny)
    four = cost.compiled(tiny, splits).memory
    tiny.batch_size = 16
    sixteen = cost.compiled(tiny, splits).memory
    one = 32 * 32 * 2 * 4  # bytes of an image as wide as the first level
    assert sixteen - four > 3 / 2 * 4 * one  # 3 more for 2 devices, 4 layers at least
    assert sixteen < 16 * 20 * one  # not what all devices take together


def bearing(monkeypatch, free, memory):
    """Replaces compiling by what it is to say; returns what was asked for."""
    tried = []

    def compiled(config, splits):
        tried.append((config.batch_size, config.crop, len(config.model.widths)))
        return cost.Compiled(None, None, memory(config), 2**20)

    monkeypatch.setattr(cost, "compiled", compiled)
    here = types.SimpleNamespace(free=lambda: free)
    monkeypatch.setattr(sizing.parallel, "here", lambda: here)
    layout = types.SimpleNamespace(replicas=1, space=1)
    monkeypatch.setattr(sizing.parallel, "pmap", lambda: layout)
    return tried


def taking(config):
    """Parameters and 100 bytes for each pixel."""
    return 2**20 + 100 * config.batch_size * math.prod(config.crop)


@pytest.fixture
def space():
    return sizing.Space(shapes=((512, 512),) * 400, median=(512, 512), aspect=(1, 1))


def test_memory_takes_from_the_batch_first_and_then_from_the_crop(monkeypatch, space):
    config = base.get_config()
    tried = bearing(monkeypatch, 2**50, taking)
    sizing.sized(config, None, [], space)
    assert tried == [(20, (512, 512), 5)]  # 5 % of 400 images

    tried = bearing(monkeypatch, 2 * 2**28, taking)  # 10 images are 250 MiB, and 1 more
    got = sizing.sized(config, None, [], space)
    assert [crop for _, crop, _ in tried] == [(512, 512)] * 2
    assert len(tried) == 2
    assert got.config.batch_size == tried[-1][0] == 10
    assert got.compiled.memory == taking(got.config)

    tried = bearing(monkeypatch, 2 * 2**25, taking)  # 1 image
    got = sizing.sized(config, None, [], space)
    assert len(tried) == 2
    assert got.config.batch_size == 2
    assert 256 < got.config.crop[0] < 512
    assert 2**24 < taking(got.config) <= 2**25
    reasons = {choice.field: choice.reason for choice in got.choices}
    assert "free memory" in reasons["crop"]


def test_what_never_fits_is_said_in_one_line(monkeypatch, space):
    bearing(monkeypatch, 2**30, lambda config: 2**31)
    with pytest.raises(UserError, match=r"2 GiB, more than half of the 1 GiB .*widths"):
        sizing.sized(base.get_config(), None, [], space)


def test_the_papers_recipe_stays_one_large_tile(monkeypatch, space):
    bearing(monkeypatch, 2**50, taking)
    config = base.get_config()
    config.model.padding, config.batch_size = "VALID", 1
    got = sizing.sized(config, None, [], space).config
    assert (got.batch_size, got.crop) == (1, (572, 572))
    assert got.model.widths == UNet().widths
    config.model.padding = "SAME"  # then one image is a small batch, like any other
    assert sizing.sized(config, None, [], space).config.batch_size == 20


def test_a_rare_class_weighs_more_and_draws_the_crops(monkeypatch):
    bearing(monkeypatch, 2**50, taking)
    monkeypatch.setattr(cost, "seconds", lambda config, compiled: 0.25)
    label = np.zeros((640, 640), np.int32)
    label[:32, :64] = 1  # 1/200
    image = np.arange(640 * 640, dtype=np.uint32).reshape(640, 640, 1)
    fact = measure_record({"image": image, "label": label, "id": "a"}, "train")
    account = DatasetReport("here", ("background", "spot"), records=(fact,))
    made = plan(base.get_config(), account, None)
    assert made.seconds == 250
    assert made.config.weight_map.shares == (0.995, 0.005)
    assert made.config.sampling.name == "foreground"
    weigh = binding.field(weights, made.config, "weight_map")
    assert weigh(label).mean() == pytest.approx(1)
    assert binding.field(sampling, made.config, "sampling")(np.array([0, 1])).any()

    config = base.get_config()  # with what somebody has chosen
    config.weight_map = ConfigDict({"name": "border"})
    config.sampling = ConfigDict({"name": "balanced"})
    made = plan(config, account, None)
    assert made.config.weight_map == config.weight_map
    assert made.config.sampling == config.sampling


def test_a_choice_changes_a_copy():
    config = base.get_config()
    config.predict.tile = config.get_ref("crop")
    before = config.to_json()
    choices = [
        Choice("crop", (64, 32), ""),
        Choice("model.widths", (3, 6), ""),
        Choice("weight_map", {"name": "frequency", "shares": (0.99, 0.01)}, ""),
        Choice("spacing", (1.0, 2.0), ""),
    ]
    changed = sizing.changed(config, choices)
    assert changed.model.widths == (3, 6)
    assert changed.spacing == (1.0, 2.0)
    assert changed.weight_map.to_dict() == choices[2].value
    assert changed.crop == changed.predict.tile == (64, 32)
    assert config.to_json() == before


def test_nothing_to_plan_for(tiny):
    with pytest.raises(UserError, match="here holds no images"):
        plan(tiny, DatasetReport(root="here", classes=("a", "b")), None)
