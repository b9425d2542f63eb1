"""The page that compares runs."""

from collections.abc import Sequence

from markupsafe import Markup

from unet_jax.report import figures
from unet_jax.report.contents import ComparedRun, Comparison
from unet_jax.report.environment import draw_svg, render_template
from unet_jax.report.figures import Curve
from unet_jax.text import is_defined

MAX_CHARTS = 60  # scalars that are drawn
FIRST_SCALARS = ("train/loss", "val/loss")  # then scores, then other training scalars
SPLIT_WORDS = {"train": "training", "val": "validation"}


def render_comparison(comparison: Comparison) -> str:
    """Renders a comparison as an HTML file that loads nothing else."""
    names = list_scalars(comparison.runs)
    return render_template(
        "comparison.html",
        title=f"{len(comparison.runs):,d} runs",
        comparison=comparison,
        lines=[figures.choose_line(i) for i in range(len(comparison.runs))],
        charts=draw_histories(comparison.runs, names[:MAX_CHARTS]),
        left_out=names[MAX_CHARTS:],
    )


def draw_histories(
    runs: Sequence[ComparedRun], names: Sequence[str]
) -> list[tuple[str, Markup]]:
    """Draws a figure for each scalar, with a curve for each run.

    Args:
      runs: the runs; their places give the colours.
      names: the names of the scalars: 'val/dice'.

    Returns:
      The caption and the figure of each.
    """
    charts = []
    for name in names:
        curves = [_make_curve(run, name) for run in runs]
        drawing = figures.compared_curves(curves)
        caption = _describe_scalar(name)
        charts.append((caption, draw_svg(drawing, f"{caption} over training steps")))
    return charts


def _make_curve(run: ComparedRun, name: str) -> Curve | None:
    points = [(row["step"], row[name]) for row in run.history if name in row]
    if not any(is_defined(y) for _, y in points):
        return None
    return figures.averaged(Curve(run.name, points))


def list_scalars(runs: Sequence[ComparedRun]) -> list[str]:
    """Returns the names of the scalars that a run has a value of, without classes."""
    found = dict.fromkeys(
        name
        for run in runs
        for row in run.history
        for name, value in row.items()
        if name.count("/") == 1 and is_defined(value)
    )
    ordered = [name for name in FIRST_SCALARS if name in found]
    for split in ("val", "train"):
        ordered += [name for name in found if name.startswith(f"{split}/")]
    return list(dict.fromkeys(ordered))


def _describe_scalar(name: str) -> str:
    """Returns 'dice, validation' for 'val/dice'."""
    split, _, short = name.partition("/")
    return f"{short.replace('_', ' ')}, {SPLIT_WORDS[split]}"
