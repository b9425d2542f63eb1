"""Runs an experiment: every point of its sweep, then its figure.

python experiments/run.py experiments/<question> [flags of main.py for every run]

`sweep.py` of the experiment yields `(name, {field: value})`, plain data; each becomes
`main.py --workdir=runs/<question>/<name> --config.<field>=<value>`. A run that is
finished is not trained again, so a sweep that was cut off goes on where it stopped.
"""

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load(path: Path) -> ModuleType:
    """Imports a file of an experiment, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(folder: Path, flags: list[str]) -> list[list[str]]:
    """The command of every run of a sweep."""
    sweep = load(folder / "sweep.py")
    return [
        [
            sys.executable,
            str(ROOT / "main.py"),
            f"--config={ROOT / sweep.CONFIG}",
            f"--workdir=runs/{folder.name}/{name}",
            *(f"--config.{field}={value}" for field, value in overrides.items()),
            *flags,
        ]
        for name, overrides in sweep.points()
    ]


def main() -> None:
    """Runs the experiment that the first argument names."""
    folder, flags = Path(sys.argv[1]), sys.argv[2:]
    if not (folder / "sweep.py").is_file():
        there = sorted(p.parent.name for p in ROOT.glob("experiments/*/sweep.py"))
        sys.exit(f"error: no {folder}/sweep.py; there are: {', '.join(there)}")
    for command in commands(folder, flags):
        print(shlex.join(["main.py", *command[2:]]), flush=True)
        process = subprocess.Popen(command)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it has heard Ctrl-C too, and saves
            code = 130
        if code:
            sys.exit(code)  # the run has said why
    load(folder / "figure.py").draw(Path("runs") / folder.name)


if __name__ == "__main__":
    main()
