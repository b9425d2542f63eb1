"""The sweep file: a base config, and the fields that the runs of a sweep set.

    base = "configs/isbi_modern.py"
    seeds = (0, 1, 2)
    scores = ("test/v_rand", "test/pixel_error")

    def points():
        return {"paper": {}, "wide": {"model.widths": (64, 128, 256)}}

`space()` instead of `points()` returns distributions for a search:
`{"optimizer.learning_rate": {"name": "log_uniform", "low": 1e-4, "high": 1e-2}}`.

It is plain data. Nothing here imports JAX, so that a mistake is reported at once.
"""

import ast
import functools
import itertools
import math
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.build.overrides import to_python
from unet_jax.errors import UserError, prefix_errors, suggest_nearest
from unet_jax.specs import Count, Spec, Whole, check_type

NAMES = {"base", "fields", "points", "space", "seeds", "scores", "trials"}
TRIALS = 30  # of a search, by default
FORBIDDEN = ",/\\"  # in a run folder: flags take lists of folders with commas
MOST_BYTES = 200  # of the name of a run folder; most file systems allow 255


class Point(NamedTuple):
    """One setting of the fields that a sweep compares.

    Attributes:
      name: the name, which begins the names of its run folders.
      fields: values by field: `{'model.widths': (16, 32)}`. A value is a Python value,
        or the text of the command line.
    """

    name: str
    fields: Mapping[str, Any]


class Sweep(NamedTuple):
    """The runs of a sweep: those of points with seeds, or a search in a space.

    Attributes:
      base: the config, as --config takes it.
      points: the points; () for a search.
      space: a spec of `run.sweeping.distributions` for each field of a search.
      seeds: the values of `config.seed` for each point; (): the points set it, or the
        base.
      scores: the scores to compare, such as 'test/dice' or 'val/dice'. The first one
        decides which is best. (): the first metric of the base.
      trials: the number of runs of a search.
      fields: values by field for every run, which points may replace.
      given: values by field from the command line, which replace all others.
      kind: 'sweep', or 'cross-validation', whose points are not ranked.
    """

    base: str
    points: tuple[Point, ...] = ()
    space: Mapping[str, Spec] = {}
    seeds: tuple[int, ...] = ()
    scores: tuple[str, ...] = ()
    trials: int = TRIALS
    fields: Mapping[str, Any] = {}
    given: Mapping[str, Any] = {}
    kind: str = "sweep"


def is_sweep_file(path: str) -> bool:
    """Returns True if a Python file defines points or a space, and no `get_config`.

    The file is not executed.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):  # its reader explains it
        return False
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return "get_config" not in names and bool(names & {"base", "points", "space"})


@functools.cache
def read_sweep_file(path: str) -> Sweep:
    """Reads a sweep file, once in a process.

    Raises:
      UserError: a name is missing, or a value is wrong.
    """
    names = runpy.run_path(path)
    with prefix_errors(path):
        for name in names.keys() - NAMES:
            near = suggest_nearest(name, NAMES)
            data = not name.startswith("_") and name.islower()
            if near and data and not callable(names[name]):
                raise UserError(f"{name!r} is not a name of a sweep file; {near}")
        base = names.get("base")
        if not base or not isinstance(base, str):
            wrong = f"base must be text, not {base!r}" if base else "base is missing"
            raise UserError(f"{wrong}; name a config: base = 'configs/isbi.py'")
        beside = Path(path).parent / base
        base = str(beside) if beside.is_file() else base
        if ("points" in names) == ("space" in names):
            count = "both points() and" if "points" in names else "neither points() nor"
            raise UserError(f"it has {count} space(); define one of them")
        fields = names.get("fields", {})
        _check_names_of_fields(fields, "fields")
        sweep = Sweep(
            base,
            seeds=_to_seeds(names.get("seeds", ())),
            scores=_to_tuple(names.get("scores", ())),
            trials=to_python(names.get("trials", TRIALS)),
            fields=fields,
        )
        check_type(sweep.trials, Count, "trials")
        check_type(sweep.seeds, tuple[Whole, ...], "seeds")
        check_type(sweep.scores, tuple[str, ...], "scores")
        if "space" in names:
            return sweep._replace(space=_read_space(names["space"], sweep))
        if "trials" in names:
            raise UserError("trials are for space(), not for points(); remove them")
        return sweep._replace(points=_read_points(names["points"]))


def _to_seeds(value: Any) -> Any:
    """Returns several whole numbers as a tuple; raises UserError for a single one."""
    value = to_python(tuple(value) if isinstance(value, range) else value)
    if isinstance(value, int) and not isinstance(value, bool):
        raise UserError(
            f"seeds = {value} is one number; write seeds = range({value}) for {value} "
            f"seeds, or seeds = ({value},) for one"
        )
    return value


def _to_tuple(value: Any) -> Any:
    """Returns a list as a tuple, and one text in a tuple."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _read_space(space: Any, sweep: Sweep) -> Mapping[str, Spec]:
    """Returns the specs of the distributions by field."""
    space = space() if callable(space) else space
    _check_names_of_fields(space, "space()")
    if not space:
        raise UserError("space() is empty; add a field and its distribution")
    for field, spec in space.items():
        check_type(spec, Spec, name_space(field))
    if sweep.seeds:
        raise UserError(
            "seeds are for points(), not for space(); remove them, or set seed in "
            "fields = {'seed': 1}"
        )
    return to_python(space)


