"""The page of a run: its sections from top to bottom."""

from collections.abc import Sequence

from unet_jax.report import charts, tables
from unet_jax.report.contents import Case, Measure, Report
from unet_jax.report.document import document, facts, legend, picture, section
from unet_jax.report.markup import Markup, tag
from unet_jax.report.numbers import known, number


def render(report: Report) -> str:
    """The report as the text of one HTML file, without scripts and references."""
    sections = (
        headline(report),
        curves(report),
        scores(report),
        calibration(report),
        confusion(report),
        cases(report),
        images(report),
    )
    return document(report.title, sections)


def headline(report: Report) -> Markup:
    """The title, the facts and the first score."""
    parts = [tag("h1", report.title)]
    value = _first_score(report)
    if value is not None:
        measure = report.measures[0]
        name = ", ".join(x for x in (tables.title(measure), measure.reduction) if x)
        parts.append(
            tag("p", tag("b", number(value)), tag("span", name), class_="lead")
        )
    if report.facts:
        parts.append(facts(report.facts))
    return tag("header", *parts)


def curves(report: Report) -> Markup | None:
    """The losses, then every validation score that is a mean, over the steps."""
    keys = dict.fromkeys(key for row in report.history for key in row)
    names = [m.name for m in report.measures]
    scored = [k.split("/", 1)[1] for k in keys if k.startswith("val/")]
    means = [n for n in scored if n != "loss" and "/" not in n]
    means.sort(key=lambda n: names.index(n) if n in names else len(names))
    groups = {"loss": [("val", "val/loss"), ("train", "train/loss")]}
    groups |= {name: [("val", f"val/{name}")] for name in means}
    figures = [_curves(report, name, group) for name, group in groups.items()]
    figures = [figure for figure in figures if figure]
    if not figures:
        return None
    parts = [tag("div", *figures, class_="charts")]
    if report.step is not None:
        marked = f"The dashed line marks the checkpoint of step {report.step:,d}."
        parts.insert(0, tag("p", marked))
    return section("Learning curves", *parts)


def scores(report: Report) -> Markup | None:
    """The scores of the whole set."""
    if not any(f"{report.split}/{m.name}" in report.scores for m in report.measures):
        return None
    return section("Scores", tables.scores(report))


def images(report: Report) -> Markup | None:
    """How the first score is spread over the images, and the worst of them."""
    if not report.images or not report.measures:
        return None
    first = report.measures[0]
    table, shown = tables.images(report)
    count = len(report.images)
    which = "All" if shown == count else f"The {shown} worst of"
    says = f"{which} {count:,d} images, worst {tables.title(first)} first."
    parts = [tag("p", says), table]
    values = [row.get(first.name) for row in report.images]
    if sum(known(value) for value in values) > 1:
        parts.insert(1, tag("figure", charts.strip(first.name, values), class_="strip"))
    return section("Images", *parts)


def calibration(report: Report) -> Markup | None:
    """Whether the network is right as often as it is sure."""
    bins = report.reliability
    if bins is None or not bins.count.sum():
        return None
    says = (
        "Pixels are binned by the probability of what was decided. On the dashed line, "
        "accuracy is what confidence promised; below it the network is too sure. The "
        "expected calibration error, the mean length of the vertical lines weighted "
        f"by the answers in each bin, is {number(charts.calibration_gap(bins))}."
    )
    figure = tag("figure", charts.reliability(bins))
    pair = tag("div", figure, tables.bins(bins), class_="pair")
    return section("Calibration", tag("p", says), pair)


def confusion(report: Report) -> Markup | None:
    """Which class was taken for which."""
    counts = report.confusion
    if counts is None:
        return None
    says = tag(
        "p",
        "Pixels of each true class (rows) by what was predicted (columns), in percent "
        "of the row.",
    )
    if counts.ndim == 2:
        return section("Confusion", says, tables.confusion(counts, report.classes))
    figures = [
        tag("figure", tag("figcaption", name), tables.confusion(table, ("no", "yes")))
        for name, table in zip(report.classes, counts, strict=True)
    ]
    return section("Confusion", says, tag("div", *figures, class_="charts"))


def cases(report: Report) -> Markup | None:
    """The images that are shown, with what their colours mean."""
    if not report.cases:
        return None
    parts = [_case(case) for case in report.cases]
    if report.legend:
        parts.insert(0, legend(report.legend))
    return section("Cases", *parts)


def _first_score(report: Report) -> float | None:
    if not report.measures:
        return None
    return report.scores.get(f"{report.split}/{report.measures[0].name}")


def _curves(
    report: Report, name: str, group: Sequence[tuple[str, str]]
) -> Markup | None:
    """A figure of the curves of a group that have a point."""
    drawn = []
    for label, key in group:
        points = [(row["step"], row[key]) for row in report.history if key in row]
        if any(known(y) for _, y in points):
            drawn.append(charts.thinned(label, points))
    if not drawn:
        return None
    keys = [
        tag("span", tag("i", class_=f"line-{place}"), line.name, class_="key")
        for place, line in enumerate(drawn)
    ]
    measure = next((m for m in report.measures if m.name == name), Measure(name))
    caption = tag("figcaption", tables.title(measure), *keys)
    return tag("figure", caption, charts.lines(name, drawn, marked=report.step))


def _case(case: Case) -> Markup:
    figures = [
        picture(png, title, alt=f"{case.rank}, {case.name}: {title}")
        for title, png in case.pictures
    ]
    said = [f"{name} {number(value)}" for name, value in case.scores]
    heading = tag("h3", tag("span", case.rank), case.name)
    caption = tag("p", ", ".join(said))
    pictures = tag("div", *figures, class_="pictures")
    return tag("article", heading, caption, pictures)
