"""Building blocks: layers true to their papers, each in the form that the backend runs fastest."""

from advdl.nn import formulation, replica
from advdl.nn.convolution import Conv, ConvTranspose, conv, conv_transpose
from advdl.nn.dropout import Dropout
from advdl.nn.elementwise import materialize
from advdl.nn.maxout import Maxout
from advdl.nn.normalization import BatchNorm, normalize
from advdl.nn.pooling import global_average_pool

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Maxout",
    "conv",
    "conv_transpose",
    "formulation",
    "global_average_pool",
    "materialize",
    "normalize",
    "replica",
]
