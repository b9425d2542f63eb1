"""The report of a data set: measurements of its records, and its problems."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from unet_jax.data.record import RecordStats
from unet_jax.errors import UserError
from unet_jax.text import listing

NAMED = 3  # files of a decision that are named
SHOWN = 5  # issues that are listed one by one before they are merged


class Issue(NamedTuple):
    """A problem of a data set.

    Attributes:
      level: an error prevents training; a warning does not. A note is a decision about
        one file, and becomes a decision of the report.
      kind: one or two words, the same for all issues of a kind: 'size'.
      text: one line that names the file and the remedy.
    """

    level: Literal["error", "warning", "note"]
    kind: str
    text: str


class DatasetReport(NamedTuple):
    """Measurements and problems of a data set.

    Attributes:
      root: the folder, or the name of the data set.
      classes: their names, by id.
      label_map: mask values and their class ids: ('255', 1), ('0', 0).
      records: measurements of all records that could be read.
      issues: problems of files, of records and of the whole set.
      decisions: choices that were made automatically, one line each.
      duplicates: the ids of two equal or nearly equal images, and True if equal.
      tiff_axes: the order in which the axes of TIFF files were read; '' for their own.
      coloured: True if masks with a palette were read as colours, not as indices.
      split_remedy: how to get another split, in words; '' if that is not known.
    """

    root: str
    classes: tuple[str, ...]
    label_map: tuple[tuple[str, int], ...] = ()
    records: tuple[RecordStats, ...] = ()
    issues: tuple[Issue, ...] = ()
    decisions: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, str, bool], ...] = ()
    tiff_axes: str = ""
    coloured: bool = False
    split_remedy: str = ""

    @property
    def errors(self) -> tuple[Issue, ...]:
        """The issues that prevent training."""
        return tuple(issue for issue in self.issues if issue.level == "error")


def raise_errors(report: DatasetReport) -> None:
    """Raises UserError if a report has errors; the message has one line for each."""
    lines = [issue.text for issue in report.errors]
    if len(lines) > 1:
        lines.insert(0, f"{len(lines)} errors in {report.root}; fix all of them:")
    if lines:
        raise UserError("\n  ".join(lines))


def merge_issues(*issues: Issue) -> tuple[Issue, ...]:
    """Merges issues if more than `SHOWN` of them differ only in the file they name.

    Notes are left out; see `summarize_notes`.
    """
    files: dict[Issue, list[str]] = {}
    for issue in dict.fromkeys(issue for issue in issues if issue.level != "note"):
        file, _, rest = issue.text.partition(": ")
        files.setdefault(issue._replace(text=rest), []).append(file)
    return tuple(
        issue._replace(text=f"{name}: {issue.text}" if issue.text else name)
        for issue, names in files.items()
        for name in ([listing(names, SHOWN)] if len(names) > SHOWN else names)
    )


def summarize_notes(issues: Iterable[Issue]) -> tuple[str, ...]:
    """Returns one line for all notes of a kind: the number of files, and some names."""
    files: dict[str, list[str]] = {}
    for issue in dict.fromkeys(issues):
        if issue.level == "note":
            files.setdefault(issue.kind, []).append(issue.text)
    return tuple(
        f"{kind}: {len(names)} ({listing(names, NAMED)})"
        for kind, names in files.items()
    )


def total_pixels(records: Iterable[RecordStats]) -> dict[int, int]:
    """Sums the pixels of each class id over records."""
    total: Counter[int] = Counter()
    for record in records:
        total.update(record.pixels)
    return dict(sorted(total.items()))
