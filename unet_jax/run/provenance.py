"""The provenance of a run: the commands, programs and machines that made it.

A *session* is one process that trained or evaluated the run. Every checkpoint holds the
sessions that led to it, so a session that was killed counts up to its last checkpoint.
"""

import contextlib
import contextvars
import datetime
import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import msgspec
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.training import TrainingParts
from unet_jax.checkpoint import load_newest_metadata
from unet_jax.data.folders.folder import DATA_FILE
from unet_jax.data.folders.splits import SPLIT_FILE
from unet_jax.errors import UserError
from unet_jax.json_file import convert
from unet_jax.logs import FIRST_STEP
from unet_jax.run import run_config

SESSIONS = "sessions"  # key of the metadata of a checkpoint
PACKAGES = ("unet_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
SPLIT_FIELDS = ("val", "test", "folds", "fold", "seed", "group", "series", "leaks")
# the beginnings of warnings of data/folders that name the rule of a split
SPLIT_WARNINGS = ("consecutive images look alike", "there are too few files")
GIT_SECONDS = 10.0  # the longest time to wait for git


class ConfigSource(NamedTuple):
    """The config file of a command.

    Attributes:
      file: its name as the user knows it: 'configs/isbi.py'.
      config: its own values, as JSON data.
    """

    file: str
    config: Mapping[str, Any]


class Session(NamedTuple):
    """The beginning of a session.

    Attributes:
      started: the local time.
      clock: the value of `time.monotonic` at that time.
      warnings: the number of warnings that the process had given before.
    """

    started: datetime.datetime
    clock: float
    warnings: int


class TrainingSession(msgspec.Struct):
    """The account of a session that trained, as `describe_training` returns it."""

    command: str
    started: str
    seconds: float
    config_file: str | None
    changed_fields: list[tuple[str, str, str]] | None
    versions: dict[str, str | None]
    hardware: dict[str, int | str]
    warnings: list[str]
    steps: tuple[int, int]
    images: dict[str, int]
    split: str


config_source: contextvars.ContextVar[ConfigSource | None] = contextvars.ContextVar(
    "config_source", default=None
)


@contextlib.contextmanager
def use_config_source(file: str | None, config: ConfigDict) -> Iterator[None]:
    """Makes a config file the source of the configs of the sessions in the context.

    Args:
      file: its name as the user knows it: 'configs/isbi.py'; None for a config that was
        made in Python.
      config: the values of the file, without those of the command line.
    """
    source = file and ConfigSource(file, run_config.config_to_json(config))
    token = config_source.set(source or None)
    try:
        yield
    finally:
        config_source.reset(token)


def start_session() -> Session:
    """Starts a session of this process."""
    now = datetime.datetime.now().astimezone()
    return Session(now, time.monotonic(), len(logs.given_warnings))


def describe_session(session: Session, config: ConfigDict) -> dict[str, Any]:
    """Returns the account of a session up to now, as JSON data.

    Its keys are `command`, a line for a shell; `started`, an ISO 8601 time; `seconds`;
    `config_file`; `changed_fields`, which are (name, value in the file, value in the
    run) of the fields that differ; `versions`; `hardware`; and `warnings`. A config
    that was made in Python has no file, and its changes are unknown.
    """
    source, changes = config_source.get(), None
    if source is not None:
        changes = run_config.list_differences(
            source.config, run_config.config_to_json(config)
        )
    return {
        "command": shlex.join(sys.orig_argv),
        "started": session.started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - session.clock, 1),
        "config_file": source and source.file,
        "changed_fields": changes and [list(change) for change in changes],
        "versions": dict(read_versions()),
        "hardware": dict(read_hardware()),
        "warnings": list(dict.fromkeys(logs.given_warnings[session.warnings :])),
    }


