"""Data: sources read by row, transforms with each example's own randomness, and batch(t), a
function of the step."""

from advdl.data.audio import DTMF, dial, log_mel, read_wav
from advdl.data.augment import (
    IMAGENET_EIGENVALUES,
    IMAGENET_EIGENVECTORS,
    pca_color,
    principal_colors,
    rand_augment,
    random_erasing,
    trivial_augment,
)
from advdl.data.batches import (
    EvalBatches,
    ShardedBatches,
    StackedBatches,
    TrainBatches,
    batches_of,
    prefetch,
)
from advdl.data.captions import (
    CaptionedImages,
    CaptionSource,
    CaptionSpec,
    caption_parts,
    captioned_digits,
    open_captions,
    read_captions,
)
from advdl.data.catalog import open_source, same_classes
from advdl.data.corpus import (
    Corpus,
    CorpusSpec,
    StreamBatches,
    StreamEvalBatches,
    open_text,
    stream_batches,
)
from advdl.data.decode import decode, decode_view, decoding_speed, natural_shape, natural_size
from advdl.data.digits import BUILT_IN, digits, mnist
from advdl.data.domains import DomainSpec, DomainsSpec, UnpairedSource, open_domains
from advdl.data.folder import FolderSource
from advdl.data.imagenet import cifar10_names, imagenet_names
from advdl.data.joint import border_weights, joint_elastic, joint_flip, joint_scale_crop
from advdl.data.keypoints import PosePairs, open_pairs, read_pose, view_keypoints
from advdl.data.labeled import labeled_splits
from advdl.data.languages import ParallelTexts, TranslationSpec, open_parallel
from advdl.data.masks import NO_CLASS, decode_mask
from advdl.data.mix import cutmix, mix, mixup, ten_crop
from advdl.data.persons import figures
from advdl.data.points import MIXTURES, Mixture, MixtureSpec, Points, open_points
from advdl.data.preprocessing import Preprocessing, scaled
from advdl.data.scenes import (
    ClassPixels,
    FolderScenes,
    SceneSpec,
    array_scenes,
    class_pixels,
    digit_scenes,
    median_frequency_weights,
    open_scenes,
    scene_parts,
    single_digits,
)
from advdl.data.selection import (
    Subset,
    hold_out,
    open_parts,
    pixel_means,
    read_blocks,
    selected,
    split_validation,
)
from advdl.data.sentences import LabeledTexts, SentenceSpec, TextSplits, open_sentences, opinions
from advdl.data.sequences import BucketBatches, BucketEvalBatches, Padded, boundaries, buckets, pad
from advdl.data.series import Series, SeriesSpec, SeriesSplits, open_series, read_series
from advdl.data.settings import AugmentationSettings, ViewSettings
from advdl.data.source import ArraySource, Source, in_memory
from advdl.data.spec import GeneratorSpec, ImageSpec, PixelMeansSpec, Spec, batch_of, shapes_of
from advdl.data.splits import Splits
from advdl.data.strokes import Edit, parse_strokes, read_strokes
from advdl.data.tasks import (
    TASKS,
    Task,
    TaskSpec,
    ZipSource,
    adding,
    bits,
    parity,
    parse_bits,
    task_units,
    temporal_order,
)
from advdl.data.text import join, read_lines, read_parallel, words
from advdl.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Transform,
    compose,
    random_crop,
    random_flip,
    standardize,
    to_float,
    to_uint8,
)
from advdl.data.views import View, center_crop, cover, random_resized_crop, random_scale_crop
from advdl.data.vocabulary import (
    BEGIN,
    END,
    PAD,
    SPECIALS,
    UNKNOWN,
    Subwords,
    TextSpec,
    Vocabulary,
)
