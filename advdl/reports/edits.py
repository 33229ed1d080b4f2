"""Images edited on a generator's manifold: by strokes, from one to another, on a page to paint.

The learner's functions are `encode` (`{"image"}` -> noise) and those of `igan.LatentSpace`; its
spec is a `data.GeneratorSpec`. Axes: N images, Z dimensions of the noise, H height, W width, C
channels. Pixels lie in [low, 1].
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from advdl import data, metrics, models, present
from advdl.errors import UserError
from advdl.models import igan
from advdl.reports.fidelity import RealImages
from advdl.reports.trained import Trained, given_files, learning_section

CANDIDATES = 64
"""Number of starts of an edit, as in the released code, which has 40 steps."""
FALL, OUTSIDE, SURE = "error_reduction", "change_outside", "confidence"
LABELS = {FALL: "the strokes' error falls by", OUTSIDE: "change outside", SURE: "confidence"}

# Fixed before the runs that are recorded in experiments/README.md.
BOUNDS = {
    "the strokes' error falls by": 0.75,
    "ways in the paper's order": 1.0,
    "confidence above pasting's": 0.0,
}
PROJECTED = """Images of the test split, and the nearest ones that the generator draws, by each \
way to find them. The figures are mean square errors, pixels in the generator's range; the paper's \
order is that of the rows."""
EDITED = """A bright line at a dark place of images of the test split, which were projected first. \
Outside of the stroke nothing is asked for but to stay near. Pasting fulfills the stroke, but a \
classifier of real images recognizes the result less."""
COST = """The more it costs to change the noise, the less changes outside of the strokes, and the \
less of them is fulfilled. The confidence is a classifier's of real images."""
BETWEEN = """Images on the line between the noise of two images of the test split; first and last \
are their projections."""
PAGE = """`predict --serve 8000`, after a stroke that was painted with a mouse in a headless \
browser. The picture follows the stroke; beside it are other images that fulfill it."""
NO_PAGE = """`predict --serve 8000` serves a page to paint on. There is no picture of it here, for \
want of Playwright or a Chromium."""


class Edited(NamedTuple):
    """What a search for an edit has found: noise z (n, Z), the best first; how far each is from
    what the strokes ask for, error (n,), and how far the image was before."""

    z: np.ndarray
    error: np.ndarray
    before: float


