"""The figure of a sweep: scores of points with their seeds, or of a search."""

import io
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unet_jax.run.sweeping.plan import Plan
from unet_jax.run.sweeping.results import TrialResult, group_by_point

PANEL_INCHES = 2.6
ROW_INCHES = 0.28  # of a point


def draw_figure(plan: Plan, results: Sequence[TrialResult], title: str) -> bytes:
    """Returns figure.svg.

    Args:
      plan: the sweep.
      results: its runs; those without scores are left out.
      title: a text that makes the ids in the file; the same gives the same file.
    """
    draw = _draw_search if plan.space else _draw_points
    file = io.BytesIO()
    # a name may have dollar signs
    settings: Any = {"svg.hashsalt": title, "text.parse_math": False}
    with rc_context(settings):
        figure = draw(plan, results)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw_points(plan: Plan, results: Sequence[TrialResult]) -> Figure:
    """Draws a panel for each score: a dot for each seed, a line for the mean."""
    rows = group_by_point(plan, results)
    longest = max(len(row.point) for row in rows)
    width = 0.08 * min(longest, 40) + PANEL_INCHES * len(plan.scores)
    height = 0.9 + ROW_INCHES * len(rows)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(1, len(plan.scores), squeeze=False, sharey=True)[0]
    for panel, name, lower in zip(panels, plan.scores, plan.lower, strict=True):
        for place, row in enumerate(rows):
            values = row.scores[name]
            if values:
                colour, mean = f"C{place % 10}", statistics.mean(values)
                panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.6)
                panel.vlines(mean, place - 0.3, place + 0.3, color=colour, linewidth=2)
        _set_title(panel, name, lower)
        panel.grid(axis="x", alpha=0.3)
        panel.margins(x=0.1)
    panels[0].set_yticks(range(len(rows)), [row.point for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)  # the first point is above
    return figure


def _draw_search(plan: Plan, results: Sequence[TrialResult]) -> Figure:
    """Draws the first score against each field, and the best one so far."""
    name, lower = plan.scores[0], plan.lower[0]
    scored = [
        (run, score) for run in results if (score := run.scores.get(name)) is not None
    ]
    count = len(plan.space) + 1
    columns = min(count, 4)
    lines = -(-count // columns)
    size = PANEL_INCHES * columns, PANEL_INCHES * lines
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    scores = [score for _, score in scored]
    best = list(itertools.accumulate(scores, min if lower else max))
    panels[0].plot(range(1, len(scores) + 1), scores, "o", color="C0", alpha=0.6)
    panels[0].plot(range(1, len(best) + 1), best, color="C1")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[0].set_xlabel("run; line: best so far", fontsize=8)
    for panel, field in zip(panels[1:], plan.space, strict=False):
        values: list[Any] = [run.fields[field] for run, _ in scored]
        if _are_numbers(plan, field):
            values = [float(value) for value in values]
            ends = [float(end) for end in plan.space[field].ends]
            if ends[0] > 0 and ends[-1] / ends[0] >= 20:  # as in a log_uniform search
                panel.set_xscale("log")
            elif all(isinstance(end, int) for end in plan.space[field].ends):
                panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            panel.update_datalim([(end, score) for end in ends for score in best[:1]])
            panel.autoscale_view()  # from one end to the other
        else:
            panel.margins(x=0.3)
            panel.tick_params(axis="x", rotation=20)
        panel.plot(values, scores, "o", color="C0", alpha=0.6)
        panel.set_xlabel(field, fontsize=8)
    for panel in panels[count:]:
        panel.set_visible(False)
    for panel in panels[:count:columns]:
        _set_title(panel, name, lower)
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    return figure


def _are_numbers(plan: Plan, field: str) -> bool:
    return all(isinstance(end, int | float) for end in plan.space[field].ends)


def _set_title(panel: Any, name: str, lower: bool) -> None:
    score, bracket, options = name.partition("(")
    better = f"{'lower' if lower else 'higher'} is better"
    lines = (score, f"{bracket}{options}", better) if options else (score, better)
    panel.set_title("\n".join(lines), fontsize=9)
    panel.tick_params(labelsize=8)
