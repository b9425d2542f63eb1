"""The identity of a sweep: what must be the same in every process that takes part."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import unet_jax
from unet_jax.errors import UserError
from unet_jax.json_file import decode_json
from unet_jax.run import provenance, run_config
from unet_jax.text import shorten

ORIGIN = "UNET_JAX_ORIGIN"  # the variable that tells a run what its sweep began with


def hash_text(text: str) -> str:
    """Returns a hash of a text, the same in every process."""
    return hashlib.sha256(text.encode()).hexdigest()


def describe_config(config: ConfigDict) -> str:
    """Returns the values of a config as JSON text."""
    return json.dumps(run_config.config_to_json(config), sort_keys=True)


def hash_code() -> str:
    """Returns a hash of the Python files of this package, without the configs."""
    root = Path(str(unet_jax.__file__)).parent
    files = [path.relative_to(root) for path in root.rglob("*.py")]
    total = hashlib.sha256()
    for file in sorted(file for file in files if file.parts[0] != "configs"):
        total.update(f"{file}\0".encode() + (root / file).read_bytes() + b"\0")
    return total.hexdigest()


def describe_origin() -> str:
    """Returns hashes of the code and, if there is one, of the config file."""
    source = provenance.config_source.get()
    hashes = [hash_code()]
    if source is not None:
        hashes.append(hash_text(json.dumps(source.config, sort_keys=True)))
    return " ".join(hashes)


def check_origin() -> None:
    """Checks that a run of a sweep begins with what the sweep began with.

    Raises:
      UserError: the code or the config file has been changed since.
    """
    expected = os.environ.get(ORIGIN)
    source = provenance.config_source.get()
    if expected is None or source is None:
        return
    names = "the code of unet_jax", source.file
    hashes = expected.split(), describe_origin().split()
    for name, before, now in zip(names, *hashes, strict=False):
        if before != now:
            raise UserError(
                f"{name} has changed since the sweep began; undo the change, and start "
                "the command of the sweep again"
            )


def check_same(
    identity: Mapping[str, str],
    mine: Mapping[str, str],
    place: Path,
    kind: str,
) -> None:
    """Checks that a process runs the sweep that its folder holds.

    Args:
      identity: that of the process that began the sweep.
      mine: that of this one.
      place: the journal, for errors.
      kind: 'sweep' or 'cross-validation', for errors.

    Raises:
      UserError: they differ; the message names what differs.
    """
    hashes = ("config", "code")
    old = {k: v for k, v in identity.items() if k not in hashes}
    new = {k: v for k, v in mine.items() if k not in hashes}
    if old != new:
        raise UserError(
            f"{place} holds another {kind}: {compare(old, new)}; choose another "
            "--workdir"
        )
    if identity["code"] != mine["code"]:
        raise UserError(
            f"{place}: the code of unet_jax differs from that of the {kind}; use the "
            "same version, or choose another --workdir"
        )
    configs = (_read_config(side["config"], place) for side in (identity, mine))
    if differences := run_config.list_differences(*configs):
        field, before, now = differences[0]
        raise UserError(
            f"{place}: {mine['base']} differs from that of the {kind}: {field} is "
            f"{shorten(before, 60)} in the journal and {shorten(now, 60)} in this "
            "command; use the same file, or choose another --workdir"
        )


def _read_config(text: str, place: Path) -> Any:
    """Returns the config of `describe_config`."""
    return decode_json(text, dict[str, Any], str(place), "choose another --workdir")


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Returns the first difference in words."""
    name = next(k for k in {**old, **new} if old.get(k) != new.get(k))
    before, now = (shorten(side.get(name, ""), 60) for side in (old, new))
    if name not in old:
        return f"{name} is {now} in this command and not set in the journal"
    if name not in new:
        return f"{name} is {before} in the journal and not set in this command"
    return f"{name} is {before} in the journal and {now} in this command"
