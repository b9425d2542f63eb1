"""Errors about functions of other packages: one line each."""

import sys
import types

import flax.linen as nn
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from unet_jax.build.training import build
from unet_jax.errors import UserError


class Bare(nn.Module):
    """A network without the attributes that a network needs."""

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


FUNCTIONS = {
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
    vars(module).update(FUNCTIONS)
    monkeypatch.setitem(sys.modules, "lab", module)


KINDS = {
    "task": "Task",
    "method": "Method",
    "data": "Splits",
    "schedule": "Callable",
    "optimizer": "GradientTransformation",
    "metrics": "Metric",
    "model": "Module",
    "parallel": "Layout",
}


def set_spec(config, field, name):
    """Sets a field to the external name of one of `FUNCTIONS`."""
    spec = ConfigDict({"name": f"lab:{name}"})
    with config.ignore_type():
        config[field] = (spec,) if isinstance(config[field], tuple) else spec
    if field == "optimizer":
        config.optimizer.learning_rate = 0.1
    return config


def get_error(config):
    """Returns the error of `build`, which is one line."""
    with pytest.raises(UserError) as error:
        build(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("field", KINDS)
def test_a_result_of_none_is_an_error(tiny, field):
    name = "no_steps" if field == "optimizer" else "nothing"
    place = f"config.{field}[0]" if field == "metrics" else f"config.{field}"
    assert get_error(set_spec(tiny, field, name)).startswith(
        f"{place}: 'lab:{name}' returned None, not a {KINDS[field]}; return the same "
    )


@pytest.mark.parametrize("field", ["task", "data"])
def test_a_result_of_another_type_is_an_error(tiny, field):
    assert "'lab:word' returned a value of type str" in get_error(
        set_spec(tiny, field, "word")
    )


@pytest.mark.parametrize("field", sorted(KINDS.keys() - {"optimizer"} | {"augment"}))
def test_a_wrong_signature_is_an_error(tiny, field):
    words = get_error(set_spec(tiny, field, "crowded"))
    assert words.startswith(f"config.{field}")
    assert "'lab:crowded' does not take the arguments that it is called with (" in words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "Untyped",
            "'lab:Untyped' does not take the arguments that it is called with (got an ",
        ),
        ("Bare", "'lab:Bare' has no outputs, fault, geometry or __call__; add what"),
        ("Sizeless", "'lab:Sizeless.geometry' returned a value of type int, not a Geo"),
        ("Unseeded", "'lab:Unseeded.__call__' does not take the arguments that it is "),
    ],
)
def test_a_network_without_a_needed_attribute_is_an_error(tiny, name, words):
    assert get_error(set_spec(tiny, "model", name)).startswith(f"config.model: {words}")


@pytest.mark.parametrize(
    ("field", "name", "words"),
    [
        ("loss", "logits_loss", "returned None, not a JAX array"),
        ("loss", "mean_loss", "returned an array of shape (), not one number for each"),
        ("augment", "nothing", "returned None, not a dict"),
        ("augment", "same", "returned a value of type "),
        ("augment", "imageless", "returned an example without image"),
    ],
)
def test_a_term_with_a_wrong_result_is_an_error(tiny, field, name, words):
    text = get_error(set_spec(tiny, field, name))
    assert text.startswith(f"config.{field}[0]: 'lab:{name}' {words}")
