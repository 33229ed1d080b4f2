"""Local response normalization at the pixels that its networks were published with: it does
something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from advdl import data
from advdl.models import alexnet, googlenet, segnet
from advdl.nn import local_response_norm
from advdl.nn.pixels import UNIT


class Enough(Exception):
    """The layers asked for have run."""


def factors(module, network, x, layers, monkeypatch):
    """Of each of the first `layers` normalizations: by what they multiply each of their inputs that
    is not 0. Operation by operation, so that nothing behind them is compiled or run."""
    found = []

    def watched(x, *given, **settings):
        y = local_response_norm(x, *given, **settings)
        traced.append(
            jax.debug.callback(lambda x, y: found.append(y[x != 0] / x[x != 0]), x, y)
        )  # a tower is under vmap
        if len(traced) == layers:
            raise Enough
        return y

    traced = []
    monkeypatch.setattr(module, "local_response_norm", watched)
    with pytest.raises(Enough):
        network.init_with_output(jax.random.key(0), jnp.asarray(x), train=False)
    jax.effects_barrier()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "network", "layers"),
    [
        (
            alexnet,
            alexnet.AlexNet(),
            1,
        ),  # the second adds squares of what N(0, 0.01) kernels make: small before training
        (googlenet, googlenet.GoogLeNet(), 2),
        (segnet, segnet.SegNetBasic(), 1),
    ],
    ids=["alexnet", "googlenet", "segnet_basic"],
)
def test_it_changes_photographs_by_a_factor_that_varies_over_places(
    module, network, layers, monkeypatch
):
    """By more than a tenth of its mean at the network's own pixels; at [-1, 1] it is a constant,
    and normalizes nothing."""
    photographs = [
        Image.fromarray(image).resize((112, 112)) for image in load_sample_images().images
    ]
    batch = {"image": np.stack(photographs)}
    for pixels, varies in ((network.pixels, True), (UNIT, False)):
        for factor in factors(
            module, network, data.scaled(pixels)(batch)["image"], layers, monkeypatch
        ):
            assert (np.abs(factor / factor.mean() - 1).max() > 0.1) == varies
