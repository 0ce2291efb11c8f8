"""Sharpness that is measured during training, into the metrics and the picture."""

import json
import math
import shutil

import jax
import numpy as np
import pytest
from event_files import curves
from typed_options import options_with

from heavytail_optax import cli
from heavytail_optax.experiments.data.dataset import evenly_spaced
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.models.networks import build_network
from heavytail_optax.experiments.report.training import draw_training
from heavytail_optax.experiments.runs.grid import read_grid
from heavytail_optax.experiments.runs.result import read_result
from heavytail_optax.experiments.storage.metrics_log import (
    append_metrics,
    drop_metrics_after,
    read_log,
)
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.evaluation import loss_per_example
from heavytail_optax.experiments.training.following import (
    Sharpness,
    build_follow,
    learning_rate_at,
)
from heavytail_optax.experiments.training.trainer import build_trainer

ALL = ("critical", "eigenvalue", "expected")
FOLLOW = ["--follow-sharpness", "3", "--followed-images", "20"]
METHODS = ["--methods", "balanced", "sam"]
ROW = Sharpness(3, 0.1, 12.5, 8.0, math.nan, math.nan, 0.25, 0.125, 1.5)


def lines_of(run, *, seconds=True):
    rows = [json.loads(line) for line in run.read_text("utf-8").splitlines()]
    return rows if seconds else [{**row, "seconds": 0} for row in rows]


@pytest.fixture(scope="module")
def followed(tmp_path_factory, tiny_options):
    """A finished job with two methods."""
    directory = tmp_path_factory.mktemp("followed") / "whole"
    options = options_with(tiny_options, *METHODS, *FOLLOW, "--tensorboard")
    assert cli.main(["train", *options, "--directory", str(directory)]) == 0
    return directory


@pytest.fixture(scope="module")
def measured(tiny, tiny_dataset):
    """All measures of the first weights, and what they are of."""
    settings = replaced(
        tiny,
        follow_sharpness=3,
        followed_images=20,
        followed_measures=ALL,
        sharpness_samples=5,
    )
    shape, classes = tiny_dataset.train.images.shape[1:], tiny_dataset.num_classes
    keys = random_streams(settings.seed)
    trainer = build_trainer(settings, shape, classes)
    state = trainer.init(keys)
    follow = build_follow(settings, shape, classes)
    row = follow(state, tiny_dataset.train, keys.sharpness, 0.5)
    images = evenly_spaced(tiny_dataset.train, 20)
    predict, _ = build_network(settings.model, shape, classes, "minus-one-to-one")

    def loss(params):
        return loss_per_example(predict, params, images).mean()

    return row, jax.jit(loss), state.params


def test_critical_sharpness_is_where_the_loss_is_raised(measured):
    row, loss, params = measured
    gradient = jax.grad(loss)(params)
    start = float(loss(params))

    def after(step):
        moved = jax.tree.map(lambda x, g: x - step * g, params, gradient)
        return float(loss(moved))

    step = 2 / row.critical_sharpness
    # The bracket is a sixteenth wide, and the step in its middle.
    assert after(step / 1.04) <= start < after(step * 1.04)
    assert row.critical_losses < 20


def test_the_eigenvalue_is_one_and_above_all_curvatures_seen(measured):
    row, loss, params = measured
    gradient = jax.grad(loss)
    vector = gradient(params)
    for _ in range(30):
        size = math.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(vector)))
        vector = jax.tree.map(lambda x, size=size: x / size, vector)
        _, vector = jax.jvp(gradient, (params,), (vector,))
    size = math.sqrt(sum(float((x**2).sum()) for x in jax.tree.leaves(vector)))
    assert row.top_eigenvalue == pytest.approx(size, rel=0.02)
    assert row.top_eigenvalue_residual < 0.01 * row.top_eigenvalue


def test_a_measurement_has_its_step_and_learning_rate(measured, tiny):
    row = measured[0]
    assert row.step == 0 and row.seconds == 0.5
    assert row.learning_rate == tiny.training.learning_rate
    assert row.expected_sharpness > 2 * row.expected_sharpness_error > 0
    cosine = replaced(tiny, learning_rate_schedule="cosine", steps=10).training
    rates = [learning_rate_at(cosine, step) for step in (0, 5, 10)]
    expected = [cosine.learning_rate * share for share in (1, 0.5, 0)]
    assert rates == pytest.approx(expected)


def test_followed_images_are_evenly_spaced(tiny_dataset):
    train = tiny_dataset.train
    assert np.array_equal(evenly_spaced(train, 20).labels, train.labels[::5])
    assert np.array_equal(evenly_spaced(train, 1000).labels, train.labels)


