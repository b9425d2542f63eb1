"""Checkpoints of a run: the latest two and the best, saved while training goes on.

A checkpoint has two parts, each a tree of arrays in a folder of its own: `variables`,
which prediction and fine-tuning read, and `training`, the arrays of the state that are
not among them. Config and pre-processing stand beside them as JSON.
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
ABOUT = ("config", "preprocessing")  # in the JSON data of every checkpoint
_policies = ocp.training.preservation_policies


class Checkpoints:
    """The checkpoints of one run folder; a context manager that waits for its saves.

    Args:
      workdir: the run folder.
      best: the score by which a checkpoint is best, the higher the better, or the
        lower of a loss; checkpoints that were saved without scores only count as
        latest.
    """

    def __init__(self, workdir: Path, best: str) -> None:
        self._best = best
        policy = _policies.AnyPreservationPolicy(
            [
                _policies.LatestN(2),
                _policies.BestN(
                    get_metric_fn=self._score,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        folder = (workdir / FOLDER).absolute()  # Orbax refuses a relative path, late
        with _naming_damage(f"a checkpoint in {folder}"):
            self._orbax = ocp.training.Checkpointer(folder, preservation_policy=policy)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint."""
        return self._orbax.latest.step if self._orbax.latest else None

    @property
    def best(self) -> int | None:
        """The step of the best checkpoint; of the newest where none was scored.

        Raises:
          UserError: the checkpoints were scored, but not by this score.
        """
        scored = [c for c in self._orbax.checkpoints if c.metrics]
        if not scored:
            return self.latest
        known = {name for c in scored for name in c.metrics}
        if self._best not in known:
            raise UserError(
                f"no checkpoint in {self._orbax.directory} was scored by {self._best}; "
                "begin config.metrics with another score"
            )
        return max(scored, key=lambda c: (self._score(c.metrics), c.step)).step

    def save(
        self,
        step: int,
        state: Any,
        variables: Callable[[Any], Any],
        about: Any,
        scores: Mapping[str, float | None],
    ) -> None:
        """Starts to save; returns as soon as the state may be donated.

        Args:
          step: the number of updates behind the state.
          state: a tree of arrays.
          variables: state -> those of its arrays that prediction needs.
          about: JSON data that belongs to the state: `config`, `preprocessing` and any
            other.
          scores: what the state was measured to be worth, if it was; None is a score
            that does not exist, and the worst.
        """
        if step == self.latest:
            return
        metrics = {
            k: self._worst(k) if v is None else float(v) for k, v in scores.items()
        }
        parts = split(state, variables)
        self._orbax.save_checkpointables_async(
            step,
            {VARIABLES: parts.variables, TRAINING: parts.training},
            force=True,
            metrics=metrics or None,
            custom_metadata=about,
        )

    def wait(self) -> None:
        """Waits for the saves that are under way."""
        self._orbax.wait()

    def restore(self, step: int, like: Any, variables: Callable[[Any], Any]) -> Any:
        """Returns the state of a step.

        Args:
          step: of the checkpoint.
          like: the abstract state, with shapes and places.
          variables: as it was saved with.

        Raises:
          UserError: the checkpoint is damaged, or of another format.
        """
        parts = split(like, variables)
        wanted = {VARIABLES: parts.variables, TRAINING: parts.training}
        tree = self._load(step, wanted)
        return parts.join(tree[VARIABLES], tree[TRAINING])

    def variables(self, step: int, like: Any) -> Any:
        """Returns the variables of a step, shaped and placed as the abstract `like`.

        Raises:
          UserError: the checkpoint is damaged, or of another format.
        """
        return self._load(step, {VARIABLES: like})[VARIABLES]

    def shapes(self, step: int) -> Any:
        """Returns the shapes of the variables of a step, as they are on the disk.

        Raises:
          UserError: the checkpoint is damaged, or of another format.
        """
        folder = self._orbax.directory / str(step)
        _check_format(folder)
        with _naming_damage(f"checkpoint {folder}"):
            tree = self._orbax.checkpointables_metadata(step).metadata[VARIABLES]
            if tree is None:  # Orbax only logs that it cannot read the file
                raise ValueError(f"no metadata of its {VARIABLES}")
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

    def _load(self, step: int, wanted: dict[str, Any]) -> dict[str, Any]:
        folder = self._orbax.directory / str(step)
        _check_format(folder)
        with _naming_damage(f"checkpoint {folder}"):
            return self._orbax.load_checkpointables(step, wanted)

    def about(self, step: int) -> Any:
        """Returns the JSON data that was saved with the state of a step.

        Raises:
          UserError: the checkpoint is damaged, of another format or another program.
        """
        return _about(self._orbax.directory / str(step))

    def _score(self, metrics: Mapping[str, float]) -> float:
        score = metrics.get(self._best, self._worst(self._best))
        return -score if _is_loss(self._best) else score

    def _worst(self, name: str) -> float:
        return math.inf if _is_loss(name) else -math.inf


