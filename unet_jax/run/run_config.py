"""The config of a run: config.json, what may change in it, and consent to its names."""

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax.build.field_checks import check_fields
from unet_jax.build.fields import (
    FIELDS,
    UNSET,
    from_plain,
    make_default_config,
    may_change,
)
from unet_jax.checkpoint import find_runs, list_steps, load_newest_metadata
from unet_jax.errors import UserError, prefix_errors
from unet_jax.json_file import read_json
from unet_jax.logs import say, warn
from unet_jax.specs import find_externals, find_source_file
from unet_jax.text import one_line

ABSENT = "absent"  # stands for a field that a config does not have
CONFIG = "config.json"
WRITTEN = {  # keys of config.data: folders that data sets write, and files in them
    "records": ("*/about.json",),
    "data_dir": ("*/*/dataset_info.json", "*/*/*/dataset_info.json"),
}
# Keys that are newer than the first runs, which have the defaults of the network.
LATER = {
    *("data.background", "model.decoder_widths", "model.decoder_hidden"),
    *("model.up_widths", "model.upsample_conv", "model.head_kernel"),
}
EXTERNAL = "external"  # key of config.json: the file of each external name


def read_config(workdir: Path) -> dict[str, Any]:
    """Reads the config of a run from config.json or else from its newest checkpoint.

    That of a cross-validation is the config of its first fold.

    Raises:
      UserError: the folder has neither, or the two differ in a field that must not
        change.
    """
    workdir = find_runs(workdir)[0]
    file = workdir / CONFIG
    steps = list_steps(workdir)
    try:
        config = read_json(file, dict[str, Any], "name the folder of a run")
    except UserError as error:
        if not steps and file.exists():
            raise
        config = load_newest_metadata(workdir)["config"]
        reason = str(error).partition("; ")[0]
        _warn_once(f"{reason}; the config of the newest checkpoint is used")
        return _split_class_names(config)
    config.pop(EXTERNAL, None)
    if steps:
        _check_unchanged(config, load_newest_metadata(workdir)["config"], file)
    return _split_class_names(config)


