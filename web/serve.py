"""Serves the page on this machine: `./launch.sh web`.

Any static web server can host the page. The headers of this one isolate it, which
browsers require of pages with several threads.
"""

import argparse
import json
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent
MODEL = "/model/"  # the address of the model that the page loads first
FILES = ("model.onnx", "model.json")
EXAMPLE = "example.png"  # if model.json has "example": true
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript"}


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of this folder, and the model of another one."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def __init__(self, *args: Any, model: Path, **kwargs: Any) -> None:
        self.model = model
        super().__init__(*args, directory=str(ROOT), **kwargs)

    def translate_path(self, path: str) -> str:
        """Returns the file of an address."""
        place = unquote(urlsplit(path).path)
        if place in (MODEL + name for name in (*FILES, EXAMPLE)):
            return str(self.model / place.removeprefix(MODEL))
        return super().translate_path(path)

    def end_headers(self) -> None:
        """Adds the headers that isolate the page."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Prints nothing for each request."""


class Parser(argparse.ArgumentParser):
    """Explains a wrong flag in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        sys.exit(_fail(f"{message}; ./launch.sh web --help lists the flags"))


def main() -> int:
    """Serves until it is interrupted; returns the exit status."""
    parser = Parser(prog="./launch.sh web", description=__doc__)
    parser.add_argument("port", nargs="?", type=int, default=8100, help="0: any")
    parser.add_argument(
        "--model", type=Path, default=ROOT / "model", help="an exported folder web/"
    )
    flags = parser.parse_args()
    model = flags.model.expanduser().resolve()
    if (model / "web").is_dir():
        model /= "web"
    if missing := _find_missing(model):
        return _fail(
            f"--model={flags.model} has no {missing}; name the folder web/ of an "
            "export with --config.export.formats=\"('web',)\""
        )
    try:
        server = ThreadingHTTPServer(
            ("127.0.0.1", flags.port), partial(Handler, model=model)
        )
    except (OSError, OverflowError) as error:
        return _fail(
            f"port {flags.port} cannot be used ({error}); name another one, such as "
            "./launch.sh web 8200"
        )
    print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0


def _find_missing(model: Path) -> str:
    """Returns what a folder lacks to be a model of the page, or ''."""
    for name in FILES:
        if not (model / name).is_file():
            return name
    try:
        description = json.loads((model / "model.json").read_text())
    except ValueError:
        return "model.json that is JSON"
    is_page = isinstance(description, dict) and "page" in description
    return "" if is_page else "model.json of the format 'web'"


def _fail(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
