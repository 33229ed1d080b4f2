"""Data: sources read by row, transforms with each example's own randomness, and batch(t), a function of the step."""

from advdl.data.batches import EvalBatches, TrainBatches, prefetch
from advdl.data.catalog import open_source, same_classes
from advdl.data.digits import digits
from advdl.data.folder import FolderSource, decode
from advdl.data.source import ArraySource, Source, in_memory
from advdl.data.transforms import Transform, compose, random_crop, random_flip, standardize, to_float
