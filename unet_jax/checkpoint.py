"""Checkpoints of a run: the latest two and the best, saved in the background.

A checkpoint has two parts, each a tree of arrays in a folder of its own. `variables`
are the arrays that prediction and fine-tuning read. `training` are the other arrays of
the state. The config and the pre-processing are saved beside them as JSON, the
metadata: 'config', 'preprocessing', 'chosen_by' (the name of the score that selects the
best checkpoint) and 'waiting' (scalars that are not yet in the log).
"""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from unet_jax.errors import UserError

FOLDER = "checkpoints"
VARIABLES, TRAINING = "variables", "training"
REQUIRED_METADATA = ("config", "preprocessing")
# What Orbax and JSON raise at a damaged checkpoint.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError)
_policies = ocp.training.preservation_policies


class Checkpoints:
    """The checkpoints of one run folder; a context manager that waits for all saves.

    Args:
      workdir: the run folder.
      selection_score: the name of the score that selects the best checkpoint, such as
        'val/dice'. The highest score is the best, and the lowest loss. A checkpoint
        without scores is the best only if no checkpoint has scores.
    """

    def __init__(self, workdir: Path, selection_score: str) -> None:
        self._selection_score = selection_score
        # which checkpoints Orbax keeps; the property `best` chooses one of them
        best = _policies.BestN(
            get_metric_fn=self._rank, n=1, keep_checkpoints_without_metrics=False
        )
        policy = _policies.AnyPreservationPolicy([_policies.LatestN(2), best])
        folder = (workdir / FOLDER).absolute()  # Orbax needs an absolute path
        with _report_damage(folder, "a checkpoint in"):
            self._orbax = ocp.training.Checkpointer(folder, preservation_policy=policy)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint; None if there is none."""
        return self._orbax.latest.step if self._orbax.latest else None

    @property
    def best(self) -> int:
        """The step of the best checkpoint; of the newest if none has scores.

        Raises:
          UserError: there is no checkpoint, or the checkpoints have scores, but not the
            one that selects.
        """
        if self.latest is None:
            raise UserError(f"{self._orbax.directory} holds no checkpoint; train first")
        scored = [c for c in self._orbax.checkpoints if c.metrics]
        if not scored:
            return self.latest
        known = {name for c in scored for name in c.metrics}
        if self._selection_score not in known:
            raise UserError(
                f"no checkpoint in {self._orbax.directory} has the score "
                f"{self._selection_score}; put another metric first in config.metrics"
            )
        return max(scored, key=lambda c: (self._rank(c.metrics), c.step)).step

    def save(
        self,
        step: int,
        state: Any,
        variables: Callable[[Any], Any],
        metadata: Any,
        scores: Mapping[str, float | None],
    ) -> None:
        """Starts to save a state; returns as soon as the state may be donated.

        Args:
          step: the number of updates that led to the state.
          state: a tree of arrays.
          variables: state -> those of its arrays that prediction needs.
          metadata: JSON data to save with the state: `config`, `preprocessing`, and
            others.
          scores: the validation scores of the state; empty if it was not evaluated.
            None is an undefined score and ranks below all others.
        """
        if step == self.latest:
            return
        metrics = {
            k: _worst_score(k) if v is None else float(v) for k, v in scores.items()
        }
        parts = split_state(state, variables)
        self._orbax.save_checkpointables_async(
            step,
            {VARIABLES: parts.variables, TRAINING: parts.training},
            force=True,
            metrics=metrics or None,
            custom_metadata=metadata,
        )

    def wait(self) -> None:
        """Waits until all started saves are complete."""
        self._orbax.wait()

    def restore(self, step: int, like: Any, variables: Callable[[Any], Any]) -> Any:
        """Returns the state of a step; `like` gives its shapes and shardings.

        Raises:
          UserError: the checkpoint is damaged or has another format.
        """
        parts = split_state(like, variables)
        abstract = {VARIABLES: parts.variables, TRAINING: parts.training}
        tree = self._load(step, abstract)
        return parts.join(tree[VARIABLES], tree[TRAINING])

    def load_variables(self, step: int, like: Any) -> Any:
        """Returns the variables of a step; `like` gives their shapes and shardings.

        Raises:
          UserError: the checkpoint is damaged or has another format.
        """
        return self._load(step, {VARIABLES: like})[VARIABLES]

    def load_shapes(self, step: int) -> Any:
        """Returns the tree of the variables of a step with shapes and dtypes only.

        Raises:
          UserError: the checkpoint is damaged or has another format.
        """
        with _report_damage(self._orbax.directory / str(step)):
            tree = self._orbax.checkpointables_metadata(step).metadata[VARIABLES]
            if tree is None:  # Orbax logs that it cannot read the file; no exception
                raise ValueError(f"no metadata of its {VARIABLES}")
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

    def _load(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        with _report_damage(self._orbax.directory / str(step)):
            return self._orbax.load_checkpointables(step, abstract)

    def load_metadata(self, step: int) -> Any:
        """Returns the JSON data that was saved with the state of a step.

        Raises:
          UserError: the checkpoint is damaged, has another format, or was not written
            by this package.
        """
        return _load_metadata(self._orbax.directory / str(step))

    def _rank(self, scores: Mapping[str, float]) -> float:
        """Returns a number that is highest for the best checkpoint."""
        name = self._selection_score
        score = scores.get(name, _worst_score(name))
        return -score if _is_loss(name) else score


class StateParts(NamedTuple):
    """A state in two parts that have no array in common.

    Attributes:
      variables: the tree of the arrays that prediction needs.
      training: the other arrays, by their paths in the state.
      join: `(variables, training) -> state`.
    """

    variables: Any
    training: dict[str, Any]
    join: Callable[[Any, dict[str, Any]], Any]


def split_state(state: Any, variables: Callable[[Any], Any]) -> StateParts:
    """Splits a tree of arrays into two parts; each array is in one of them.

    `variables` returns a tree of some of the arrays, unchanged. docs/decisions/0016
    says why there are two parts.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    leaves = [leaf for _, leaf in paths]
    # Placeholders in place of the arrays show which ones `variables` picks.
    placeholders = {object(): i for i in range(len(leaves))}
    picked = variables(jax.tree.unflatten(structure, placeholders))
    chosen = [placeholders[leaf] for leaf in jax.tree.leaves(picked)]
    rest = {
        jax.tree_util.keystr(path, simple=True, separator="."): i
        for i, (path, _) in enumerate(paths)
        if i not in set(chosen)
    }

    def join(variables: Any, training: dict[str, Any]) -> Any:
        found = dict(zip(chosen, jax.tree.leaves(variables), strict=True))
        found |= {i: training[path] for path, i in rest.items()}
        return jax.tree.unflatten(structure, [found[i] for i in range(len(leaves))])

    return StateParts(
        variables=jax.tree.map(lambda leaf: leaves[placeholders[leaf]], picked),
        training={path: leaves[i] for path, i in rest.items()},
        join=join,
    )


