"""Generates pages of the documentation: the reference, experiments, decisions.

MkDocs calls `on_config`, `on_files` and `on_page_markdown` (`hooks` in mkdocs.yml).
"""

import html
import importlib
import re
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a build without installation

from unet_jax.build.fields import FIELDS, UNSET, Field, Keyword, list_keys  # noqa: E402

EXPERIMENTS = sorted(ROOT.glob("experiments/*/README.md"))
FUNCTIONS = {  # the pages of the functions that specs name, and their modules
    "data": ("Data sets", "data"),
    "preparation": (
        "Data preparation",
        "data.normalize",
        "data.weights",
        "data.sampling",
    ),
    "tasks": ("Tasks", "tasks"),
    "methods": ("Methods", "methods"),
    "models": ("Networks", "models"),
    "losses": ("Losses", "losses"),
    "metrics": ("Metrics", "metrics"),
    "augment": ("Augmentation", "augment"),
    "optimizers": ("Optimizers and schedules", "optimizers", "schedules"),
    "postprocess": ("Post-processing", "postprocess"),
}
DECISIONS = sorted(ROOT.glob("docs/decisions/*.md"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the experiments and the decisions to the navigation."""
    config.nav += [
        {
            "Experiments": [
                {_title(path): f"experiments/{path.parent.name}/index.md"}
                for path in EXPERIMENTS
            ]
        },
        {"Decisions": [{_title(p): f"decisions/{p.name}"} for p in DECISIONS]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {"fields": _fields_page()}
    pages |= {page: _functions_page(*about) for page, about in FUNCTIONS.items()}
    for page, text in pages.items():
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    for readme in EXPERIMENTS:
        folder = readme.parent
        # also those of the parts of a question
        shown = [*folder.rglob("figure.*g"), *folder.rglob("results*.csv")]
        for path in (readme, *shown):
            name = "index.md" if path == readme else path.relative_to(folder).as_posix()
            uri = f"experiments/{folder.name}/{name}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Returns a page with the links of a checkout as those of the site."""
    if page.file.src_uri.startswith("experiments/"):
        markdown = markdown.replace("](../../docs/", "](../../")
    # docs/ is the root of the site, and experiments/ lies beside it in a checkout
    link = r"\]\(\.\./((?:\.\./)?experiments/\w+)/README\.md"
    return re.sub(link, r"](\1/index.md", markdown)


def _title(path: Path) -> str:
    """Returns the first heading of a Markdown file."""
    return path.read_text("utf-8").splitlines()[0].removeprefix("# ")


def _functions_page(title: str, *modules: str) -> str:
    """Returns the reference of the functions in `__all__` of some modules."""
    lines = [f"# {title}", ""]
    for name in modules:
        module = importlib.import_module(f"unet_jax.{name}")
        lines += [f"::: {module.__name__}", "    options:", "      members: false", ""]
        for function in (getattr(module, name) for name in module.__all__):
            path = f"{function.__module__}.{function.__qualname__}"
            lines += [f"::: {path}", "    options:"]
            lines += ["      show_root_heading: true", ""]
    return "\n".join(lines)


def _fields_page() -> str:
    """Returns the reference of the config fields as Markdown."""
    lines = [
        "# Config fields",
        "",
        "Set a field with `--config.<field>=<value>`. A field marked with ↻ may have "
        "another value when a run is resumed, evaluated or used for prediction.",
        "",
        "A *spec* is a function and its keyword arguments: "
        "`{'name': 'dice', 'smooth': 1.0}`. The tables list the keys that "
        "`configs/base.py` sets or that may change; the pages of the functions list "
        "all of them.",
        "",
    ]
    for field in FIELDS:
        if "." not in field.name:
            lines += [f"## {field.name}", "", *_description(field), ""]
            lines += _table(list_keys(field.name))
    return "\n".join(lines)


def _description(field: Field) -> list[str]:
    default = "" if field.default is UNSET else f"; default `{field.default!r}`"
    mark = "; ↻" if field.may_change else ""
    comment = html.escape(field.comment, quote=False)
    return [comment, "", f"*{_type(field.type)}*{default}{mark}"]


def _table(rows: dict[str, Field]) -> list[str]:
    if not rows:
        return []
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, row in rows.items():
        mark = " ↻" if row.may_change else ""
        default = "" if row.default is UNSET else f"`{row.default!r}`"
        meaning = html.escape(row.comment, quote=False).replace("|", "\\|")
        lines.append(f"| `{name}`{mark} | {default} | {meaning} |")
    return [*lines, ""]


def _type(kind: Any) -> str:
    """Returns a type in words, without the ranges of `Annotated`."""
    if kind is Keyword:
        return ""
    if hasattr(kind, "__metadata__"):
        words = [getattr(x, "words", "") for x in kind.__metadata__]
        return " ".join([_type(kind.__origin__), *filter(None, words)])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"tuple of {_type(arguments[0])}"
    if origin is not None:
        return " or ".join(f"`{x}`" for x in arguments)
    return getattr(kind, "__name__", str(kind)).lower()
