"""Training as pure functions: learners, where they run, the loop around them, and the folder a run
writes."""

from advdl.train.alarm import Alarm, Watch
from advdl.train.checkpoint import Checkpoints, Which, digest, layout, same_layout
from advdl.train.comparison import Comparison
from advdl.train.hosts import all_processes, allgather, broadcast_from_main, is_main_process, log
from advdl.train.learner import (
    Learner,
    Loss,
    Player,
    PlayerState,
    Rng,
    State,
    Variables,
    alternate,
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
from advdl.train.placement import CompiledLearner, place
from advdl.train.run import Log, Run, load_player, os_errors_as_user_errors, stored_config
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
