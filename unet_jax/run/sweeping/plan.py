"""The plan of a sweep: its runs, all checked before the first one is trained."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from unet_jax.build.early_checks import check_command
from unet_jax.build.fields import find_overlap
from unet_jax.build.overrides import apply_fields, to_text
from unet_jax.build.sweep_file import Sweep, check_names, name_space
from unet_jax.build.training import check_specs
from unet_jax.errors import UserError, prefix_errors
from unet_jax.metrics.metric import Metric
from unet_jax.run.sweeping import distributions
from unet_jax.run.sweeping.distributions import Distribution
from unet_jax.run.sweeping.field_texts import (
    check_order,
    find_varied,
    merge,
    to_texts,
)
from unet_jax.run.sweeping.files import RESERVED
from unet_jax.run.sweeping.identity import (
    describe_config,
    describe_origin,
    hash_code,
    hash_text,
)
from unet_jax.run.sweeping.scores import choose_scores, find_directions
from unet_jax.specs import bind

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
      origin: hashes of the code and the base config, with which every run begins.
      identity: what must be the same in every process that takes part, as texts.
      digest: of the runs, scores and trials, in which workers must agree.
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
    origin: str
    identity: Mapping[str, str]
    digest: str
    kind: str

    def list_fields(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Returns all fields of a run in the order in which they are set."""
        return merge(self.shared, chosen, self.given)


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
    _check_kind(sweep)
    given = to_texts(sweep.given, "the command line")
    shared = to_texts(sweep.fields, "fields")
    space = {field: _bind(field, spec) for field, spec in sweep.space.items()}
    check_order(list(space), "space()")
    runs = _list_runs(sweep, shared, given)
    _check_given(given, space or find_varied([run.fields for run in runs]))
    scores, metrics = sweep.scores, []
    for place, fields in _list_variants(runs, space):
        chosen, of_run = _check_run(config, workdir, place, shared, fields, given)
        scores = scores or choose_scores(chosen)
        metrics.append((place, of_run))
    lower = _find_common_directions(scores, metrics)
    trials = sweep.trials if space else len(runs)
    return Plan(
        base=sweep.base,
        shared=shared,
        given=given,
        runs=runs,
        space=space,
        trials=trials,
        scores=scores,
        lower=tuple(lower[score] for score in scores),
        origin=describe_origin(),
        identity=_describe_identity(sweep, config, shared, given, scores),
        digest=hash_text(repr((runs, trials, scores))),
        kind=sweep.kind,
    )


