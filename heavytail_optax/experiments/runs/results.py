"""How far a method came."""

import math
from typing import Literal, NamedTuple

from heavytail_optax.experiments.methods import METHODS, MethodName
from heavytail_optax.experiments.training.trainer import Metrics


class MethodResult(NamedTuple):
    """One method of a job."""

    method: MethodName
    status: Literal["finished", "interrupted", "diverged"]
    history: tuple[Metrics, ...]  # in the order of the steps
    diverged_at: int | None = None  # step of the first loss that is not finite

    @property
    def label(self) -> str:
        """The method's name with that of the paper's tables."""
        return METHODS[self.method].label

    @property
    def outcome(self) -> str:
        """In words: "finished", "interrupted" or "diverged at step 1,204"."""
        if self.diverged_at is None:
            return self.status
        return f"diverged at step {self.diverged_at:,}"

    @property
    def finite_history(self) -> tuple[Metrics, ...]:
        """The metrics up to the divergence, if there was one."""
        return tuple(
            metrics for metrics in self.history if math.isfinite(metrics.train_loss)
        )
