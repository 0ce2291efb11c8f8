"""The command `heavytail exit-times`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from heavytail_optax.laboratory.options import (
    DEFAULT_NOISE,
    NoiseOptions,
    check_range,
    parse,
    prepare_directory,
    save_figure,
    table,
    warnings_told,
)

if TYPE_CHECKING:
    from rich.console import Console

    from heavytail_optax.dynamics import ExitRates
    from heavytail_optax.laboratory.exit_points import ExitPoint


@dataclasses.dataclass(frozen=True)
class ExitTimesCommand:
    """Measure exit times against the learning rate, with the theory beside them.

    Chains of truncated heavy-tailed SGD start at a minimum of the paper's landscape, and
    the mean number of steps until they leave its field is measured: by simulation where
    that is possible, and by the rare-event estimator, whose cost does not grow, at
    smaller learning rates. Theory says that it grows like eta^-(alpha + (l-1)(alpha-1))
    if l steps of at most b are needed to leave.

    Ends with a table and a picture. The default takes about a minute on two cores.

    Attributes:
      fields: Fields to leave, from 0 to 3: 0 and 2 are narrow, 1 and 3 wide.
      learning_rates: eta of the simulations, each below 4.48e-3.
      rare_learning_rates: eta of the estimator.
      exits: Chains at each learning rate, one exit each.
      samples: Paths of the estimator.
      seed: Of the noise.
      directory: Where the picture goes.
    """

    noise: NoiseOptions = DEFAULT_NOISE
    fields: tuple[int, ...] = (0, 1)
    learning_rates: tuple[float, ...] = (1e-3, 5e-4)
    rare_learning_rates: tuple[float, ...] = (1e-4, 1e-6, 1e-8)
    exits: int = 200
    samples: int = 20_000
    seed: int = 0
    directory: pathlib.Path = pathlib.Path("laboratory")

    def __post_init__(self) -> None:
        for field in self.fields:
            check_range("fields", field, "from 0 to 3", -1, 4)
        for eta in (*self.learning_rates, *self.rare_learning_rates):
            check_range("learning_rates", eta, "between 0 and .00448", 0.0, 4.48e-3)
        check_range("fields", len(self.fields), "at least one field", 0)
        check_range("exits", self.exits, "at least 10", 9)
        check_range("samples", self.samples, "at least 10", 9)
        check_range("seed", self.seed, "at least 0", -1)


def run(arguments: Sequence[str], program: str) -> int:
    """Parses the arguments of `heavytail exit-times` and runs it."""
    command = parse(ExitTimesCommand, arguments, program)
    try:
        prepare_directory(command.directory)
        _measure(command)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(command: ExitTimesCommand) -> None:
    # These load JAX, SciPy and Matplotlib, which takes seconds.
    from rich.console import Console

    from heavytail_optax.laboratory.exit_points import (
        default_rates,
        direct_point,
        rare_point,
    )
    from heavytail_optax.laboratory.exit_times_figure import draw_exit_times

    console, noise = Console(), command.noise
    rates = default_rates(noise.alpha, noise.scale, noise.max_norm)
    for note in rates.notes:
        console.print(note)
    points = []
    for field in command.fields:
        for eta in command.learning_rates:
            console.print(f"Simulating field {field} at eta = {eta:g}")
            points.append(
                direct_point(
                    *(rates, field, eta), seed=command.seed, num_exits=command.exits
                )
            )
        for eta in command.rare_learning_rates:
            console.print(f"Estimating field {field} at eta = {eta:g}")
            with warnings_told(lambda text: console.print(text, highlight=False)):
                point = rare_point(
                    *(rates, field, eta), seed=command.seed, num_samples=command.samples
                )
            points.append(point)
    _report(console, rates, points)
    title = (
        f"alpha = {noise.alpha:g}, scale = {noise.scale:g}, b = {noise.max_norm:g}; "
        f"{command.exits} exits simulated, {command.samples:,} paths estimated"
    )
    figure = draw_exit_times(rates, points, title)
    path = save_figure(command.directory, "exit_times.png", figure)
    console.print(f"Written: {path}", highlight=False, soft_wrap=True)


def _report(
    console: "Console", rates: "ExitRates", points: Sequence["ExitPoint"]
) -> None:
    from heavytail_optax.experiments.report.number_format import format_number
    from heavytail_optax.laboratory.exit_points import measured_slope

    rows = []
    for point in points:
        ratio, low, high = point.ratio
        is_direct = point.exits is not None
        rows.append(
            [
                f"{point.field}",
                f"{point.learning_rate:.3g}",
                f"{point.exits} exits" if is_direct else "paths",
                format_number(point.mean),
                format_number(point.theory),
                f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
                format_number(point.epsilon, 2),
                "" if point.p_value is None else f"{point.p_value:.3f}",
            ]
        )
    headings = [
        *("field", "eta", "by", "mean\nsteps", "theory"),
        *("ratio,\n95% interval", "epsilon", "p-value"),
    ]
    console.print()
    console.print(table(headings, rows))
    console.print(
        "\nThe ratio is measured / theory. epsilon: about .04 or less is near the limit.\n"
        "p-value: of exponential times, by Kolmogorov-Smirnov with the mean estimated."
    )
    for field in sorted({point.field for point in points}):
        own = [point for point in points if point.field == field]
        censored = sum(point.censored for point in own)
        if censored:
            console.print(
                f"Field {field}: {censored} chains had not left by the limit."
            )
        seen = [p for p in own if p.exits != 0]
        alpha = float(rates.tail.tail_index)
        theory = -alpha - (rates.jumps[field] - 1) * (alpha - 1.0)
        for name, chosen in (
            ("simulated", [p for p in seen if p.exits is not None]),
            ("estimated", [p for p in seen if p.exits is None]),
        ):
            if len({point.learning_rate for point in chosen}) > 1:
                slope, error = measured_slope(chosen)
                console.print(
                    f"Field {field}: slope on log scales, {name}: "
                    f"{slope:.3f} ± {format_number(error, 2)}; theory {theory:.3f}."
                )