class Split(NamedTuple):
    """A state in two parts that have no array in common.

    Attributes:
      variables: the tree of those that prediction needs.
      training: the other arrays, by their paths in the state.
      join: `(variables, training) -> state`.
    """

    variables: Any
    training: dict[str, Any]
    join: Callable[[Any, dict[str, Any]], Any]


def split(state: Any, variables: Callable[[Any], Any]) -> Split:
    """Splits a state, concrete or abstract, so that each array is in one part.

    Args:
      state: a tree.
      variables: state -> a tree of some of its arrays, none of them changed.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    leaves = [leaf for _, leaf in paths]
    # Marks in place of arrays tell which ones `variables` picks.
    marks = [_Mark(i) for i in range(len(leaves))]
    picked = variables(jax.tree.unflatten(structure, marks))
    chosen = [mark.index for mark in jax.tree.leaves(picked)]
    rest = {
        jax.tree_util.keystr(path, simple=True, separator="."): i
        for i, (path, _) in enumerate(paths)
        if i not in set(chosen)
    }

    def join(variables: Any, training: dict[str, Any]) -> Any:
        found = dict(zip(chosen, jax.tree.leaves(variables), strict=True))
        found |= {i: training[path] for path, i in rest.items()}
        return jax.tree.unflatten(structure, [found[i] for i in range(len(leaves))])

    return Split(
        variables=jax.tree.map(lambda mark: leaves[mark.index], picked),
        training={path: leaves[i] for path, i in rest.items()},
        join=join,
    )


class _Mark:
    """A leaf that stands for the array at one place of a state."""

    def __init__(self, index: int) -> None:
        self.index = index


def _is_loss(name: str) -> bool:
    return name.rpartition("/")[2] == "loss"


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Silences the tasks of Orbax, each of which would tell of the same damage."""
    level, hook = logging.get_verbosity(), sys.unraisablehook
    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        logging.set_verbosity(level)
        sys.unraisablehook = hook


@contextlib.contextmanager
def _naming_damage(checkpoint: str) -> Iterator[None]:
    """Turns what Orbax raises at a damaged checkpoint into one line that names it."""
    try:
        with _one_voice():
            yield
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        FileNotFoundError,
    ) as error:
        raise UserError(
            f"{checkpoint} is damaged; move it away to go on from the one before"
        ) from error


def steps(workdir: Path) -> list[int]:
    """The steps of a run folder's finished checkpoints, in order."""
    names = [path.name for path in (workdir / FOLDER).glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def check_format(workdir: Path) -> None:
    """Raises UserError if an earlier version wrote the checkpoints of a run folder."""
    for step in steps(workdir):
        _check_format(workdir / FOLDER / str(step))


def _check_format(checkpoint: Path) -> None:
    if (checkpoint / "state").exists():
        raise UserError(
            f"checkpoint {checkpoint} is of the format before 0.2, which this version "
            "does not read: predict with the version that wrote it, or train again in "
            "another --workdir"
        )


def newest(workdir: Path) -> Any:
    """Returns the JSON data of the newest checkpoint of a run folder.

    Raises:
      UserError: there is none, or it is damaged, of another format or another program.
    """
    if not steps(workdir):
        raise UserError(f"{workdir} holds no finished checkpoint")
    return _about(workdir / FOLDER / str(steps(workdir)[-1]))


def _about(checkpoint: Path) -> Any:
    _check_format(checkpoint)
    # Orbax's own reader would start the devices, too early where processes must join
    with _naming_damage(f"checkpoint {checkpoint}"):
        text = (checkpoint / "_CHECKPOINT_METADATA").read_text("utf-8")
        about = json.loads(text).get("custom_metadata")
    for key in ABOUT:
        if not isinstance(about, dict) or not isinstance(about.get(key), dict):
            raise UserError(
                f"checkpoint {checkpoint} has no {key!r} in its _CHECKPOINT_METADATA, "
                "as if another program had written it; name the folder of a run"
            )
    return about
