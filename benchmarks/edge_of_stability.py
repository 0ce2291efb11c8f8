r"""Sharpness along training: where methods stand against 2/eta, and what jumps do to it.

The LeNet on corrupted FashionMNIST, as in `heavytail train --follow-sharpness 20`: the
critical sharpness along the gradient, on 300 training images. Runs that are done are
skipped, so that the same command goes on.

    python benchmarks/edge_of_stability.py --out edge_of_stability.csv \
        --picture edge_of_stability.png --directory grids/edge-of-stability --seeds 5

Three parts, each with numbers over the seeds:

edge: sharpness times eta / 2, which is 1 at the edge of stability.
jumps: by how much the logarithm of the sharpness changes after a large jump. A window of
  20 steps has one where the largest factor W drawn in it is among the largest tenth of
  all windows. All other windows are the comparison. W does not depend on the weights, so
  the difference is what the jump does, not what made it likely. For methods without
  W, the same draws are a control that must show nothing.
agreement: critical sharpness against the top eigenvalue along a run, and what each costs.
"""

import argparse
import math
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import result_file
from matplotlib.figure import Figure
from rich.console import Console
from study import VGG_SETTINGS

import heavytail_optax as hto
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHODS
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.report.style import save_figure, styled
from heavytail_optax.experiments.report.training import (
    draw_sharpness,
    sharpness_table,
)
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.result import RunResult, read_result
from heavytail_optax.experiments.runs.run import cached_loader, carry_out
from heavytail_optax.experiments.terminal import Progress
from heavytail_optax.experiments.training.batches import random_streams

PRESET = "corrupted-fashion-mnist"
METHODS_FOLLOWED = ("sgd", "sgd-truncated", "balanced", "balanced-untruncated")
EVERY = 20
LAGS = (1, 2, 5, 10, 25)  # windows after the jump; the first ends with that of the jump
LARGE = 0.9  # the quantile of the largest W of a window above which it has a jump
EDGE = {
    "steps": 2000,
    "test_examples": 1000,
    "eval_every": 1000,
    "follow_sharpness": EVERY,
    "followed_images": 300,
}
BOTH = {"followed_measures": ("critical", "eigenvalue")}
AGREEMENT = {**EDGE, **BOTH, "steps": 1000, "follow_sharpness": 50}
AGREEMENT_VGG = {
    **EDGE,
    **BOTH,
    **VGG_SETTINGS,
    "steps": 200,
    "eval_every": 200,
    "follow_sharpness": 25,
    "followed_images": 100,
}
# Gradient descent, which the theory of the edge is about.
DESCENT = {**EDGE, "steps": 500}


class Part(NamedTuple):
    """Some runs with the same settings."""

    name: str
    methods: tuple[str, ...]
    changed: dict[str, Any]
    seeds: int | None = None  # None for as many as are asked for


PARTS = (
    Part("edge", METHODS_FOLLOWED, EDGE),
    Part("agreement-lenet", ("sgd", "balanced"), AGREEMENT, 1),
    Part("agreement-vgg11", ("sgd", "balanced"), AGREEMENT_VGG, 1),
    Part("descent", ("sgd-large-batch",), DESCENT, 1),
)


def runs(
    directory: pathlib.Path, seeds: int, changed: dict[str, Any]
) -> Iterator[tuple[Part, Run]]:
    """All runs, the first seed of each part first."""
    for seed in range(seeds):
        for part in PARTS:
            if part.seeds is not None and seed >= part.seeds:
                continue
            for method in part.methods:
                values = {**part.changed, **changed, "method": method, "seed": seed}
                settings = replaced(PRESETS[PRESET].settings, **values)
                place = directory / part.name / method / f"seed-{seed}"
                yield part, Run(method, place, settings)


