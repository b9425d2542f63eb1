"""Runs an experiment: every point of its sweep, then its figure.

python experiments/run.py experiments/<question> [flags of main.py for every run]

`sweep.py` of the experiment names a config, `CONFIG`. Its `points()` yields
`(name, {field: value})`; each point becomes
`main.py --config=<CONFIG> --workdir=runs/<question>/<name> --config.<field>=<value>`. A
finished run is not trained again, so an interrupted sweep resumes where it stopped.
"""

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_module(path: Path) -> ModuleType:
    """Imports a file of an experiment, which is not a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_commands(folder: Path, flags: list[str]) -> list[list[str]]:
    """Returns the command of every run of a sweep."""
    sweep = load_module(folder / "sweep.py")
    return [
        [
            sys.executable,
            str(ROOT / "main.py"),
            f"--config={sweep.CONFIG}",
            f"--workdir=runs/{folder.name}/{name}",
            *(f"--config.{field}={value}" for field, value in overrides.items()),
            *flags,
        ]
        for name, overrides in sweep.points()
    ]


def main() -> None:
    """Runs the experiment that the first argument names."""
    folder, flags = Path(sys.argv[1]), sys.argv[2:]
    if not folder.is_dir():
        folder = ROOT / folder  # from another folder than that of the checkout
    if not (folder / "sweep.py").is_file():
        names = sorted(p.parent.name for p in ROOT.glob("experiments/*/sweep.py"))
        sys.exit(f"error: no {sys.argv[1]}/sweep.py; experiments: {', '.join(names)}")
    for command in list_commands(folder, flags):
        print(shlex.join(["main.py", *command[2:]]), flush=True)
        process = subprocess.Popen(command)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # the run receives Ctrl-C too, and saves
            code = 130
        if code:
            sys.exit(code)  # the run has printed the reason
    sys.path.insert(0, str(ROOT))  # figures import experiments.seeds
    load_module(folder / "figure.py").draw(Path("runs") / folder.name)


if __name__ == "__main__":
    main()
