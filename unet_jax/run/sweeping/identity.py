"""The identity of a sweep: what must be the same in every process that takes part."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import unet_jax
from unet_jax.errors import UserError
from unet_jax.json_file import decode_json
from unet_jax.run import run_config
from unet_jax.text import shorten


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