def factors(seed: int, steps: int, alpha: float) -> np.ndarray:
    """The Pareto factor W that the balanced scheme draws in each step of a run."""
    # With one loss of slope 1 and one of slope -1, the gradient is W or -W.
    gradient = hto.tail_inflated_grad(
        lambda slope, batch: slope * batch, hto.tails.pareto(alpha), 1.0
    )
    key = random_streams(seed).inflation
    batch = jnp.array([1.0, -1.0])

    def of_step(step: jax.Array) -> jax.Array:
        return gradient(jax.random.fold_in(key, step), 1.0, batch, step=step)

    return np.abs(np.asarray(jax.jit(jax.vmap(of_step))(jnp.arange(steps))))


def critical(result: RunResult) -> pd.Series:
    """The critical sharpness by step."""
    rows = [(row.step, row.critical_sharpness) for row in result.followed]
    return pd.DataFrame(rows, columns=["step", "value"]).set_index("step")["value"]


def edge_of(run: Run, result: RunResult) -> dict[str, float]:
    """Where a run stands against 2/eta, in the second half of its noisy steps and after."""
    noisy = run.settings.method.noisy_steps(run.settings.training.steps)
    relative = critical(result) * run.settings.training.learning_rate / 2
    middle = relative[(relative.index > noisy / 2) & (relative.index <= noisy)]
    end = relative[relative.index > (noisy + run.settings.training.steps) / 2]
    return {
        "geometric mean, noisy half": math.exp(np.nanmean(np.log(middle))),
        "largest, noisy half": float(np.nanmax(middle)),
        "share above 1, noisy half": float((middle > 1).mean()),
        "geometric mean, end": math.exp(np.nanmean(np.log(end))),
    }


