"""Expected, PAC-Bayes and maximal sharpness.

The expected sharpness is of the loss. The other two search for the largest perturbation
that the training accuracy tolerates, as in Jiang et al. 2020: the deviation is the share
of images that it classifies wrongly. That share has no gradient, so the ascent of the
maximal sharpness is on the cross-entropy.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

import heavytail_optax as hto

from ...programs import compiled
from ..measure import (
    Arguments,
    Loss,
    Measure,
    Measurement,
    Tick,
    TrainedNetwork,
    without_progress,
)

# The loss without perturbation is computed again in each block: a tenth more work.
_SAMPLES_A_BLOCK = 10
_BOUNDS = {"lower": 1e-5, "upper": 10.0, "tolerance": 0.01}


class SampleBlock(NamedTuple):
    """Mean and its standard error over a block of samples."""

    samples: int
    mean: float
    standard_error: float  # NaN for a single sample


def pool(blocks: Sequence[SampleBlock]) -> tuple[float, float]:
    """Mean and its standard error over the samples of all blocks."""
    count = sum(block.samples for block in blocks)
    mean = sum(block.samples * block.mean for block in blocks) / count
    between = sum(block.samples * (block.mean - mean) ** 2 for block in blocks)
    within = sum(
        block.samples * (block.samples - 1) * block.standard_error**2
        for block in blocks
        if block.samples > 1
    )
    return mean, math.sqrt((between + within) / (count * (count - 1)))


def _expected(
    network: TrainedNetwork, arguments: Arguments, tick: Tick
) -> Measurement | None:
    blocks: list[SampleBlock] = []
    total = arguments["num_samples"]
    for done in range(0, total, _SAMPLES_A_BLOCK):
        if tick(done, total):
            return None
        samples = min(_SAMPLES_A_BLOCK, total - done)
        mean, error = _compiled(network.loss, samples)(
            network.params,
            key=jax.random.fold_in(network.key, done),
            args=network.args,
            stddev=arguments["stddev"],
        )
        blocks.append(SampleBlock(samples, float(mean), float(error)))
    return Measurement({"expected_sharpness": pool(blocks)})


@functools.lru_cache(maxsize=4)
def _compiled(
    loss: Loss, samples: int
) -> "Callable[..., hto.flatness.ExpectedSharpness]":
    """A block of samples, shared by the runs of a grid."""
    counts = {"num_samples": samples, "samples_at_once": 1}
    return compiled(functools.partial(hto.flatness.expected_sharpness, loss, **counts))


EXPECTED = Measure(
    name="expected",
    summary="mean change of the loss under normal noise on the weights",
    scalars=("expected_sharpness",),
    arguments=lambda settings, options: {
        "stddev": settings.measuring.sharpness_stddev,
        "num_samples": options.samples_of(settings),
    },
    compute=_expected,
)


def _pac_bayes(network: TrainedNetwork, arguments: Arguments) -> Measurement:
    of_error = dataclasses.replace(network, loss=network.error)
    options = {**arguments, "samples_at_once": 1}
    found = of_error.apply(hto.flatness.pac_bayes_sharpness, **options)
    value, error = float(found.sharpness), float(found.standard_error)
    return Measurement(
        {"pac_bayes_sharpness": (value, error)},
        {"pac_bayes": {"sigma": [float(found.sigma)]}},
        _bound_remark(found, "noise of standard deviation"),
    )


PAC_BAYES = Measure(
    name="pac-bayes",
    summary="1/sigma^2 of the normal noise at which training accuracy falls by --target",
    scalars=("pac_bayes_sharpness",),
    arguments=lambda settings, options: {
        "target": options.target,
        **_BOUNDS,
        "num_samples": options.samples_of(settings),
        "signed": True,
    },
    compute=without_progress(_pac_bayes),
)


def _maximal(network: TrainedNetwork, arguments: Arguments) -> Measurement:
    options = {**arguments, "deviation_fn": network.error}
    found = network.apply(hto.flatness.maximal_sharpness, **options)
    return Measurement(
        {"maximal_sharpness": (float(found.sharpness), None)},
        {"maximal": {"radius": [float(found.radius)]}},
        _bound_remark(found, "a ball of radius"),
    )


MAXIMAL = Measure(
    name="maximal",
    summary="1/alpha^2 of the largest ball in which it falls by at most --target",
    scalars=("maximal_sharpness",),
    arguments=lambda _, options: {
        "target": options.target,
        **_BOUNDS,
        "num_steps": 20,
        "step_size": 2.0,
        "num_restarts": 1,
    },
    compute=without_progress(_maximal),
)


def _bound_remark(
    found: "hto.flatness.PacBayesSharpness | hto.flatness.MaximalSharpness", what: str
) -> str:
    if found.search.hit_upper:
        return f"less than shown: even {what} {_BOUNDS['upper']:g} is tolerated"
    if found.search.hit_lower:
        return f"more than shown: even {what} {_BOUNDS['lower']:g} is not tolerated"
    return ""
