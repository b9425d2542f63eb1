"""Fields that are set as on a command line."""

import pytest
from ml_collections import ConfigDict

from unet_jax import command
from unet_jax.build.overrides import apply_fields, to_flags, to_text
from unet_jax.errors import UserError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-05"),
        (True, "True"),
        ("bg,fg", "bg,fg"),
        ([8, [16]], "(8, (16,))"),
        (ConfigDict({"name": "dice"}), "{'name': 'dice'}"),
        (({"name": "dice", "classes": [1]},), "({'name': 'dice', 'classes': (1,)},)"),
    ],
)
def test_a_value_as_text(value, text):
    assert to_text(value) == text
    assert to_flags({"x": value}) == [f"--config.x={text}"]


def test_values_and_their_texts_set_the_same_fields():
    config = command.load_config("quickstart")
    fields = {
        "steps": 7,
        "crop": [64, 64],
        "loss": ({"name": "dice"},),
        "loss[0].scale": 2,
        "model.remat": True,
        "data.root": "/a,b",
    }
    changed = apply_fields(config, fields)
    assert changed == apply_fields(config, {k: to_text(v) for k, v in fields.items()})
    assert (changed.steps, changed.crop, changed.model.remat) == (7, (64, 64), True)
    assert changed.loss[0] == {"name": "dice", "scale": 2}
    assert changed.data.root == "/a,b"
    assert config.steps == 250  # the config itself is left as it is


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": "many"}, "config.steps must be a whole number, not 'many'"),
        ({"task": 3}, "config.task=3: this is a spec"),
        ({"loss": {"name": "dice"}}, "config.loss needs a tuple"),
        ({"model.foo.bar": 3}, "the config has no field 'foo'"),
        ({"loss[9].scale": 3}, "there is no such element"),
    ],
)
def test_a_mistake_is_one_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        apply_fields(command.load_config("quickstart"), fields)
    assert "\n" not in str(caught.value)
