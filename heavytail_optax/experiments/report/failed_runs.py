"""Runs that came to their last step with a finite loss, and yet did not learn.

Without truncation a jump may leave all ReLUs off: the accuracy is that of guessing, and
the loss hardly changes under a perturbation, so that the run looks flat.
"""

import statistics
from collections.abc import Mapping, Sequence

from heavytail_optax.experiments.methods import MethodName
from heavytail_optax.experiments.runs.result import RunResult

_FAR_BELOW = 0.1
_TIMES_CHANCE = 2.0  # some data have a class that is twice as common as the others


def failed_runs(cells: Sequence[RunResult]) -> Mapping[tuple[MethodName, int], str]:
    """The finished runs whose training accuracy is no success.

    Example:
      >>> from heavytail_optax.experiments.runs.result import RunResult
      >>> cells = [
      ...     RunResult("sgd", seed, "finished", 10, 10, accuracy, classes=10)
      ...     for seed, accuracy in enumerate((1.0, 0.99, 0.76, 0.1, 0.98))
      ... ]
      >>> failed_runs(cells)
      {('sgd', 2): 'far below the others', ('sgd', 3): 'at chance'}
    """
    accuracies = {
        (cell.method, cell.seed): (cell.train_accuracy, cell.classes)
        for cell in cells
        if cell.status == "finished" and cell.train_accuracy is not None
    }
    if not accuracies:
        return {}
    median = statistics.median(accuracy for accuracy, _ in accuracies.values())
    found = {}
    for run, (accuracy, classes) in accuracies.items():
        if classes is not None and accuracy <= _TIMES_CHANCE / classes:
            found[run] = "at chance"
        elif accuracy <= median - _FAR_BELOW:
            found[run] = "far below the others"
    return found
