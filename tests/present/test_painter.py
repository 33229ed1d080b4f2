"""The server answers its own page only and tells every mistake; in a browser, the mouse's strokes
arrive as painted."""

import base64
import contextlib
import http.client
import io
import json
import re
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from advdl import present
from advdl.errors import UserError

NASTY = '</script><script>document.title = "broken"</script> & <b>'
HEIGHT, WIDTH = 6, 8
CHOSEN = 7  # the seed that stands for the second candidate


def pixels(seed, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def undo_png(url):
    return np.asarray(
        Image.open(
            io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))
        ).convert("RGB")
    )


class Fake:
    """A generator whose image is noise seeded by z; the seed after n edits is 100 + n. Records what
    it is asked."""

    def __init__(self):
        self.starts, self.edits, self.running, self.error = [], [], 0, None
        self.go = threading.Event()
        self.go.set()

    def start(self, request):
        self.starts.append(request)
        if self.error:
            raise self.error
        return {
            "z": [len(self.starts)],
            "image": png(pixels(len(self.starts))),
            "original": request.get("image"),
        }

    def edit(self, request):
        self.running += 1
        assert self.running == 1
        self.edits.append(request)
        assert self.go.wait(20)
        self.running -= 1
        if self.error:
            raise self.error
        z = 100 + len(self.edits)
        return {
            "z": [z],
            "image": png(pixels(z)),
            "frames": [png(pixels(200 + n)) for n in range(4)],
            "candidates": [{"z": [n], "image": png(pixels(n))} for n in (z, CHOSEN)],
            "transferred": request["original"],
            "figures": {"loss": 0.123456, "steps": 40},
        }


@contextlib.contextmanager
def served(fake, gray=False, title="A title"):
    server = present.serve(title, (HEIGHT, WIDTH), gray, fake.start, fake.edit)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def server(fake):
    with served(fake) as server:
        yield server


