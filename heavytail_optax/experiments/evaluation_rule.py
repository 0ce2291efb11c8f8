"""How often a run is evaluated, where nobody says so."""

import decimal
import math

_AT_MOST_EVERY = 100
_FEWEST = 10


def default_evaluation_steps(images: int, batch_size: int, steps: int) -> int:
    """Number of steps from one evaluation to the next.

    The rule counts images, not seconds: every machine evaluates the same steps.
    """
    # Without a gradient an image costs about a third of what it costs in a step.
    cost = images / (3 * batch_size)
    rounding = decimal.Context(2, decimal.ROUND_CEILING)
    every = max(_AT_MOST_EVERY, int(rounding.create_decimal(10 * cost)))
    if steps < _FEWEST * _AT_MOST_EVERY:
        # A curve of one point shows nothing, and a short run is soon over.
        often = math.ceil(steps / _FEWEST)
        every = min(every, max(often, math.ceil(2 * cost)))
    return every
