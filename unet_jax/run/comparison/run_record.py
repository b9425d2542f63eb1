"""The record of a run, read from its folder as data.

The folder may come from a stranger: every value has a checked type, and no code that
it names is imported.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta
from PIL import Image

from unet_jax import logs
from unet_jax.build.metric_properties import find_metrics
from unet_jax.checkpoint import (
    find_runs,
    holds_folds,
    list_steps,
    load_newest_metadata,
)
from unet_jax.errors import UserError
from unet_jax.json_file import FiniteNumber, convert, read_json
from unet_jax.metrics.metric import Metric
from unet_jax.run import run_config, run_folder
from unet_jax.specs import Spec

REMEDY = "evaluate the run again"
MOST_PIXELS = 2**27  # of a picture that is read
PICTURE_SIZE = 768  # pixels along the longer side of a picture
LARGEST = 1e30  # of a number in a figure

Steps = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Image(msgspec.Struct):
    id: str


class Session(msgspec.Struct):
    """The part of the account of a session that is compared."""

    started: str = ""
    versions: dict[str, str | None] = {}
    images: dict[str, Steps] = {}
    steps: tuple[Steps, Steps] = (0, 0)


class Account(msgspec.Struct):
    """The part of the provenance in scores.json that is compared."""

    parameters: Steps | None = None
    training_seconds: FiniteNumber | None = None
    training: list[Session] = []
    evaluation: Session | None = None


class ScoresFile(msgspec.Struct):
    """The part of scores.json that is compared, besides the scores themselves."""

    step: Steps | None = None
    predict: dict[str, Any] | None = None
    mean_over: str = ""
    reductions: dict[str, str] = {}
    per_image: list[_Image] = []
    provenance: Account = msgspec.field(default_factory=Account)


class RunRecord(NamedTuple):
    """The content of a run folder.

    Attributes:
      folder: the run folder.
      config: its config as JSON data.
      metrics: the specs and the metrics of the config by name; see `find_metrics`.
      steps: the last step in the checkpoints, in the log or in scores.json.
      history: the rows of metrics.jsonl.
      scores: the test scores by name, 'test/dice'; empty before the evaluation.
      about: the other content of scores.json; None before the evaluation.
      classes: the names of the classes; empty if they are unknown.
      picture: predictions.png, reduced; None if there is none.
      folds: the number of folds with scores, and of all; None if the folder is not that
        of a cross-validation.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, tuple[Spec, Metric]]
    steps: int
    history: Sequence[Mapping[str, Any]]
    scores: Mapping[str, float | None]
    about: ScoresFile | None
    classes: tuple[str, ...]
    picture: bytes | None
    folds: tuple[int, int] | None = None

    @property
    def test_ids(self) -> frozenset[str]:
        """The ids of the images that the scores were measured on."""
        images = self.about.per_image if self.about is not None else ()
        return frozenset(image.id for image in images)


def read_run(folder: Path) -> RunRecord:
    """Reads a run folder.

    Raises:
      UserError: it holds the config of another program, or a file is not valid.
    """
    config = run_config.read_config(folder)
    if "checkpoint_every" not in config:
        raise UserError(
            f"{folder / run_config.CONFIG} is not the config of a run; name the folder "
            "of a run"
        )
    history = [_keep_finite(row) for row in logs.read_scalars(folder)]
    scores, about = _read_scores(folder)
    sessions = about.provenance.training if about is not None else []
    taken = [*(row["step"] for row in history), *(s.steps[1] for s in sessions)]
    return RunRecord(
        folder=folder,
        config=config,
        metrics=_find_metrics(config, folder),
        steps=max([0, *list_steps(folder), *taken]),
        history=history,
        scores=scores,
        about=about,
        classes=_read_classes(folder) or _list_scored_classes(scores),
        picture=_read_picture(folder / run_folder.PICTURE),
        folds=_count_folds(folder),
    )


def _count_folds(folder: Path) -> tuple[int, int] | None:
    """Returns the number of folds with scores and of all, of a cross-validation."""
    if not holds_folds(folder):
        return None
    runs = find_runs(folder)
    return sum((run / run_folder.SCORES).is_file() for run in runs), len(runs)


def _keep_finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces numbers that no axis can hold by None."""
    return {
        name: value if value is None or abs(value) < LARGEST else None
        for name, value in row.items()
    } | {"step": min(max(row["step"], 0), int(LARGEST))}


def _find_metrics(
    config: Mapping[str, Any], folder: Path
) -> dict[str, tuple[Spec, Metric]]:
    """Returns the metrics of the config; none if another version wrote it."""
    try:
        return find_metrics(run_config.make_config(config, folder))
    except UserError:
        return {}


def _read_scores(folder: Path) -> tuple[dict[str, float | None], ScoresFile | None]:
    """Returns the scores and the other content of scores.json."""
    path = folder / run_folder.SCORES
    if not path.exists():
        return {}, None
    content = read_json(path, dict[str, Any], REMEDY)
    scores = {name: x for name, x in content.items() if name.startswith("test/")}
    kind = dict[str, FiniteNumber | None]
    return (
        convert(scores, kind, str(path), REMEDY),
        convert(content, ScoresFile, str(path), REMEDY),
    )


def _read_classes(folder: Path) -> tuple[str, ...]:
    """Returns the classes that the newest checkpoint names; none if it is damaged."""
    try:
        preprocessing = load_newest_metadata(folder)["preprocessing"]
        return convert(preprocessing.get("classes", ()), tuple[str, ...], "", "")
    except UserError:
        return ()


def _list_scored_classes(scores: Mapping[str, float | None]) -> tuple[str, ...]:
    names = [name.split("/", 2)[2] for name in scores if name.count("/") >= 2]
    return tuple(dict.fromkeys(names))


def _read_picture(path: Path) -> bytes | None:
    """Returns a PNG file, with fewer pixels if it is large.

    Returns None for a missing or very large picture and for another file.
    """
    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if math.prod(picture.size) > MOST_PIXELS:
                return None
            small = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # Pillow raises all of these for damaged files
    small.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
    stream = io.BytesIO()
    small.save(stream, "PNG")
    return stream.getvalue()
