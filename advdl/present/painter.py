"""A page on localhost to paint on a generated image: the server between the browser and two
functions."""

import base64
import contextlib
import importlib.resources
import io
import json
import logging
import os
import pathlib
import re
import shutil
import sys
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from advdl.errors import UserError
from advdl.present import files
from advdl.reading import parse_json


def serve(
    title: str,
    size: tuple[int, int],
    gray: bool,
    start: Callable[[dict], dict],
    edit: Callable[[dict], dict],
    port: int = 0,
) -> ThreadingHTTPServer:
    """The server of the page, bound to 127.0.0.1:`port` (0: any free port, see its `server_port`),
    not yet serving.

    size: height and width of the generated image in pixels. gray: only black to white can be
      painted.

    start: `{"seed": int}` or `{"image": data URL}` -> `{"z": [...], "image": data URL, "original":
      data URL or None}`.

    edit: `{"strokes": [...], "z0": [...], "z": [...], "smoothness": 0..3, "original": data URL or
    None}` -> `{"z": [...], "image": data URL, "frames": [data URL, ...], "candidates": [{"z":
    [...], "image": data URL}, ...], "transferred": data URL or None, "figures": {name: number}}`.
    z0 is of the picture without strokes, z of the one shown now: the last answer or the candidate
    that was chosen. The strokes, in the order painted, are

        {"kind": "color", "color": [r, g, b], "points": [[x, y], ...], "radius": r}  # 0..255
        {"kind": "sketch", "points": [[x, y], ...], "radius": r}
        {"kind": "warp", "from": [x, y], "to": [x, y], "radius": r}

    with lengths in pixels of the generated image, x in 0..W to the right and y in 0..H down from
    its upper left corner.

    Only one of the functions runs at a time, once. What a `UserError` from them says is shown on
    the page; any other exception is logged. Nothing that the page sends is checked beyond being a
    JSON object of at most 16 MiB.

    Raises UserError where the port cannot be had.
    """
    settings = json.dumps({"title": title, "height": size[0], "width": size[1], "gray": gray})
    for character in "<>&":
        settings = settings.replace(character, f"\\u{ord(character):04x}")
    template = (
        importlib.resources.files("advdl.present")
        .joinpath("painter.html")
        .read_text(encoding="utf-8")
    )
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on 127.0.0.1:{port}: {error}; give another port, or 0 for any"
        ) from error
    server.page = template.replace("$SETTINGS", settings).encode()
    server.functions = {"/start": start, "/edit": edit}
    server.lock = threading.Lock()
    return server


