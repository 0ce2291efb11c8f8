"""The scalars of this package's states, for the log of a training run."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from heavytail_optax._inflate_gradient_noise import InflateGradientNoiseState
from heavytail_optax._inflate_preconditioned_noise import (
    InflatePreconditionedNoiseState,
)
from heavytail_optax._noise import AddHeavyTailedNoiseState
from heavytail_optax._truncation import TruncateUpdateNormState
from heavytail_optax._typing import PyTree
from heavytail_optax._validation import type_error

if TYPE_CHECKING:
    from heavytail_optax.tail_index import TrackTailIndexState

Scalars = dict[str, jax.Array]


def _of_noise(state: AddHeavyTailedNoiseState) -> Scalars:
    return {"noise_count": state.noise_count}


def _of_inflation(state: InflateGradientNoiseState) -> Scalars:
    return {
        "inflation_count": state.inflation_count,
        "inflation_draw": state.inflation_draw,
    }


def _of_preconditioned_noise(state: InflatePreconditionedNoiseState) -> Scalars:
    return {
        "precondition_count": state.precondition_count,
        "precondition_draw": state.precondition_draw,
    }


def _of_truncation(state: TruncateUpdateNormState) -> Scalars:
    scalars = {}
    for name, field in state._asdict().items():
        for path, value in jax.tree.leaves_with_path(field):
            group = jax.tree_util.keystr(path, simple=True, separator="/")
            scalars[f"{name}/{group}" if group else name] = value
    return scalars


def _of_tracking(state: "TrackTailIndexState") -> Scalars:
    from heavytail_optax.tail_index import hill

    largest = state.tail_largest[..., 0, :]
    index = hill(largest, largest.shape[-1] - 1)
    return {
        "tail_count": state.tail_count,
        "tail_seen": state.tail_seen[..., 0],
        "tail_non_finite": state.tail_non_finite[..., 0],
        "tail_largest": largest[..., 0],
        "tail_log_mean": state.tail_log_mean[..., 0],
        "tail_index": index.corrected_estimate,
        "tail_index_lower": index.lower,
        "tail_index_upper": index.upper,
    }


@functools.cache
def _scalars_of() -> Mapping[type, Callable[..., Scalars]]:
    # It takes as long to load as the rest of the package.
    from heavytail_optax.tail_index import TrackTailIndexState

    return {
        AddHeavyTailedNoiseState: _of_noise,
        InflateGradientNoiseState: _of_inflation,
        InflatePreconditionedNoiseState: _of_preconditioned_noise,
        TruncateUpdateNormState: _of_truncation,
        TrackTailIndexState: _of_tracking,
    }


def _kind(node: PyTree) -> type | None:
    """Which of our states a node is, perhaps as a dictionary of its fields."""
    for kind in _scalars_of():
        if isinstance(node, kind):
            return kind
        if isinstance(node, Mapping) and set(node) == set(kind._fields):
            return kind
    return None


def _copied(field: PyTree) -> PyTree:
    """Copies of the field's arrays: a later step may donate the state's own."""

    def copy(node: PyTree) -> jax.Array:
        (array,) = jax.tree.leaves(node)
        return jnp.array(array)

    # A variable of Flax NNX is a node with one leaf.
    is_variable = lambda node: hasattr(node, "get_value")
    return jax.tree.map(copy, field, is_leaf=is_variable)


# The field that holds the state of a wrapped optimiser.
_WRAPPED = "optimizer_state"


def _fields(node: PyTree) -> dict[str, PyTree]:
    return dict(node) if isinstance(node, Mapping) else node._asdict()


def _states(state: PyTree) -> Iterator[tuple[type, PyTree]]:
    """Our states with their kinds, those in the optimisers that ours wrap included."""
    for node in jax.tree.leaves(state, is_leaf=lambda node: _kind(node) is not None):
        if (kind := _kind(node)) is not None:
            yield kind, node
            yield from _states(_fields(node).get(_WRAPPED))


def _scalars(kind: type, node: PyTree) -> Scalars:
    own = {
        name: None if name == _WRAPPED else _copied(x)
        for name, x in _fields(node).items()
    }
    return _scalars_of()[kind](kind(**own))


def summary(state: PyTree) -> dict[str, jax.Array]:
    """The scalars that this package keeps in an optimiser's state, for a training log.

    It finds the states of this package's transformations wherever they are: in a chain,
    inside wrappers such as `optax.inject_hyperparams`, `optax.MultiSteps` and
    `optax.partition`, in an `nnx.Optimizer` and in a Flax `TrainState`. It works inside
    and outside `jax.jit`. The names are those of the states' fields:

    - of `add_heavy_tailed_noise`: `noise_count`;
    - of `inflate_gradient_noise`: `inflation_count` and `inflation_draw`;
    - of `inflate_preconditioned_noise`: `precondition_count` and `precondition_draw`, and
      those of transformations in the optimiser that it wraps;
    - of `truncate_update_norm`: `truncation_count`, `update_norm`, `num_truncated` and
      `max_norm`; with bounds by group, the last three of each group, as in
      `update_norm/embedding`;
    - of `tail_index.track_tail_index`, for all parameters together: `tail_count`,
      `tail_seen`, `tail_non_finite`, `tail_largest` (the largest size so far),
      `tail_log_mean`, and Hill's estimate from all tracked sizes, corrected for bias, with
      its interval: `tail_index`, `tail_index_lower` and `tail_index_upper`.
      `tail_index.tracked_tail_index` has those of each layer.

    If a transformation occurs several times, its names are numbered in the order of
    `jax.tree.leaves`: `num_truncated_1`, `num_truncated_2`. That is the order of a
    chain; the labels of `optax.partition` are in alphabetical order.

    Args:
      state: the state of the whole optimiser, or any pytree with it inside. A
        dictionary with the fields of a state counts as that state, as in `nnx.state`
        and in a checkpoint that was restored without its types.

    Returns:
      A dictionary from names to arrays of shape (), with the dtypes of the state. It is
      empty if there is no state of this package, so a script may log any optimiser. The
      arrays are copies, so they stay readable if a later step donates the state.
      Leading axes of the state are kept, such as those of seeds under `jax.vmap`.

    Raises:
      TypeError: if `state` is an optimiser, not its state.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> import heavytail_optax as hto
      >>> optimizer = optax.chain(optax.sgd(0.1), hto.truncate_update_norm(0.25))
      >>> params = jnp.array([3.0, 4.0])
      >>> updates, state = optimizer.update(params, optimizer.init(params))
      >>> for name, value in hto.summary(state).items():
      ...     print(name, value)
      truncation_count 1
      update_norm 0.5
      num_truncated 1
      max_norm 0.25
    """
    if hasattr(state, "init") and hasattr(state, "update"):
        accepted = "the state of an optimiser, such as `init` returns"
        raise type_error("summary", "state", accepted, type(state))
    found: dict[type, list[Scalars]] = {}
    for kind, node in _states(state):
        found.setdefault(kind, []).append(_scalars(kind, node))
    return {
        name if len(same) == 1 else f"{name}_{number}": value
        for same in found.values()
        for number, scalars in enumerate(same, 1)
        for name, value in scalars.items()
    }
