"""Tracks the tail of the gradient noise during training."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import PyTreeDef

from heavytail_optax._dtypes import computation_dtype
from heavytail_optax._keys import as_typed_key, check_key, tagged_key
from heavytail_optax._pytrees import check_leaves
from heavytail_optax._result_text import short_repr
from heavytail_optax._sharding import zeros_like
from heavytail_optax._typing import Key, Params, PyTree
from heavytail_optax._validation import (
    check_bool,
    check_choice,
    check_count,
    check_state,
    type_error,
    value_error,
)
from heavytail_optax.tail_index._noise_size import noise_sizes, norms
from heavytail_optax.tail_index._squared_norms import add_squares, no_squares

_NAME = "track_tail_index"
_SOURCES = ("gradient_noise", "differences")
_MEASURES = ("norm", "coordinates", "projection")


class TrackTailIndexState(NamedTuple):
    """State of `track_tail_index`; every field except the last stays finite.

    The first row of a field is for all parameters together, the others are for the
    leaves in the order of `jax.tree.leaves`.

    Attributes:
      tail_count: number of updates so far. shape=(), dtype=int32.
      tail_seen: number of finite noise vectors so far. shape=(rows,), dtype=int32.
      tail_non_finite: number of noise vectors that were left out because an entry was
        NaN or infinite. shape=(rows,), dtype=int32.
      tail_largest: the largest sizes so far in descending order, padded with zeros.
        shape=(rows, k + 1), dtype=float32.
      tail_when: at which of the seen noise vectors each of them came, counted from zero.
        Same shape, dtype=int32.
      tail_sizes_each: how many sizes a noise vector has: one, or one per coordinate.
        shape=(rows,), dtype=float32.
      tail_log_mean: running mean of the logarithm of the size. Its exponential is a
        typical size. shape=(rows,), dtype=float32.
      tail_squares: with `noise_scale`, the moments of `|noise|^2` and `|update|^2` so
        far, in units of the first: count, unit, both means, and the sums of squares and
        products around them. shape=(rows, 7), dtype=float32. Otherwise an empty tuple.
      tail_previous: for differences, the last update, at least float32; otherwise an
        empty tuple.
    """

    tail_count: jax.Array
    tail_seen: jax.Array
    tail_non_finite: jax.Array
    tail_largest: jax.Array
    tail_when: jax.Array
    tail_sizes_each: jax.Array
    tail_log_mean: jax.Array
    tail_squares: PyTree
    tail_previous: PyTree

    __repr__ = short_repr


def _sizes_each(params: Params, measure: str) -> jax.Array:
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    if measure != "coordinates":
        sizes = [1] * len(sizes)
    total = sum(sizes) if measure == "coordinates" else 1
    return jnp.asarray([total, *sizes], jnp.float32)


def _difference(update: jax.Array, before: jax.Array) -> jax.Array:
    """The difference over the root of 2; NaN unless both are finite."""
    wide = computation_dtype(jnp.promote_types(update.dtype, before.dtype))
    # Halves are exact, and their difference does not overflow.
    one, other = (0.5 * x.astype(wide) for x in (update, before))
    limit = float(jnp.finfo(wide).max)
    difference = jnp.clip(2.0**0.5 * (one - other), -limit, limit)
    return jnp.where(jnp.isfinite(one) & jnp.isfinite(other), difference, jnp.nan)


def _insert(
    largest: jax.Array, when: jax.Array, new: jax.Array, new_when: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The largest of old and new in descending order, and when they came.

    Args:
      largest: shape (rows, k + 1), in descending order.
      when: of the same shape.
      new: shape (rows, m), in any order.
      new_when: of the same shape.
    """
    if new.shape[-1] > 1:
        joined = jnp.concatenate([largest, new], axis=-1)
        found, index = jax.lax.top_k(joined, largest.shape[-1])
        both = jnp.concatenate([when, new_when], axis=-1)
        return found, jnp.take_along_axis(both, index, axis=-1)
    place = jnp.sum(largest >= new, axis=-1, keepdims=True)
    index = jnp.arange(largest.shape[-1])[None]

    def inserted(old, one):
        shifted = jnp.concatenate([one, old[:, :-1]], axis=-1)
        return jnp.where(index < place, old, jnp.where(index == place, one, shifted))

    return inserted(largest, new), inserted(when, new_when)


