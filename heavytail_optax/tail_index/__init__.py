"""Estimators of the tail index, each with its error bar."""

from heavytail_optax.tail_index._characteristic_function import (
    StableFit,
    characteristic_function,
)
from heavytail_optax.tail_index._choice_by_bootstrap import choose_k_by_bootstrap
from heavytail_optax.tail_index._choice_by_distance import choose_k_by_distance
from heavytail_optax.tail_index._choice_of_k import ChosenK
from heavytail_optax.tail_index._comparison import (
    TailFit,
    compare_fits,
)
from heavytail_optax.tail_index._extended_pareto import (
    extended_pareto,
)
from heavytail_optax.tail_index._extremal_index import (
    ExtremalIndex,
    extremal_index,
)
from heavytail_optax.tail_index._finite_moment import (
    FiniteMoment,
    finite_moment_test,
)
from heavytail_optax.tail_index._generalised_pareto import (
    GeneralisedPareto,
    generalised_pareto,
)
from heavytail_optax.tail_index._goodness import (
    GoodnessOfFit,
    HillDrift,
    goodness_of_fit,
    hill_drift,
)
from heavytail_optax.tail_index._hill import (
    HillPath,
    hill,
    hill_path,
)
from heavytail_optax.tail_index._kernel import (
    kernel_hill,
)
from heavytail_optax.tail_index._log_moment import (
    LogMoment,
    log_moment,
)
from heavytail_optax.tail_index._moment import (
    moment_estimator,
)
from heavytail_optax.tail_index._noise_scale import (
    GradientNoiseScale,
    gradient_noise_scale,
)
from heavytail_optax.tail_index._pickands import (
    pickands,
)
from heavytail_optax.tail_index._plots import (
    plot_hill,
    plot_mean_excess,
    plot_moment,
    plot_pareto_qq,
)
from heavytail_optax.tail_index._result import (
    TailIndex,
)
from heavytail_optax.tail_index._settings import (
    ProposedSettings,
    propose_settings,
)
from heavytail_optax.tail_index._ties import (
    num_tied,
)
from heavytail_optax.tail_index._tracked_estimates import (
    tracked_extremal_index,
    tracked_noise_scale,
    tracked_tail_index,
)
from heavytail_optax.tail_index._tracked_verdicts import (
    assess_tracked,
)
from heavytail_optax.tail_index._tracking import (
    TrackTailIndexState,
    track_tail_index,
)
from heavytail_optax.tail_index._truncated_pareto import (
    TruncatedPareto,
    truncated_pareto,
)
from heavytail_optax.tail_index._verdict import (
    TailAssessment,
    assess_tail,
)

__all__ = (
    "ChosenK",
    "ExtremalIndex",
    "FiniteMoment",
    "GeneralisedPareto",
    "GoodnessOfFit",
    "GradientNoiseScale",
    "HillDrift",
    "HillPath",
    "LogMoment",
    "ProposedSettings",
    "StableFit",
    "TailAssessment",
    "TailFit",
    "TailIndex",
    "TrackTailIndexState",
    "TruncatedPareto",
    "assess_tail",
    "assess_tracked",
    "characteristic_function",
    "choose_k_by_bootstrap",
    "choose_k_by_distance",
    "compare_fits",
    "extended_pareto",
    "extremal_index",
    "finite_moment_test",
    "generalised_pareto",
    "goodness_of_fit",
    "gradient_noise_scale",
    "hill",
    "hill_drift",
    "hill_path",
    "kernel_hill",
    "log_moment",
    "moment_estimator",
    "num_tied",
    "pickands",
    "plot_hill",
    "plot_mean_excess",
    "plot_moment",
    "plot_pareto_qq",
    "propose_settings",
    "track_tail_index",
    "tracked_extremal_index",
    "tracked_noise_scale",
    "tracked_tail_index",
    "truncated_pareto",
)
