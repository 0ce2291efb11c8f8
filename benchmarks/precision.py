"""Training in bfloat16 beside float32: do the loss curves match within the seeds' spread?

LeNet and VGG11 (width 0.25) on corrupted FashionMNIST, by plain SGD and by `balanced`
inflation with truncation. With the same seed, both precisions have the same initial
weights, batches and factors. A row is a model, a method and a step: the training loss on
all images in float32, its spread between seeds, and the mean of the differences between
the precisions, seed by seed, with its standard error. The loss is compared as a
logarithm, since it falls by powers of ten.

    python benchmarks/precision.py --out benchmarks/results/precision.csv

Finished runs in --directory are not made again.
"""

import argparse
import pathlib
from typing import Any

import numpy as np
import pandas as pd
import result_file
from rich.console import Console
from study import PRESET, VGG_SETTINGS

from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.runs.grid import Run
from heavytail_optax.experiments.runs.run import cached_loader, carry_out
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.terminal import Progress

POINTS = 10  # of each curve
MODELS: dict[str, dict[str, Any]] = {
    "lenet": {"steps": 2000},
    "vgg11": {**VGG_SETTINGS, "steps": 1000},
}
METHODS = "sgd", "balanced"
PRECISIONS = "float32", "bfloat16"


def settings_of(model: str, method: str, precision: str, seed: int) -> Settings:
    """Those of the study's preset, but for these and the number of steps."""
    own = {**MODELS[model], "method": method, "precision": precision, "seed": seed}
    own["eval_every"] = own["steps"] // POINTS
    return replaced(PRESETS[PRESET].settings, **own)


def curves(
    directory: pathlib.Path, model: str, method: str, precision: str, seeds: int
) -> pd.DataFrame:
    """Logarithm of the training loss: a row a step, a column a seed."""
    load, progress = cached_loader(None), Progress(Console(quiet=True))
    found = {}
    for seed in range(seeds):
        place = directory / f"{model}-{precision}" / method / f"seed-{seed}"
        run = Run(method, place, settings_of(model, method, precision, seed))
        result = carry_out(run, PRESET, "benchmarks/precision.py", progress, load)
        print(f"{model}, {method}, {precision}, seed {seed}", result.train_loss)
        found[seed] = {row.step: np.log(row.train_loss) for row in result.history}
    return pd.DataFrame(found)


def compared(float32: pd.DataFrame, bfloat16: pd.DataFrame) -> pd.DataFrame:
    """A row a step: what the seeds and what the precision change."""
    difference = bfloat16 - float32
    error = difference.sem(axis=1)
    table = pd.DataFrame(
        {
            "float32_loss": np.exp(float32.mean(axis=1)),
            "spread_of_seeds": float32.std(axis=1),
            "spread_of_differences": difference.std(axis=1),
            "mean_difference": difference.mean(axis=1),
            "standard_error": error,
            "difference_in_errors": difference.mean(axis=1) / error,
        }
    )
    return table.round(4).rename_axis("step").reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="CSV file to write")
    parser.add_argument("--directory", type=pathlib.Path, default="grids/precision")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of each run, to try the program out")
    arguments = parser.parse_args()
    if arguments.steps is not None:
        for own in MODELS.values():
            own["steps"] = arguments.steps
    tables = []
    for model in arguments.models:
        for method in METHODS:
            own = [
                curves(arguments.directory, model, method, precision, arguments.seeds)
                for precision in PRECISIONS
            ]
            table = compared(*own)
            table.insert(0, "model", model)
            table.insert(1, "method", method)
            tables.append(table)
    rows = pd.concat(tables).to_dict("records")
    for row in rows:
        print(row)
    result_file.write(arguments.out, rows, arguments.seeds)


if __name__ == "__main__":
    main()
