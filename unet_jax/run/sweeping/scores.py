"""The scores of a sweep: their names before the first run, their values after each."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.build.checks import get_metric_names
from unet_jax.build.dataset import load_splits
from unet_jax.build.learning import make_task
from unet_jax.errors import UserError, suggest
from unet_jax.json_file import read_json
from unet_jax.metrics.metric import Metric
from unet_jax.run.run_folder import SCORES
from unet_jax.run.step_scalars import SKIPPED

SPLITS = ("val", "test")


def choose_scores(config: ConfigDict) -> tuple[str, ...]:
    """Returns the scores of a sweep that names none: those of the first metric."""
    name = next(iter(get_metric_names(config)), "loss")
    return tuple(f"{split}/{name}" for split in SPLITS)


def find_directions(
    scores: Sequence[str], metrics: Sequence[tuple[str, Metric]]
) -> dict[str, bool]:
    """Returns for each score whether lower is better.

    Args:
      scores: such as 'test/dice', or 'val/dice/cell' of one class.
      metrics: those of the runs, with their names.

    Raises:
      UserError: the runs give no such score.
    """
    lower = {"loss": True} | {name: metric.lower for name, metric in metrics}
    found = {}
    for score in scores:
        split, name, of_class = _split_score(score)
        exists = split in SPLITS and name in lower and not (of_class and name == "loss")
        if not exists:
            end = f"/{of_class}" if of_class else ""
            known = [f"{split}/{name}{end}" for split in SPLITS for name in lower]
            raise UserError(f"scores: no {score!r}; {suggest(score, known)}")
        found[score] = lower[name]
    return found


def check_classes(scores: Sequence[str], configs: Iterable[ConfigDict]) -> None:
    """Checks the classes that scores name.

    Only if there are any, the data sets of the configs are read, each of them once.

    Raises:
      UserError: the runs have no such class.
    """
    named = [score for score in scores if _split_score(score)[2]]
    read = set()
    for config in configs if named else ():
        key = str((config.data, config.task))
        if key in read:
            continue
        read.add(key)
        classes = make_task(config, load_splits(config).train).classes
        for score in named:
            of_class = _split_score(score)[2]
            if of_class not in classes:
                raise UserError(
                    f"scores: no class {of_class!r} of {score!r}; "
                    f"{suggest(of_class, classes)}"
                )


def _split_score(score: str) -> tuple[str, str, str]:
    """Returns the split, the metric and the class, or '' for what is missing."""
    split, _, rest = score.partition("/")
    metric, _, of_class = rest.partition("/")
    return split, metric, of_class


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
    known = {k: x for k, x in found.items() if _split_score(k)[0] in SPLITS}
    for name in names:
        if name not in known:
            raise UserError(f"{path} has no {name}; {suggest(name, known)}")
    return {name: known[name] for name in names}


def count_skipped_steps(folder: Path) -> int:
    """Returns the steps of a run that were skipped, because they were not finite."""
    rows = logs.read_scalars(folder)
    return sum(int(row.get(f"train/{SKIPPED}") or 0) for row in rows)