def _is_loss(name: str) -> bool:
    return name.rpartition("/")[2] == "loss"


def _worst_score(name: str) -> float:
    return math.inf if _is_loss(name) else -math.inf


@contextlib.contextmanager
def _silence_orbax() -> Iterator[None]:
    """Suppresses the logs of Orbax, whose tasks would all report the same damage."""
    level, hook = logging.get_verbosity(), sys.unraisablehook
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        logging.set_verbosity(level)
        sys.unraisablehook = hook


@contextlib.contextmanager
def _report_damage(folder: Path, what: str = "checkpoint") -> Iterator[None]:
    """Turns the exceptions of Orbax at a damaged checkpoint into a `UserError`."""
    _check_checkpoint_format(folder)
    try:
        with _silence_orbax():
            yield
    except DAMAGE as error:
        raise UserError(
            f"{what} {folder} is damaged; move it to another folder to continue from "
            "the checkpoint before it"
        ) from error


def list_steps(workdir: Path) -> list[int]:
    """Returns the steps of the complete checkpoints of a run folder, in order."""
    names = [path.name for path in (workdir / FOLDER).glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def check_format(workdir: Path) -> None:
    """Raises UserError if a run folder has checkpoints of a version before 0.2."""
    for step in list_steps(workdir):
        _check_checkpoint_format(workdir / FOLDER / str(step))


def _check_checkpoint_format(checkpoint: Path) -> None:
    if (checkpoint / "state").exists():
        raise UserError(
            f"checkpoint {checkpoint} is of the format before 0.2, which this version "
            "does not read; use the version that wrote it, or train again in another "
            "--workdir"
        )


def load_newest_metadata(workdir: Path) -> Any:
    """Returns the JSON data of the newest checkpoint of a run folder.

    Raises:
      UserError: there is no checkpoint, or it is damaged, has another format, or was
        not written by this package.
    """
    if not (steps := list_steps(workdir)):
        raise UserError(
            f"{workdir} holds no finished checkpoint; name the folder of a trained run"
        )
    return _load_metadata(workdir / FOLDER / str(steps[-1]))


def _load_metadata(checkpoint: Path) -> Any:
    # The file is read without Orbax, which would initialise the devices: too early for
    # runs of several processes.
    with _report_damage(checkpoint):
        text = (checkpoint / "_CHECKPOINT_METADATA").read_text("utf-8")
        metadata = json.loads(text).get("custom_metadata")
    for key in REQUIRED_METADATA:
        if not isinstance(metadata, dict) or not isinstance(metadata.get(key), dict):
            raise UserError(
                f"checkpoint {checkpoint} has no {key!r} in its _CHECKPOINT_METADATA, "
                "so this program did not write it; name the folder of a run"
            )
    return metadata
