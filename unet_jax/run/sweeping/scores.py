"""The scores of a finished run, read from its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_jax import logs
from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.run.run_folder import SCORES


def has_scores(folder: Path) -> bool:
    """Returns True if a run folder holds the scores that end a run."""
    return (folder / SCORES).is_file()


def read_scores(folder: Path, names: Sequence[str]) -> dict[str, float | None]:
    """Returns scores of the best checkpoint of a finished run.

    Args:
      folder: the run folder.
      names: the scores: 'test/dice', or 'val/dice'.

    Raises:
      UserError: scores.json cannot be read, or does not have one of them.
    """
    path = folder / SCORES
    content = read_json(path, dict[str, Any], "train the run again")
    rows = logs.read_scalars(folder)
    at_best = [row for row in rows if row["step"] == content.get("step")]
    found = {key: x for row in [*at_best, content] for key, x in row.items()}
    known = {k: x for k, x in found.items() if k.startswith(("val/", "test/"))}
    for name in names:
        if name not in known:
            raise UserError(f"{path} has no {name}; it has {', '.join(known)}")
    return {name: known[name] for name in names}
