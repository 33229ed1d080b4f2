"""Training as pure functions: learners, where they run, the loop around them, and the folder a run
writes."""

from advdl.train.alarm import Alarm, Watch
from advdl.train.checkpoint import Checkpoints, Which, digest, layout, same_layout
from advdl.train.comparison import Comparison
from advdl.train.hosts import agreed, everywhere, gathered, leads, say
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
    repeated,
    together,
    training,
)
from advdl.train.loop import Every, Hooks, Outcome, apply, evaluate, fit
from advdl.train.memory import keep_memory
from advdl.train.networks import Networks, collections
from advdl.train.optimizers import OPTIMIZERS, Optimizer, optimizer
from advdl.train.placement import Placed, place
from advdl.train.run import Log, Run, load_player, stored_config, told
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
from advdl.train.statistics import (
    batch_statistics,
    measure_statistics,
    measuring,
    with_statistics,
)
from advdl.train.trace import Trace
from advdl.train.watchdog import STATUS, Watchdog
