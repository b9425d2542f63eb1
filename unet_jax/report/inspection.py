"""The page of an inspection: what is wrong first, then what there is, then the plan."""

from collections.abc import Sequence

from unet_jax.report import tallies
from unet_jax.report.document import document, facts, legend, listed, picture, section
from unet_jax.report.findings import Example, Inspection
from unet_jax.report.markup import Markup, tag
from unet_jax.report.style import FINDINGS, STYLE
from unet_jax.report.tables import table
from unet_jax.report.words import counted, lasting, memory

LISTED = 50  # names of one list; inspect.json has them all


def inspected(inspection: Inspection) -> str:
    """The inspection as the text of one HTML file, without scripts and references."""
    sections = (
        headline(inspection),
        faults(inspection, "error", "Errors", "No run starts before they are mended."),
        faults(inspection, "warning", "Warnings", "They keep no run from starting."),
        decisions(inspection),
        tallies.splits(inspection),
        examples(inspection),
        tallies.values(inspection),
        tallies.classes(inspection),
        empty(inspection),
        tallies.objects(inspection),
        tallies.shapes(inspection),
        tallies.intensities(inspection),
        pairs(inspection),
        plan(inspection),
    )
    return document(inspection.title, sections, style=STYLE + FINDINGS)


def headline(inspection: Inspection) -> Markup:
    """The title, whether the data can be used, and how many images there are."""
    levels = [level for level, _, _ in inspection.faults]
    errors = counted(levels.count("error"), "error")
    warnings = counted(levels.count("warning"), "warning")
    lead = tag("p", tag("b", errors), tag("span", f"and {warnings}"), class_="lead")
    images = [(part.name, f"{part.images:,d} images") for part in inspection.parts]
    return tag("header", tag("h1", inspection.title), lead, facts(images))


def faults(inspection: Inspection, level: str, title: str, says: str) -> Markup | None:
    """All of one level, those of one kind together."""
    found = [(kind, text) for lv, kind, text in inspection.faults if lv == level]
    if not found:
        return None
    parts = [tag("p", says)]
    for kind in dict.fromkeys(kind for kind, _ in found):
        texts = [text for k, text in found if k == kind]
        heading = tag("h3", kind, tag("small", f" {len(texts):,d}"))
        parts.append(tag("article", heading, listed(texts, kind=level)))
    return section(title, *parts)


def decisions(inspection: Inspection) -> Markup | None:
    """What was decided for the user."""
    if not inspection.said:
        return None
    return section("Decided", listed(inspection.said))


def examples(inspection: Inspection) -> Markup | None:
    """Images under their classes, those of one split together."""
    if not inspection.examples:
        return None
    parts = [legend(inspection.legend)] if inspection.legend else []
    for split in dict.fromkeys(example.split for example in inspection.examples):
        shown = [_example(e) for e in inspection.examples if e.split == split]
        pictures = tag("div", *shown, class_="pictures examples")
        parts.append(tag("article", tag("h3", split), pictures))
    return section("Examples", *parts)


def empty(inspection: Inspection) -> Markup | None:
    """The images that are all background."""
    parts = [part for part in inspection.parts if part.empty and part.name != "all"]
    if not parts:
        return None
    articles = [
        tag("article", tag("h3", part.name), listed(_first(part.empty)))
        for part in parts
    ]
    return section("Without foreground", *articles)


def pairs(inspection: Inspection) -> Markup | None:
    """Images of two splits side by side."""
    if not inspection.pairs:
        return None
    shown = []
    for pair in inspection.pairs:
        two = [_example(one) for one in (pair.first, pair.second)]
        says = tag("p", "the same pixels" if pair.same else "nearly the same")
        shown.append(tag("article", says, tag("div", *two, class_="pictures")))
    says = tag("p", "What a network has seen in training cannot test it.")
    return section("Alike across splits", says, *shown)


def plan(inspection: Inspection) -> Markup | None:
    """What to train, why, and what it will take."""
    advice = inspection.advice
    if advice is None:
        return None
    body = [
        tag("tr", tag("th", field, scope="row"), tag("td", value), tag("td", reason))
        for field, value, reason in advice.choices
    ]
    measured = facts(
        (
            ("memory of a step", memory(advice.memory)),
            ("1000 steps", lasting(advice.seconds)),
            ("measured on", advice.device),
        )
    )
    command = tag("pre", tag("code", advice.command))
    chosen = table(["field", "value", "because"], body, kind="words choices")
    return section("Plan", command, measured, chosen)


def _example(example: Example) -> Markup:
    rank = tag("span", example.rank)
    said = tag("small", example.says)
    alt = f"{example.split}, {example.name}"
    return picture(example.png, rank, " ", example.name, said, alt=alt)


def _first(names: Sequence[str]) -> list[str]:
    more = [f"and {len(names) - LISTED:,d} more"] if len(names) > LISTED else []
    return [*names[:LISTED], *more]
