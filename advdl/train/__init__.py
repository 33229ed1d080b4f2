"""Training as pure functions: learners, where they run, the loop around them, and the folder a run
writes."""

from advdl.train.alarm import Alarm, Watch
from advdl.train.checkpoint import Checkpoints, Which, digest, layout, same_layout
from advdl.train.comparison import Comparison
from advdl.train.files import os_errors_as_user_errors
from advdl.train.hosts import all_processes, allgather, broadcast_from_main, is_main_process, log
from advdl.train.learner import (
    Learner,
    Loss,
    Player,
    PlayerState,
    Rng,
    State,
    Variables,
    WarmStart,
    alternate,
    averaged,
    fit_scan,
    initial,
    minimize,
    multi_step,
    train_jointly,
    training,
)
from advdl.train.loop import Outcome, apply, evaluate, fit
from advdl.train.memory import keep_memory
from advdl.train.networks import Networks, collections
from advdl.train.optimizers import OPTIMIZERS, Optimizer, optimizer
from advdl.train.placement import SMALLER, CompiledLearner, check_memory, place
from advdl.train.run import Log, Run, load_player, read_metrics, stored_config
from advdl.train.schedule import (
    SCHEDULES,
    biases,
    bounded,
    by_step,
    chain,
    decayed,
    divided,
    kernels,
    momentum,
    scaled,
    schedule,
)
from advdl.train.statistics import batch_statistics, measure_statistics, measuring, with_statistics
from advdl.train.trace import Trace
from advdl.train.watchdog import STATUS, Watchdog

__all__ = [
    "Alarm",
    "Checkpoints",
    "Comparison",
    "CompiledLearner",
    "Learner",
    "Log",
    "Loss",
    "Networks",
    "OPTIMIZERS",
    "Optimizer",
    "Outcome",
    "Player",
    "PlayerState",
    "Rng",
    "SMALLER",
    "Run",
    "SCHEDULES",
    "STATUS",
    "State",
    "Trace",
    "Variables",
    "WarmStart",
    "Watch",
    "Watchdog",
    "Which",
    "all_processes",
    "allgather",
    "alternate",
    "averaged",
    "apply",
    "batch_statistics",
    "biases",
    "bounded",
    "broadcast_from_main",
    "by_step",
    "chain",
    "check_memory",
    "collections",
    "decayed",
    "digest",
    "divided",
    "evaluate",
    "fit",
    "fit_scan",
    "initial",
    "is_main_process",
    "keep_memory",
    "kernels",
    "layout",
    "load_player",
    "log",
    "measure_statistics",
    "measuring",
    "minimize",
    "momentum",
    "multi_step",
    "optimizer",
    "os_errors_as_user_errors",
    "place",
    "read_metrics",
    "same_layout",
    "scaled",
    "schedule",
    "stored_config",
    "train_jointly",
    "training",
    "with_statistics",
]
