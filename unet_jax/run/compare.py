"""Mode `compare`: writes a page that shows several runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from unet_jax import logs
from unet_jax.errors import UserError
from unet_jax.progress import show_progress
from unet_jax.report.contents import Comparison
from unet_jax.run import run_folder
from unet_jax.run.comparison.contents import compare_runs
from unet_jax.run.comparison.folders import find_folders, name_folders
from unet_jax.run.comparison.run_record import read_run
from unet_jax.text import format_score, tabulate

PAGE = "compare.html"
OTHER_FILES = (".csv", ".jpg", ".json", ".md", ".pdf", ".png", ".svg", ".txt")
GENERATOR = b'<meta name="generator" content="unet_jax compare">'


def compare(
    _config: ConfigDict,
    _workdir: Path,
    *,
    runs: Sequence[str],
    output: str = PAGE,
    given: Mapping[str, Any] | None = None,
) -> int:
    """Writes one page with the differing fields, the curves and the scores of runs.

    The run folders are read as data and left as they are.

    Args:
      runs: paths of run folders, and globs.
      output: the HTML file to write, or the folder for `compare.html`. A page of an
        earlier comparison is replaced.
      given: the fields of the command line; none may be set.

    Returns:
      0.

    Raises:
      UserError: a field is set, there are fewer than two runs, one cannot be read, or
        the page cannot be written.
    """
    # late: Jinja2 and matplotlib load only when a page is written
    from unet_jax.report.comparison import render_comparison

    if jax.process_index() != 0:
        return 0
    if given:
        raise UserError(
            f"--mode=compare takes no --config.{next(iter(given))}; the configs are "
            "those of the runs in --runs"
        )
    folders = find_folders(runs)
    page = _find_page(Path(output).expanduser())
    names = name_folders(folders)
    comparison = compare_runs([read_run(folder) for folder in folders], names)
    for line in _tabulate_scores(comparison):
        logs.say(line)
    for text in comparison.warnings:
        logs.warn(text)
    with show_progress("drawing the curves"):
        content = render_comparison(comparison).encode()
    done = "replaced" if page.exists() else "wrote"
    logs.write_file(page, content)
    logs.say(f"{done} {page}")
    return 0


def _find_page(output: Path) -> Path:
    """Returns the path of the page, in a folder that exists.

    Raises:
      UserError: another file of this name would be lost, or the folder is not writable.
    """
    if output.suffix.lower() in OTHER_FILES and not output.is_dir():
        raise UserError(
            f"--output={output}: the page is an HTML file; name one, such as "
            f"{output.with_suffix('.html')}, or a folder"
        )
    page = output if output.suffix.lower() in (".html", ".htm") else output / PAGE
    run_folder.create(page.parent, "output")
    if page.is_dir():
        raise UserError(f"--output={output}: {page} is a folder; name an HTML file")
    if page.exists() and GENERATOR not in page.read_bytes():
        raise UserError(
            f"--output={output}: {page} is not the page of a comparison; choose "
            "another name"
        )
    return page


def _tabulate_scores(comparison: Comparison) -> list[str]:
    """Returns the lines of a table of the scores, with * at the best of a column.

    The states of the runs have a column if some have not finished.
    """
    scores = [score for score in comparison.scores if "/" not in score.metric.name]
    rows = [["", *(score.metric.name for score in scores)]]
    for i, run in enumerate(comparison.runs):
        cells = [
            format_score(score.values[i]) + ("*" if i in score.best else " ")
            for score in scores
        ]
        rows.append([run.name, *cells])
    if not all(run.finished for run in comparison.runs):
        states = ["state", *(run.state for run in comparison.runs)]
        rows = [[*row, state] for row, state in zip(rows, states, strict=True)]
    return list(tabulate(rows, logs.find_line_width(), keep_names=True))
