"""Several runs as one: loads their checkpoints, and checks that they fit together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from ml_collections import ConfigDict

from unet_jax.build.fields import may_change
from unet_jax.build.preprocessing import (
    Preprocessing,
    check_preprocessing,
    merge_preprocessing,
)
from unet_jax.checkpoint import Checkpoints, check_trained, find_runs
from unet_jax.data.folders.splits import SPLIT_FILE
from unet_jax.errors import UserError
from unet_jax.json_file import read_json
from unet_jax.run import run_folder
from unet_jax.run.run_config import is_later_default, list_differences
from unet_jax.text import listing

# Members of an ensemble must agree on these keys of pre-processing and config.
SHARED_PREPROCESSING = (
    "classes",
    "channels",
    "target_channels",
    "spatial_axes",
    "normalize",
    "spacing",
)
SHARED_FIELDS = ("model", "task")


class _SplitFile(msgspec.Struct):
    """The part of split.json that is read here: the ids of the training images."""

    train: list[str]


class Member(NamedTuple):
    """A run of an ensemble.

    Attributes:
      run: its folder.
      step: of the checkpoint.
      metadata: of the checkpoint.
      variables: of the network, on the devices.
    """

    run: Path
    step: int
    metadata: Mapping[str, Any]
    variables: Any


def list_members(workdir: Path, ensemble: Sequence[str | Path] = ()) -> list[Path]:
    """Returns the runs whose predictions are averaged; all are trained.

    A folder of a cross-validation stands for the runs of its folds.

    Args:
      workdir: the folder of the first run.
      ensemble: the folders of further runs.

    Raises:
      UserError: a folder holds no checkpoint.
    """
    folders = [workdir, *(Path(folder).expanduser() for folder in ensemble)]
    runs = [run for folder in folders for run in find_runs(folder)]
    for run in runs:
        check_trained(run)
    return runs


def open_runs(config: ConfigDict, runs: Sequence[Path]) -> list[Checkpoints]:
    """Opens the checkpoints of each run, and checks that the runs fit together.

    Args:
      config: the config of the first run.
      runs: the run folders.

    Raises:
      UserError: a folder holds no checkpoint or is named twice, or the best checkpoint
        of a run does not fit that of the first one.
    """
    opened = []
    for i, run in enumerate(runs):
        check_trained(run)
        if run.resolve() in [other.resolve() for other in runs[:i]]:
            raise UserError(f"{run} is in the ensemble twice; name each run once")
        opened.append(run_folder.open_checkpoints(run, config))
        check_preprocessing(get_metadata(opened[i])["preprocessing"], run)
        check_member(run, get_metadata(opened[i]), get_metadata(opened[0]))
    return opened


def get_metadata(checkpoints: Checkpoints) -> dict[str, Any]:
    """Returns the metadata of the best checkpoint of a run."""
    return checkpoints.load_metadata(checkpoints.best)


def read_preprocessing(opened: Sequence[Checkpoints]) -> Preprocessing:
    """Returns the pre-processing of a run, or of the runs of an ensemble as one."""
    return merge_preprocessing([get_metadata(one)["preprocessing"] for one in opened])


def load_member(run: Path, checkpoints: Checkpoints, like: Any) -> Member:
    """Loads the best checkpoint of a run.

    Args:
      run: its folder.
      checkpoints: its checkpoints.
      like: the abstract variables, with shapes and shardings.
    """
    step, variables = checkpoints.load_best(like)
    return Member(run, step, checkpoints.load_metadata(step), variables)


def check_member(
    folder: Path, about: Mapping[str, Any], first: Mapping[str, Any]
) -> None:
    """Raises UserError if the metadata of a run do not fit those of the first run."""
    for read in (_read_shared_preprocessing, _read_shared_fields):
        expected, own = read(first), read(about)
        texts = [
            f"{name} is {new}, and {old} in the first run"
            for name, old, new in list_differences(expected, own)
            if not is_later_default(name, old, new)
        ]
        if texts:
            raise UserError(
                f"{folder} does not fit the first run: {listing(texts, 3, '; ')}; "
                "leave it out of the ensemble"
            )


def _read_shared_preprocessing(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the pre-processing in which the members of an ensemble must agree.

    Each member has measured the scale of its targets, so only the number must agree.
    """
    found = about["preprocessing"]
    shared = {name: found.get(name) for name in SHARED_PREPROCESSING}
    return shared | {"length of target_scale": len(found.get("target_scale", ()))}


def _read_shared_fields(about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields in which the members of an ensemble must agree."""
    return {name: about["config"].get(name) for name in SHARED_FIELDS}


def find_leaks(
    first: Mapping[str, Any], member: Member, test_ids: Sequence[str]
) -> str | None:
    """Returns a warning if a member may have trained on test images of the first run.

    If the member has a split.json, the ids of the images decide. Otherwise both runs
    must have the same data set with the same options.

    Args:
      first: the metadata of the checkpoint of the first run.
      member: another run.
      test_ids: the ids of the test images of the first run.
    """
    data, own = (about["config"]["data"] for about in (first, member.metadata))
    file = member.run / SPLIT_FILE
    unknown = f"{member.run} may have trained on some of these test images"
    if file.exists() and data.get("name") == own.get("name"):
        try:
            trained = read_json(file, _SplitFile, "delete it").train
        except UserError as error:
            return f"{unknown}: {error}"
        if leaks := sorted(set(trained) & set(test_ids)):
            return (
                f"{member.run} has trained on {len(leaks)} of these {len(test_ids)} "
                f"test images ({listing(leaks)}), so the scores are too good; leave it "
                "out of the ensemble"
            )
        return None
    names = sorted(data.keys() | own.keys())
    fields = [f"data.{name}" for name in names if data.get(name) != own.get(name)]
    fields = [name for name in fields if not may_change(name)]
    if fields:
        verb = "differs" if len(fields) == 1 else "differ"
        return f"{unknown}: {listing(fields)} {verb} from the first run"
    return None
