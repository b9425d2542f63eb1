"""Functions of other packages that return the wrong thing: one line each."""

import sys
import types

import flax.linen as nn
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from unet_jax.build.training import build
from unet_jax.errors import UserError


class Bare(nn.Module):
    """A network without the parts that the other files read."""

    dtype: type = jnp.float32
    axis_name: str | None = None


class Sizeless(Bare):
    outputs: int = 2

    def fault(self):
        return None

    def geometry(self, axes):
        return axes

    def __call__(self, image, *, train=False, seed=None):
        return image


class Untyped(nn.Module):
    outputs: int = 2


class Unseeded(Sizeless):
    def __call__(self, image, *, train=False):
        return image


LAB = {
    "nothing": lambda *args, **kwargs: None,
    "no_steps": lambda rate, *, learning_rate: None,
    "word": lambda *args, **kwargs: "word",
    "crowded": lambda one, two, three, four: None,
    "Bare": Bare,
    "Sizeless": Sizeless,
    "Untyped": Untyped,
    "Unseeded": Unseeded,
    "logits_loss": lambda logits, label, weight: None,
    "mean_loss": lambda logits, label, weight: logits.mean(),
    "same": lambda key, example: example["image"],
    "imageless": lambda key, example: {"label": example["label"]},
}


@pytest.fixture(autouse=True)
def lab(monkeypatch):
    module = types.ModuleType("lab")
    vars(module).update(LAB)
    monkeypatch.setitem(sys.modules, "lab", module)


KINDS = {
    "task": "Task",
    "method": "Method",
    "data": "Splits",
    "schedule": "Callable",
    "optimizer": "GradientTransformation",
    "metrics": "Metric",
    "model": "Module",
}


def named(config, field, name):
    spec = ConfigDict({"name": f"lab:{name}"})
    with config.ignore_type():
        config[field] = (spec,) if isinstance(config[field], tuple) else spec
    if field == "optimizer":
        config.optimizer.learning_rate = 0.1
    return config


def line(config):
    with pytest.raises(UserError) as error:
        build(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("field", KINDS)
def test_the_wrong_result_is_named(tiny, field):
    name = "no_steps" if field == "optimizer" else "nothing"
    place = f"config.{field}[0]" if field == "metrics" else f"config.{field}"
    assert line(named(tiny, field, name)).startswith(
        f"{place}: 'lab:{name}' returned None, not a {KINDS[field]}; return what unet"
    )


@pytest.mark.parametrize("field", ["task", "data"])
def test_another_type_is_named(tiny, field):
    assert "'lab:word' returned a value of type str" in line(named(tiny, field, "word"))


@pytest.mark.parametrize(
    "field", ["task", "method", "data", "schedule", "metrics", "model", "augment"]
)
def test_the_wrong_arguments_are_named(tiny, field):
    words = line(named(tiny, field, "crowded"))
    assert words.startswith(f"config.{field}")
    assert "'lab:crowded' is called with other arguments than it has (" in words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "Untyped",
            "'lab:Untyped' is called with other arguments than it has (got an ",
        ),
        ("Bare", "'lab:Bare' has no outputs, fault, geometry or __call__; unet_jax."),
        ("Sizeless", "'lab:Sizeless.geometry' returned a value of type int, not a Geo"),
        ("Unseeded", "'lab:Unseeded.__call__' is called with other arguments than it "),
    ],
)
def test_a_network_that_lacks_a_part_is_named(tiny, name, words):
    assert line(named(tiny, "model", name)).startswith(f"config.model: {words}")


@pytest.mark.parametrize(
    ("field", "name", "words"),
    [
        ("loss", "logits_loss", "returned None, not an array of JAX"),
        ("loss", "mean_loss", "returned an array of shape (), not one number for each"),
        ("augment", "nothing", "returned None, not a dict"),
        ("augment", "same", "returned a value of type "),
        ("augment", "imageless", "returned an example without image"),
    ],
)
def test_a_term_that_gives_the_wrong_thing_is_named(tiny, field, name, words):
    text = line(named(tiny, field, name))
    assert text.startswith(f"config.{field}[0]: 'lab:{name}' {words}")
