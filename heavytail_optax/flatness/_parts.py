"""The loss as a function of a part of the parameters, with the rest held fixed."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax

from heavytail_optax._pytrees import broadcast_prefix
from heavytail_optax._result_text import short_repr
from heavytail_optax._typing import Params, PyTree
from heavytail_optax._validation import type_error
from heavytail_optax.flatness._arguments import (
    Loss,
    check_args,
    check_loss,
    check_params,
)

_NAME = "by_part"
_LABELS = (
    "None, a function of a parameter's name, or a pytree prefix of hashable labels"
)


class PartOfLoss(NamedTuple):
    """One part of `by_part`: what a measure takes.

    Attributes:
      loss_fn: the loss, called as `loss_fn(params, *args)`.
      params: the parameters of the part: a dictionary from names to arrays.
      args: the parameters of the rest, then the arguments of the whole loss.
    """

    loss_fn: Loss
    params: dict[str, jax.Array]
    args: tuple[PyTree, ...]

    __repr__ = short_repr


@dataclasses.dataclass(frozen=True)
class _LossOfPart:
    """The loss of a part. It compares by value, so compiled programs are reused."""

    loss_fn: Loss
    # Not shown: they are as long as the model is deep.
    structure: jax.tree_util.PyTreeDef = dataclasses.field(repr=False)
    names: tuple[str, ...] = dataclasses.field(repr=False)

    def __call__(self, params: Params, rest: Params, *args: PyTree) -> jax.Array:
        leaves = {**rest, **params}
        whole = self.structure.unflatten([leaves[name] for name in self.names])
        return self.loss_fn(whole, *args)


_Path = tuple[object, ...]

_BARE = (jax.tree_util.DictKey("params"),)  # a single array has no path of its own


def _without_boxes(paths: list[_Path]) -> list[_Path]:
    """The paths of parameters without the boxes that Flax keeps them in, each its own."""
    held = collections.Counter(path[:-1] for path in paths)

    def is_boxed(path: _Path) -> bool:
        is_value = len(path) > 1 and getattr(path[-1], "name", None) == "value"
        return is_value and held[path[:-1]] == 1

    return [path[:-1] if is_boxed(path) else path for path in paths]


def _layer(path: _Path) -> _Path:
    return path[:-1] or path


def _namer(paths: list[_Path]) -> Callable[[_Path], str]:
    """Names with slashes, or with brackets where keys that hold slashes would clash."""
    simple = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    for different in (set(paths), {_layer(path) for path in paths}):
        if len({simple(path) for path in different}) < len(different):
            return jax.tree_util.keystr
    return simple


def _check_labels(labels: list[object]) -> None:
    for label in labels:
        try:
            hash(label)
        except TypeError:
            raise type_error(_NAME, "labels", _LABELS, label) from None


def by_part(
    loss_fn: Loss,
    params: Params,
    *,
    labels: PyTree | Callable[[str], Hashable] = None,
    args: tuple[PyTree, ...] = (),
) -> dict[Hashable, PartOfLoss]:
    r"""The loss as a function of each part of the parameters, with the rest fixed.

    .. math:: L_k(\theta_k) = L(\theta_1, \dots, \theta_k, \dots, \theta_n).

    Any measure of a part is the measure of this loss. Its Hessian is the diagonal block
    of the part, so the traces of the parts add up to the trace of the whole; the other
    measures do not add up. The name of a parameter is its path with slashes, such as
    `layers/0/kernel`. A single array is named `params`.

    Args:
      loss_fn: L, called as `loss_fn(params, *args)`, that returns one floating number.
        For `mean_over_batches`, pass the result of that here.
      params: theta, a pytree of floating arrays.
      labels: which part each parameter is in. None: a part for each layer, which is the
        name without its last piece; a name of one piece is a layer. A function from a
        name to a label, or to a bool: a part for each of its values. A pytree prefix of
        labels, as for `optax.partition`.
      args: the data, and any other arguments of the loss after the parameters.

    Returns:
      A dictionary from each label to its `PartOfLoss`, in the order of the parameters.

    Raises:
      TypeError: if an argument has the wrong type, a leaf of `params` is not floating,
        a label has no hash, or the loss is not a floating number.
      ValueError: if `params` or an array of `args` is empty, the loss is not a scalar,
        or `labels` is not a prefix of `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> import heavytail_optax as hto
      >>> def loss(params):
      ...     return jnp.sum(params["first"]["w"] ** 2) + jnp.sum(params["last"]["w"] ** 4)
      >>> params = {"first": {"w": jnp.ones(2)}, "last": {"w": jnp.ones(3)}}
      >>> for layer, part in hto.flatness.by_part(loss, params).items():
      ...     trace = hto.flatness.hessian_trace(
      ...         part.loss_fn, part.params, key=0, args=part.args
      ...     )
      ...     print(layer, trace.mean)
      first 4.0
      last 36.0
    """
    params = check_params(_NAME, params)
    args = check_args(_NAME, args)
    loss_fn = check_loss(_NAME, loss_fn, params, args)
    leaves_with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = _without_boxes([path for path, _ in leaves_with_paths])
    paths = [path or _BARE for path in paths]
    name_of = _namer(paths)
    names = tuple(name_of(path) for path in paths)
    if labels is None:
        found = [name_of(_layer(path)) for path in paths]
    elif callable(labels):
        found = [labels(name) for name in names]
    else:
        found = broadcast_prefix(_NAME, "labels", labels, params, of="`params`")
    _check_labels(found)
    named = dict(zip(names, jax.tree.leaves(params), strict=True))
    names_of_labels: dict[Hashable, list[str]] = {}
    for name, label in zip(names, found, strict=True):
        names_of_labels.setdefault(label, []).append(name)
    of_part = _LossOfPart(loss_fn, structure, names)
    parts = {}
    for label, own in names_of_labels.items():
        own_params = {name: named[name] for name in own}
        rest = {name: x for name, x in named.items() if name not in own_params}
        parts[label] = PartOfLoss(of_part, own_params, (rest, *args))
    return parts
