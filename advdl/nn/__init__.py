"""Building blocks: layers true to their papers, each in the form that the backend runs fastest."""

from advdl.nn import formulation, replica, towers
from advdl.nn.convolution import Conv, ConvTranspose, conv, conv_transpose
from advdl.nn.dropout import Dropout
from advdl.nn.elementwise import materialize
from advdl.nn.maxout import Maxout
from advdl.nn.normalization import BatchNorm, normalize
from advdl.nn.pooling import adaptive_avg_pool, avg_pool, global_average_pool, max_pool
from advdl.nn.response import local_response_norm
from advdl.nn.tap import tap

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Maxout",
    "adaptive_avg_pool",
    "avg_pool",
    "conv",
    "conv_transpose",
    "formulation",
    "global_average_pool",
    "local_response_norm",
    "materialize",
    "max_pool",
    "normalize",
    "replica",
    "tap",
    "towers",
]
