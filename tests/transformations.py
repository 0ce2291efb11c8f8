"""Every transformation of the package, with arguments under which it acts.

A transformation joins the contract test, and the tests of wrappers, chains, devices
and serialisation, by one entry of `TRANSFORMATIONS`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import heavytail_optax as hto


@dataclasses.dataclass(frozen=True, eq=False)
class Transformation:
    """A public factory with good arguments.

    Attributes:
      name: what the test is called.
      factory: the public function.
      arguments: keyword arguments without the key.
      numbers: those of the arguments that may be a number, an array or a schedule.
      fields: fields of the state that `optax.tree.get` finds by name.
      extra_args: from the updates to the extra arguments that `update` needs.
      is_random: whether the factory takes a key.
      accepts_complex: whether complex leaves are accepted.
      changes_updates: whether the updates come out other than they went in.
      is_variant: whether it differs from another entry by settings that the long tests
        need not go through again.
    """

    name: str
    factory: Callable[..., optax.GradientTransformationExtraArgs]
    arguments: dict[str, Any]
    numbers: tuple[str, ...]
    fields: tuple[str, ...]
    extra_args: Callable[[Any], dict[str, Any]] = lambda updates: {}
    is_random: bool = True
    accepts_complex: bool = False
    changes_updates: bool = True
    is_variant: bool = False

    def make(self, **changes):
        """The transformation, with key 0 unless the changes hold another."""
        key = {"key": 0} if self.is_random else {}
        return self.factory(**(self.arguments | key | changes))

    def update(self, transformation, updates, state, params=None, **extra_args):
        """One update with what the transformation needs beside the updates."""
        return transformation.update(
            updates, state, params, **(self.extra_args(updates) | extra_args)
        )


def _gradient_noise(updates):
    return {"gradient_noise": jax.tree.map(lambda x: jnp.ones_like(x) / 8, updates)}


_NOISE = hto.add_heavy_tailed_noise
_NOISE_FIELDS = ("noise_count", "noise_key")
_TRUNCATION_FIELDS = ("update_norm", "num_truncated", "max_norm")
_TRACKING_FIELDS = (
    *("tail_count", "tail_seen", "tail_non_finite", "tail_largest"),
    *("tail_when", "tail_sizes_each", "tail_log_mean"),
)


TRANSFORMATIONS = (
    Transformation(
        "elementwise_symmetric_pareto",
        _NOISE,
        {"tail": hto.tails.symmetric_pareto(1.4), "scale": 0.1},
        ("scale",),
        _NOISE_FIELDS,
    ),
    Transformation(
        "elementwise_student_t",
        _NOISE,
        {"tail": hto.tails.student_t(1.5), "scale": 0.1},
        ("scale",),
        _NOISE_FIELDS,
        is_variant=True,
    ),
    Transformation(
        "isotropic_alpha_stable",
        _NOISE,
        {
            "tail": hto.tails.alpha_stable(1.2, 0.5),
            "scale": 0.1,
            "direction": "isotropic",
        },
        ("scale",),
        _NOISE_FIELDS,
        is_variant=True,  # the optimiser below has this noise in it
    ),
    Transformation(
        "isotropic_gaussian",
        _NOISE,
        {"tail": hto.tails.gaussian(), "scale": 0.1, "direction": "isotropic"},
        ("scale",),
        _NOISE_FIELDS,
        is_variant=True,
    ),
    Transformation(
        "inflate_gradient_noise",
        hto.inflate_gradient_noise,
        {"tail": hto.tails.pareto(1.4), "scale": 0.5},
        ("scale",),
        ("inflation_count", "inflation_key", "inflation_draw"),
        extra_args=_gradient_noise,
    ),
    Transformation(
        "inflate_preconditioned_noise",
        hto.inflate_preconditioned_noise,
        {
            "inner": optax.scale(0.5),
            "tail": hto.tails.pareto(1.4),
            "scale": 0.5,
        },
        ("scale",),
        ("precondition_count", "precondition_key", "precondition_draw"),
        extra_args=_gradient_noise,
    ),
    Transformation(
        "truncate_update_norm",
        hto.truncate_update_norm,
        {"max_norm": 0.5},
        ("max_norm",),
        ("truncation_count", *_TRUNCATION_FIELDS),
        is_random=False,
        accepts_complex=True,
    ),
    Transformation(
        "truncate_update_norm_adaptive",
        hto.truncate_update_norm,
        {"max_norm": hto.adaptive_max_norm(0.1, initial=0.5)},
        (),
        ("truncation_count", *_TRUNCATION_FIELDS),
        is_random=False,
        accepts_complex=True,
    ),
    Transformation(
        "track_tail_index",
        hto.tail_index.track_tail_index,
        {"k": 3},
        (),
        _TRACKING_FIELDS,
        extra_args=_gradient_noise,
        is_random=False,
        changes_updates=False,
    ),
    Transformation(
        "track_tail_index_of_differences",
        hto.tail_index.track_tail_index,
        {"k": 3, "source": "differences", "measure": "coordinates"},
        (),
        _TRACKING_FIELDS,
        is_random=False,
        changes_updates=False,
        is_variant=True,
    ),
    Transformation(
        "truncated_heavy_tailed_sgd",
        hto.truncated_heavy_tailed_sgd,
        {
            "learning_rate": 0.1,
            "max_norm": 0.05,
            "tail": hto.tails.symmetric_pareto(1.2),
            "scale": 0.1,
        },
        ("learning_rate", "max_norm", "scale"),
        (*_NOISE_FIELDS, *_TRUNCATION_FIELDS),
        is_variant=True,
    ),
    Transformation(
        "truncated_heavy_tailed_sgd_with_momentum",
        hto.truncated_heavy_tailed_sgd,
        {
            "learning_rate": 0.1,
            "max_norm": 0.05,
            "tail": hto.tails.alpha_stable(1.4),
            "scale": 0.1,
            "direction": "isotropic",
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.01,
        },
        ("learning_rate", "max_norm", "scale"),
        (*_NOISE_FIELDS, *_TRUNCATION_FIELDS, "trace"),
    ),
)

RANDOM = tuple(case for case in TRANSFORMATIONS if case.is_random)
DISTINCT = tuple(case for case in TRANSFORMATIONS if not case.is_variant)
