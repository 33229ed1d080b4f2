"""Presets of segment.py that bear a paper's or a release's name: every value, with its source
beside it.

A preset that sets anything else fails too, so that no value comes in without a source.
"""

import dataclasses

import pytest

from advdl import data, models

HOUSEKEEPING = {
    "preset",
    "data",
    "evaluate_every",
    "save_every",
    "log_every",
}  # which change no number of the training
SEGNET_TUTORIAL = {  # alexgkendall/SegNet-Tutorial, Models/
    "optimizer": "momentum",  # *_solver.prototxt: Caffe's default solver
    "momentum": 0.9,  # *_solver.prototxt
    "weight_decay": 5e-4,  # *_solver.prototxt; decay_mult 0 for biases in *_train.prototxt
    "schedule": "constant",  # *_solver.prototxt: step with gamma 1
    "bias_rate": 2.0,  # *_train.prototxt: lr_mult 2
    "batch": 4,  # *_train.prototxt
    "loss_per": (
        "pixel"
    ),  # *_train.prototxt: SoftmaxWithLoss, which divides by the pixels that count by default
    "flip": (
        True
    ),  # caffe-segnet, dense_image_data_layer.cpp, as ChainerCV's examples/segnet/README.md says
    "balance": True,  # *_train.prototxt: class_weighting
    "balance_void": (
        True
    ),  # medians over 12 classes are within 11 % of the published ones but for one class
    "recompute_statistics": (
        367 // 4 + 367 % 4
    ),  # Scripts/compute_bn_statistics.py, of 367 training images
    "size": "",  # CamVid as it comes there, 360 by 480
    "width": 1.0,
    "validation": 0.0,  # all training images; CamVid has a val part
}
FCN_PAPER = {  # arXiv:1411.4038
    "learned": "inner",  # section 4.3: the final interpolation is fixed, others are learned
    "optimizer": "momentum",  # section 4.3
    "momentum": 0.9,  # section 4.3
    "weight_decay": 5e-4,  # section 4.3: 5e-4 or 2e-4
    "bias_rate": 2.0,  # section 4.3
    "schedule": "constant",  # section 4.3
    "loss_per": "pixel",
    "batch": 20,  # section 4.3
    "steps": 5000,  # ours: as many images as a stage of the release sees
    "flip": False,  # section 4.3: no noticeable improvement by mirroring and jittering
    "crop": False,
    "balance": False,  # section 4.3: unnecessary
    "backbone": "vgg16.safetensors",  # the file's name is ours
    "size": "375x500",  # a departure: images are brought to one size
    "width": 1.0,
    "validation": 0.0,  # all training images
}
RECIPES = {
    "fcn32s_paper": FCN_PAPER | {"model": "fcn32s", "learning_rate": 1e-4},  # section 4.3
    "fcn16s_paper": FCN_PAPER | {"model": "fcn16s", "learning_rate": 1e-6},  # section 4.2: / 100
    "fcn8s_paper": FCN_PAPER | {"model": "fcn8s", "learning_rate": 1e-8},  # / 100 in the release
    "paper": (
        SEGNET_TUTORIAL
        | {
            "model": "segnet_basic",
            "learning_rate": 0.1,  # segnet_basic_solver.prototxt
            "steps": 10_000,  # segnet_basic_solver.prototxt
            "samples": 0,
        }
    ),
    "bayesian_release": (
        SEGNET_TUTORIAL
        | {
            "model": "bayesian_segnet",
            "learning_rate": 1e-3,  # bayesian_segnet_solver.prototxt
            "steps": 60_000,  # bayesian_segnet_solver.prototxt
            "samples": 50,  # arXiv:1511.02680: evaluated over 50 draws
        }
    ),
    "fcn8s_release": {  # shelhamer/fcn.berkeleyvision.org, voc-fcn8s-atonce/
        "model": "fcn8s_at_once",
        "learned": "none",  # net.py: lr_mult 0 for all Deconvolution layers
        "optimizer": "momentum",  # solve.py: SGDSolver
        "momentum": 0.99,  # solver.prototxt
        "learning_rate": 1e-10,  # solver.prototxt
        "schedule": "constant",  # solver.prototxt: fixed
        "weight_decay": 5e-4,  # solver.prototxt; decay_mult 0 for biases in net.py
        "bias_rate": 2.0,  # net.py: lr_mult 2
        "loss_per": "image",  # net.py: normalize=False
        "batch": 1,  # voc_layers.py, one image a batch, and iter_size 1 in solver.prototxt
        "steps": 300_000,  # solver.prototxt
        "flip": False,  # voc_layers.py: whole images as they are
        "crop": False,
        "balance": False,
        "backbone": "vgg16.safetensors",  # solve.py: vgg16-fcn.caffemodel; the file's name is ours
        "size": "375x500",  # a departure: the release takes each image at its own size
        "width": 1.0,
        "validation": 0.0,  # all training images
    },
    "unet_paper": {  # arXiv:1505.04597
        "model": "unet_valid",
        "optimizer": "momentum",  # section 3
        "momentum": 0.99,  # section 3
        "batch": 1,  # section 3
        "loss_per": "pixel",
        "balance": True,  # section 3, w_c of equation 2
        "border_weight": 10.0,  # section 3, w_0
        "border_sigma": 5.0,  # section 3
        "elastic": 10.0,  # section 3.1
        "learning_rate": 1e-3,  # ours: the paper gives none
        "schedule": "constant",  # ours
        "steps": 20_000,  # ours
        "weight_decay": 0.0,  # ours: the paper names no decay
        "flip": False,
        "crop": False,
        "width": 1.0,
        "validation": 0.0,  # all training images
    },
    "camvid": {  # ours in all but the network
        "model": "segnet_basic",
        "size": "120x160",
        "steps": 1800,
        "batch": 4,  # SegNet-Tutorial, segnet_basic_train.prototxt
        "learning_rate": 0.1,  # SegNet-Tutorial, segnet_basic_solver.prototxt
        "momentum": 0.9,  # SegNet-Tutorial, segnet_basic_solver.prototxt
        "weight_decay": 5e-4,  # SegNet-Tutorial, segnet_basic_solver.prototxt
        "schedule": "poly",
        "power": 0.9,
        "flip": True,
        "balance": False,
        "validation": 0.0,  # CamVid has a val part
    },
}
# what a name stands for beside its layers, whose counts tests/models/test_segmentation.py has
NETWORKS = {
    "fcn8s": {
        "form": "8s",
        "learned": "none",
        "dropout": 0.5,
        "at_once": False,
    },  # voc-fcn8s/net.py
    "fcn8s_at_once": {
        "form": "8s",
        "learned": "none",
        "dropout": 0.5,
        "at_once": True,
    },  # voc-fcn8s-atonce/net.py
    "bayesian_segnet": {"dropout": 0.5},  # bayesian_segnet_train.prototxt: dropout_ratio
    "segnet_basic": {"features": 64, "levels": 4, "dropout": 0.0},  # segnet_basic_train.prototxt
    "segnet_basic_bilinear": {"features": 64, "levels": 4, "indices": False},  # table 1
    "unet_valid": {
        "features": 64,
        "levels": 4,
        "same": False,
        "mirror": True,
        "norm": None,
        "resize": False,
        "dropout": 0.5,
    },  # arXiv:1505.04597, figure 1; dropout_d3c and dropout_d4c of the release
    "unet_padded": {"features": 64, "levels": 4, "same": True, "norm": None, "dropout": 0.5},
    "dilation": {
        "context": "basic",
        "padding": "input",
        "dilations": (1, 1, 2, 4, 8, 16, 1),
        "dropout": 0.5,
    },
    "dilation_large": {
        "context": "large",
        "padding": "input",
    },  # arXiv:1511.07122, table 1 and section 5
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_preset_is_the_recipe_of_its_source_and_nothing_beside_it(load, name):
    preset = load("segment").PRESETS[name]
    found = {field: getattr(preset, field) for field in RECIPES[name]}
    assert found == RECIPES[name]
    plain = load("segment").Config()
    changed = {
        f.name
        for f in dataclasses.fields(preset)
        if getattr(preset, f.name) != getattr(plain, f.name)
    }
    assert changed <= RECIPES[name].keys() | HOUSEKEEPING


def test_every_preset_that_is_not_for_a_laptop_has_its_recipe_here(load):
    presets = load("segment").PRESETS.items()
    assert {
        name for name, config in presets if not config.data.startswith("digit_scenes")
    } == RECIPES.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_by_name_is_what_its_source_says(name):
    network = models.SEGMENTERS[name](num_classes=11)
    assert {field: getattr(network, field) for field in NETWORKS[name]} == NETWORKS[name]


def test_transforms_of_u_net_have_the_values_of_the_paper_by_default():
    assert data.joint_elastic.__defaults__ == (10.0, 3)  # section 3.1
    assert data.border_weights.__defaults__ == (10.0, 5.0, None)  # equation 2
