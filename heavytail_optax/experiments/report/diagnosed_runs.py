"""What `heavytail diagnose` shows of a run: tails, norms over training, a proposal."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.measures.gradient_noise import (
    ALL,
    NoiseDraws,
    Size,
    noise_arguments,
)
from heavytail_optax.experiments.measures.noise_record import read_noise
from heavytail_optax.experiments.measures.noise_tails import LayerTail, assess_noise
from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.tail_index import ProposedSettings, propose_settings


class NormHistory(NamedTuple):
    """Norms over training, each entry of the steps up to one step."""

    what: str
    steps: np.ndarray
    median: np.ndarray
    largest: np.ndarray


class DiagnosedRun(NamedTuple):
    """A run whose noise has been measured.

    Attributes:
      settings: of the run, which has one method.
      label: for people to read.
      batch_size: images of the batches whose noise was measured.
      draws: of the noise at the end of the run.
      tails: of these.
      history: norms over the run.
      proposal: of settings for tail inflation; None where the norms are of no use.
    """

    settings: Settings
    label: str
    batch_size: int
    draws: NoiseDraws
    tails: list[LayerTail]
    history: NormHistory
    proposal: ProposedSettings | None

    @property
    def method(self) -> MethodName:
        """The one method."""
        return self.settings.method.method

    def tail(self, size: Size, layer: str = ALL) -> LayerTail:
        """The tail of one size of one layer."""
        (found,) = (t for t in self.tails if (t.size, t.layer) == (size, layer))
        return found


def first_seeds(runs: Sequence[DiagnosedRun]) -> list[DiagnosedRun]:
    """The first run of each method, which are few enough to be told apart."""
    first: dict[str, DiagnosedRun] = {}
    for run in runs:
        first.setdefault(run.method, run)
    return list(first.values())


def diagnosed_runs(
    runs: Sequence[Run], draws: int, batch_size: int | None, truncated_share: float
) -> list[DiagnosedRun]:
    """Those of the finished runs whose noise is kept, in their order."""
    found = []
    for run in runs:
        wanted = noise_arguments(run.settings, draws, batch_size)
        kept = read_noise(run.paths.noise_of(**wanted))
        if kept is not None:
            noise, arguments = kept
            found.append(_of_run(run, noise, arguments, truncated_share))
    return found


def _of_run(
    run: Run, draws: NoiseDraws, arguments: dict[str, int], share: float
) -> DiagnosedRun:
    metrics = read_metrics(run.paths.metrics)
    history = NormHistory(
        "norm of the update",
        np.asarray([row.step for row in metrics]),
        np.asarray([row.update_norm for row in metrics]),
        np.asarray([row.largest_update_norm for row in metrics]),
    )
    return DiagnosedRun(
        run.settings,
        run.label,
        arguments["batch_size"],
        draws,
        assess_noise(draws),
        history,
        _propose(draws.of("norm"), draws.gradient_norms, run.settings, share),
    )


def _propose(
    noise: np.ndarray, gradient: np.ndarray, settings: Settings, share: float
) -> ProposedSettings | None:
    is_of_use = np.isfinite(noise).all() and np.isfinite(gradient).all() and noise.any()
    if not is_of_use or noise.size < 10:
        return None
    return propose_settings(
        jnp.asarray(noise),
        jnp.asarray(gradient),
        settings.training.learning_rate,
        alpha=settings.method.alpha,
        truncated_share=share,
    )