def _split_class_names(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config with the classes of the command line as words.

    Older runs have them as one text: --config.data.classes=background,cell.
    """
    match config:
        case {"data": {"name": "folder", "classes": [str(text)]}} if "," in text:
            names = [name.strip() for name in text.split(",")]
            return config | {"data": config["data"] | {"classes": names}}
    return config


def make_config(saved: Mapping[str, Any], workdir: Path) -> ConfigDict:
    """Returns the config of a run; fields newer than the run have their defaults.

    Args:
      saved: from `read_config`.
      workdir: the run folder, for errors.

    Raises:
      UserError: a field has an impossible name, or is not valid.
    """
    config = make_default_config()
    with config.ignore_type():  # `check_fields` checks the types
        for name, value in saved.items():
            try:
                config[name] = from_plain(value)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{workdir}: config.{name} is not a field ({one_line(error)}); "
                    "name the folder of a run"
                ) from error
    with prefix_errors(str(workdir)):
        check_fields(config)
    return config


def make_config_content(config: ConfigDict) -> dict[str, Any]:
    """Returns the content of config.json.

    It is the config, with the files that define the external names of the config.
    """
    data = config_to_json(config)
    names = [name for _, name in _list_external_names(data)]
    if names:
        data[EXTERNAL] = {name: str(find_source_file(name)) for name in names}
    return data


def config_to_json(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as JSON data, with lists for tuples."""
    return json.loads(config.to_json())


@functools.cache
def _warn_once(text: str) -> None:
    warn(text)


def _check_unchanged(
    config: dict[str, Any], trained: dict[str, Any], file: Path
) -> None:
    """Raises UserError if config.json differs from the config in the checkpoint.

    Fields that may change, and fields that are newer than the run, may differ.
    """
    wrong = [
        f"{name} is {new}, and {old} in the checkpoint"
        for name, old, new in list_differences(trained, config)
        if new is ABSENT or not (may_change(name) or _is_later(name, old))
    ]
    if wrong:
        raise UserError(
            f"{file} was changed after training: {'; '.join(wrong)}. Delete the file "
            "to use the config of the checkpoint, or undo the change"
        )


def check_continues(workdir: Path, config: ConfigDict) -> None:
    """Checks that a config continues the run in a folder; prints what it changes.

    Raises:
      UserError: the folder holds another run; the message names the fields that differ.
    """
    differences = list_differences(read_config(workdir), config_to_json(config))
    is_old = "background" not in load_newest_metadata(workdir)["preprocessing"]
    wrong, changes = [], []
    for name, old, new in differences:
        if name == "steps":
            taken = list_steps(workdir)[-1]
            text = f"steps: {old} before; the schedule now ends at step {new}"
            if config.steps < taken:
                text = f"steps={new} changes nothing: the run has taken {taken} steps"
            changes.append(text)
        elif old is ABSENT and name == "data.background" and is_old:
            changes.append(
                f"{name}: the run is older than this field; its scores are the means "
                "over all classes, as before"
            )
        elif is_later_default(name, old, new):
            continue
        elif old is ABSENT and "." not in name:
            changes.append(f"{name}: the run is older than this field; it is now {new}")
        elif not may_change(name):
            wrong.append(f"{name} is {old} in the folder and {new} in this config")
    if wrong:
        raise UserError(
            f"{workdir} holds another run: {'; '.join(wrong)}. Choose another "
            f"--workdir, or continue the run with its own config: --workdir={workdir} "
            "without --config and --config.FIELD"
        )
    for line in changes:
        say(line)


def _is_later(name: str, old: str) -> bool:
    """Returns True if a run does not have the field because it is older."""
    known = name in [field.name for field in FIELDS]
    return old is ABSENT and known and ("." not in name or name in LATER)


def is_later_default(name: str, old: str, new: str) -> bool:
    """Returns True if a run lacks a key that is newer, and another has its default.

    Args:
      name: of a difference, from `list_differences`.
      old: the value in one config.
      new: the value in the other config.
    """
    defaults = {field.name: field.default for field in FIELDS if field.name in LATER}
    default = defaults.get(name, UNSET)
    if default is UNSET:
        return False
    return {old, new} == {ABSENT, json.dumps(default)}


def list_differences(old: Any, new: Any, name: str = "") -> list[tuple[str, str, str]]:
    """Returns (dotted name, old, new) of values that differ, as JSON text or ABSENT."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in list_differences(
                old.get(key, ABSENT), new.get(key, ABSENT), f"{name}.{key}".lstrip(".")
            )
        ]
    if old == new:
        return []
    old, new = (v if v is ABSENT else json.dumps(v) for v in (old, new))
    return [(name, old, new)]


def check_trusted(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    trust: bool,
    used: Mapping[str, Any] | None = None,
    predicts: bool = False,
) -> None:
    """Checks that the user allows what a run folder names outside of it.

    A run folder is data: without the user's consent, it must neither run code nor write
    files elsewhere. Call this before anything is built from the config; the check
    itself imports nothing.

    Args:
      config: the config as it was read from the folder.
      workdir: the folder.
      trust: True if the user allows everything.
      used: the config after the overrides of the command line, if there are any. Names
        that the user has replaced are not used, and new ones come from the user, so
        neither needs consent.
      predicts: True if no data set is built, so that none is written.

    Raises:
      UserError: a spec has an external name, or the data set would write to a folder
        that holds no prepared data, and `trust` is False.
    """
    if trust:
        return
    code = "code from outside unet_jax"
    written = "a folder without prepared data, which would be written"
    named = [(*each, code) for each in _list_external_names(config)]
    kept = set(_list_external_names(config if used is None else used))
    if not predicts:
        named += [(*each, written) for each in _list_written_folders(config)]
        kept |= set(_list_written_folders(config if used is None else used))
    for place, name, what in named:
        if (place, name) in kept:
            raise UserError(
                f"{place} in {workdir} is {name!r}, {what}; if you trust it, add "
                "--trust (in Python: trust=True)"
            )


def _list_written_folders(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the field and the name of each folder that a data set would write.

    A folder that already holds such data is one that the user has chosen before.
    """
    data: Any = config.get("data")
    if not isinstance(data, Mapping | ConfigDict):
        return
    for key, markers in WRITTEN.items():
        name = data.get(key)
        if isinstance(name, str) and name:
            folder = Path(name).expanduser()
            with contextlib.suppress(OSError, ValueError):  # cannot be a folder
                if not any(path for marker in markers for path in folder.glob(marker)):
                    yield f"config.data.{key}", name


def _list_external_names(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the field and the name of every spec that has an external name."""
    for field, value in config.items():
        yield from find_externals(value, f"config.{field}")