def list_configs(plan: Plan, config: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Yields the point and the config of each run; of a search, what its runs share.

    Args:
      plan: the sweep.
      config: the base config.
    """
    for run in plan.runs:
        yield run.point, apply_fields(config, plan.list_fields(run.fields))
    if plan.space:
        yield "", apply_fields(config, plan.list_fields({}))


def find_equal_points(plan: Plan, config: ConfigDict) -> list[tuple[str, ...]]:
    """Returns the names of points that make the same config, a tuple for each config.

    The arguments are those of `list_configs`.
    """
    points: dict[str, dict[str, None]] = {}
    for point, chosen in list_configs(plan, config):
        points.setdefault(describe_config(chosen), {})[point] = None
    return list(dict.fromkeys(tuple(each) for each in points.values() if len(each) > 1))


def _bind(field: str, spec: Mapping[str, Any]) -> Distribution:
    """Returns the distribution that a spec names."""
    place = name_space(field)
    make = bind(distributions, spec, place)
    with prefix_errors(place):
        return make()


def _check_kind(sweep: Sweep) -> None:
    """Raises UserError if a sweep has what does not belong together."""
    if bool(sweep.points) == bool(sweep.space):
        count = "both points and" if sweep.points else "neither points nor"
        raise UserError(f"the sweep has {count} a space; give one of them")
    for score in sweep.scores:
        if sweep.scores.count(score) > 1:
            raise UserError(f"scores: {score!r} is there twice; remove one")


def _name_kind(sweep: Sweep) -> str:
    """Returns what a sweep consists of, for its identity."""
    if sweep.kind != "sweep":
        return sweep.kind
    return "space()" if sweep.space else "points()"


def _list_runs(
    sweep: Sweep, shared: Mapping[str, str], given: Mapping[str, str]
) -> tuple[PlannedRun, ...]:
    """Returns the runs of all points and seeds.

    Args:
      sweep: the sweep.
      shared: the fields of every run.
      given: the fields of the command line.
    """
    check_names([point.name for point in sweep.points])
    if sweep.seeds:
        for flag, fields in (("", shared), ("--", given)):
            _check_seed(fields, f"{flag}config.{SEED}")
    runs = []
    for point in sweep.points:
        place = f"point {point.name!r}"
        fields = to_texts(point.fields, place)
        if sweep.seeds:
            _check_seed(fields, f"{place}: config.{SEED}")
        for seed in sweep.seeds or (None,):
            name = point.name if seed is None else f"{point.name}-{seed}"
            seeded = {} if seed is None else {SEED: str(seed)}
            runs.append(PlannedRun(name, point.name, seed, {**fields, **seeded}))
    _check_run_names([run.name for run in runs], sweep.seeds)
    return tuple(runs)


def _check_seed(fields: Mapping[str, str], name: str) -> None:
    """Raises UserError if fields set the seed, which the sweep sets, too."""
    if SEED in fields:
        raise UserError(f"{name} is set, and so are seeds; remove one of them")


def _check_run_names(names: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises UserError if two runs are equal, or one has the name of a file."""
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise UserError(f"seeds: {seed} is there twice; list every seed once")
    for name in names:
        if name in RESERVED:
            raise UserError(
                f"point {name!r} has the name of a file or folder of the sweep; rename "
                "it"
            )


def _check_given(given: Mapping[str, str], varied: Collection[str]) -> None:
    """Raises UserError if the command line sets a field that the sweep varies."""
    for field in given:
        if clash := find_overlap(field, varied):
            raise UserError(
                f"--config.{field} is set for every run, and the sweep varies {clash}; "
                "remove one of them"
            )


def _list_variants(
    runs: Sequence[PlannedRun], space: Mapping[str, Distribution]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the fields to check, with their place in the sweep file."""
    for run in runs:
        yield f"point {run.point!r}", dict(run.fields)
    first = {field: to_text(each.ends[0]) for field, each in space.items()}
    for field, distribution in space.items():
        # a field that the search chooses, too, and that is a part of this one
        related = {f: text for f, text in first.items() if find_overlap(f, [field])}
        for end in distribution.ends:
            yield name_space(field), {**related, field: to_text(end)}


def _check_run(
    config: ConfigDict,
    workdir: Path,
    place: str,
    shared: Mapping[str, str],
    fields: Mapping[str, str],
    given: Mapping[str, str],
) -> tuple[ConfigDict, tuple[tuple[str, Metric], ...]]:
    """Returns the config of a run and its metrics.

    Raises:
      UserError: a field is wrong. The message begins with the place that sets it: the
        point, or else the fields of every run.
    """

    def check(*several: Mapping[str, str]) -> tuple[ConfigDict, Any]:
        chosen = apply_fields(config, merge(*several))
        check_command(chosen, "train", workdir)
        return chosen, check_specs(chosen)

    try:
        return check(shared, fields, given)
    except UserError as error:
        for cause, alone in (("", given), ("fields: ", merge(shared, given))):
            try:
                check(alone)
            except UserError as same:
                if str(same) == str(error):
                    raise UserError(f"{cause}{error}") from error
        raise UserError(f"{place}: {error}") from error


def _find_common_directions(
    scores: Sequence[str], metrics: Sequence[tuple[str, Sequence[tuple[str, Metric]]]]
) -> dict[str, bool]:
    """Returns for each score whether lower is better.

    Args:
      scores: the names of the scores.
      metrics: those of each run, with the place that sets them.

    Raises:
      UserError: a run does not give one of the scores; the message names the place,
        unless all runs have the same error.
    """
    lower, faults = {}, []
    for place, of_run in metrics:
        try:
            lower = find_directions(scores, of_run)
        except UserError as error:
            faults.append((place, str(error)))
    if faults:
        place, fault = faults[0]
        alike = len(faults) == len(metrics) and len({text for _, text in faults}) == 1
        raise UserError(fault if alike else f"{place}: {fault}")
    return lower


def _describe_identity(
    sweep: Sweep,
    config: ConfigDict,
    shared: Mapping[str, str],
    given: Mapping[str, str],
    scores: Sequence[str],
) -> dict[str, str]:
    """Returns `Plan.identity`; the arguments are as in `Plan`."""
    return {
        "base": Path(sweep.base).stem,  # its path may differ between machines
        **{f"fields of every run: {name}": text for name, text in shared.items()},
        **{f"--config.{name}": text for name, text in given.items()},
        **{f"space() of {f}": repr(dict(spec)) for f, spec in sweep.space.items()},
        **({"the first of scores": scores[0]} if sweep.space else {}),
        "kind": _name_kind(sweep),
        "config": describe_config(config),
        "code": hash_code(),
    }
