"""Edits of generated images: what each step does, runs that are whole, and the page in a
browser."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from advdl import cli, data, present, train

SMALL = [
    "--width",
    4,
    "--batch",
    16,
    "--steps",
    4,
    "--evaluate-every",
    2,
    "--log-every",
    2,
    "--save-every",
    2,
]
COLOR = {"kind": "color", "color": [255, 255, 255], "points": [[2, 2], [2, 6]], "radius": 0.8}


@pytest.fixture(scope="module")
def edit(load):
    return load("gan_edit")


@pytest.fixture(scope="module")
def runs(load, tmp_path_factory):
    """(folder of a small trained generator, folder of an encoder onto it)."""
    folder, gan, module = tmp_path_factory.mktemp("edit"), load("gan"), load("gan_edit")
    flags = [
        "--run",
        folder / "gan",
        "--width",
        8,
        "--z",
        8,
        "--steps",
        200,
        "--batch",
        32,
        "--ema",
        0.9,
    ]
    cli.main(gan.load, gan.build, gan.PRESETS, gan.Predict, ["train", *map(str, flags)])
    flags = ["--run", folder / "edit", "--gan", folder / "gan", *SMALL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STEPS", 5)
        patch.setattr(module, "EDIT_STEPS", 3)
        patch.setattr(module.Studio.trade_off, "__defaults__", (4,))
        cli.main(module.build, module.PRESETS, module.Predict, ["train", *map(str, flags)])
    return folder / "gan", folder / "edit"


@pytest.fixture(scope="module")
def manifold(edit, runs):
    """(manifold, variables) of these."""
    return edit.Manifold(str(runs[0]), 4, np.dtype("float32")), train.trained_player(
        runs[1], "gan_edit", "model"
    )[1]


@pytest.mark.experiments
def test_a_run_is_trained_judged_drawn_and_goes_on(verb, runs):
    gan, folder = runs
    judged = json.loads((folder / "verdict.json").read_text())
    assert {"best of 64 random", "encoder", "optimization", "hybrid"} == set(
        judged["reconstruction"]["held-out images"]
    )
    assert "editing" in judged["verdict"] and "pasted" in judged["edits"]
    for name in ("projections.png", "edits.png", "trade_off.png", "ways.png"):
        assert (folder / "report" / name).exists()
    status, out, err = verb("gan_edit", "evaluate", "--run", folder, "--json")
    assert status == 0 and json.loads(out)["reconstruction error of the encoder"] > 0, err
    assert train.digest(train.trained_player(gan, "gan", "generator")[1]) == train.digest(
        train.trained_player(folder, "gan_edit", "model")[1]["generator"]
    )


@pytest.mark.experiments
def test_the_generator_is_that_of_the_checkpoint_that_is_asked_for(edit, verb, runs, tmp_path):
    """The run has its last one alone, which is the best too."""
    for which in ("best", "200"):
        config = dataclasses.replace(
            edit.PRESETS["laptop"], gan=str(runs[0]), gan_checkpoint=which, width=4
        )
        begun = edit.build(config).warm_start["model"](
            train.trained_player(runs[1], "gan_edit", "model")[1]
        )
        assert train.digest(begun["generator"]) == train.digest(
            train.trained_player(runs[0], "gan", "generator")[1]
        )
    for which, line in (
        ("100", "no checkpoint of step 100; there are checkpoints of the steps 200"),
        ("one", "is 'one'"),
    ):
        flags = ["--gan", runs[0], "--gan-checkpoint", which, "--run", tmp_path / which, *SMALL]
        status, _, err = verb("gan_edit", "train", *flags)
        assert status == 2 and line in err and err.count("\n") == 1, err


@pytest.mark.experiments
def test_optimization_comes_nearer_and_stays_where_the_noise_lies(edit, manifold):
    where, variables = manifold
    x = where.images(where.held_out, 8)[0]
    start = np.zeros((8, where.z), np.float32)
    found = where.project(variables, x, start, steps=30)

    def error(z):
        return np.asarray(where.apart(variables, z, x))

    assert (error(found) < error(start)).all()
    assert (np.linalg.norm(found, axis=1) <= where.reach * 1.0001).all()
    alone = where.project(variables, x[:1], start[:1], steps=30)
    np.testing.assert_allclose(alone, found[:1], atol=1e-4)  # nobody sees the others of a portion


@pytest.mark.experiments
@pytest.mark.parametrize(
    "stroke",
    [
        COLOR,
        {"kind": "sketch", "points": [[4, 1], [4, 7]], "radius": 0.6},
        {"kind": "warp", "from": [4, 4], "to": [6, 4], "radius": 2},
    ],
    ids=lambda stroke: stroke["kind"],
)
def test_a_stroke_is_fulfilled_and_smoothness_holds_it_back(manifold, stroke):
    where, variables = manifold
    z = where.noise(3, 1)[0]
    asked = data.parse_strokes({"strokes": [stroke]}, "here", where.shape)
    left, away = [], []
    for smoothness in (0.0, 0.3, 30.0):
        found, error, first = where.edit(variables, z, asked, smoothness)
        cost = error + smoothness * np.square(found - z).mean(1)
        assert (np.diff(cost) >= -1e-6).all() and 1 <= len(found) <= 16
        left.append(error[0] / first)
        away.append(np.square(found[0] - z).mean())
    assert left[0] < 0.9 and left[0] <= left[1] <= left[2] and away[0] > away[1] > away[2]


@pytest.mark.experiments
def test_examples_are_of_every_class_where_they_are_sorted_by_class(manifold):
    where, _ = manifold
    pixels = np.random.default_rng(0).integers(0, 256, (600, *where.shape), dtype=np.uint8)
    found, label = where.images(
        data.ArraySource("sorted", "test", pixels, np.repeat([0, 1, 2], 200), ("a", "b", "c")), 60
    )
    assert np.bincount(label, minlength=3).min() > 8 and found.shape == (60, *where.shape)


@pytest.mark.experiments
def test_the_way_has_its_ends(manifold):
    where, variables = manifold
    first, last = where.noise(1, 2)
    way = where.way(variables, first, last, 5)
    ends = np.asarray(where.paint(variables, np.stack([first, last])))
    np.testing.assert_allclose(way[[0, -1]], ends, atol=1e-6)


@pytest.mark.experiments
def test_pictures_of_ones_own_are_edited_and_joined(verb, tmp_path, runs):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (24, 20), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "strokes.json").write_text(json.dumps({"strokes": [COLOR]}))
    out = tmp_path / "out"
    common = ["gan_edit", "predict", "--run", runs[1], "--out", out]
    flags = ["--strokes", tmp_path / "strokes.json", "--to", tmp_path / "b.png", "--json"]
    status, said, err = verb(*common, tmp_path / "a.png", *flags)
    assert status == 0, err
    found = json.loads(said)["a"]
    assert found["after"] < found["strokes' error before"] and found["candidates"] >= 1
    with Image.open(out / "a_edited.png") as image:
        assert image.size == (20, 24)  # the original's own
    for name in ("a.png", "a_candidates.png", "a_way.png", "a_way.gif"):
        assert (out / name).exists()
    status, said, err = verb(
        *common, "--strokes", tmp_path / "strokes.json", "--sample-seed", 4, "--json"
    )
    assert status == 0 and "seed_4" in json.loads(said), err
    (tmp_path / "strokes.json").write_text(json.dumps({"strokes": [{**COLOR, "points": [[2, 9]]}]}))
    status, _, err = verb(*common, "--strokes", tmp_path / "strokes.json")
    assert (
        status == 2 and "lies outside of the image of 8 by 8 pixels" in err and err.count("\n") == 1
    )


@pytest.mark.experiments
def test_the_page_answers_what_a_brush_asks(edit, manifold):
    where, variables = manifold
    server = edit.Studio(where).page(variables)
    try:
        start, brush = server.functions["/start"], server.functions["/edit"]
        begun = start({"seed": 5})
        assert len(begun["z"]) == where.z and begun["original"] is None
        opened = start({"image": begun["image"]})
        answer = brush(
            {
                "strokes": [COLOR],
                "z0": opened["z"],
                "z": opened["z"],
                "original": opened["original"],
            }
        )
        assert answer["image"] == answer["frames"][-1] == answer["candidates"][0]["image"]
        assert answer["figures"]["after"] < answer["figures"]["error of the strokes before"]
        assert answer["transferred"].startswith("data:image/png")
        for request, line in (
            ({"strokes": [COLOR], "z0": [1], "z": [1]}, "z0 is not a list of 8 numbers"),
            ({"strokes": [], "z0": begun["z"], "z": begun["z"]}, "has no strokes"),
            (
                {"strokes": [COLOR], "z0": begun["z"], "z": begun["z"], "smoothness": -1},
                "smoothness",
            ),
            ({"strokes": [COLOR], "z0": begun["z"], "z": begun["z"], "original": "x"}, "no image"),
        ):
            with pytest.raises(edit.UserError, match=line):
                brush(request)
        with pytest.raises(edit.UserError, match="does not decode"):
            start({"image": "data:image/png;base64,AAAA"})
    finally:
        server.server_close()


@pytest.mark.scale
def test_what_a_mouse_paints_in_a_browser_changes_the_image(edit, manifold, tmp_path):
    where, variables = manifold
    server, asked = edit.Studio(where).page(variables), []
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
    np.testing.assert_allclose(
        [stroke["points"][0], stroke["points"][-1]], [[1.6, 2.4], [6.4, 2.4]], atol=0.1
    )
    assert (
        request["z"] == request["z0"] != answer["z"]
        and answer["frames"][0] != answer["frames"][-1] == answer["image"]
    )
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == 1000


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--gan", "nowhere"], "first: python experiments/gan.py train --run nowhere"),
        (["--batch", 1], "--batch 1"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(verb, tmp_path, flags, line):
    status, _, err = verb("gan_edit", "train", "--run", tmp_path / "run", *flags)
    assert status == 2 and line in err and err.count("\n") == 1, err
