"""The house: a file imports only from a lower floor; rooms do not know each other."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = {"arrays", "command", "errors", "geometry", "specs", "text"}
UPPER = {
    "methods": 2,
    "inference": 2,
    "build": 3,
    "run": 4,
}  # everything else is a room, on floor 1


def floor(room):
    return 0 if room in WORDS else UPPER.get(room, 1)


def imports(path):
    """The dotted names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms():
    for path in (ROOT / "unet_jax").rglob("*.py"):
        parts = path.relative_to(ROOT / "unet_jax").with_suffix("").parts
        if parts != ("__init__",):
            yield path, parts[0]


def test_imports_only_go_down():
    for path, room in rooms():
        for name in imports(path):
            if not name.startswith("unet_jax."):
                continue
            other = name.split(".")[1]
            words = floor(other) == floor(room) == 0
            allowed = other == room or floor(other) < floor(room) or words
            assert allowed, f"{path.relative_to(ROOT)} may not import {name}"


def test_the_package_knows_no_configs_and_no_tensorflow():
    for path, room in rooms():
        for name in imports(path):
            top = name.split(".")[0]
            assert top not in ("configs", "experiments", "tensorflow"), path
            if name.startswith("ml_collections"):
                assert floor(room) >= 3, f"{path}: the config stops at build.py"


def test_every_room_has_its_tests():
    """tests/ mirrors unet_jax/: test_room.py for a file, room/ for a folder."""
    tests = ROOT / "tests"
    for path, room in rooms():
        there = (tests / f"test_{room}.py").is_file() or (tests / room).is_dir()
        assert there, f"{path.relative_to(ROOT)} has no tests"