def _check_noise(updates: list[jax.Array], structure: PyTreeDef, noise: PyTree):
    """The leaves of the noise with an axis of micro-batches first."""
    function = f"{_NAME}.update"
    accepted = (
        "passed to `update(..., gradient_noise=...)`: a pytree of floating arrays, of the "
        "structure and shapes of the updates, or all with one axis more in front, for "
        f"several noise vectors. The updates are {structure}"
    )
    if noise is None and updates:
        raise value_error(function, "gradient_noise", accepted, None)
    got = jax.tree.structure(noise)
    if got != structure:
        raise value_error(function, "gradient_noise", accepted, got)
    leaves = check_leaves(
        _NAME, jax.tree.leaves(noise), allow_complex=False, argument="gradient_noise"
    )
    if all(x.shape == u.shape for x, u in zip(leaves, updates, strict=True)):
        return [x[None] for x in leaves]
    sizes = {x.shape[0] if x.ndim else 0 for x in leaves}
    for leaf, update in zip(leaves, updates, strict=True):
        if leaf.shape[1:] != update.shape or len(sizes) > 1 or 0 in sizes:
            raise value_error(function, "gradient_noise", accepted, leaf)
    return leaves


def _check_state(
    state: PyTree, num_leaves: int, k: int, source: str, has_squares: bool
) -> None:
    """Checks that the state is that of a tracker with these settings."""
    check_state(_NAME, state, TrackTailIndexState)
    got = (
        jnp.shape(state.tail_largest),
        len(jax.tree.leaves(state.tail_previous)),
        len(jax.tree.leaves(state.tail_squares)),
    )
    expected = (
        (1 + num_leaves, k + 1),
        num_leaves * (source == "differences"),
        int(has_squares),
    )
    if got != expected:
        accepted = (
            f"the state that `init` returned for k = {k}, the source {source!r} and "
            f"parameters of {num_leaves} leaves: `tail_largest` of shape {expected[0]} "
            f"and {expected[1]} arrays in `tail_previous` and {expected[2]} in "
            "`tail_squares`"
        )
        raise value_error(f"{_NAME}.update", "state", accepted, got)


