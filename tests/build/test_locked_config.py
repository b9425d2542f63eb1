"""A config that is changed in Python: each mistake is one line, at once."""

import copy
import operator
import pickle

import pytest
from ml_collections import ConfigDict

from unet_jax.build.locked_config import lock_fields
from unet_jax.configs import quickstart
from unet_jax.errors import UserError


@pytest.fixture
def config():
    return lock_fields(quickstart.get_config())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stepz", 3, r"config has no field 'stepz'; did you mean config\.steps\?"),
        ("lr", 1e-3, r"'lr'; did you mean config\.optimizer\.learning_rate\?"),
        ("head", "sigmoid", r"config\.head is no longer a field; use config\.task"),
        ("zzz", 1, "config has no field 'zzz'; available: augment, batch_size, .*"),
        ("steps", "many", r"config\.steps must be a whole number .*, not 'many'"),
        ("steps", 2.5, r"config\.steps must be a whole number .*, not 2\.5"),
        ("crop", 64, r"config\.crop needs a tuple: \(64,\), not 64"),
        ("metrics", "dice", r"config\.metrics must be a tuple of specs.*"),
        ("task", "flow", r"config\.task must be a spec.*"),
    ],
)
@pytest.mark.parametrize("change", [setattr, operator.setitem])
def test_a_wrong_field_or_value_is_one_line(config, change, name, value, words):
    with pytest.raises(UserError, match=f"^(.*){words}.*$"):
        change(config, name, value)
    assert config.to_dict() == quickstart.get_config().to_dict()


def test_an_update_is_checked(config):
    config.update({"steps": 3, "optimizer": {"clip": 0.5}})
    assert (config.steps, config.optimizer.clip) == (3, 0.5)
    assert config.optimizer.name == "adam"
    with pytest.raises(UserError, match="stepz"):
        config.update(stepz=3)


def test_fields_are_set_with_plain_python(config):
    config.crop = [64, 32]
    config.cache = 3
    config.loss = [{"name": "dice", "smooth": 0.5}]
    config.task = {"name": "semantic"}
    config.model.widths = (4, 8)
    config.model.head = 3  # specs have any key; the build checks it
    config.predict.tta = "d4"
    assert config.crop == (64, 32)
    assert config.loss == (ConfigDict({"name": "dice", "smooth": 0.5}),)
    assert type(config.task) is ConfigDict
    assert (config.model.head, config.predict.tta, config.cache) == (3, "d4", 3.0)


def test_copies_are_equal_and_locked(config):
    for same in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        config.copy_and_resolve_references(),
    ):
        assert same == config
        with pytest.raises(UserError, match="stepz"):
            same.stepz = 3
    assert config.to_json() == quickstart.get_config().to_json()


def test_it_is_shown_as_a_line_for_each_field(config):
    lines = str(config).splitlines()
    assert len(lines) == len(config)
    assert "steps = 250" in lines
    assert "crop = (128, 128)" in lines
    assert "task = {'name': 'flow'}" in lines
    assert repr(config) == str(config)