class Editor:
    """A trained encoder and its generator, for use on the host."""

    def __init__(self, trained: Trained, projection_steps: int = 200, edit_steps: int = 60):
        self.trained, self.spec = trained, trained.spec
        self.projection_steps, self.edit_steps = projection_steps, edit_steps
        self.noise = models.Noise(self.spec.noise, self.spec.z)

    def sample(self, z: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C) of noise (N, Z)."""
        return self.trained.apply("sample", {"z": z})

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Noise (N, Z) of images, by the encoder."""
        return self.trained.apply("encode", {"image": x})

    def project(self, x: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Noise (N, Z) of images by optimization from `start`, by default from where the encoder
        points: the hybrid of section 3.1."""
        start = self.encode(x) if start is None else start
        inputs = {"image": x, "z": start}
        return self.trained.apply("project", inputs, steps=self.projection_steps)

    def edit(
        self, z: np.ndarray, strokes: data.Edit, smoothness: float = igan.SMOOTHNESS, seed: int = 0
    ) -> Edited:
        """Edits the image of noise (Z,) by strokes."""
        wanted = igan.wanted_by(strokes, self.shown(self.sample(z[None]))[0])
        inputs = {
            "z": igan.around(z, CANDIDATES, seed),
            "before": z[None],
            "smoothness": np.full(1, smoothness, np.float32),
            **wanted._asdict(),
        }
        inputs = {k: np.broadcast_to(x, (CANDIDATES, *x.shape[1:])) for k, x in inputs.items()}
        found = self.trained.apply("edit", inputs, rows=CANDIDATES, steps=self.edit_steps)
        cost = found["error"] + smoothness * np.square(found["z"] - z).mean(1)
        order = igan.ranked(cost)
        return Edited(found["z"][order], found["error"][order], float(found["first"][0]))

    def between(self, first: np.ndarray, last: np.ndarray, count: int = 16) -> np.ndarray:
        """Images (count, H, W, C) on the line from one noise (Z,) to another."""
        return self.sample(igan.between(first, last, count))

    def transfer(self, before: np.ndarray, after: np.ndarray, original: np.ndarray) -> np.ndarray:
        """The original, of any size, changed as `before` became `after`."""
        return igan.transfer(before, after, original, self.spec.low)

    def open(self, path: str | pathlib.Path) -> np.ndarray:
        """An image file (1, H, W, C) in the generator's size and range."""
        return self.floats(data.decode(path, self.spec.shape))[None]

    def floats(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 in the generator's range."""
        return data.to_float(self.spec.low, 1.0)({"image": pixels})["image"]

    def shown(self, images: np.ndarray) -> np.ndarray:
        """Images in [0, 1]."""
        return (images - self.spec.low) / (1 - self.spec.low)


class EditReport:
    """The report of an encoder onto a generator's manifold; it is called with a `Trained` and
    returns the page. `predict` is the experiment's.

    steps: of the search for an image and for an edit. images, edits: how many images of the test
    split are projected, and how many are edited.
    """

    def __init__(self, steps: tuple[int, int] = (200, 60), images: int = 256, edits: int = 24):
        self.steps, self.images, self.edits = steps, images, edits

    def __call__(self, trained: Trained) -> present.Page:
        editor, real = Editor(trained, *self.steps), RealImages.of(trained)
        errors, projected = self.projections(editor, real)
        figures, edited = self.trade_off(editor, real)
        folder, low = trained.folder, trained.spec.low
        for name, rows in (("projections", projected), ("edits", edited)):
            some = data.selected(len(next(iter(rows.values()))), 12)
            shown = {title: editor.shown(images[some]) for title, images in rows.items()}
            present.draw_rows(shown, folder / f"{name}.png", 12)
        left, outside = "share of the strokes' error that is left", "change outside of the strokes"
        traded = {k: (1 - v[FALL], v[OUTSIDE]) for k, v in figures.items() if k != "pasted"}
        present.draw_trade(traded, folder / "trade_off.png", "smoothness", left, outside)
        z = editor.project(real.draw(real.held_out, 12)[0])
        firsts, lasts = np.array_split(z, 2)
        ends = zip(firsts, lasts, strict=False)
        lines = [editor.between(first, last, 10) for first, last in ends]
        path = folder / "between.png"
        present.draw_grid(np.concatenate(lines), path, low=low, high=1.0, columns=10)
        curves = {"training": "train/loss", "test": "test/reconstruction_error"}
        panel = present.Panel("reconstruction error of the encoder", curves, log=True)
        seen = self.photograph(editor, folder / "page.png")
        verdict, found = judge(errors["test"], figures)
        content = {"verdict": verdict, "reconstruction": errors, "edits": figures, **found}
        trained.run.write("verdict.json", content)
        costs = {
            f"smoothness {k}" if k != "pasted" else k: {
                label: own.get(name) for name, label in LABELS.items()
            }
            for k, own in figures.items()
        }
        return present.Page(
            present.Picture("edits.png", EDITED),
            headlines(errors["test"], figures),
            verdict,
            [
                present.Section("Onto the manifold", PROJECTED, ["projections.png"], errors),
                present.Section("What a stroke costs", COST, ["trade_off.png"], costs),
                present.Section("From one image to another", BETWEEN, ["between.png"]),
                present.Section(
                    "In the browser", PAGE if seen else NO_PAGE, ["page.png"] if seen else []
                ),
                learning_section(trained, panel, title="The encoder"),
            ],
        )

    def projections(
        self, editor: Editor, real: RealImages
    ) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
        """Mean square errors of every way to find an image, on the test split and on the
        generator's own images; and those of the test split as each way sees them."""
        random = editor.noise.of_seed(1, CANDIDATES)
        test = real.draw(real.held_out, self.images)[0]
        own = editor.sample(editor.noise.of_seed(2, 64))
        figures, rows = {}, {"test image": test}
        for title, x in (("test", test), ("generated", own)):
            nearest, _ = metrics.nearest(x, editor.sample(random))
            encoded = editor.encode(x)
            found = {
                f"best of {CANDIDATES} random": random[nearest],
                "encoder": encoded,
                "optimization": editor.project(x, np.zeros_like(encoded)),
                "hybrid": editor.project(x, encoded),
            }
            made = {name: editor.sample(z) for name, z in found.items()}
            figures[title] = {k: float(np.square(y - x).mean()) for k, y in made.items()}
            rows |= made if title == "test" else {}
        return figures, rows

    def trade_off(
        self, editor: Editor, real: RealImages
    ) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray]]:
        """Strokes on images of the test split at several smoothnesses: by how much their error
        falls, the change outside of them, and how sure a classifier of real images is of what was
        made, and of the strokes pasted in; and pictures."""
        low, x = editor.spec.low, real.draw(real.held_out, self.edits)[0]
        z = editor.project(x)
        before = editor.sample(z)
        strokes = bright_lines(editor.shown(before), editor.spec.shape)
        pasted, marked = before.copy(), x.copy()
        for n, one in enumerate(strokes):
            at = one.colored > 0
            pasted[n][at] = marked[n][at] = low + (1 - low) * one.color[at]
        outside = np.stack([1 - one.mask for one in strokes])[..., None]
        figures, made = {}, {}
        for smoothness in (0.0, igan.SMOOTHNESS / 10, igan.SMOOTHNESS, 10 * igan.SMOOTHNESS):
            found = [editor.edit(*each, smoothness) for each in zip(z, strokes, strict=True)]
            after = made[f"{smoothness:g}"] = editor.sample(np.stack([one.z[0] for one in found]))
            left = sum(one.error[0] for one in found) / sum(one.before for one in found)
            change = (np.square(after - before) * outside).sum() / outside.sum() / x.shape[-1]
            figures[f"{smoothness:g}"] = {FALL: float(1 - left), OUTSIDE: float(change)}
        for name, images in (made | {"pasted": pasted}).items():
            if (coverage := real.coverage(images)) is not None:
                sure = float(coverage.samples.confidence.mean())
                figures.setdefault(name, {})[SURE] = sure
        after = made[f"{igan.SMOOTHNESS:g}"]
        each = zip(before, after, x, strict=True)
        return figures, {
            "test image": x,
            "with the stroke": marked,
            "projected": before,
            "stroke pasted": pasted,
            "edited": after,
            "original, edited": np.stack([editor.transfer(*images) for images in each]),
        }

    def photograph(self, editor: Editor, path: pathlib.Path) -> bool:
        """Paints a stroke on the page and takes its picture, where there is a browser."""
        server = open_page(editor)
        try:
            return present.photograph(server, [(0.35, 0.3), (0.65, 0.3), (0.65, 0.6)], path)
        finally:
            server.server_close()

    def predict(self, trained: Trained, options: Any, folder: pathlib.Path) -> dict[str, Any]:
        """Projects, edits, draws the way to another image, or serves the page to paint on."""
        editor, low = Editor(trained, *self.steps), trained.spec.low
        if options.serve is not None:
            present.serve_forever(open_page(editor, options.serve))
            return {}
        shape, answer = trained.spec.shape, {}
        strokes = data.read_strokes(options.strokes, shape) if options.strokes else None
        target = editor.project(editor.open(options.to))[0] if options.to else None
        for name in given_files(options.files, "images") if options.files else [None]:
            stem = f"seed_{options.sample_seed}" if name is None else pathlib.Path(name).stem
            x = None if name is None else editor.open(name)
            z = editor.noise.of_seed(options.sample_seed, 1) if x is None else editor.project(x)
            made = editor.sample(z)
            sheet = (
                {"projected": made[0]} if x is None else {"original": x[0], "projected": made[0]}
            )
            found = {} if x is None else {"reconstruction_error": float(np.square(made - x).mean())}
            if target is not None:
                draw_between(editor.between(z[0], target), low, folder / f"{stem}_between")
            if strokes is not None:
                edited = editor.edit(z[0], strokes, options.smoothness, options.sample_seed)
                images = editor.sample(edited.z)
                sheet["edited"] = images[0]
                found |= {"error_before": edited.before, "error_after": float(edited.error[0])}
                found["candidates"] = len(images)
                path = folder / f"{stem}_candidates.png"
                present.draw_grid(images, path, low=low, high=1.0, columns=8)
            if strokes is not None and x is not None and name is not None:
                size = (*data.natural_size(name), shape[2])
                original = editor.floats(data.decode(name, size))
                changed = editor.transfer(made[0], sheet["edited"], original)[None]
                path = folder / f"{stem}_edited.png"
                present.draw_grid(changed, path, low=low, high=1.0, scale=1, margin=0)
            tiles, scale = np.stack(list(sheet.values())), max(1, 128 // shape[0])
            named = {"captions": list(sheet), "scale": scale}
            present.draw_grid(tiles, folder / f"{stem}_sheet.png", low=low, high=1.0, **named)
            answer[stem] = found
        return answer | {"folder": str(folder)}


def judge(
    errors: Mapping[str, float], edits: Mapping[str, Mapping[str, float]]
) -> tuple[str, dict[str, float]]:
    """Whether the order of the ways to project is the paper's, strokes are fulfilled, and what
    comes of them is likelier than pasting: the verdict and what it is of."""
    order, edited = list(errors.values()), edits[f"{igan.SMOOTHNESS:g}"]
    found = {
        "the strokes' error falls by": edited[FALL],
        "ways in the paper's order": float(order == sorted(order, reverse=True)),
    }
    if "pasted" in edits:
        found["confidence above pasting's"] = edited[SURE] - edits["pasted"][SURE]
    each = {name: [value] for name, value in found.items()}
    return metrics.verdict("editing", each, BOUNDS, {}), found


def headlines(
    errors: Mapping[str, float], edits: Mapping[str, Mapping[str, float]]
) -> list[present.Figure]:
    """The figures that the page opens with."""
    edited = edits[f"{igan.SMOOTHNESS:g}"]
    random = next(iter(errors))
    figures = [
        present.Figure("The strokes' error falls by", f"{edited[FALL]:.0%}"),
        present.Figure(
            "Error of a projected image", errors["hybrid"], f"{errors[random]:.4g}, {random}"
        ),
    ]
    if "pasted" in edits:
        pasted = f"{edits['pasted'][SURE]:.2f} where the strokes are pasted in"
        figures.append(
            present.Figure("A classifier's confidence in what is made", edited[SURE], pasted)
        )
    return figures


def bright_lines(
    images: np.ndarray, shape: tuple[int, int, int], tries: int = 8, seed: int = 0
) -> list[data.Edit]:
    """For every image, pixels in [0, 1], a bright line a quarter of its side long, at the darkest
    of some random places."""
    height, width, _ = shape
    random, found = np.random.default_rng(seed), []

    def line():
        angle, share = random.uniform(0, np.pi), random.uniform(0.2, 0.8, 2)
        middle = share * [width, height]
        half = min(height, width) / 8 * np.array([np.cos(angle), np.sin(angle)])
        points = [np.clip(middle + sign * half, 0, [width, height]).tolist() for sign in (-1, 1)]
        stroke = {"kind": "color", "color": [255, 255, 255], "points": points}
        stroke["radius"] = max(0.7, height / 40)
        return data.parse_strokes({"strokes": [stroke]}, "strokes", shape)

    for image in images:
        lines = [line() for _ in range(tries)]
        shades = [image[one.colored > 0].mean() for one in lines]
        found.append(lines[int(np.argmin(shades))])
    return found


def draw_between(images: np.ndarray, low: float, path: pathlib.Path) -> None:
    """Images on the way from one to another as a sheet, PATH.png, and moving, PATH.gif."""
    present.draw_grid(images, f"{path}.png", low=low, high=1.0, columns=8)
    frames = [present.tile(one[None], low=low, high=1.0, scale=8, margin=0) for one in images]
    present.animate(frames, f"{path}.gif", milliseconds=100, hold=1000)


def open_page(editor: Editor, port: int = 0) -> Any:
    """The server of a page to paint on, see `present.serve`. It keeps nothing: what it needs of
    before, the page sends."""
    height, width, channels = editor.spec.shape
    name = "the image that was opened"

    def picture(image: np.ndarray) -> str:
        return present.data_url(data.to_uint8(image, editor.spec.low, 1.0))

    def noise(request: Mapping[str, Any], key: str) -> np.ndarray:
        try:
            z = np.asarray(request[key], np.float32)
        except (KeyError, TypeError, ValueError):
            z = np.empty(0)
        if z.shape != (editor.spec.z,) or not np.isfinite(z).all():
            raise UserError(f"{key} is not a list of {editor.spec.z} numbers")
        return z

    def start(request: Mapping[str, Any]) -> dict[str, Any]:
        if original := request.get("image"):
            file, view = present.from_data_url(original), data.cover((height, width))
            x = editor.floats(data.decode_view(file, name, editor.spec.shape, view))
            z = editor.project(x[None])
        else:
            seed = request.get("seed")
            z = editor.noise.of_seed(seed if isinstance(seed, int) and seed >= 0 else 0, 1)
        shown = picture(editor.sample(z)[0])
        return {"z": z[0].tolist(), "image": shown, "original": original or None}

    def edit(request: Mapping[str, Any]) -> dict[str, Any]:
        before, now = noise(request, "z0"), noise(request, "z")
        smoothness, transferred = request.get("smoothness", igan.SMOOTHNESS), None
        if not isinstance(smoothness, int | float) or not 0 <= smoothness < np.inf:
            raise UserError(f"smoothness is {smoothness!r}; expected at least 0")
        strokes = data.parse_strokes(request, "the page", editor.spec.shape)
        found = editor.edit(before, strokes, float(smoothness))
        images = editor.sample(found.z)
        if original := request.get("original"):
            file = present.from_data_url(original)
            size = (*data.natural_shape(file, name)[:2], channels)
            whole = editor.floats(data.decode_view(file, name, size, None))
            changed = editor.transfer(editor.sample(before[None])[0], images[0], whole)
            transferred = picture(changed)
        return {
            "z": found.z[0].tolist(),
            "image": picture(images[0]),
            "frames": [picture(image) for image in editor.between(now, found.z[0], 10)],
            "candidates": [
                {"z": z.tolist(), "image": picture(image)}
                for z, image in zip(found.z, images, strict=True)
            ],
            "transferred": transferred,
            "figures": {
                "error of the strokes before": found.before,
                "after": float(found.error[0]),
            },
        }

    title = "Paint on the manifold"
    return present.serve(title, (height, width), channels == 1, start, edit, port)
