"""Building blocks: layers true to their papers, each in the form that the backend runs fastest."""

from advdl.nn import pixels, remat, replica, towers, tracing
from advdl.nn.attention import Additive, Dot, attend
from advdl.nn.bilinear import bilinear_init, bilinear_upsample, bilinear_weights, resize_bilinear
from advdl.nn.convolution import Conv, ConvTranspose, conv, conv_transpose
from advdl.nn.corruption import Corruption
from advdl.nn.dense import Dense
from advdl.nn.diffaugment import POLICIES, differentiable_augment
from advdl.nn.dropout import Dropout
from advdl.nn.elementwise import materialize
from advdl.nn.maxout import Maxout
from advdl.nn.normalization import (
    BatchNorm,
    Bias,
    ConditionalBatchNorm,
    GroupNorm,
    add_bias,
    normalize,
)
from advdl.nn.pixels import Pixels
from advdl.nn.pooling import adaptive_avg_pool, avg_pool, global_average_pool, max_pool
from advdl.nn.receptive_field import Field, Layer, crop_offset, receptive_field
from advdl.nn.recurrent import CELLS, GRU, LSTM, RNN, Recurrent, Stack, reversed_in_length
from advdl.nn.response import local_response_norm
from advdl.nn.softmax import softmax_cross_entropy
from advdl.nn.spectral import SpectralNorm, spectral
from advdl.nn.tap import tap
from advdl.nn.unpooling import max_pool_with_indices, max_unpool

__all__ = [
    "Additive",
    "BatchNorm",
    "Bias",
    "CELLS",
    "ConditionalBatchNorm",
    "Conv",
    "ConvTranspose",
    "Corruption",
    "Dense",
    "Dot",
    "Dropout",
    "Field",
    "GRU",
    "GroupNorm",
    "LSTM",
    "Layer",
    "Maxout",
    "POLICIES",
    "Pixels",
    "RNN",
    "Recurrent",
    "SpectralNorm",
    "Stack",
    "adaptive_avg_pool",
    "add_bias",
    "attend",
    "avg_pool",
    "bilinear_init",
    "bilinear_upsample",
    "bilinear_weights",
    "conv",
    "conv_transpose",
    "crop_offset",
    "differentiable_augment",
    "tracing",
    "global_average_pool",
    "local_response_norm",
    "materialize",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "normalize",
    "pixels",
    "receptive_field",
    "remat",
    "replica",
    "resize_bilinear",
    "softmax_cross_entropy",
    "spectral",
    "reversed_in_length",
    "tap",
    "towers",
]
