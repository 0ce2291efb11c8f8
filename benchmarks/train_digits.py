"""Accuracy on corrupted digits: `heavytail train` for several methods and seeds.

    python benchmarks/train_digits.py --out benchmarks/results/train_digits.csv

The settings are those of the command's default, but for the methods and the seed.
"""

import argparse
import dataclasses

import result_file

from heavytail_optax.experiments.job import load_job_data
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.training import build_trainer, train

METHODS = ("sgd", "sgd-truncated", "balanced", "truncated-heavy-tailed-sgd")


def final_metrics(method: str, seed: int) -> dict[str, str]:
    """The last evaluation of one run, as a row."""
    preset = PRESETS["corrupted-digits"].settings
    settings = dataclasses.replace(preset, methods=(method,), seed=seed)
    data = load_job_data(settings)
    shape = data.train.images.shape[1:]
    trainer = build_trainer(settings, method, shape, data.num_classes)
    *_, chunk = train(settings, data, trainer, trainer.init())
    last, tests = chunk.metrics, len(data.test.labels)
    error = (last.test_accuracy * (1 - last.test_accuracy) / tests) ** 0.5
    return {
        "method": method,
        "seed": str(seed),
        "step": str(last.step),
        "test_accuracy_percent": f"{100 * last.test_accuracy:.1f}",
        "standard_error_percent": f"{100 * error:.1f}",
        "train_accuracy_percent": f"{100 * last.train_accuracy:.1f}",
        "train_loss": f"{last.train_loss:.4f}",
        "seconds": f"{last.seconds:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for method in METHODS:
        for seed in arguments.seeds:
            rows.append(final_metrics(method, seed))
            print(rows[-1], flush=True)
    result_file.write(arguments.out, rows, 1)


if __name__ == "__main__":
    main()