def track_tail_index(
    k: int = 200,
    *,
    source: Literal["gradient_noise", "differences"] = "gradient_noise",
    measure: Literal["norm", "coordinates", "projection"] = "norm",
    noise_scale: bool = False,
    key: Key = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Tracks the tail of the gradient noise; the updates pass unchanged.

    It computes the size of every noise vector, for all parameters and for each leaf,
    and keeps the k + 1 largest sizes of the whole run. `hill` needs no more than these.
    So its estimate is exactly that of all sizes seen, in memory that does not grow.
    Read it with `tracked_tail_index`.

    `source` says what a noise vector is:

    - "gradient_noise": what you pass to `update(..., gradient_noise=tree)`. The best
      choice is half the difference of the gradients on the two halves of a batch, as
      for `inflate_gradient_noise`: one independent vector per step. The differences
      `g_i - g` between each micro-batch's gradient and their mean work as well (all at
      once, along an extra first axis). But through the mean, one far draw is in all of
      them, and with two micro-batches both differences have the same size. Intervals of
      95 % then cover 80 to 85 %.
    - "differences": `(u_t - u_(t-1)) / sqrt(2)`, for the second, fourth, ... update and
      the one before it. It needs nothing from the training step except memory for one
      update, in at least float32. It has the tail index of a single noise vector and,
      if that is finite, its covariance. It also contains the change of the mean
      gradient. Put it first in the chain: after momentum or Adam, the differences are
      not those of the noise.

    `measure` says what its size is:

    - "norm": the Euclidean norm. The norm of d coordinates with finite variance
      concentrates, so a light tail here does not rule out heavy-tailed coordinates.
    - "coordinates": the absolute value of each coordinate. Those of one vector are not
      independent, so intervals are far too narrow. Layers of different scale form a
      mixture that looks heavy-tailed. So read only the rows of the leaves, and only
      their estimates.
    - "projection": the absolute value along one random direction, drawn once.

    A noise vector with a NaN or an infinity has no size. It is left out, both for all
    parameters and for the leaf, and counted in `tail_non_finite`. A finite one whose
    norm overflows float32 counts as the largest float.

    The noise vectors of a training run are not independent and not from one law: the
    noise shrinks with the loss. That alone makes the sizes of a long run look
    heavier-tailed than those of any one moment. Reset the state with `init` to look at
    a shorter part of the run.

    Args:
      k: at least 1. The k + 1 largest sizes are kept.
      source: "gradient_noise" or "differences".
      measure: "norm", "coordinates" or "projection".
      noise_scale: whether to track what `tracked_noise_scale` needs. It takes one more
        pass over the updates. Then put the tracker first in the chain: the updates must
        be the gradients whose noise is given.
      key: for "projection" only: an integer seed, a typed key or a legacy key.

    Returns:
      A transformation whose state is a `TrackTailIndexState`.

    Raises:
      TypeError: if an argument has the wrong type; in `update`, if a leaf is not a real
        floating array, or if the state is of another type.
      ValueError: if an argument is out of range, or a key is missing or not needed; in
        `update`, if `gradient_noise` is missing or does not match the updates, or if
        the state belongs to other settings or parameters.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> optimizer = optax.chain(hto.tail_index.track_tail_index(50), optax.sgd(0.1))
      >>> params = {"w": jnp.zeros(3), "b": jnp.zeros(())}
      >>> noise = hto.tails.pareto(1.5).sample(jax.random.key(0), (1000,))
      >>> def step(state, size):
      ...     noise = {"w": jnp.array([size, 0.0, 0.0]), "b": size}
      ...     return optimizer.update(params, state, params, gradient_noise=noise)[1], None
      >>> state, _ = jax.lax.scan(step, optimizer.init(params), noise)
      >>> by_layer = hto.tail_index.tracked_tail_index(state, params)
      >>> list(by_layer)
      ['all', 'b', 'w']
      >>> bool(jnp.allclose(by_layer["w"].estimate, hto.tail_index.hill(noise, 50)[0]))
      True
    """
    k = check_count(_NAME, "k", k, 1)
    check_choice(_NAME, "source", source, _SOURCES)
    check_choice(_NAME, "measure", measure, _MEASURES)
    check_bool(_NAME, "noise_scale", noise_scale)
    if measure == "projection" or key is not None:
        check_key(_NAME, key)
        if measure != "projection":
            raise value_error(
                _NAME, "key", "None unless `measure` is 'projection'", key
            )
        key = tagged_key(as_typed_key(key), _NAME)

    def init_fn(params):
        rows = 1 + len(jax.tree.leaves(params))
        previous = ()
        if source == "differences":
            previous = jax.tree.map(
                lambda x: zeros_like(x, computation_dtype(x.dtype)), params
            )
        return TrackTailIndexState(
            tail_count=jnp.zeros((), jnp.int32),
            tail_seen=jnp.zeros(rows, jnp.int32),
            tail_non_finite=jnp.zeros(rows, jnp.int32),
            tail_largest=jnp.zeros((rows, k + 1), jnp.float32),
            tail_when=jnp.zeros((rows, k + 1), jnp.int32),
            tail_sizes_each=_sizes_each(params, measure),
            tail_log_mean=jnp.zeros(rows, jnp.float32),
            tail_squares=no_squares(rows) if noise_scale else (),
            tail_previous=previous,
        )

    def update_fn(updates, state, params=None, *, gradient_noise=None, **extra_args):
        del params, extra_args
        leaves, structure = jax.tree.flatten(updates)
        _check_state(state, len(leaves), k, source, noise_scale)
        leaves = check_leaves(_NAME, leaves, allow_complex=False)
        previous = state.tail_previous
        if source == "differences":
            before = jax.tree.leaves(previous)
            noise = [
                _difference(x, y)[None] for x, y in zip(leaves, before, strict=True)
            ]
            current = [x.astype(y.dtype) for x, y in zip(leaves, before, strict=True)]
            previous = jax.tree.unflatten(structure, current)
            # Pairs that do not overlap; otherwise each update would be in two sizes.
            is_noise = state.tail_count % 2 == 1
        else:
            noise = _check_noise(leaves, structure, gradient_noise)
            is_noise = jnp.asarray(True)
        sizes = noise_sizes(noise, measure, k + 1, key)
        is_seen = sizes.is_finite & is_noise
        is_left_out = ~sizes.is_finite & is_noise
        new = jnp.where(is_seen[..., None], sizes.largest, 0.0)
        number = jnp.cumsum(is_seen, axis=1, dtype=jnp.int32) - 1
        when = jnp.broadcast_to(
            (state.tail_seen[:, None] + number)[..., None], new.shape
        )
        rows = new.shape[0]
        largest, when = _insert(
            state.tail_largest,
            state.tail_when,
            new.reshape(rows, -1),
            when.reshape(rows, -1),
        )
        seen = jnp.sum(is_seen, axis=1, dtype=jnp.int32)
        count = state.tail_seen + seen
        gained = jnp.sum(jnp.where(is_seen, sizes.log_mean, 0.0), axis=1)
        mean = state.tail_log_mean
        new_mean = mean + (gained - seen * mean) / jnp.maximum(count, 1)
        squares = state.tail_squares
        if noise_scale:
            of_noise = sizes.largest[..., 0] if measure == "norm" else norms(noise)
            squares = add_squares(squares, of_noise, leaves, jnp.all(is_seen, axis=1))
        new_state = TrackTailIndexState(
            tail_count=optax.safe_increment(state.tail_count),
            tail_seen=count,
            tail_non_finite=state.tail_non_finite
            + jnp.sum(is_left_out, axis=1, dtype=jnp.int32),
            tail_largest=largest,
            tail_when=when,
            tail_sizes_each=state.tail_sizes_each,
            tail_log_mean=new_mean,
            tail_squares=squares,
            tail_previous=previous,
        )
        return updates, new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def tracked_part(function: str, state: PyTree) -> TrackTailIndexState:
    """The one `TrackTailIndexState` in the state of an optimiser.

    Raises:
      TypeError: if there is none.
      ValueError: if there are several.
    """
    try:
        found = optax.tree.get(state, TrackTailIndexState.__name__)
    except KeyError:
        accepted = "the state of an optimiser with one `track_tail_index` in it"
        raise value_error(function, "state", accepted, "several of them") from None
    if found is None:
        accepted = "the state of an optimiser with `track_tail_index` in it"
        raise type_error(function, "state", accepted, state)
    return found


def tracked_names(
    function: str, tracked: TrackTailIndexState, params: Params
) -> list[str]:
    """The names of the rows: "all", and the path of each leaf.

    Raises:
      ValueError: if the parameters have another number of leaves.
    """
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    # A single array has no path of its own.
    names = ["all"] + [
        jax.tree_util.keystr(path, simple=True, separator="/") or "params"
        for path in paths
    ]
    rows = tracked.tail_largest.shape[0]
    if len(names) != rows:
        accepted = f"a pytree of the {rows - 1} leaves that were tracked"
        raise value_error(function, "params", accepted, jax.tree.structure(params))
    return names
