"""Sweep files: what they say, and one line for each mistake."""

import numpy as np
import pytest

import unet_jax
from unet_jax.build.sweep_file import Point, is_sweep_file, read_sweep_file
from unet_jax.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "sweep.py"
        path.write_text(text)
        return str(path)

    return write


def test_points(write):
    path = write(
        "base = 'isbi'\nseeds = range(2)\nscores = 'test/dice'\n"
        "def points():\n    return {'a': {'steps': 5}, 'b': {}}"
    )
    sweep = read_sweep_file(path)
    assert sweep.base == "isbi"
    assert sweep.points == (Point("a", {"steps": 5}), Point("b", {}))
    assert (sweep.seeds, sweep.scores) == ((0, 1), ("test/dice",))


def test_numbers_of_numpy_are_numbers(write):
    start = "import numpy as np\nbase = 'isbi'\n"
    sweep = read_sweep_file(write(start + "seeds = np.arange(2)\npoints = {'a': {}}"))
    assert repr(sweep.seeds) == "(0, 1)"
    space = "{'name': 'integer', 'low': np.int64(1), 'high': np.int8(3)}"
    text = f"{start}trials = np.int64(5)\nspace = {{'steps': {space}}}"
    read = read_sweep_file.__wrapped__(write(text))
    assert repr(read.trials) == "5"
    assert repr(read.space["steps"]) == "{'name': 'integer', 'low': 1, 'high': 3}"
    axes = {
        "optimizer.learning_rate": np.logspace(-3, -2, 2),
        "crop": [np.int64([8, 8])],
    }
    assert [*unet_jax.grid(axes)] == [
        "learning_rate=0.001_crop=8x8",
        "learning_rate=0.01_crop=8x8",
    ]


def test_points_may_be_pairs_and_data(write):
    sweep = read_sweep_file(write("base = 'isbi'\npoints = [('a', {}), ('b', {})]"))
    assert [point.name for point in sweep.points] == ["a", "b"]


def test_a_base_beside_the_sweep_file(write, tmp_path):
    (tmp_path / "mine.py").touch()
    sweep = read_sweep_file(write("base = 'mine.py'\npoints = {'a': {}}"))
    assert sweep.base == str(tmp_path / "mine.py")


def test_a_config_is_no_sweep_file(write):
    assert not is_sweep_file("quickstart")
    assert not is_sweep_file(write("base = 1\ndef get_config(): ...\npoints = {}"))
    assert not is_sweep_file(write("from mine import get_config, base\npoints = 1"))
    assert not is_sweep_file(write("def ("))
    assert is_sweep_file(write("space: dict = {}"))


SPACE = "base = 'isbi'\nspace = {'steps': {'name': 'integer', 'low': 1, 'high': 2}}\n"
POINTS = "base = 'isbi'\npoints = {'a': {}}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "points = {'a': {}}",
            "base is missing; name a config: base = 'configs/isbi.py'",
        ),
        ("base = 'isbi'", r"neither points\(\) nor space\(\); define one"),
        (SPACE + "points = {}", r"both points\(\) and space\(\); define one"),
        ("base = 'isbi'\ndef points(): return {}", r"points\(\) is empty"),
        ("base = 'isbi'\nspace = {}", r"space\(\) is empty"),
        ("base = 'isbi'\npoints = ['a']", r"must return {name: {field: value}}"),
        ("base = 'isbi'\npoints = {'a': 1}", "point 'a' must be a dict, not 1"),
        ("base = 'isbi'\nspace = {'steps': 5}", r"space\(\)\['steps'\] must be a spec"),
        (SPACE + "seeds = (0, 1)", r"seeds are for points\(\), not for space\(\)"),
        (SPACE + "trials = 0", "trials must be a whole number of 1 or more, not 0"),
        (
            POINTS + "seeds = 3",
            r"seeds = 3 is one number; write seeds = range\(3\) for 3 seeds, or seeds "
            r"= \(3,\) for one",
        ),
        (POINTS + "seeds = (-1,)", "seeds must be a tuple"),
        (POINTS + "seeds = 'one'", "seeds must be a tuple"),
        (POINTS + "scores = (1,)", "scores must be a tuple"),
        (POINTS + "fields = 3", "fields must be a dict, not 3"),
        (POINTS + "trials = 3", r"trials are for space\(\), not for points\(\)"),
        (POINTS + "seeds = True", "seeds must be a tuple"),
        ("base = 3\npoints = {'a': {}}", "base must be text, not 3; name a config"),
        ("base = 'isbi'\npoints = {'b': {3: 5}}", "point 'b': 3 is not the name of a"),
        ("base = 'isbi'\npoints = {'b': {'': 5}}", "point 'b': '' is not the name of"),
        (POINTS + "fields = {None: 3}", "fields: None is not the name of a field"),
        ("base = 'isbi'\nspace = {1: {}}", r"space\(\): 1 is not the name of a field"),
        (
            POINTS + "seed = 3",
            "'seed' is not a name of a sweep file; did you mean 'seeds'",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_file(write, text, message):
    path = write(text)
    with pytest.raises(UserError, match=message) as caught:
        read_sweep_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_grid_is_every_combination():
    loss = {"ce": "({'name':'cross_entropy'},)", "dice": "({'name':'dice'},)"}
    axes = {"optimizer.learning_rate": (1e-3, 0.01), "crop": ((64, 64),), "loss": loss}
    assert unet_jax.grid(axes) == {
        f"learning_rate={rate}_crop=64x64_{name}": {
            "optimizer.learning_rate": rate,
            "crop": (64, 64),
            "loss": loss[name],
        }
        for rate in (0.001, 0.01)
        for name in ("ce", "dice")
    }


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"loss": ("({'name':'dice'},)",)}, "name the values of loss"),
        ({"steps": 5}, "steps needs a tuple of values, not 5"),
        ({"steps": (1, 1)}, "two points have the name 'steps=1'"),
    ],
)
def test_a_wrong_grid(axes, message):
    with pytest.raises(UserError, match=message):
        unet_jax.grid(axes)