def name_space(field: str) -> str:
    """Returns the place of a field in a search, for errors: `space()['batch_size']`."""
    return f"space()[{field!r}]"


def _read_points(points: Any) -> tuple[Point, ...]:
    """Returns the points of a dict, or of pairs of a name and its fields."""
    points = points() if callable(points) else points
    pairs = points.items() if isinstance(points, Mapping) else points
    try:
        read = tuple(Point(name, fields) for name, fields in pairs)
    except (TypeError, ValueError) as error:
        raise UserError(
            "points() must return {name: {field: value}}, a dict of dicts"
        ) from error
    if not read:
        raise UserError("points() is empty; add a name and its fields")
    for point in read:
        _check_names_of_fields(point.fields, f"point {point.name!r}")
    return read


def _check_names_of_fields(fields: Any, place: str) -> None:
    """Raises UserError unless a value is a dict whose keys can be names of fields."""
    check_type(fields, Mapping, place)
    for name in fields:
        if not isinstance(name, str) or not name.strip():
            raise UserError(
                f"{place}: {name!r} is not the name of a field, such as 'batch_size'"
            )


def check_names(names: Sequence[Any]) -> None:
    """Checks the names of points.

    Raises:
      UserError: two are equal, or one cannot be the name of a folder.
    """
    for name in names:
        text = isinstance(name, str) and name.isprintable() and name.strip() == name
        if not text or name[:1] in ("", ".", "-") or set(name) & set(FORBIDDEN):
            raise UserError(
                f"point {name!r} cannot name a folder; use letters, digits, - and _"
            )
        if len(name.encode(errors="replace")) > MOST_BYTES:
            raise UserError(
                f"point {name[:40]!r}... is longer than {MOST_BYTES} bytes; shorten "
                "the name"
            )
        if names.count(name) > 1:
            raise UserError(f"two points have the name {name!r}; rename one")


def grid(axes: Mapping[str, Mapping[str, Any] | Iterable[Any]]) -> dict[str, dict]:
    """Returns the points of a grid: each combination of the values of the fields.

    `grid({'batch_size': (4, 8), 'loss': {'ce': ..., 'dice': ...}})` has the points
    `batch_size=4_ce`, `batch_size=4_dice` and so on.

    Args:
      axes: the values of each field. Numbers and words name themselves; a dict gives
        the names of longer values.

    Raises:
      UserError: a value needs a name, or two points have the same.
    """
    named = [_name_values(field, values) for field, values in axes.items()]
    points: dict[str, dict] = {}
    for chosen in itertools.product(*named):
        name = "_".join(label for label, _ in chosen)
        if name in points:
            raise UserError(f"grid(): two points have the name {name!r}; rename one")
        fields = (value for _, value in chosen)
        points[name] = dict(zip(axes, fields, strict=True))
    return points


def _name_values(field: str, values: Any) -> list[tuple[str, Any]]:
    """Returns the values of one axis of a grid with their names."""
    if isinstance(values, Mapping):
        return list(values.items())
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"grid(): {field} needs a tuple of values, not {values!r}")
    short, named = field.rpartition(".")[2], []
    for value in map(to_python, values):
        label = _label(value)
        if not label:
            raise UserError(
                f"grid(): name the values of {field}, as in {{'{field}': {{'name': "
                f"{value!r}}}}}"
            )
        named.append((f"{short}={label}", value))
    return named


def _label(value: Any) -> str:
    """Returns a short name of a number, a word or a tuple of numbers; '' for others."""
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else ""
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, str) and value.replace("_", "a").replace(".", "a").isalnum():
        return value
    if isinstance(value, tuple | list) and value:
        labels = [_label(inner) for inner in value]
        return "x".join(labels) if all(labels) else ""
    return ""
