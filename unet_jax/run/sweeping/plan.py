"""The plan of a sweep: its runs, all checked before the first one is trained."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.build.checks import get_metric_names
from unet_jax.build.early_checks import check_command
from unet_jax.build.overrides import apply_fields, to_text
from unet_jax.build.sweep_file import Sweep, check_names, name_space
from unet_jax.build.training import check_specs
from unet_jax.errors import UserError, prefix_errors, suggest
from unet_jax.metrics.metric import Metric
from unet_jax.run.sweeping import distributions
from unet_jax.run.sweeping.distributions import Distribution
from unet_jax.run.sweeping.identity import hash_code, hash_config
from unet_jax.specs import bind

REPLACED = "replaced"  # the folder of runs that never completed
OWN = ("logs", "workers", REPLACED)  # folders of a sweep that hold no run
SEED = "seed"  # the field


class PlannedRun(NamedTuple):
    """A run of a sweep over points.

    Attributes:
      name: the name of the run folder.
      point: the name of the point.
      seed: the seed that the sweep sets; None if it sets none.
      fields: what the point and the seed set, as texts by field.
    """

    name: str
    point: str
    seed: int | None
    fields: Mapping[str, str]


class Plan(NamedTuple):
    """A sweep whose config files and fields have been checked.

    Attributes:
      base: the config, as --config takes it.
      shared: the fields of every run, as texts, before those of a point.
      given: the fields of the command line, as texts, after those of a point.
      runs: the runs of points, in order; () for a search.
      space: the distributions of a search, by field; {} for points.
      trials: the number of runs.
      scores: the scores to compare; the first one decides which is best.
      lower: for each score, True if lower is better.
      identity: what must be the same in every process that takes part, as texts.
      kind: 'sweep', or 'cross-validation', whose points are not ranked.
    """

    base: str
    shared: Mapping[str, str]
    given: Mapping[str, str]
    runs: tuple[PlannedRun, ...]
    space: Mapping[str, Distribution]
    trials: int
    scores: tuple[str, ...]
    lower: tuple[bool, ...]
    identity: Mapping[str, str]
    kind: str

    def list_fields(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Returns all fields of a run in the order in which they are set."""
        return _merge(self.shared, chosen, self.given)


def plan_sweep(sweep: Sweep, config: ConfigDict, workdir: Path) -> Plan:
    """Checks every point of a sweep, or the ends of its distributions.

    Args:
      sweep: the sweep.
      config: the base config; `sweep.given` may be set in it already.
      workdir: the folder of the sweep.

    Raises:
      UserError: a name, a field, a value or a score is wrong; the message names the
        point.
    """
    if bool(sweep.points) == bool(sweep.space):
        count = "both points and" if sweep.points else "neither points nor"
        raise UserError(f"the sweep has {count} a space; give one of them")
    shared, given = _to_texts(sweep.fields), _to_texts(sweep.given)
    space = {field: _bind(field, spec) for field, spec in sweep.space.items()}
    runs = _list_runs(sweep, {*shared, *given})
    variants = [(f"point {run.point!r}", run.fields) for run in runs]
    for field, distribution in space.items():
        ends = map(to_text, distribution.ends)
        variants += [(name_space(field), {field: end}) for end in ends]
    _check_given(given, space or _find_varied(runs))
    scores, lower = sweep.scores, {}
    for place, fields in variants:
        with prefix_errors(place):
            chosen = apply_fields(config, _merge(shared, fields, given))
            check_command(chosen, "train", workdir)
            metrics = check_specs(chosen)
            scores = scores or _choose_scores(chosen)
            lower = _find_directions(scores, metrics, chosen)
    identity = {
        "base": Path(sweep.base).stem,  # its path may differ between machines
        **{f"fields of every run: {name}": text for name, text in shared.items()},
        **{f"--config.{name}": text for name, text in given.items()},
        **{f"space() of {f}": repr(dict(spec)) for f, spec in sweep.space.items()},
        **({"the first of scores": scores[0]} if space else {}),
        "kind": "space()" if space else "points()",
        "config": hash_config(config),
        "code": hash_code(),
    }
    trials = sweep.trials if space else len(runs)
    lowest = tuple(lower[score] for score in scores)
    return Plan(
        base=sweep.base,
        shared=shared,
        given=given,
        runs=runs,
        space=space,
        trials=trials,
        scores=scores,
        lower=lowest,
        identity=identity,
        kind=sweep.kind,
    )