def describe_training(
    session: Session, config: ConfigDict, parts: TrainingParts, start: int, step: int
) -> dict[str, Any]:
    """Returns the account of a session that trains, as JSON data.

    It is that of `describe_session`, with the range of its `steps`, the number of
    `images` of each split, and the origin of the `split`.
    """
    images = {"train": parts.train, "val": parts.val, "test": parts.evaluation.test}
    if parts.unlabelled:
        images["unlabelled"] = parts.unlabelled
    return {
        **describe_session(session, config),
        "steps": [start, step],
        "images": {name: len(split) for name, split in images.items()},
        "split": describe_split(config, parts.notes),
    }


def describe_run(
    session: Session, config: ConfigDict, workdir: Path, variables: Any
) -> dict[str, Any]:
    """Returns the provenance of the scores of a run, as JSON data.

    Args:
      session: the session that evaluates the run.
      config: the config of the session.
      workdir: the run folder.
      variables: the variables of the network.

    Returns:
      The `network`, its number of `parameters`, the duration of the training, as
      `training_seconds` and `first_step_seconds` (see `logs.Times`), the sessions of
      `training` and that of `evaluation`. One that trained and then evaluated is in
      both.
    """
    times = logs.read_times(workdir)
    return {
        "network": run_config.config_to_json(config)["model"],
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "training_seconds": times.total,
        FIRST_STEP: times.first_step,
        "training": read_sessions(load_newest_metadata(workdir)),
        "evaluation": describe_session(session, config),
    }


def describe_split(config: ConfigDict, notes: Mapping[str, Any]) -> str:
    """Returns the origin of the splits of a run in words.

    Args:
      config: the config of the run.
      notes: `TrainingParts.notes`.
    """
    if SPLIT_FILE not in notes:
        return f"made by the data set {config.data.name}"
    if given := config.data.get("split"):
        return f"read from {given}"
    ids = notes[SPLIT_FILE]
    folders = [
        f"{name}/"
        for name in ("val", "test")
        if ids[name] and all(one.startswith(f"{name}/") for one in ids[name])
    ]
    if len(folders) == 2:
        return "the folders val/ and test/"
    origin = [f"the folder {folders[0]}"] if folders else []
    fields = [f"{n}={config.data[n]!r}" for n in SPLIT_FIELDS if n in config.data]
    origin += ["made with " + ", ".join(fields)] if fields else []
    warnings = notes.get(DATA_FILE, {}).get("warnings", ())
    origin += [w.partition(";")[0] for w in warnings if w.startswith(SPLIT_WARNINGS)]
    return "; ".join(origin)


def read_sessions(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the sessions in the metadata of a checkpoint; older ones have none.

    What is not the account of a session is left out.
    """
    sessions = metadata.get(SESSIONS)
    return [
        each
        for each in (sessions if isinstance(sessions, list) else [])
        if _is_session(each)
    ]


def _is_session(data: Any) -> bool:
    try:
        convert(data, TrainingSession, SESSIONS, "")
    except UserError:
        return False
    return True


@functools.cache
def read_versions() -> Mapping[str, str | None]:
    """Returns the versions of Python and of packages, and the commit of a checkout.

    The commit is that of the folder that holds `unet_jax/`; it ends with '-dirty' if
    files differ from it. It is None if the package is installed.
    """
    versions: dict[str, str | None] = {"commit": _read_commit()}
    versions["python"] = platform.python_version()
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _read_commit() -> str | None:
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *describe],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@functools.cache
def read_hardware() -> Mapping[str, Any]:
    """Returns the devices of all processes, and the processor of this machine."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    usable = getattr(os, "sched_getaffinity", None)
    return {
        "devices": jax.device_count(),
        "device": jax.devices()[0].device_kind,
        "processes": jax.process_count(),
        "processor": _read_processor(),
        "cores": len(usable(0)) if usable else os.cpu_count(),
        "memory": pages * size,
    }


def _read_processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():  # Linux
        for line in information.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def list_changes(sessions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Merges the changed fields of sessions; the last one that changes a field wins."""
    merged = {
        name: [name, old, new]
        for session in sessions
        for name, old, new in session.get("changed_fields") or ()
    }
    return [merged[name] for name in sorted(merged)]
