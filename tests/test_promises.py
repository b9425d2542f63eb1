"""The rules of CONTRIBUTING.md that the source itself can show.

`test_floors.py` reads the imports; ruff checks that docstrings and annotations exist.
"""

import ast
import fnmatch
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from unet_jax import losses
from unet_jax.build import binding
from unet_jax.tasks import TaskData, semantic

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "unet_jax").rglob("*.py"))
TREES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in FILES}
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def nodes(*kinds):
    """The file and the node of everything of these kinds in the package."""
    for path, tree in TREES.items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, kinds))


def test_no_class_derives_from_a_class_of_the_package():
    """Except errors: a caller can catch one kind, and the command line all of them."""
    own = {node.name for _, node in nodes(ast.ClassDef)} - {"UserError"}
    for path, node in nodes(ast.ClassDef):
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        assert not bases & own, f"{path}: {node.name} derives from {bases & own}"


def test_there_is_no_drawer_for_everything():
    for path in TREES:
        assert not {"utils", "util", "helpers", "common", "misc"} & {
            part.removesuffix(".py") for part in path.parts
        }


def test_to_add_a_loss_is_one_function_and_its_name(tiny, monkeypatch):
    def fresh(logits, label, weight, *, factor: float = 1.0):
        return factor * jnp.ones(len(logits))

    monkeypatch.setattr(losses, "fresh", fresh, raising=False)
    monkeypatch.setattr(losses, "__all__", [*losses.__all__, "fresh"])
    with tiny.ignore_type():
        tiny.loss = ({"name": "fresh", "factor": 3.0, "scale": 2.0},)
    task = semantic(TaskData(("background", "cell"), 2, 1))
    total, _ = binding.build_loss(tiny, task)
    logits, label = jnp.zeros((4, 8, 8, 2)), jnp.zeros((4, 8, 8), jnp.int32)
    value = jax.jit(total)({"label": logits}, {"label": label}, jnp.ones((4, 8, 8)))
    assert value.tolist() == [6.0] * 4


def documented(node):
    """The names that the Args section of a docstring explains."""
    text = ast.get_docstring(node) or ""
    if section := re.search(r"^Args:\n((?:  .*\n|\n)+)", text + "\n", re.M):
        yield from re.findall(r"^  (\w+):", section[1], re.M)


def test_docstrings_explain_the_arguments_that_there_are():
    for path, node in nodes(ast.FunctionDef):
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        every += [rest for rest in (given.vararg, given.kwarg) if rest]
        unknown = set(documented(node)) - {argument.arg for argument in every}
        assert not unknown, f"{path}: {node.name} has no {unknown}"


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem[:4])
def test_a_decision_is_short_and_numbered(path):
    text = path.read_text()
    number = f"{DECISIONS.index(path) + 1:04d}"
    assert path.name.startswith(f"{number}-")
    assert text.startswith(f"# {number} ")
    assert len(text.splitlines()) <= 25
    for word in ("Context", "Choice"):
        assert f"**{word}" in text


def test_pytest_enters_every_folder_of_tests(pytestconfig):
    """By default it leaves out folders that are named build, such as tests/build."""
    left_out = pytestconfig.getini("norecursedirs")
    for path in (ROOT / "tests").rglob("test_*.py"):
        for folder in path.relative_to(ROOT).parts[:-1]:
            assert not any(fnmatch.fnmatch(folder, pattern) for pattern in left_out)
