"""Prepared data sets by name: on the disk, whoever put them there, or made now.

What another program prepared with TFDS can be read if it is stored as array_record. To
prepare one here, TFDS's own builders would need TensorFlow; those of `data/builders`
do not.
"""

import contextlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unet_jax.data import builders
from unet_jax.data.builders.archive import line
from unet_jax.data.prepared import builder_of, home, prepare
from unet_jax.errors import UserError, suggest

READABLE = "array_record"  # the format that needs no TensorFlow
TFDS = "tensorflow_datasets."
_CLASS = ("pythonClassName", "python_class_name", "type")  # of TFDS 4, and of before
_NAME = re.compile(r"(?P<name>\w+)(?:/(?P<config>[^/:]+))?(?::(?P<version>[\d.]+))?")


def prepared_by_name(dataset: str, manual_dir: str, data_dir: str) -> Any:
    """The builder of a data set that can be read, prepared now if that can be.

    Args:
      dataset: `name`, `name/config` or `name/config:version`.
      manual_dir: where the archives are of one that has a builder here.
      data_dir: where prepared data sets lie; '' is TFDS's own folder.

    Raises:
      UserError: it is not there, stored in a format that needs TensorFlow, or names
        code from outside TFDS.
    """
    import tensorflow_datasets

    match = _NAME.fullmatch(dataset)
    if not match:
        raise UserError(
            f"dataset must be name, name/config or name/config:version, not {dataset!r}"
        )
    there = _versions(Path(home(data_dir)), **match.groupdict())
    for folder in there:
        _check_features(folder)
        with _reading(folder):
            found = tensorflow_datasets.builder_from_directory(folder)
            formats = {form.value for form in found.info.available_file_formats()}
        if READABLE in formats:
            return found
    plain = not (match["config"] or match["version"])
    if plain and match["name"] in _ours():
        return prepare(builder_of(match["name"]).Builder, manual_dir, data_dir)
    place = there[0] if there else f"{home(data_dir)}/{dataset}"
    reason = f"is stored as {', '.join(sorted(formats))}" if there else "is not there"
    code = f"tensorflow_datasets.builder({dataset!r}, file_format={READABLE!r}"
    raise UserError(
        f"{place} {reason}, and only TensorFlow can prepare it: where it is installed, "
        f"run {code}, data_dir=...).download_and_prepare(), and give that folder as "
        f"data_dir; prepared without it are {', '.join(_ours())}"
    )


def _versions(
    root: Path, *, name: str, config: str | None, version: str | None
) -> list[Path]:
    """The folders of the data set, the latest version first.

    Raises:
      UserError: it is there, but the config must be named.
    """
    base = root / name / config if config else root / name
    found = [path.parent for path in base.glob("*/dataset_info.json")]
    if not found and not config:
        configs = {path.parents[1].name for path in base.glob("*/*/dataset_info.json")}
        if configs:
            raise UserError(
                f"dataset: {name} needs its config, {name}/CONFIG; "
                f"{suggest('', configs)}"
            )
    numbered = {tuple(map(int, re.findall(r"\d+", path.name))): path for path in found}
    latest = [numbered[number] for number in sorted(numbered, reverse=True)]
    return [path for path in latest if version in (None, path.name)]


def _ours() -> list[str]:
    """The data sets that have a builder here."""
    return sorted(m.name for m in pkgutil.iter_modules(builders.__path__) if m.ispkg)


def _check_features(folder: Path) -> None:
    """Raises UserError if TFDS would import a module that the folder names.

    TFDS imports the module of every feature class in a `features.json`. The folder is
    data, so only the classes of TFDS itself are allowed.
    """
    for path in sorted(folder.rglob("features.json")):
        try:
            names = list(_class_names(json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path} cannot be read ({line(error)}); prepare the data set again"
            ) from error
        for name in names:
            if not name.startswith(TFDS):
                raise UserError(
                    f"{path} names the class {name!r}, code from outside "
                    "tensorflow_datasets, which is not imported; prepare the data set "
                    "with the features of tensorflow_datasets"
                )


def _class_names(value: Any) -> Iterator[str]:
    """Yields the names of the feature classes in a value of JSON, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _CLASS and isinstance(inner, str):
                yield inner
            else:
                yield from _class_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _class_names(inner)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):  # TFDS stores some features as JSON text
            yield from _class_names(json.loads(value))


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turns what TFDS raises at a folder into one line that names it."""
    try:
        yield
    except Exception as error:  # it has many ways to say that files are broken
        raise UserError(
            f"{folder} cannot be read ({line(error)}); delete it, or prepare it again"
        ) from error
