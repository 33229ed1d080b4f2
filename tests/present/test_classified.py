"""What a classifier's report shows."""

import numpy as np

from advdl.present import classified


def test_images_taken_for_something_else_are_shown_of_every_class_where_they_are_sorted_by_class(
    tmp_path, monkeypatch
):
    shown = []
    monkeypatch.setattr(
        classified,
        "draw_grid",
        lambda images, path, captions, **_: shown.append((images, captions)),
    )
    label = np.repeat(np.arange(4), 50)
    images = np.arange(200, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    p = np.eye(4)[(label + 1) % 4]
    section = classified.mistaken_section(
        images, label, p, ["ant", "bee", "cat", "dog"], 900, tmp_path
    )
    ((pictures, captions),) = shown
    assert {caption.split()[0] for caption in captions} == {"ant", "bee", "cat", "dog"} and len(
        captions
    ) == 40
    rows = pictures[:, 0, 0, 0]
    assert [caption.split()[0][0] for caption in captions] == ["abcd"[k] for k in label[rows]]
    assert section.text == "200 of 900 test images, 40 of them drawn at random."
    fewer = classified.mistaken_section(
        images[:7], label[:7], p[:7], ["ant", "bee", "cat", "dog"], 900, tmp_path
    )
    assert fewer.text == "7 of 900 test images."