def jumps_of(run: Run, result: RunResult) -> dict[str, float]:
    """Change of log sharpness after a jump, less that of the windows without one."""
    settings = run.settings
    every = settings.following.follow_sharpness
    noisy = settings.method.noisy_steps(settings.training.steps)
    logs = np.log(critical(result).to_numpy())[: noisy // every + 1]
    drawn = factors(settings.seed, noisy, settings.method.alpha)
    windows = drawn[: noisy // every * every].reshape(-1, every).max(axis=1)
    # The first tenth is the fall from the first weights.
    first = len(windows) // 10
    has_jump = windows > np.quantile(windows, LARGE)
    found = {"before": _difference(logs[first : len(windows)], has_jump[first:])}
    for lag in LAGS:
        last = len(logs) - lag
        if last <= first:  # a run that only tries it
            continue
        change = logs[first + lag :] - logs[first:last]
        found[f"after {lag * every} steps"] = _difference(change, has_jump[first:last])
    return found


def _difference(values: np.ndarray, has_jump: np.ndarray) -> float:
    return float(np.nanmean(values[has_jump]) - np.nanmean(values[~has_jump]))


def agreement_of(run: Run, result: RunResult) -> dict[str, float]:
    """Critical sharpness against the top eigenvalue, after the first tenth and in all."""
    table = pd.DataFrame(result.followed).set_index("step")
    logs = np.log(table[["critical_sharpness", "top_eigenvalue"]]).dropna()
    later = logs[logs.index >= run.settings.training.steps / 10]
    ratio = np.exp(later["critical_sharpness"] - later["top_eigenvalue"])
    return {
        "measurements": len(logs),
        "correlation of logarithms": logs.corr().iloc[0, 1],
        "correlation of logarithms, later": later.corr().iloc[0, 1],
        "rank correlation, later": later.corr("spearman").iloc[0, 1],
        "median of critical / eigenvalue, later": ratio.median(),
        "losses a search": table["critical_losses"].mean(),
        "largest residual / eigenvalue": (
            table["top_eigenvalue_residual"] / table["top_eigenvalue"]
        ).max(),
    }


QUANTITIES = {
    "edge": (("edge", edge_of), ("jumps", jumps_of)),
    "descent": (("descent", edge_of),),
    "agreement-lenet": (("agreement, lenet", agreement_of),),
    "agreement-vgg11": (("agreement, vgg11", agreement_of),),
}


def rows_of(found: list[tuple[Part, Run, RunResult]]) -> list[dict[str, Any]]:
    """A row a quantity of a method: mean and standard error over the seeds."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for part, run, result in found:
        if result.status != "finished":
            continue
        for name, quantities in QUANTITIES[part.name]:
            for quantity, value in quantities(run, result).items():
                values.setdefault((name, run.method, quantity), []).append(value)
    return [
        {
            "part": part,
            "method": method,
            "quantity": quantity,
            "seeds": len(own),
            "mean": statistics.fmean(own),
            "standard_error": statistics.stdev(own) / len(own) ** 0.5
            if len(own) > 1
            else "",
        }
        for (part, method, quantity), own in values.items()
    ]


@styled
def draw(found: list[tuple[Part, Run, RunResult]]) -> Figure:
    """Sharpness over the steps, after jumps, and the two measures beside each other."""
    figure = Figure(figsize=(15, 4.8))
    over_steps, after, beside = figure.subplots(1, 3)
    found = [each for each in found if each[2].status == "finished"]
    of_edge = [(run, each) for part, run, each in found if part.name == "edge"]
    handles = draw_sharpness(
        over_steps, "critical_sharpness", sharpness_table([x for _, x in of_edge])
    )
    rows = pd.DataFrame(rows_of(found))
    jumps = rows[rows["part"] == "jumps"]
    for shift, (method, own) in enumerate(jumps.groupby("method", sort=False)):
        colour = METHODS[method].colour
        errors = 2 * pd.to_numeric(own["standard_error"]).fillna(0.0)
        at = np.arange(len(own)) + 0.1 * shift
        style = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2}
        after.errorbar(at, own["mean"], errors, linestyle="none", **style)
    names = ["before", *(str(lag * EVERY) for lag in LAGS)]
    after.set_xticks(range(len(names)), names)
    after.axhline(0.0, color="0.5", linewidth=0.8)
    after.set_xlabel("steps after")
    after.set_title("Log sharpness after a large jump (2 s.e.)")
    marks = {"agreement-lenet": "o", "agreement-vgg11": "^"}
    for part, run, result in found:
        if part.name in marks:
            table = pd.DataFrame(result.followed)
            style = {"color": METHODS[run.method].colour, "markersize": 4}
            beside.plot(
                table["top_eigenvalue"],
                table["critical_sharpness"],
                linestyle="none",
                marker=marks[part.name],
                **style,
            )
    beside.set(xscale="log", yscale="log", xlabel="largest eigenvalue")
    ends = beside.get_ylim()
    beside.plot(ends, ends, color="0.5", linewidth=0.8)
    beside.set_title("Critical sharpness (dots: LeNet; triangles: VGG11)")
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--picture", type=pathlib.Path)
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--data-dir", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="fewer, to try it")
    parser.add_argument("--runs", type=int, help="stop after so many")
    parser.add_argument("--only-done", action="store_true", help="train no run")
    arguments = parser.parse_args()
    changed = {} if arguments.steps is None else {"steps": arguments.steps}
    load = cached_loader(arguments.data_dir)
    progress = Progress(Console(quiet=True))
    found = []
    planned = runs(arguments.directory, arguments.seeds, changed)
    for part, run in [*planned][: arguments.runs]:
        result = read_result(run)
        if not result.is_done and not arguments.only_done:
            result = carry_out(run, PRESET, "edge_of_stability.py", progress, load)
            print(f"{part.name}, {run.label}: {result.how_it_ended}", flush=True)
        found.append((part, run, result))
    rows = rows_of(found)
    for row in rows:
        print(row)
    result_file.write(arguments.out, rows, 1)
    if arguments.picture is not None:
        save_figure(draw(found), arguments.picture)


if __name__ == "__main__":
    main()
