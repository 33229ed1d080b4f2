"""How a network learns: three pure functions, and the constructors that cover every experiment.

`minimize` descends one objective; `alternate` is Algorithm 1 of Goodfellow et al. 2014, two optax
states that take turns inside one compiled step. Both are built of the same update of one `Player`.
`train_jointly` lets whole learners that know nothing of each other see the same batches;
`multi_step` does several steps of one in a call. Nothing here knows a model or a data set.

A batch is a tree of arrays whose leading axis B counts examples.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from advdl.errors import UserError
from advdl.metrics import Mean
from advdl.nn import remat, replica
from advdl.train import sharing
from advdl.train.schedule import global_norm

Key = jax.Array
Batch = dict[str, jax.Array]
Variables = dict[str, Any]
Metrics = dict[str, Any]
WarmStart = Callable[[Variables], Callable[[Variables], Variables]]
"""What gives a player other variables to begin with. Called with their shapes, it reads and checks
what they are to come from, before anything is compiled; what it returns is called with the
variables as they were drawn, on the host, before the first update. The first call raises UserError
for what cannot be read or does not fit."""


class Loss(NamedTuple):
    """What a loss function returns.

    objective: sum and count over the examples (or tokens, pixels) of this batch. Gradients are
      taken of the sum, then added over micro-batches and replicas and divided by the added counts,
      so an unequal split changes nothing.
    metrics: mergeable metrics of the same forward pass.
    collections: the mutable collections after it (`{}` keeps the old ones); the same on every
      replica.
    carried: what the next batch starts from, see `minimize`.
    """

    objective: Mean
    metrics: Metrics = {}
    collections: Variables = {}
    carried: Any = None


class Rng(NamedTuple):
    """The randomness of one update: `rng("dropout")` is the key for that use of it.

    Under `pmap` every replica has the same key. Noise of each example is drawn by
    `nn.replica.sample(draw, rng("noise"), B)`, which gives the same numbers in all placements.

    key: the key of this update (and of this micro-batch). step: the number of the run's updates
      before this step, int32, for what changes in the course of training.
    """

    key: Key
    step: jax.Array

    def __call__(self, use: str) -> Key:
        """The key of one use; another word gives an independent key."""
        return jax.random.fold_in(self.key, zlib.crc32(use.encode()))


class Player(NamedTuple):
    """A network (or several that share an objective) and how it learns.

    init: `(key, batch) -> variables`, Flax's `{"params": …, other collections}`.
    loss: `(variables, batch, rng) -> Loss`; under `alternate`,
      `(variables, opponent's variables, batch, rng) -> Loss`. `rng` is an `Rng`.
    optimizer: any optax transformation; clipping and schedules belong in it.
    ema: decay of an exponential moving average of the parameters and of the mutable collections
      (both: an average network whose batch statistics were not averaged is another network). None
      keeps none, 0 follows exactly.
    accumulate: micro-batches per optimizer step. Example i of the batch belongs to micro-batch i
      mod accumulate.
    remat: what is computed again for the gradient instead of being kept, a key of
      `advdl.nn.remat.WAYS`.
    frozen: variables of networks that are only used, as a tree of shapes, or of functions like
      `init`, whose shapes are taken. The loss, and whoever evaluates, finds them as
      `variables["frozen"]`. They belong to the state and to its checkpoints, and no update changes
      them; they are zeros until `PlayerState.starting_from` gives them values.
    """

    init: Callable[[Key, Batch], Mapping[str, Any]]
    loss: Callable[..., Loss]
    optimizer: optax.GradientTransformation
    ema: float | None = None
    accumulate: int = 1
    remat: str = "none"
    frozen: Mapping[str, Any] | None = None


@flax.struct.dataclass
class PlayerState:
    """Everything one player carries from step to step."""

    params: Any
    collections: Variables
    optimizer: Any
    ema: Variables | None
    frozen: Variables = flax.struct.field(default_factory=dict)

    @property
    def variables(self) -> Variables:
        """What the player trains with, as `Module.apply` wants it."""
        return {"params": self.params, **self.collections, **self.frozen}

    @property
    def average(self) -> Variables:
        """What the player is evaluated and sampled with: the moving average where one is kept."""
        return self.variables if self.ema is None else {**self.ema, **self.frozen}

    def starting_from(self, variables: Variables) -> "PlayerState":
        """The same with other variables (of the same shapes, on the host), in their average too,
        laid out as the old."""
        new = jax.tree.map(
            lambda old, value: jax.device_put(value, old.sharding), self.variables, dict(variables)
        )
        frozen = {name: new.pop(name) for name in self.frozen}
        collections = {name: value for name, value in new.items() if name != "params"}
        ema = None if self.ema is None else jax.tree.map(jnp.copy, new)
        return dataclasses.replace(
            self, params=new["params"], collections=collections, ema=ema, frozen=frozen
        )


@flax.struct.dataclass
class State:
    """A whole run at one step: `step` (int32, updates done), the players by name, and what some of
    them carry from batch to batch, laid out like the batch (B, …)."""

    step: jax.Array
    players: dict[str, PlayerState]
    carried: dict[str, Any] = flax.struct.field(default_factory=dict)

    def __getitem__(self, player: str) -> PlayerState:
        return self.players[player]


def averaged(states: Sequence[State]) -> State:
    """The state of the mean of several checkpoints, of which the first says what is not counted in
    fractions, such as the step (Vaswani et al. 2017, section 6.1). Statistics of normalizations are
    averaged as the parameters are."""

    def mean(*leaves):
        kind = leaves[0].dtype
        return (
            sum(leaves[1:], leaves[0]) / len(leaves)
            if jnp.issubdtype(kind, jnp.floating)
            else leaves[0]
        )

    return jax.tree.map(mean, *states)


Function = Callable[..., Any]
"""`(variables, batch, **settings) -> tree of (B, …)`: what a trained network is used for."""


class Learner(NamedTuple):
    """Pure functions, in the manner of an optax transformation.

    init: `(key, batch) -> state`; only the batch's shapes matter.
    step: `(state, batch, key) -> (state, metrics)`. `key` is the run's; the step folds its own
      number into it, so randomness is a function of (seed, step) and nothing is saved.
    evaluate: `(state, batch) -> metrics`, sums over the examples that the batch's mask keeps.
    functions: by name, `(state, batch, **settings) -> tree of (B, …)`, an entry for each example of
      a batch: samples, codes, logits. Settings are constants of the compiled program.
    """

    init: Callable[[Key, Batch], State]
    step: Callable[[State, Batch, Key], tuple[State, Metrics]]
    evaluate: Callable[[State, Batch], Metrics]
    functions: Mapping[str, Callable[..., Any]] = {}


def minimize(
    player: Player,
    evaluate: Callable[[Variables, Batch], Metrics],
    begin: Callable[[Batch], Any] | None = None,
    functions: Mapping[str, Function] | None = None,
) -> Learner:
    """A learner that descends one objective.

    The state has one player, `"model"`. Step metrics: those of the loss, `loss` and `gradient_norm`
    (of the mean gradient, before the optimizer). `evaluate(variables, batch)` sees the moving
    average where one is kept.

    begin: for truncated back-propagation through time, `batch -> tree of (B, …)`, the hidden state
    before the first batch. The loss then finds as `batch["carried"]` what it returned as
    `Loss.carried` for the batch before, example i going on where example i stopped; no gradient
    flows through it.

    functions: by name, `(variables, batch, **settings) -> tree of (B, …)`, which see the variables
    that `evaluate` sees.
    """

    def init(key, batch):
        carried = {} if begin is None else {"model": begin(batch)}
        return State(jnp.int32(0), {"model": _init(player, key, _with(batch, carried))}, carried)

    def step(state, batch, key):
        batch = _with(batch, state.carried)
        model, carried, metrics = _update(
            player, state["model"], batch, Rng(jax.random.fold_in(key, state.step), state.step)
        )
        return (
            State(state.step + 1, {"model": model}, {name: carried for name in state.carried}),
            metrics,
        )

    def seen(state):
        return sharing.whole(state["model"].average)

    return Learner(
        init,
        step,
        lambda state, batch: replica.sum(evaluate(seen(state), batch)),
        _of_state(seen, functions),
    )


def alternate(
    discriminator: Player,
    generator: Player,
    evaluate: Callable[[dict[str, Variables], Batch], Metrics],
    discriminator_steps: int = 1,
    functions: Mapping[str, Function] | None = None,
) -> Learner:
    """Algorithm 1 of Goodfellow et al. 2014: k discriminator updates, then one generator update, in
    one step.

    A batch holds the minibatches of all k discriminator updates, k·m examples; example i belongs to
    update i mod k. Every update has a key of its own, so each draws its own noise, the generator's
    too. The generator's update also sees the last minibatch, for its size and for what it is
    conditioned on. Each player changes only its own state.

    Step metrics: both players' with the prefixes `discriminator_` and `generator_` before `loss`
    and `gradient_norm`; other metrics keep their names. `evaluate` gets `{"discriminator":
    variables, "generator": variables}`, the moving averages where they are kept, and so do the
    functions, `(both's variables, batch, **settings) -> tree of (B, …)`.
    """

    def init(key, batch):
        keys = jax.random.split(key)
        return State(
            jnp.int32(0),
            {
                "discriminator": _init(discriminator, keys[0], batch),
                "generator": _init(generator, keys[1], batch),
            },
        )

    def step(state, batch, key):
        key_d, key_g = jax.random.split(jax.random.fold_in(key, state.step))
        minibatches = _split_microbatches(batch, discriminator_steps)
        opponent = state["generator"].variables

        def update(carry, minibatch, number):
            rng = Rng(jax.random.fold_in(key_d, number), state.step)
            carry, _, metrics = _update(
                discriminator, carry, minibatch, rng, opponent, name="discriminator_"
            )
            return carry, metrics, None

        d, metrics_d, _ = _repeat(update, state["discriminator"], minibatches)
        last = jax.tree.map(lambda x: x[-1], minibatches)
        g, _, metrics_g = _update(
            generator,
            state["generator"],
            last,
            Rng(key_g, state.step),
            d.variables,
            name="generator_",
        )
        return State(state.step + 1, {"discriminator": d, "generator": g}), {
            **metrics_d,
            **metrics_g,
        }

    def seen(state):
        return {name: sharing.whole(player.average) for name, player in state.players.items()}

    return Learner(
        init,
        step,
        lambda state, batch: replica.sum(evaluate(seen(state), batch)),
        _of_state(seen, functions),
    )


def training(
    module: Any, variables: Variables, *inputs: Any, rngs: Mapping[str, Key] | None = None, **named
) -> tuple[Any, Variables]:
    """A Flax module in training mode: (its output, its mutable collections afterwards).

    It is applied to the inputs with `train=True`. Every collection beside `params` and `frozen` may
    change; `Loss.collections` takes those that did. Nothing is stored.
    """
    own = {name: value for name, value in variables.items() if name != "frozen"}
    mutable = [name for name in own if name != "params"]
    return module.apply(own, *inputs, train=True, rngs=rngs, mutable=mutable, **named)


def initial(module: Any, *names: str) -> Callable[[Key, Batch], Variables]:
    """`init` of a player that is one Flax module, which is applied to these arrays of a batch."""
    return lambda key, batch: module.init(key, *(batch[name] for name in names), train=False)


def train_jointly(learners: Mapping[str, Learner]) -> Learner:
    """Learners that share nothing but the batches, one beside the other in one step: a comparison
    within one run.

    Member `name` is what it is alone with the key `fold_in(key, crc32(name))`, at initialization
    and in every step; so it does not matter who is beside it, and one learner under two names
    starts from two initializations. Its players are `"name/player"` in the state, its metrics
    `"name/metric"`, its functions `"name/function"`. Raises ValueError where a name followed by "/"
    is the prefix of another.

    A learner that comes several times is traced once, and its initializations are one loop. XLA
    still compiles a copy of the step for each name: on CPU a subprogram that is called, or a loop
    over stacked members, loses what makes its convolutions fast (ResNet-20: twelve times slower).
    """
    if clashes := [(a, b) for a in learners for b in learners if b.startswith(f"{a}/")]:
        raise ValueError(
            f"member {clashes[0][0]!r} is a prefix of member {clashes[0][1]!r}; give them other"
            " names"
        )
    names: dict[int, list[str]] = {}
    for name, member in learners.items():
        names.setdefault(id(member), []).append(name)

    def own_key(key, name):
        return jax.random.fold_in(key, zlib.crc32(name.encode()))

    def own_part(state, name):
        head = f"{name}/"

        def own(parts):
            return {
                path.removeprefix(head): p for path, p in parts.items() if path.startswith(head)
            }

        return State(state.step, own(state.players), own(state.carried))

    def joined(parts):
        return {
            f"{name}/{what}": value for name, part in parts.items() for what, value in part.items()
        }

    def whole(step, states):
        parts = {name: (state.players, state.carried) for name, state in states.items()}
        players, carried = (
            joined({name: part[n] for name, part in parts.items()}) for n in range(2)
        )
        return State(step, players, carried)

    def init(key, batch):
        begun = {}
        for own in names.values():
            member = learners[own[0]]
            keys = jnp.stack([own_key(key, name) for name in own])
            stacked = jax.lax.map(lambda key, member=member: member.init(key, batch), keys)
            begun |= {
                name: jax.tree.map(lambda x, n=n: x[n], stacked) for n, name in enumerate(own)
            }
        return whole(jnp.int32(0), begun)

    def step(state, batch, key):
        new, metrics = {}, {}
        for name, member in learners.items():
            new[name], metrics[name] = jax.jit(member.step)(
                own_part(state, name), batch, own_key(key, name)
            )
        return whole(state.step + 1, new), joined(metrics)

    def evaluate(state, batch):
        return joined(
            {
                name: jax.jit(own.evaluate)(own_part(state, name), batch)
                for name, own in learners.items()
            }
        )

    def function(name, of):
        return lambda state, batch, **settings: of(own_part(state, name), batch, **settings)

    functions = {
        name: {what: function(name, of) for what, of in member.functions.items()}
        for name, member in learners.items()
    }
    return Learner(init, step, evaluate, joined(functions))


def multi_step(learner: Learner, times: int) -> Learner:
    """The same learner, whose `step` does `times` steps: for networks so small that a step takes
    less than its call.

    A batch holds those of all steps, example i belonging to step i mod times (`data.StackedBatches`
    makes it). `state.step` counts on by `times`, so every step has the key and the number that it
    has alone; metrics are added. The numbers are those of the learner alone but for the order of
    additions within a compiled program.
    """
    if times == 1:
        return learner

    def init(key, batch):
        return learner.init(key, jax.tree.map(lambda x: x[0], _split_microbatches(batch, times)))

    def step(state, batch, key):
        state, metrics, _ = _repeat(
            lambda state, part, _: (*learner.step(state, part, key), None),
            state,
            _split_microbatches(batch, times),
        )
        return state, metrics

    return learner._replace(init=init, step=step)


def fit_scan(
    learner: Learner, draw: Callable[[Key], Batch], steps: int
) -> Callable[[Key], tuple[State, Metrics]]:
    """`run(key)`: a new state after so many steps on batches that `draw(key)` makes, all in one
    loop for compiling, and the metrics of each step, stacked. For small networks trained on the way
    to something else."""

    def run(key):
        key_init, key_draw, key = jax.random.split(key, 3)

        def batch(t):
            return draw(jax.random.fold_in(key_draw, t))

        return jax.lax.scan(
            lambda state, t: learner.step(state, batch(t), key),
            learner.init(key_init, batch(0)),
            jnp.arange(steps),
        )

    return run


def _init(player: Player, key: Key, batch: Batch) -> PlayerState:
    variables = dict(player.init(key, batch))
    params = variables.pop("params")
    ema = None if player.ema is None else {"params": params, **variables}
    frozen = {} if player.frozen is None else {"frozen": _zeros(player.frozen, key, batch)}
    return PlayerState(params, variables, player.optimizer.init(params), ema, frozen)


def _zeros(shapes: Any, key: Key, batch: Batch) -> Any:
    shapes = jax.tree.map(
        lambda x: jax.eval_shape(x, key, batch) if callable(x) else x, dict(shapes)
    )
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _of_state(seen: Callable[[State], Any], functions: Mapping[str, Function] | None) -> Any:
    """Functions of variables as functions of the state; `seen(state)` are the variables."""

    def of_state(function):
        return lambda state, batch, **settings: function(seen(state), batch, **settings)

    return {name: of_state(function) for name, function in (functions or {}).items()}


def _update(
    player: Player, state: PlayerState, batch: Batch, rng: Rng, *opponent: Variables, name: str = ""
):
    """One optimizer step of one player: (state, what it carries to the next batch, metrics)."""
    opponents = [sharing.whole(variables) for variables in opponent]
    # Brought together once, not in every micro-batch.
    whole = sharing.whole({"params": state.params, **state.frozen})
    frozen = {name: whole[name] for name in state.frozen}

    def micro(collections, part, number):
        def total(params):
            variables = {**sharing.whole({"params": params, **collections}), **frozen}
            own_rng = rng._replace(key=jax.random.fold_in(rng.key, number))
            loss = player.loss(variables, *opponents, part, own_rng)
            if not isinstance(loss, Loss):
                kind = type(loss).__name__
                raise TypeError(f"the loss is a {kind}; return train.Loss(Mean.of(values)) instead")
            return loss.objective.total, loss

        try:
            gradient, loss = jax.grad(remat.WAYS[player.remat](total), has_aux=True)(
                whole["params"]
            )
        except remat.NoBlocksError as error:
            raise UserError(f"{error}; give --remat dots, or none") from error
        return (
            {**collections, **loss.collections},
            (gradient, loss.objective, loss.metrics),
            loss.carried,
        )

    collections, sums, carried = _repeat(
        micro, state.collections, _split_microbatches(batch, player.accumulate)
    )
    gradient, objective, metrics = replica.sum(sums)
    gradient = sharing.own({"params": gradient})["params"]
    norm = global_norm(gradient) / objective.count  # of sums: so that no quotient is kept for it
    gradient = jax.tree.map(lambda g: g / objective.count.astype(g.dtype), gradient)
    updates, optimizer = player.optimizer.update(gradient, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    ema, decay = state.ema, player.ema
    if ema is not None and decay is not None:
        ema = jax.tree.map(
            lambda old, new: _towards(old, new, 1 - decay), ema, {"params": params, **collections}
        )
    metrics = {**metrics, f"{name}loss": objective, f"{name}gradient_norm": Mean.of(norm[None])}
    return PlayerState(params, collections, optimizer, ema, state.frozen), carried, metrics


def _with(batch: Batch, carried: Mapping[str, Any]) -> Batch:
    """The batch, and what its player carries where it does."""
    return {**batch, "carried": carried["model"]} if carried else batch


def _towards(old: jax.Array, new: jax.Array, rate: float) -> jax.Array:
    """One step of a moving average; a count (integer) is taken as it is."""
    return old + rate * (new - old) if jnp.issubdtype(new.dtype, jnp.floating) else new


def _split_microbatches(batch: Batch, count: int) -> Batch:
    """(count·m, …) -> (count, m, …), example i into part i mod count.

    This keeps each part spread over the shards and replicas of the batch axis, so nothing moves
    between devices and every placement makes the same parts.
    """

    def split(x):
        if x.shape[0] % count:
            raise UserError(
                f"{x.shape[0]} examples cannot be split into {count} equal minibatches; take a"
                " larger --batch, or fewer devices"
            )
        return jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0)

    return jax.tree.map(split, batch)


def _gather(parts: Any) -> Any:
    """The inverse of `_split_microbatches`: (count, m, …) -> (count·m, …)."""
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), parts)


def _repeat(body, carry, parts):
    """`carry, sums, rows = body(carry, part, number)` over the parts in turn: (carry, the sums
    added, the rows (m, …) as they stood before the parts were dealt). The body is compiled once."""
    count = jax.tree.leaves(parts)[0].shape[0]
    if count == 1:
        return body(carry, jax.tree.map(lambda x: x[0], parts), 0)

    def scanned(running, item):
        carry, added = running
        carry, sums, rows = body(carry, *item)
        return (carry, jax.tree.map(jnp.add, added, sums)), rows

    one = jax.tree.map(lambda x: x[0], parts)
    none = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: body(carry, one, 0)[1])
    )
    (carry, sums), rows = jax.lax.scan(scanned, (carry, none), (parts, jnp.arange(count)))
    return carry, sums, _gather(rows)
