"""The Inception network of the Fréchet Inception distance against pytorch-fid's, with random
weights, in evaluation."""

import warnings

import jax
import numpy as np
import pytest

from advdl import weights
from advdl.errors import UserError
from advdl.models import inception_v3

torch = pytest.importorskip("torch", reason="parity with PyTorch needs the extra `parity`")


@pytest.fixture(scope="module")
def theirs(torchvision_operators):
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        module = pytest.importorskip(
            "pytorch_fid.inception", reason="parity with pytorch-fid needs the extra `parity`"
        )
        patch.setattr(
            module, "load_state_dict_from_url", lambda *_, **__: {}
        )  # its weights stay as they were drawn
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        network = module.fid_inception_v3()
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, generator=generator)
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.2, generator=generator)
            layer.running_var.uniform_(0.5, 1.5, generator=generator)
            layer.weight.data.uniform_(0.5, 1.0, generator=generator)
            layer.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval()


def empty(network):
    shapes = jax.eval_shape(
        lambda: network.init(jax.random.key(0), np.zeros((1, 75, 75, 3), np.float32))
    )
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


@pytest.mark.scale  # compiles a large network
def test_features_and_logits_are_pytorch_fids(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "inception.pth")
    network = inception_v3.InceptionV3()
    variables, report = weights.load(tmp_path / "inception.pth", network, empty(network))
    assert report.fits and not report.new
    x = torch.rand(2, 3, 107, 107, generator=torch.Generator().manual_seed(2)) * 2 - 1
    kept = {}
    theirs.avgpool.register_forward_hook(
        lambda module, given, out: kept.update(pooled=out.flatten(1))
    )
    with torch.no_grad():
        expected = theirs(x)
    logits, seen = jax.jit(network.apply)(variables, x.permute(0, 2, 3, 1).numpy())
    for ours, other in ((logits, expected), (seen["pooled"], kept["pooled"])):
        np.testing.assert_allclose(ours, other, atol=1e-5 * float(other.abs().max()))


@pytest.mark.slow
def test_pooled_features_of_its_own_size():
    """299 pixels, 2,048 features."""
    network = inception_v3.InceptionV3()
    variables = empty(network)
    logits, seen = jax.eval_shape(network.apply, variables, np.zeros((3, 299, 299, 3), np.float32))
    assert logits.shape == (3, 1008) and seen["pooled"].shape == (3, 2048)


def test_a_file_that_does_not_fit_is_told_in_one_line(tmp_path):
    torch.save({"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "other.pth")
    network = inception_v3.InceptionV3()
    with pytest.raises(UserError, match="does not fit InceptionV3") as told:
        weights.load(tmp_path / "other.pth", network, empty(network))
    assert "\n" not in str(told.value)
