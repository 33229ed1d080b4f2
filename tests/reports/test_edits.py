"""Edits of a small generator: strokes are fulfilled, the page answers what a brush asks, and the
report says what the figures say."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from advdl import data, models, present, reports
from advdl.errors import UserError
from advdl.models import igan
from advdl.reports import edits

SPEC = data.GeneratorSpec((8, 8, 1), ("a",), network="none", z=8)
COLOR = {"kind": "color", "color": [255, 255, 255], "points": [[2, 2], [2, 6]], "radius": 0.8}


class Generator(nn.Module):
    @nn.compact
    def __call__(self, z, train):
        h = jnp.tanh(nn.Dense(32)(z))
        return jnp.tanh(nn.Dense(64)(h)).reshape(-1, 8, 8, 1)


@pytest.fixture(scope="module")
def trained():
    """A generator, and an encoder that always says 0."""
    generator = Generator()
    space = igan.LatentSpace(generator, models.Noise("normal", 8), -1.0)
    own = generator.init(jax.random.key(0), jnp.zeros((1, 8)), train=False)
    functions = dict(space.functions("generator"))
    functions["encode"] = lambda variables, batch: jnp.zeros((len(batch["image"]), 8))

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def compiled(name, inputs, settings):
        return functions[name]({"frozen": {"generator": own}}, inputs, **dict(settings))

    def apply(name, inputs, rows=64, **settings):
        found = compiled(name, dict(inputs), tuple(settings.items()))
        return jax.tree.map(np.asarray, found)

    return SimpleNamespace(spec=SPEC, apply=apply)


@pytest.fixture(scope="module")
def editor(trained):
    return edits.Editor(trained, 5, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stroke",
    [
        COLOR,
        {"kind": "sketch", "points": [[4, 1], [4, 7]], "radius": 0.6},
        {"kind": "warp", "from": [4, 4], "to": [6, 4], "radius": 2},
    ],
    ids=lambda stroke: stroke["kind"],
)
def test_a_stroke_is_fulfilled_and_smoothness_holds_it_back(editor, stroke):
    z = editor.noise.of_seed(3, 1)[0]
    strokes = data.parse_strokes({"strokes": [stroke]}, "here", SPEC.shape)
    left, away = [], []
    for smoothness in (0.0, 0.3, 30.0):
        found = editor.edit(z, strokes, smoothness)
        cost = found.error + smoothness * np.square(found.z - z).mean(1)
        assert (np.diff(cost) >= -1e-6).all() and 1 <= len(found.z) <= 16
        left.append(found.error[0] / found.before)
        away.append(np.square(found.z[0] - z).mean())
    assert left[0] < 0.9 and left[0] <= left[1] <= left[2] and away[0] > away[1] > away[2]


def test_the_way_has_its_ends(editor):
    first, last = editor.noise.of_seed(1, 2)
    way = editor.between(first, last, 5)
    np.testing.assert_allclose(way[[0, -1]], editor.sample(np.stack([first, last])), atol=1e-6)


def test_a_line_is_drawn_at_a_dark_place_of_each_image():
    images = np.zeros((2, 16, 16, 1), np.float32)
    images[0, :, 8:], images[1, :, :8] = 1, 1
    left, right = edits.bright_lines(images, (16, 16, 1))
    for one, image in ((left, images[0]), (right, images[1])):
        at = one.colored > 0
        assert (one.color[at] == 1).all() and 3 <= at.sum() <= 12
        assert image[at].mean() < 0.3


def errors_of(*values):
    return dict(
        zip(("best of 64 random", "encoder", "optimization", "hybrid"), values, strict=True)
    )


def edits_of(fall=0.9, sure=0.8, pasted=0.7):
    own = {edits.FALL: fall, edits.OUTSIDE: 0.1, edits.SURE: sure}
    return {"0.3": own, "pasted": {edits.SURE: pasted}}


@pytest.mark.parametrize(
    ("errors", "figures", "passes"),
    [
        (errors_of(4, 3, 2, 1), edits_of(), True),
        (errors_of(4, 2, 3, 1), edits_of(), False),
        (errors_of(4, 3, 2, 1), edits_of(fall=0.7), False),
        (errors_of(4, 3, 2, 1), edits_of(sure=0.6), False),
    ],
)
def test_the_verdict_asks_for_the_papers_order_for_strokes_and_for_likely_images(
    errors, figures, passes
):
    said, _ = edits.judge(errors, figures)
    assert said.startswith("editing passes" if passes else "editing fails")


def test_without_classes_nothing_is_said_of_a_classifier():
    figures = {"0.3": {edits.FALL: 0.9, edits.OUTSIDE: 0.1}}
    assert "confidence" not in edits.judge(errors_of(4, 3, 2, 1), figures)[0]
    assert len(edits.headlines(errors_of(4, 3, 2, 1), figures)) == 2


@pytest.mark.slow
def test_the_page_answers_what_a_brush_asks(editor):
    server = edits.open_page(editor)
    try:
        start, brush = server.functions["/start"], server.functions["/edit"]
        begun = start({"seed": 5})
        assert len(begun["z"]) == 8 and begun["original"] is None
        opened = start({"image": begun["image"]})
        request = {"strokes": [COLOR], "z0": opened["z"], "z": opened["z"]}
        answer = brush({**request, "original": opened["original"]})
        assert answer["image"] == answer["frames"][-1] == answer["candidates"][0]["image"]
        assert answer["figures"]["after"] < answer["figures"]["error of the strokes before"]
        assert answer["transferred"].startswith("data:image/png")
        for changed, line in (
            ({"z0": [1], "z": [1]}, "z0 is not a list of 8 numbers"),
            ({"strokes": []}, "has no strokes"),
            ({"smoothness": -1}, "smoothness"),
            ({"original": "x"}, "no image"),
        ):
            with pytest.raises(UserError, match=line):
                brush({**request, **changed})
        with pytest.raises(UserError, match="does not decode"):
            start({"image": "data:image/png;base64,AAAA"})
    finally:
        server.server_close()


@pytest.mark.scale
def test_what_a_mouse_paints_in_a_browser_changes_the_image(editor, tmp_path):
    server, asked = edits.open_page(editor), []
    brush = server.functions["/edit"]
    server.functions["/edit"] = lambda request: (
        asked.append((request, brush(request))) or asked[-1][1]
    )
    try:
        if not present.photograph(server, [(0.2, 0.3), (0.8, 0.3)], tmp_path / "page.png"):
            pytest.skip("Playwright is not installed, or there is no Chromium for it")
    finally:
        server.server_close()
    ((request, answer),) = asked
    (stroke,) = request["strokes"]
    ends = [stroke["points"][0], stroke["points"][-1]]
    np.testing.assert_allclose(ends, [[1.6, 2.4], [6.4, 2.4]], atol=0.1)
    assert request["z"] == request["z0"] != answer["z"]
    assert answer["frames"][0] != answer["frames"][-1] == answer["image"]
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == 1000


@pytest.mark.slow
def test_figures_of_the_report_are_those_of_its_pictures(trained, editor):
    """Of real images that the generator draws: the projection of one finds it."""
    x = editor.sample(editor.noise.of_seed(7, 12))
    pixels = data.to_uint8(x, -1.0, 1.0)
    source = data.ArraySource("own", "test", {"image": pixels, "label": np.zeros(12)}, ("a",))
    real = reports.fidelity.RealImages(-1.0, source, source)
    report = reports.EditReport((60, 20), images=12, edits=3)
    errors, rows = report.projections(edits.Editor(trained, 60, 20), real)
    for name, error in errors["test"].items():
        assert np.square(rows[name] - rows["test image"]).mean() == pytest.approx(error, rel=1e-5)
    assert errors["test"]["optimization"] < errors["test"]["encoder"]
    figures, rows = report.trade_off(edits.Editor(trained, 60, 20), real)
    assert {len(images) for images in rows.values()} == {3}
    falls = [figures[k][edits.FALL] for k in ("0", "0.03", "0.3", "3")]
    assert falls == sorted(falls, reverse=True)
    stroke = rows["stroke pasted"] != rows["projected"]
    assert (rows["stroke pasted"][stroke] == 1).all() and (
        rows["with the stroke"][stroke] == 1
    ).all()
