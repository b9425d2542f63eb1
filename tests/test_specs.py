import sys
from types import SimpleNamespace
from typing import Literal

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from unet_jax.errors import UserError
from unet_jax.specs import bind, find_externals, find_source_file


def focal(logits, *, gamma: float = 2.0, mode: Literal["mean", "sum"] = "mean"):
    return logits * gamma, mode


def needs(*, rate: float, sizes: tuple[int, ...] = ()):
    return rate, sizes


module = SimpleNamespace(
    __all__=["focal", "needs"], focal=focal, needs=needs, hidden=needs
)


def test_bind_binds_the_keywords():
    assert bind(module, {"name": "focal", "gamma": 3}, "loss")(2.0) == (6.0, "mean")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "focl"}, ["loss.name", "did you mean 'focal'", "focal, needs"]),
        ({"name": "hidden", "rate": 1.0}, ["unknown name 'hidden'"]),
        ({"name": "focal", "gama": 1.0}, ["did you mean 'gamma'", "gamma, mode"]),
        ({"name": "focal", "logits": 1.0}, ["has no keyword 'logits'"]),
        ({"name": "focal", "gamma": "2"}, ["loss.gamma must be a number", "'2'"]),
        ({"name": "focal", "gamma": True}, ["loss.gamma must be a number"]),
        (
            {"name": "focal", "mode": "max"},
            ["loss.mode must be 'mean' or 'sum', not 'max'"],
        ),
        ({"name": "needs"}, ["also needs rate"]),
        ({"name": "needs", "rate": 1.0, "sizes": (1, 2.5)}, ["loss.sizes"]),
        ({"gamma": 1.0}, ["loss must be a spec, {'name': ...}"]),
        ({"name": "theirs.losses.focal"}, ["did you mean 'theirs.losses:focal'?"]),
    ],
)
def test_a_wrong_spec_is_one_line_with_a_remedy(spec, words):
    with pytest.raises(UserError) as error:
        bind(module, spec, "loss")
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_loss_a_model_and_a_data_set_may_have_external_names(theirs):
    spec = {"name": "theirs.losses:focal", "gamma": 3}
    assert bind(module, spec, "loss")(2.0, 1.0) == 7.0
    assert bind(module, {"name": "theirs.losses:half"}, "loss")(2.0, 1.0) == 2.0
    assert bind(module, {"name": "theirs.losses:vague", "rate": 3}, "loss")(2.0) == 6.0

    spec = {"name": "theirs.nets:Pixelwise", "width": 3}
    make = bind(module, spec, "config.model", reserved=("outputs",))
    image = jnp.zeros((1, 4, 4, 1))
    logits, variables = make(outputs=5).init_with_output(jax.random.key(0), image)
    assert logits.shape == (1, 4, 4, 5)
    assert variables["params"]["Dense_0"]["kernel"].shape == (1, 3)

    splits = bind(module, {"name": "theirs.sets:squares", "edge": 6}, "config.data")()
    assert splits.train.load(0)["image"].shape == (6, 6, 1)


def test_find_source_file_returns_the_file_that_defines_the_function(theirs):
    assert find_source_file("theirs.losses:focal") == theirs / "losses.py"
    assert find_source_file("theirs.losses:half") == theirs / "losses.py"
    assert find_source_file("theirs.nets:Pixelwise") == theirs / "nets.py"
    # sets.py only imports it
    assert find_source_file("theirs.sets:cells").name == "cells.py"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"name": "theirs.losses:focl"},
            [
                "loss.name: no function 'focl' in {}/losses.py",
                "available: focal, vague",
            ],
        ),
        (
            {"name": "theirs.losses:GAMMA"},
            ["loss.name: 'theirs.losses:GAMMA' is not a function", "of type float"],
        ),
        (
            {"name": "theirs.losses:smallest"},
            ["loss.name: 'theirs.losses:smallest' has no signature"],
        ),
        (
            {"name": "theirs.losses:focal", "gama": 1.0},
            ["loss: 'theirs.losses:focal' has no keyword 'gama'", "{}/losses.py"],
        ),
        (
            {"name": "theirs.losses:focal", "scale": 2.0},
            ["has no keyword 'scale' (it must follow the * of the", "available: gamma"],
        ),
        (
            {"name": "theirs.losses:focal", "gamma": -1.0},
            ["loss.gamma must be a number of 0 or more, not -1.0", "{}/losses.py"],
        ),
        (
            {"name": "theirs.nets:Pixelwise"},
            ["'theirs.nets:Pixelwise' also needs width", "{}/nets.py"],
        ),
        ({"name": "theirs.losses:"}, ["write 'theirs.losses:' as 'package.module:"]),
        ({"name": ":focal"}, ["loss.name: write ':focal' as"]),
        (
            {"name": "theirs.metrics:focal"},
            ["cannot import 'theirs.metrics'", "No module named", "PYTHONPATH"],
        ),
    ],
)
def test_a_wrong_external_name_is_one_line(theirs, spec, words):
    with pytest.raises(UserError) as error:
        bind(module, spec, "loss")
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word.format(theirs) in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = (", "line 2: SyntaxError: '(' was never closed"),
        ("import absent", "line 1: ModuleNotFoundError: No module named 'absent'"),
        ("\n\n1 / 0", "line 3: ZeroDivisionError: division by zero"),
        ("raise ValueError('a\\n b')", "line 1: ValueError: a b"),
        ("raise SystemExit", "line 1: SystemExit"),
        (
            "def __getattr__(name):\n  if name == 'focal':\n    raise OSError(name)",
            "line 3: OSError: focal",
        ),
    ],
)
def test_an_import_error_is_one_line_with_the_place(theirs, text, words):
    (theirs / "broken.py").write_text(text)
    with pytest.raises(UserError) as error:
        bind(module, {"name": "theirs.broken:focal"}, "loss")
    assert str(error.value) == (
        f"loss.name: cannot import 'theirs.broken': {theirs}/broken.py, {words}"
    )


def test_external_names_are_found_at_any_depth_and_not_imported(theirs):
    config = ConfigDict(
        {
            "loss": (ConfigDict({"name": "dice"}), ConfigDict({"name": "theirs.a:f"})),
            "predict": {"postprocess": ({"name": "theirs.b:g"},), "tta": "none"},
            "data": {"name": "cells", "root": "C:/images", "inner": {"name": "c:h"}},
        }
    )
    assert list(find_externals(config, "config")) == [
        ("config.data.inner.name", "c:h"),
        ("config.loss[1].name", "theirs.a:f"),
        ("config.predict.postprocess[0].name", "theirs.b:g"),
    ]
    assert not [name for name in sys.modules if name.startswith("theirs")]