def ask(server, path, body=None, **headers):
    """(status, content)"""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def post(server, path, body, kind="application/json", **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, content = ask(server, path, body, Content_Type=kind, **headers)
    return status, json.loads(content)


def test_only_this_machine_is_listened_to(server):
    assert server.server_address == ("127.0.0.1", server.server_port)
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_or_none_is_told(server, fake):
    for port in (server.server_port, 70_000):
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
            present.serve("A", (8, 8), True, fake.start, fake.edit, port)


def test_the_page_holds_its_settings_whatever_the_title(fake):
    with served(fake, gray=True, title=NASTY) as server:
        status, page = ask(server, "/")
    page = page.decode()
    assert status == 200 and page.count("<script") == 2 and "broken" in page
    settings = re.search(
        r'<script type="application/json" id="settings">(.*?)</script>', page
    ).group(1)
    assert json.loads(settings) == {"title": NASTY, "height": HEIGHT, "width": WIDTH, "gray": True}
    assert "http" not in page and "@import" not in page


def test_a_request_reaches_its_function_and_the_answer_comes_back(server, fake):
    assert post(server, "/start", {"seed": 3}) == (
        200,
        {"z": [1], "image": png(pixels(1)), "original": None},
    )
    assert fake.starts == [{"seed": 3}] and not fake.edits
    assert post(server, "/start", {"seed": 4}, "application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "error"),
    [
        (
            "/start",
            b"{}",
            "text/plain",
            400,
            "the content type is text/plain; application/json is expected",
        ),
        ("/start", b'{"seed": ', "application/json", 400, "the request is not JSON"),
        (
            "/start",
            b'{"seed": NaN}',
            "application/json",
            400,
            "the request is not JSON: NaN is not a number",
        ),
        ("/start", b"\xff\xff", "application/json", 400, "the request is not JSON"),
        ("/start", b"[" * 100_000, "application/json", 400, "the request is not JSON"),
        (
            "/start",
            b"[1]",
            "application/json",
            400,
            "the request: it is a list; expected an object",
        ),
        (
            "/start",
            b" " * (16 * 2**20 + 1),
            "application/json",
            413,
            "has 16,777,217 bytes; at most 16,777,216",
        ),
        ("/stop", b"{}", "application/json", 404, "nothing is taken at /stop"),
        ("/", b"{}", "application/json", 404, "nothing is taken at /"),
    ],
    ids=["type", "cut", "nan", "bytes", "deep", "list", "large", "unknown", "page"],
)
def test_a_bad_request_is_told_in_one_line_and_reaches_no_function(
    server, fake, capfd, path, body, kind, status, error
):
    code, answer = post(server, path, body, kind)
    assert code == status and error in answer["error"] and "\n" not in answer["error"]
    assert not fake.starts and not fake.edits
    assert capfd.readouterr() == ("", "")


def test_the_largest_body_is_taken(server):
    assert post(server, "/start", b"{}".ljust(16 * 2**20))[0] == 200


def test_a_request_without_a_length_is_refused(server, fake):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/start")
        connection.putheader("Content-Type", "application/json")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 400 and b"Content-Length" in answer.read()
    assert not fake.starts


def test_nothing_else_is_there(server):
    for path in ("/start", "/painter.html", "/../painter.py"):
        status, content = ask(server, path)
        assert status == 404 and "there is no page" in json.loads(content)["error"]


def test_only_a_local_name_is_answered(server, fake):
    port = server.server_port
    for host in ("127.0.0.1", "localhost", f"localhost:{port}", f"127.0.0.1:{port}", "LOCALHOST"):
        assert ask(server, "/", Host=host)[0] == 200
        assert post(server, "/start", {}, Host=host)[0] == 200
    fake.starts.clear()
    for host in (
        "example.org",
        f"example.org:{port}",
        "127.0.0.1.example.org",
        "localhost@example.org",
        "localhost:",
        "",
    ):
        assert ask(server, "/", Host=host)[0] == 403
        assert post(server, "/start", {}, Host=host)[0] == 403
    assert not fake.starts


def test_a_mistake_is_told_and_a_defect_is_logged(server, fake, caplog):
    fake.error = UserError("no such\n seed")
    assert post(server, "/start", {}) == (400, {"error": "no such seed"})
    assert not caplog.records
    fake.error = RuntimeError("a\nb")
    assert post(server, "/start", {}) == (
        500,
        {"error": "RuntimeError: a b; the program's log has more"},
    )
    assert [record.exc_info[1] for record in caplog.records] == [fake.error]
    fake.error, fake.edit = None, None
    assert post(server, "/start", {"image": 1})[0] == 200


def test_an_answer_that_is_not_json_is_a_defect(server, fake, caplog):
    server.functions["/edit"] = lambda request: {"z": float("nan")}
    status, answer = post(server, "/edit", {})
    assert status == 500 and "ValueError" in answer["error"] and len(caplog.records) == 1


def test_functions_run_one_at_a_time(server, fake):
    fake.go.clear()
    answers = []
    body = {"original": None}
    threads = [
        threading.Thread(target=lambda: answers.append(post(server, "/edit", body)[0]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert ask(server, "/")[0] == 200  # the page itself does not wait
    assert len(fake.edits) <= 1 and not answers
    fake.go.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4  # `edit` asserts that it is alone


@pytest.fixture(scope="module")
def browser():
    with present.browser() as browser:
        if browser is None:
            pytest.skip("Playwright is not installed, or there is no Chromium for it")
        yield browser


class Hand:
    """Works the page as a person does, places in pixels of the generated image."""

    def __init__(self, page, server):
        self.page, self.asked, self.complaints = page, [], []
        page.set_default_timeout(10_000)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"http://localhost:{server.server_port}/")
        self.wait()

    def wait(self, state="ready"):
        self.page.wait_for_selector(f"body[data-state={state}]")

    def drag(self, *places):
        box = self.page.locator("#canvas").bounding_box()
        spots = [
            (box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"])
            for x, y in places
        ]
        self.page.mouse.move(*spots[0])
        self.page.mouse.down()
        for spot in spots[1:]:
            self.page.mouse.move(*spot, steps=6)
        self.page.mouse.up()
        self.page.mouse.move(2, 2)

    def slide(self, selector, value):
        self.page.locator(selector).fill(str(value))

    def shown(self, strokes=False):
        """The canvas at the middle of each pixel of the image, [H, W, 3]."""
        self.page.locator("#show").set_checked(strokes)
        seen = self.page.evaluate(
            """([height, width]) => {
              const canvas = document.getElementById("canvas"), scale = canvas.width / width;
              const context = canvas.getContext("2d");
              const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
              return Array.from({length: height * width}, (_, n) => {
                const x = (n % width + 0.5) * scale, y = (Math.floor(n / width) + 0.5) * scale;
                const start = 4 * (y * canvas.width + x);
                return Array.from(data.slice(start, start + 3));
              });
            }""",
            [HEIGHT, WIDTH],
        )
        self.page.locator("#show").check()
        return np.array(seen, np.uint8).reshape(HEIGHT, WIDTH, 3)

    def error(self):
        return self.page.locator("#error[role=alert]").inner_text()


@contextlib.contextmanager
def opened(browser, server):
    page = browser.new_page(viewport={"width": 1000, "height": 820})
    try:
        hand = Hand(page, server)
        yield hand
        assert not hand.complaints
        assert {
            url.partition("//")[2].partition("/")[0]
            for url in hand.asked
            if not url.startswith(("data:", "blob:"))
        } == {f"localhost:{server.server_port}"}
    finally:
        page.close()


def on_polyline(points, places):
    """Whether each of `points` lies on the lines between `places`, within a pixel of the screen."""
    for point in np.asarray(points):
        gaps = []
        for a, b in zip(np.asarray(places)[:-1], np.asarray(places)[1:], strict=True):
            t = np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            gaps.append(np.linalg.norm(a + t * (b - a) - point))
        if min(gaps) > 1 / 48:
            return False
    return True


@pytest.mark.scale
def test_what_the_mouse_paints_is_what_the_server_gets(browser, server, fake, tmp_path):
    with opened(browser, server) as hand:
        page = hand.page
        assert page.title() == page.locator("h1").inner_text() == "A title"
        (first,) = fake.starts
        assert set(first) == {"seed"} and isinstance(first["seed"], int)
        np.testing.assert_array_equal(hand.shown(), pixels(1))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        page.locator("#color").fill("#10c8ff")
        hand.slide("#radius", 1.5)
        hand.drag((1, 1), (6, 1), (6, 4))
        hand.wait()
        (request,) = fake.edits
        (stroke,) = request.pop("strokes")
        assert request == {"z0": [1], "z": [1], "smoothness": 0.3, "original": None}
        assert (stroke["kind"], stroke["color"], stroke["radius"]) == ("color", [16, 200, 255], 1.5)
        places = [(1, 1), (6, 1), (6, 4)]
        np.testing.assert_allclose(
            [stroke["points"][0], stroke["points"][-1]], [(1, 1), (6, 4)], atol=1 / 48
        )
        assert len(stroke["points"]) >= 12 and on_polyline(stroke["points"], places)
        assert any(
            np.linalg.norm(np.subtract(point, (6, 1))) < 1 / 24 for point in stroke["points"]
        )
        np.testing.assert_array_equal(hand.shown(), pixels(101))
        assert page.locator("#figures").inner_text().split() == ["loss", "0.1235", "steps", "40"]
        assert not page.locator("#transferred").is_visible()

        page.locator("#candidates button").nth(1).click()
        np.testing.assert_array_equal(hand.shown(), pixels(CHOSEN))
        assert page.locator("#candidates [aria-pressed=true] img").get_attribute("src") == png(
            pixels(CHOSEN)
        )

        page.locator("#tool-sketch").check()
        hand.slide("#radius", 0.5)
        hand.drag((4, 3), (4, 20), (-30, 3))  # leaves the canvas below and comes to its left
        hand.wait()
        request = fake.edits[1]
        assert (request["z0"], request["z"]) == ([1], [CHOSEN])
        before, stroke = request["strokes"]
        assert before["kind"] == "color" and set(stroke) == {"kind", "points", "radius"}
        assert (stroke["kind"], stroke["radius"]) == ("sketch", 0.5)
        points = np.array(stroke["points"])
        assert (
            (points >= 0).all()
            and (points <= (WIDTH, HEIGHT)).all()
            and points[:, 1].max() == HEIGHT
        )
        np.testing.assert_allclose(points[[0, -1]], [(4, 3), (0, 3)], atol=1 / 48)

        page.locator("#tool-warp").check()
        hand.drag((2, 2), (5, 5), (7, 3))
        hand.wait()
        warp = fake.edits[2]["strokes"][2]
        assert set(warp) == {"kind", "from", "to", "radius"} and (warp["kind"], warp["radius"]) == (
            "warp",
            0.5,
        )
        np.testing.assert_allclose([warp["from"], warp["to"]], [(2, 2), (7, 3)], atol=1 / 48)
        hand.drag((2, 2), (2, 2))  # no way, no warp
        hand.wait()
        assert len(fake.edits) == 3

        hand.slide("#smoothness", 0.8)
        hand.wait()
        assert fake.edits[-1]["smoothness"] == 0.8 and len(fake.edits[-1]["strokes"]) == 3

        page.locator("#undo").click()
        hand.wait()
        assert [stroke["kind"] for stroke in fake.edits[-1]["strokes"]] == ["color", "sketch"]
        count = len(fake.edits)
        page.locator("#clear").click()
        hand.wait()
        np.testing.assert_array_equal(hand.shown(), pixels(1))
        assert len(fake.edits) == count and page.locator("#undo").is_disabled()
        assert not page.locator("#candidates button").count()

        page.locator("#new").click()
        hand.wait()
        assert set(fake.starts[1]) == {"seed"} and fake.starts[1] != first
        np.testing.assert_array_equal(hand.shown(), pixels(2))

        photo = pixels(50, 40, 30)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        page.locator("#open").set_input_files(tmp_path / "photo.png")
        page.wait_for_selector("#original[src]")
        hand.wait()
        assert set(fake.starts[2]) == {"image"}
        np.testing.assert_array_equal(undo_png(fake.starts[2]["image"]), photo)
        page.locator("#tool-color").check()
        hand.slide("#radius", 1)
        hand.drag((2.5, 3.5), (2.5, 3.5))  # a dot
        hand.wait()
        below, over = hand.shown(), hand.shown(strokes=True)
        np.testing.assert_allclose(over[3, 2], (below[3, 2] + np.array([16, 200, 255])) / 2, atol=2)
        assert over[1, 2].tolist() == below[1, 2].tolist()
        assert fake.edits[-1]["original"] == fake.starts[2]["image"]
        assert (fake.edits[-1]["z0"], fake.edits[-1]["z"]) == ([3], [3])
        assert page.locator("#transferred").is_visible()

        (tmp_path / "text.png").write_text("not an image")
        page.locator("#open").set_input_files(tmp_path / "text.png")
        page.wait_for_selector("#error:not(:empty)")
        assert (
            hand.error() == "text.png is not an image that this browser can read."
            and len(fake.starts) == 3
        )


@pytest.mark.scale
def test_the_latest_strokes_win_and_errors_are_shown(browser, server, fake):
    with opened(browser, server) as hand:
        fake.go.clear()
        hand.drag((1, 1), (2, 2))
        hand.wait("working")
        assert hand.page.locator("#status").inner_text() == "working…"
        hand.drag((3, 3), (4, 4))
        hand.drag((5, 5), (6, 5))
        fake.go.set()
        hand.wait()
        assert [len(request["strokes"]) for request in fake.edits] == [1, 3]
        assert fake.edits[1]["z"] == [1]  # the first answer was out of date
        np.testing.assert_array_equal(hand.shown(), pixels(102))

        fake.error = UserError("too <b>many</b> strokes")
        hand.drag((1, 4), (2, 4))
        hand.wait()
        assert hand.error() == "too <b>many</b> strokes"
        np.testing.assert_array_equal(hand.shown(), pixels(102))
        fake.error = None
        hand.page.locator("#undo").click()
        hand.wait()
        assert not hand.page.locator("#error").is_visible()
        np.testing.assert_array_equal(hand.shown(), pixels(104))

        fake.go.clear()
        hand.drag((1, 4), (2, 4))
        hand.page.locator("#clear").click()
        fake.go.set()
        hand.wait()
        np.testing.assert_array_equal(hand.shown(), pixels(1))


@pytest.mark.scale
def test_a_gray_image_is_painted_in_gray(browser, fake):
    with served(fake, gray=True, title=NASTY) as server, opened(browser, server) as hand:
        assert hand.page.title() == hand.page.locator("h1").text_content() == NASTY
        assert hand.page.locator("#color").get_attribute("type") == "range"
        hand.slide("#color", 77)
        hand.drag((1, 1), (2, 2))
        hand.wait()
        assert fake.edits[0]["strokes"][0]["color"] == [77, 77, 77]
