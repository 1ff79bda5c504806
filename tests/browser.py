"""A headless Chromium, driven through the DevTools protocol over a pair of pipes.

No port is opened and no package is needed: with `--remote-debugging-pipe` the browser reads
commands from descriptor 3 and answers on descriptor 4, JSON with a zero byte behind each message.

Source: https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    *("--headless", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check"),
    *("--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--disable-extensions", "--disable-dev-shm-usage"),
    # The sandbox needs rights that containers lack; the pages are the tests' own.
    *("--no-sandbox", "--hide-scrollbars", "--force-color-profile=srgb"),
)

# Puts the two pipes where the browser looks for them, and becomes the browser.
_LAUNCH = (
    "import os, sys; commands, answers = map(int, sys.argv[1:3]);"
    "os.dup2(commands, 13); os.dup2(answers, 14); os.dup2(13, 3); os.dup2(14, 4);"
    "os.execv(sys.argv[3], sys.argv[3:])"
)

_NOTE_READY = """
new MutationObserver((changes, observer) => {
  if (document.documentElement?.dataset.ready) {
    observer.disconnect();
    const note = () => { window.readyAt = performance.now(); };
    requestAnimationFrame(() => requestAnimationFrame(note));
  }
}).observe(document, { attributes: true, childList: true, subtree: true });
"""

_GRAVE = ("error", "warning", "assert")

PATIENCE = 60.0  # seconds


def find() -> str | None:
    """Return where a Chromium is, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def find_or_exit() -> str:
    """Return where a Chromium is.

    Raises:
        SystemExit: There is none.
    """
    if (binary := find()) is None:
        raise SystemExit(f"there is no Chromium on the path; expected one of {', '.join(NAMES)}")
    return binary


class Browser:
    """One headless browser with one tab, in which pages are opened one after the other.

    Args:
        binary: Of Chromium.

    Attributes:
        requests: Addresses that the tab asked for since `open`.
        complaints: Errors and warnings in the console since then; exceptions and violations of
            the content security policy are among them.
    """

    def __init__(self, binary: str) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._profile = tempfile.TemporaryDirectory(prefix="graphnorms-chromium-")
        its_commands, commands = os.pipe()
        answers, its_answers = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LAUNCH, str(its_commands), str(its_answers)),
                *(binary, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"),
            ],
            pass_fds=(its_commands, its_answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_commands)
        os.close(its_answers)
        self._commands, self._answers = commands, answers
        self._unread = b""
        self._sent = 0
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.addScriptToEvaluateOnNewDocument", source=_NOTE_READY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._session = None
            self.send("Browser.close")
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._commands)
            os.close(self._answers)
            self._profile.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to the tab, and return its result.

        Raises:
            RuntimeError: The browser refuses it.
        """
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._commands, rest) :]
        while True:
            answer = self._read()
            if answer.get("id") != self._sent:
                self._note(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']['message']}")
            else:
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, page: Path) -> None:
        """Open a page from the disk, and wait until it is painted."""
        self.requests.clear()
        self.complaints.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait(
            "document.readyState === 'complete' &&"
            " (window.readyAt !== undefined || document.scripts.length === 0)"
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited.

        Raises:
            RuntimeError: It throws.
        """
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(_exception(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            TimeoutError: It stays false; with what the console says.
        """
        end = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"still not {condition}; the console says {self.complaints}")
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was changed is painted."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))"
        )

    def size(self, width: int, height: int = 900, *, phone: bool = False) -> None:
        """Set the size of the window in CSS pixels; a phone has two pixels for each."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )

    def media(self, *, dark: bool = False, printed: bool = False) -> None:
        """Prefer dark or light colours, and show what is on the screen or what is printed."""
        self.send(
            "Emulation.setEmulatedMedia",
            media="print" if printed else "",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        self.settle()

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of the first element that a CSS selector finds."""
        x, y = self.evaluate(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            "found.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });"
            "const { x, y, width, height } = found.getBoundingClientRect();"
            "return [x + width / 2, y + height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window."""
        for away in (3, 0):
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + away, y=y)
        self.settle()

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Pull the mouse from one place in the window to another, the left button pressed."""
        steps = (
            ("mousePressed", x, y),
            ("mouseMoved", (x + to_x) / 2, (y + to_y) / 2),
            ("mouseMoved", to_x, to_y),
            ("mouseReleased", to_x, to_y),
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind, *place in steps:
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                buttons=int(kind != "mouseReleased"),
                clickCount=1,
            )
        self.settle()

    def picture(self) -> bytes:
        """Return what is in the window as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def printed(self) -> bytes:
        """Return the page as PDF, as a printer would get it."""
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            if not select.select([self._answers], [], [], PATIENCE)[0]:
                raise TimeoutError(f"Chromium said nothing for {PATIENCE:.0f} s")
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise RuntimeError("Chromium ended")
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what a page asked for and complained of."""
        method, about = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            address = about["request"]["url"]
            if not address.startswith(("data:", "blob:")):  # inside the page
                self.requests.append(address)
        elif method == "Network.webSocketCreated":
            self.requests.append(about["url"])
        elif method == "Log.entryAdded" and about["entry"]["level"] in _GRAVE:
            self.complaints.append(about["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(_exception(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in _GRAVE:
            words = [str(a.get("value", a.get("description", ""))) for a in about["args"]]
            self.complaints.append(f"{about['type']}: {' '.join(words)}")


def _exception(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
