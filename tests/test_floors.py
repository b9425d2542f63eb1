"""Imports only go down: between the floors of the package, and inside data/.

Rooms on one floor do not import each other. Files of one room do, but not in a circle.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = {
    *("arrays", "colours", "errors", "geometry", "json_file", "logs", "notebook"),
    *("progress", "specs", "text"),
}
FLOORS = {  # other rooms: floor 1
    "methods": 2,
    "inference": 2,
    "export": 2,
    "build": 3,
    "run": 4,
    "command": 5,
    "api": 6,
    "convert": 6,
    "__main__": 6,
}
DATA_FLOORS = {"files": 0, "folders": 2, "datasets": 3}  # files in data/ itself: 1

PATHS = sorted((ROOT / "unet_jax").rglob("*.py"))


def module_name(path):
    """'unet_jax.data.source' for a file, 'unet_jax.data' for data/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PATHS}


def room(module):
    """'data' for 'unet_jax.data.source'; '' for the package itself."""
    return (module.split(".") + [""])[1]


def floor(module):
    return 0 if room(module) in WORDS else FLOORS.get(room(module), 1)


def data_floor(module):
    """The floor of a file inside data/; data/__init__.py is above all others."""
    parts = module.split(".")
    return DATA_FLOORS.get(parts[2], 1) if len(parts) > 2 else 4


def imports(module, *, anywhere=True):
    """The dotted names that a file imports: anywhere, or only when it is imported."""
    tree = ast.parse(MODULES[module].read_text())
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(module, **kwargs):
    """The files of the package that a file imports, by their names."""
    for name in imports(module, **kwargs):
        other = name if name in MODULES else name.rpartition(".")[0]
        if other in MODULES and other != module:
            yield other


def test_imports_only_go_down():
    for module in MODULES:
        for other in imported_modules(module):
            same = room(other) == room(module)
            words = floor(other) == floor(module) == 0
            down = floor(other) < floor(module)
            allowed = same or words or down or module == "unet_jax"
            assert allowed, f"{module} may not import {other}"


def test_imports_inside_data_only_go_down():
    for module in MODULES:
        for other in imported_modules(module):
            if room(module) == room(other) == "data":
                allowed = data_floor(other) <= data_floor(module)
                assert allowed, f"{module} may not import {other}"


def test_no_files_import_each_other_in_a_circle():
    finished = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in finished:
            for other in imported_modules(module, anywhere=False):
                visit(other, [*path, module])
            finished.add(module)

    for module in MODULES:
        visit(module, [])


def test_the_package_knows_no_configs_and_no_tensorflow():
    for module in MODULES:
        for name in imports(module):
            top = name.split(".")[0]
            assert top not in ("configs", "experiments", "tensorflow"), module
            if top == "ml_collections":
                assert floor(module) >= 3, f"{module}: the config stops at build/"


def test_every_room_has_its_tests():
    """tests/ mirrors unet_jax/: test_room.py for a file, room/ for a folder."""
    tests = ROOT / "tests"
    for module in MODULES:
        name = room(module).strip("_")
        exists = (tests / f"test_{name}.py").is_file() or (tests / name).is_dir()
        assert exists or not name, f"{module} has no tests"
