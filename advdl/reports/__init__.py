"""What follows training: outputs and data in, figures, pictures, a verdict and predictions out.

One file for each kind of output. A report is tested on arrays; it trains nothing.
"""

from advdl.reports.comparison import ComparisonReport, Curve
from advdl.reports.domains import ImagesReport, PointsReport
from advdl.reports.edits import EditReport
from advdl.reports.fidelity import RealImages
from advdl.reports.forecasts import ForecastReport
from advdl.reports.generated import GAME_ALARMS, GeneratedReport
from advdl.reports.masks import MasksReport, mask_baselines, predict_masks
from advdl.reports.mixtures import mixture_report
from advdl.reports.poses import PoseReport
from advdl.reports.reconstructions import ReconstructionsReport
from advdl.reports.recurrent import MemoryReport, ParityReport
from advdl.reports.sentences import SentencesReport
from advdl.reports.sequences import CaptionReport, TranslationReport
from advdl.reports.texts import LanguageReport
from advdl.reports.trained import Trained
from advdl.reports.transcripts import TOO_SHORT, TranscriptsReport

__all__ = [
    "CaptionReport",
    "ComparisonReport",
    "Curve",
    "EditReport",
    "ForecastReport",
    "GAME_ALARMS",
    "GeneratedReport",
    "ImagesReport",
    "LanguageReport",
    "MasksReport",
    "MemoryReport",
    "ParityReport",
    "PointsReport",
    "PoseReport",
    "RealImages",
    "ReconstructionsReport",
    "SentencesReport",
    "TOO_SHORT",
    "Trained",
    "TranscriptsReport",
    "TranslationReport",
    "mask_baselines",
    "mixture_report",
    "predict_masks",
]