def test_lines_of_both_kinds_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for row in (ROW, ROW._replace(step=6), ROW._replace(step=3, expected_sharpness=1)):
        append_metrics(path, row)
    assert '"top_eigenvalue": null' in path.read_text("utf-8")
    found = read_log(path).sharpness
    assert [row.step for row in found] == [3, 6]
    assert found[0].expected_sharpness == 1 and math.isnan(found[0].top_eigenvalue)
    assert read_log(path).evaluations == []
    assert [row.step for row in drop_metrics_after(path, 5, print).rows] == [3]
    assert len(lines_of(path)) == 1


def test_it_is_measured_at_its_own_steps(followed, trained):
    for run in read_grid(followed).runs():
        result = read_result(run)
        assert [row.step for row in result.followed] == [0, 3, 6]
        assert [row.step for row in result.history] == [2, 4, 6]
        assert all(row.critical_sharpness > 0 for row in result.followed)
        assert all(math.isnan(row.top_eigenvalue) for row in result.followed)
    # A run that was not followed has the files of earlier versions.
    assert all(read_result(run).followed == () for run in read_grid(trained).runs())


def test_following_changes_no_step(followed, tmp_path, tiny_options):
    plain = tmp_path / "plain"
    options = options_with(tiny_options, "--methods", "balanced")
    assert cli.main(["train", *options, "--directory", str(plain)]) == 0
    name = "balanced/seed-0/metrics.jsonl"
    both = lines_of(followed / name, seconds=False)
    evaluations = [row for row in both if "train_loss" in row]
    assert lines_of(plain / name, seconds=False) == evaluations


@pytest.mark.parametrize("method", ["balanced", "sam"])
def test_a_resumed_run_measures_the_same(followed, tmp_path, method):
    directory = shutil.copytree(followed, tmp_path / "run")
    run = directory / method / "seed-0"
    (run / "checkpoints" / "6.npz").unlink()
    before = lines_of(run / "metrics.jsonl", seconds=False)
    assert cli.main(["train", "--resume", str(directory)]) == 0
    after = lines_of(run / "metrics.jsonl", seconds=False)

    def of_both(rows):
        return sorted(rows, key=lambda row: (row["step"], "train_loss" in row))

    assert of_both(after) == of_both(before)
    # TensorBoard's events have no point twice.
    points = curves(run / "tensorboard")["sharpness/critical"]
    assert [step for step, _ in points] == [0, 3, 6]


def test_the_picture_has_the_edge_beside_the_sharpness(followed, tiny):
    runs = read_grid(followed).runs()
    results = [read_result(run) for run in runs]
    figure = draw_training(results, runs[0].settings, 400)
    figure.draw_without_rendering()
    assert len(figure.axes) == 3
    *curves_of_methods, edge = figure.axes[2].lines
    for line, result in zip(curves_of_methods, results, strict=True):
        values = [row.critical_sharpness for row in result.followed]
        assert line.get_ydata() == pytest.approx(values)
    assert edge.get_ydata() == pytest.approx(2 / tiny.training.learning_rate)
    # With a schedule the edge moves, and where the learning rate ends it is left out.
    falling = [
        result._replace(
            followed=tuple(
                row._replace(learning_rate=0.1 * (1 - row.step / 6))
                for row in result.followed
            )
        )
        for result in results
    ]
    moved = draw_training(falling, runs[0].settings, 400).axes[2].lines[-1]
    assert moved.get_ydata() == pytest.approx([20, 40])


def test_the_report_of_a_grid_draws_it(followed, tmp_path, trained):
    directory = shutil.copytree(followed, tmp_path / "run")
    assert cli.main(["report", str(directory)]) == 0
    assert (directory / "sharpness_over_steps.png").exists()
    plain = shutil.copytree(trained, tmp_path / "plain")
    assert cli.main(["report", str(plain)]) == 0
    assert not (plain / "sharpness_over_steps.png").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--followed-images", "7"], "followed_images"),
        (["--followed-measures", "eigenvalue"], "followed_measures"),
        (["--follow-sharpness", "0"], "follow_sharpness"),
        (["--follow-sharpness", "3", "--sharpness-samples", "7"], "sharpness_samples"),
    ],
)
def test_options_without_effect_are_refused(options, named, capsys):
    assert cli.main(["train", *options]) == 2
    assert named.replace("_", "-") in capsys.readouterr().err.replace("_", "-")
