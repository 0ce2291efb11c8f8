"""The arms of the study beyond SGD: what stands around an optimiser."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import beyond_sgd_tasks as tasks
import jax
import jax.numpy as jnp
import numpy as np
import optax

import heavytail_optax as hto

ALPHA = 1.4
SAM_RADIUS = 0.05
TRUNCATED_SHARE = 0.03
GATE = 0.95


class Arm(NamedTuple):
    """What is done beside the optimiser.

    Attributes:
      noise: where it stands.
      gate: the share of the draws that give none.
      bound: a number, or whether it is fixed after a tenth of the steps or follows the
        norms.
      is_sam: whether the gradient is that of SAM, in half the steps.
      rate: times the learning rate that was chosen for `alone`; None if it is tuned.
    """

    noise: Literal["none", "before", "behind"] = "none"
    gate: float = 0.0
    bound: float | Literal["fixed", "follows"] = np.inf
    is_sam: bool = False
    rate: float | None = None


ARMS = {
    "alone": Arm(),
    "inflated, truncated": Arm("before", bound="fixed"),
    "behind": Arm("behind", bound="fixed"),
    "jumps": Arm("behind", GATE, bound="fixed"),
    "truncated": Arm(bound="fixed"),
    "inflated": Arm("before"),
    "inflated, adaptive": Arm("before", bound="follows"),
    "sam": Arm(is_sam=True),
    "slow": Arm(rate=1 / 3),
    "slower": Arm(rate=1 / 10),
}


class Hyper(NamedTuple):
    """What is tuned."""

    learning_rate: Any
    weight_decay: Any


class Family(NamedTuple):
    """An optimiser, what is tried with it, and how long its momentum keeps a gradient."""

    make: Callable[[Callable, Any, tasks.Task], optax.GradientTransformation]
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    memory: float


def _sgd(rate: Callable, decay: Any, task: tasks.Task) -> Any:
    del task
    return optax.chain(
        optax.trace(0.9),
        optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(rate),
    )


def _adamw(rate: Callable, decay: Any, task: tasks.Task) -> Any:
    del task
    return optax.adamw(rate, weight_decay=decay)


def _muon(rate: Callable, decay: Any, task: tasks.Task) -> Any:
    return optax.contrib.muon(
        rate,
        weight_decay=decay,
        adam_weight_decay=decay,
        adam_learning_rate=lambda step: 0.1 * rate(step),
        muon_weight_dimension_numbers=task.matrices,
    )


OPTIMIZERS = {
    "AdamW": Family(_adamw, (3e-4, 1e-3, 3e-3), (0.0, 0.1), 10.0),
    "SGD": Family(_sgd, (0.01, 0.03, 0.1), (0.0, 5e-4), 10.0),
    "Muon": Family(_muon, (0.003, 0.01, 0.03), (0.0, 0.1), 20.0),
}


def num_steps(task: tasks.Task, arm: Arm) -> int:
    """Those of a run: a step of SAM costs two."""
    return task.steps // 2 if arm.is_sam else task.steps


def schedule(steps: int) -> Callable:
    """5 % of linear warm-up, then a cosine to zero; at most one."""
    warm = max(1, steps // 20)
    return optax.warmup_cosine_decay_schedule(1.0 / warm, 1.0, warm, steps, 0.0)


class Program(NamedTuple):
    """Start and step of one arm."""

    init: Callable[[Any], Any]
    step: Callable[[Any, Any, jax.Array, Any, jax.Array], tuple[Any, Any, jax.Array]]


def program(
    task: tasks.Task, optimizer: str, arm: Arm, hyper: Hyper, key: jax.Array
) -> Program:
    """An arm with its numbers; `key` is that of the noise."""
    family, steps = OPTIMIZERS[optimizer], num_steps(task, arm)
    shape = schedule(steps)
    inner = family.make(
        lambda step: hyper.learning_rate * shape(step), hyper.weight_decay, task
    )
    tail = hto.tails.pareto(ALPHA)

    def falling(scale: float) -> Callable:
        return lambda step: jnp.where(step < 4 * steps // 5, scale, 0.0)

    if arm.noise == "behind":
        inner = hto.inflate_preconditioned_noise(
            inner, tail, falling(family.memory), key=key, inflate_above=arm.gate
        )
    # No earlier than the first hundred steps, in which the bound is searched.
    fixed_after = max(100, steps // 10)
    bound = {
        "fixed": hto.adaptive_max_norm(TRUNCATED_SHARE, freeze_after=fixed_after),
        "follows": hto.adaptive_max_norm(TRUNCATED_SHARE),
    }.get(arm.bound, arm.bound)
    chain = optax.chain(inner, hto.truncate_update_norm(bound))
    inflated = hto.tail_inflated_grad(task.unit_losses, tail, falling(1.0))
    split = hto.value_grad_and_noise(task.unit_losses)

    def plain(params: Any, batch: Any) -> Any:
        return jax.grad(lambda p: task.unit_losses(p, batch).mean())(params)

    def step(params, state, key, batch, number):
        extra = {}
        if arm.noise == "before":
            grad = inflated(key, params, batch, step=number)
        elif arm.noise == "behind":
            _, grad, extra["gradient_noise"] = split(key, params, batch)
        else:
            grad = plain(params, batch)
        if arm.is_sam:
            length = jnp.maximum(optax.tree.norm(grad), 1e-12)
            away = optax.tree.add_scale(params, SAM_RADIUS / length, grad)
            grad = plain(away, batch)
        updates, state = chain.update(grad, state, params, **extra)
        norms = jnp.stack(
            [optax.tree.get(state, "update_norm"), optax.tree.norm(updates)]
        )
        return optax.apply_updates(params, updates), state, norms

    return Program(chain.init, step)