def find_equal_points(plan: Plan, config: ConfigDict) -> list[tuple[str, ...]]:
    """Returns the names of points that make the same config, a tuple for each config.

    Args:
      plan: the sweep.
      config: the base config.
    """
    points: dict[str, dict[str, None]] = {}
    for run in plan.runs:
        key = hash_config(apply_fields(config, plan.list_fields(run.fields)))
        points.setdefault(key, {})[run.point] = None
    return list(dict.fromkeys(tuple(each) for each in points.values() if len(each) > 1))


def _bind(field: str, spec: Mapping[str, Any]) -> Distribution:
    """Returns the distribution that a spec names."""
    place = name_space(field)
    make = bind(distributions, spec, place)
    with prefix_errors(place):
        return make()


def _list_runs(sweep: Sweep, everywhere: Set[str]) -> tuple[PlannedRun, ...]:
    """Returns the runs of all points and seeds.

    Args:
      sweep: the sweep.
      everywhere: the fields that are set for every run.
    """
    check_names([point.name for point in sweep.points])
    runs = []
    for point in sweep.points:
        fields = _to_texts(point.fields)
        if sweep.seeds and SEED in {*fields, *everywhere}:
            raise UserError(
                f"point {point.name!r}: config.seed is set twice, by a field and by "
                "seeds; remove one"
            )
        for seed in sweep.seeds or (None,):
            name = point.name if seed is None else f"{point.name}-{seed}"
            seeded = {} if seed is None else {SEED: str(seed)}
            runs.append(PlannedRun(name, point.name, seed, {**fields, **seeded}))
    names = [run.name for run in runs]
    if twice := next((n for n in names if names.count(n) > 1 or n in OWN), None):
        raise UserError(
            f"two points and seeds, or a folder of the sweep, have the name {twice!r}; "
            "rename a point, or list every seed once"
        )
    return tuple(runs)


def _find_varied(runs: Sequence[PlannedRun]) -> set[str]:
    """Returns the fields that differ between runs."""
    fields = {field for run in runs for field in run.fields}
    return {f for f in fields if len({run.fields.get(f) for run in runs}) > 1}


def _check_given(given: Mapping[str, str], varied: Mapping | set[str]) -> None:
    """Raises UserError if the command line sets a field that the sweep varies."""
    for field in given:
        if clash := next((v for v in varied if _overlap(v, field)), None):
            raise UserError(
                f"--config.{field} is set for every run, and the sweep varies {clash}; "
                "remove one of them"
            )


def _overlap(field: str, other: str) -> bool:
    """Returns True if one field is the other, or a part of it."""
    return any(
        long == short or long.startswith((f"{short}.", f"{short}["))
        for long, short in ((field, other), (other, field))
    )


def _choose_scores(config: ConfigDict) -> tuple[str, ...]:
    """Returns the scores of a sweep that names none: those of the first metric."""
    name = next(iter(get_metric_names(config)), "loss")
    return f"val/{name}", f"test/{name}"


def _find_directions(
    scores: Sequence[str], metrics: Sequence[tuple[str, Metric]], config: ConfigDict
) -> dict[str, bool]:
    """Returns for each score whether lower is better.

    Raises:
      UserError: the runs give no such score.
    """
    lower = {"loss": True} | {name: metric.lower for name, metric in metrics}
    classes = config.data.get("classes") or ()
    found = {}
    for score in scores:
        split, _, rest = score.partition("/")
        name, _, of_class = rest.partition("/")
        if split not in ("val", "test") or name not in lower:
            end = f"/{of_class}" if of_class else ""
            known = [f"{s}/{name}{end}" for s in ("val", "test") for name in lower]
            raise UserError(f"scores: no {score!r}; {suggest(score, known)}")
        if of_class and classes and of_class not in classes:
            raise UserError(
                f"scores: no class {of_class!r} of {score!r}; "
                f"{suggest(of_class, map(str, classes))}"
            )
        found[score] = lower[name]
    return found


def _to_texts(fields: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name).removeprefix("config."): to_text(value)
        for name, value in fields.items()
    }


def _merge(*several: Mapping[str, str]) -> dict[str, str]:
    """Returns fields where later ones replace earlier ones, and their parts."""
    merged: dict[str, str] = {}
    for fields in several:
        for field, text in fields.items():
            parts = (f"{field}.", f"{field}[")
            inner = [f for f in merged if f == field or f.startswith(parts)]
            for name in inner:
                del merged[name]
            merged[field] = text
    return merged
