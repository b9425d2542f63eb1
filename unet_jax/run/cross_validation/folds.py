"""The folds of a cross-validation: their configs, test images and logs."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.errors import UserError


def set_fold(config: ConfigDict, fold: int) -> ConfigDict:
    """Returns the config of a fold."""
    changed = config.copy_and_resolve_references()
    changed.data.fold = fold
    return changed


def check_test_images(tested: Mapping[str, Iterable[str]]) -> None:
    """Raises UserError if an image is a test image of two folds.

    Args:
      tested: the ids of the test images, by the name of the fold.
    """
    owners: dict[str, str] = {}
    for fold, ids in tested.items():
        for one in ids:
            if one in owners:
                raise UserError(
                    f"{one} is a test image of {owners[one]} and of {fold}, so the "
                    "scores would count it twice; cross-validate data without a test "
                    "split: without a folder test/ and without `split`"
                )
            owners[one] = fold


def hash_log(run: Path) -> str:
    """Returns a hash of the log of a run, which changes when training goes on.

    It is '' if the run has no log.
    """
    path = run / logs.METRICS
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
