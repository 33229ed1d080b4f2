"""Data: sources read by row, transforms with each example's own randomness, and batch(t), a function of the step."""

from advdl.data.batches import EvalBatches, TrainBatches, eval_batches, prefetch, train_batches
from advdl.data.digits import digits
from advdl.data.folder import FolderSource, decode
from advdl.data.source import ArraySource, Source, in_memory, open_source, same_classes
from advdl.data.transforms import Transform, compose, random_crop, random_flip, standardize, to_float
