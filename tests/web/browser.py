"""A headless Chromium for the tests of the page, through the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol, over a pair of pipes: messages are
JSON, each with a zero byte at its end.
"""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
PATIENCE = 300  # seconds; the machine may be busy


def find_browser() -> str | None:
    """Returns the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page of a browser.

    Attributes:
      downloads: the folder of the files that the page saves.
      faults: errors of scripts and of the console.
    """

    def __init__(self, read: int, write: int, downloads: Path) -> None:
        self.downloads = downloads
        self.faults: list[str] = []
        self._write, self._session, self._number = write, "", 0
        self._answers: dict[int, Any] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._listen, args=(read,), daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(downloads),
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with self._news:
            done = self._news.wait_for(lambda: number in self._answers, PATIENCE)
        assert done, f"{method}: no answer"
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, address: str) -> None:
        """Opens an address."""
        self.call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression, or of its promise."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Waits until an expression is true, and returns its value."""
        end = time.monotonic() + PATIENCE
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} stays {value!r}"
            time.sleep(0.1)
        return value

    def choose(self, selector: str, *files: Path) -> None:
        """Chooses files in a field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=list(map(str, files)))

    def download(self, text: str) -> Path:
        """Presses the button with this text and returns the file that it saves."""
        before = set(self.downloads.iterdir())
        self.evaluate(
            "[...document.querySelectorAll('#downloads button')]"
            f".find((b) => b.textContent.includes({json.dumps(text)})).click()"
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            new = set(self.downloads.iterdir()) - before
            if new and not any(path.name.endswith(".crdownload") for path in new):
                return new.pop()
            time.sleep(0.1)
        raise AssertionError(f"nothing was downloaded: {text}")

    def screenshot(self, path: Path, width: int, height: int, *, dark: bool) -> None:
        """Writes a picture of the whole page."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if width < 600 else 1,
            mobile=width < 600,
        )
        time.sleep(0.5)
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _listen(self, read: int) -> None:
        rest = b""
        while part := os.read(read, 2**16):
            *messages, rest = (rest + part).split(b"\0")
            for message in map(json.loads, messages):
                with self._news:
                    if "id" in message:
                        self._answers[message["id"]] = message
                    self._note(message)
                    self._news.notify_all()

    def _note(self, message: Any) -> None:
        """Keeps errors of the page."""
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.faults.append(str(params["exceptionDetails"]))
        entry = params.get("entry", {})
        if message.get("method") == "Log.entryAdded" and entry["level"] == "error":
            self.faults.append(str(entry))


@contextlib.contextmanager
def open_page() -> Iterator[Page]:
    """Starts a browser with a new profile, and ends it."""
    browser = find_browser()
    assert browser
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Chromium reads from 3 and writes to 4; the ends of the pipes are above these.
        pipes = [os.pipe(), os.pipe()]
        (to_read, from_write), (from_read, to_write) = (
            [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in pipe] for pipe in pipes
        )
        for end in (*pipes[0], *pipes[1]):
            os.close(end)
        words = [browser, *FLAGS, f"--user-data-dir={folder}/new"]
        shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *words],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        downloads = Path(folder, "downloads")
        downloads.mkdir()
        try:
            page = Page(from_read, from_write, downloads)
            yield page
        finally:
            process.terminate()
            process.wait()
            os.close(from_write)
