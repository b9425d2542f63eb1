"""Every command in the documentation is one that the program accepts."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:\w+=\S+ )*(?:python main\.py|unet-jax)\b(.*)")


def commands(page):
    for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if match := PROGRAM.match(line):
                yield pytest.param(
                    shlex.split(match[1], comments=True), id=f"{page.stem}: {line[:60]}"
                )