def serve_forever(server: ThreadingHTTPServer) -> None:
    """Says where the page is, and answers until interrupted."""
    address = f"http://localhost:{server.server_address[1]}"
    print(f"paint at {address}, end with Ctrl-C", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def data_url(pixels_HWC: np.ndarray) -> str:
    """uint8 (H, W, 1 or 3) as a PNG in a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC.squeeze(-1) if pixels_HWC.shape[-1] == 1 else pixels_HWC).save(
        buffer, "PNG"
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def from_data_url(url: Any) -> bytes:
    """The contents of an image file in a data URL. Raises UserError where it is none."""
    head, _, content = url.partition(",") if isinstance(url, str) else ("", "", "")
    try:
        if re.fullmatch(r"data:image/[a-z.+-]+;base64", head):
            return base64.b64decode(content, validate=True)
    except ValueError:
        pass
    raise UserError("the page sent something that is no image; open a PNG or JPEG file")


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def browser():
    """A headless Chromium of Playwright's, its own or the system's; None where there is no
    Playwright or no browser."""
    try:
        from playwright import sync_api
    except ImportError:
        yield None
        return
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = (
            own
            if pathlib.Path(own).exists()
            else next(filter(None, map(shutil.which, BROWSERS)), None)
        )
        if path is None:
            yield None
            return
        quiet = [
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--disable-gpu",
        ]
        opened = playwright.chromium.launch(
            executable_path=path, args=["--force-color-profile=srgb", *quiet]
        )
        try:
            yield opened
        finally:
            opened.close()


def photograph(
    server: ThreadingHTTPServer, line: Sequence[tuple[float, float]], path: str | os.PathLike
) -> bool:
    """Paints a stroke on the page with a mouse, along places (x, y) in shares of the canvas, and
    writes what is then seen as a PNG. False where there is no browser."""
    with browser() as opened:
        if opened is None:
            return False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page = opened.new_page(viewport={"width": 1000, "height": 820})
            page.goto(f"http://localhost:{server.server_port}/")
            page.wait_for_selector("body[data-state=ready]")
            box = page.locator("#canvas").bounding_box()
            if box is None:
                return False
            spots = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in line]
            page.mouse.move(*spots[0])
            page.mouse.down()
            for spot in spots[1:]:
                page.mouse.move(*spot, steps=8)
            page.mouse.up()
            page.wait_for_selector("#candidates img")
            page.wait_for_selector("body[data-state=ready]")
            page.wait_for_timeout(1500)  # milliseconds: the morph has ended
            files.write(pathlib.Path(path), page.screenshot(full_page=True))
        finally:
            server.shutdown()
    return True


_LIMIT = 16 * 2**20  # bytes of a request
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
_LOG = logging.getLogger(__name__)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
        " blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


class _Server(ThreadingHTTPServer):
    page: bytes
    functions: dict[str, Callable[[dict], dict]]
    lock: threading.Lock

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # which is a page that was closed
            _LOG.exception("a request failed")


class _Refusal(Exception):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60  # seconds that a connection may stay silent

    def do_GET(self):
        try:
            self._check_host()
            if self._path() != "/":
                raise _Refusal(404, f"there is no page {self._path()}")
            self._answer(200, self.server.page, "text/html; charset=utf-8")
        except _Refusal as refusal:
            self._refuse(refusal)

    def do_POST(self):
        self.unread = 0
        try:
            self._answer(200, self._call())
        except _Refusal as refusal:
            self._refuse(refusal)
        self.wfile.flush()
        # A client that is still sending would not see the answer.
        unread = min(self.unread, 4 * _LIMIT)
        while unread > 0 and (chunk := self.rfile.read(min(unread, 2**16))):
            unread -= len(chunk)

    def log_message(self, *_):
        pass

    def _call(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        self.unread = int(length) if re.fullmatch(r"[0-9]{1,15}", length) else 0
        self._check_host()
        if self._path() not in self.server.functions:
            raise _Refusal(404, f"nothing is taken at {self._path()}")
        if (kind := self.headers.get_content_type()) != "application/json":
            raise _Refusal(400, f"the content type is {kind}; application/json is expected")
        if not length.isdecimal():
            raise _Refusal(400, "the request does not tell its Content-Length")
        if int(length) > _LIMIT:
            raise _Refusal(
                413, f"the request has {int(length):,} bytes; at most {_LIMIT:,} are taken"
            )
        body = self.rfile.read(int(length))
        self.unread = 0
        with self.server.lock:
            try:
                request = parse_json(body, "the request", dict[str, Any], "send a JSON object")
                return json.dumps(
                    self.server.functions[self._path()](request), allow_nan=False
                ).encode()
            except UserError as error:
                raise _Refusal(400, str(error)) from error
            except Exception as error:
                _LOG.exception("%s failed", self._path())
                raise _Refusal(
                    500, f"{type(error).__name__}: {error}; the program's log has more"
                ) from error

    def _check_host(self):
        hosts = self.headers.get_all("Host", [])
        # Another site's name can be made to lead here.
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
            raise _Refusal(403, "only 127.0.0.1 and localhost are answered")

    def _path(self) -> str:
        return urllib.parse.urlsplit(self.path).path

    def _refuse(self, refusal: _Refusal):
        self._answer(refusal.status, json.dumps({"error": " ".join(str(refusal).split())}).encode())

    def _answer(self, status: int, content: bytes, kind: str = "application/json"):
        self.send_response(status)
        for name, value in (
            _HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
