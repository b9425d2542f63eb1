"""The program accepts every command of the documentation."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from unet_jax import command
from unet_jax.build.field_checks import check_fields

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "experiments").rglob("*.md"))
COMMAND = re.compile(
    r"^ *(?:\w+=\S+ )*(?:python main\.py|unet-jax|\./launch\.sh) (--(?!help).*)$",
    re.MULTILINE,
)


def list_commands():
    for page in PAGES:
        for arguments in COMMAND.findall(page.read_text("utf-8").replace("\\\n", " ")):
            words = shlex.split(arguments, comments=True)
            yield pytest.param(words, id=f"{page.stem}: {arguments[:60]}")


@pytest.mark.parametrize("arguments", [*list_commands()])
def test_a_command_of_the_documentation_is_accepted(arguments, monkeypatch):
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file(
        "config", flag_values=values, lock_config=False, accept_new_attributes=True
    )
    names = ("workdir", "mode", "input", "output", "ensemble", "count", "workers")
    for name in (*names, "runs"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    command.copy_loaded_configs(values["config"])  # reads the base of a sweep
    monkeypatch.setattr(flags, "FLAGS", values)
    plan = "--config=runs/folder/plan.py"
    arguments = ["--config=folder" if a == plan else a for a in arguments]
    monkeypatch.setattr(sys, "argv", ["main.py", *arguments])
    command.parse(["main.py", *arguments])
    check_fields(config.value)
