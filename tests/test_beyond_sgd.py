"""The study beyond SGD: which runs it makes, and what its tables say of them."""

import pathlib

import beyond_sgd_arms as arms
import beyond_sgd_bytes as text
import beyond_sgd_plan as plan
import beyond_sgd_resnet as resnet
import beyond_sgd_tables as tables
import beyond_sgd_tasks as tasks
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats


@pytest.fixture(autouse=True)
def settings_of_a_user():
    with jax.numpy_rank_promotion("allow"):
        yield


def all_runs(task, noises, names, best_rate, num_seeds=2):
    """Every run, each with a row, where the accuracy is best at one learning rate."""
    rows, runs = [], []
    while True:
        run = plan.next_run(
            rows,
            task=task,
            num_seeds=num_seeds,
            noises=noises,
            optimizers=["AdamW"],
            arms=names,
        )
        if run is None:
            return runs
        assert run not in runs
        runs.append(run)
        accuracy = 90.0 - abs(np.log(run.learning_rate / best_rate)) - run.weight_decay
        row = run._asdict() | {
            "valid_accuracy": accuracy,
            "valid_loss": 100.0 - accuracy,
        }
        rows.append({name: str(value) for name, value in row.items()})


def test_an_arm_is_tuned_and_then_run_with_what_was_best():
    runs = all_runs("lenet", ["200", "40"], ["alone", "slow"], best_rate=1e-3)
    tuning = [run for run in runs if run.kind == "tuning"]
    assert len(tuning) == 3 * 2 * 2 and tuning == runs[:12]
    assert {run.seed for run in tuning} == {1000, 1001}
    counted = [run for run in runs if run.arm == "alone" and run.kind == "followed"]
    assert len(counted) == 4
    assert {(run.learning_rate, run.weight_decay) for run in counted} == {(1e-3, 0.0)}
    slow = [run for run in runs if run.arm == "slow"]
    assert {run.kind for run in slow} == {"counts"}
    assert {run.learning_rate for run in slow} == {3.333e-4}


@pytest.mark.parametrize("task", ["lenet", "bytes"])
def test_a_best_rate_at_the_edge_is_followed_once(task):
    runs = all_runs(task, tasks.NOISES[task][:1], ["behind"], best_rate=1.0)
    rates = sorted({run.learning_rate for run in runs if run.kind == "tuning"})
    assert rates == [3e-4, 1e-3, 3e-3, 9e-3]
    assert {run.learning_rate for run in runs if run.kind == "counts"} == {9e-3}


def test_a_run_that_is_not_finite_is_not_chosen():
    row = {"task": "lenet", "valid_accuracy": "99.0", "valid_loss": "nan"}
    assert plan.score(row) == 0.0
    assert plan.score(row | {"task": "bytes"}) == -np.inf


def test_rows_are_appended_below_one_heading(tmp_path):
    path = tmp_path / "rows.csv"
    assert plan.rows_in(path) == []
    run = plan.Run("lenet", "0", "SGD", "alone", "tuning", 1000, 1 / 3, 5e-4)
    for seed in (1000, 1001):
        plan.append(path, run._replace(seed=seed)._asdict())
    rows = plan.rows_in(path)
    assert [row["seed"] for row in rows] == ["1000", "1001"]
    assert plan.identity(run) in plan.done(rows)
    assert plan.identity(run._replace(noise="40")) not in plan.done(rows)


def test_differences_are_those_of_a_paired_t_test():
    draws = np.random.default_rng(0)
    alone = pd.Series(draws.normal(90, 1, 5), index=range(5))
    arm = pd.Series(draws.normal(91, 1, 6), index=range(6))
    found = tables.paired(arm, alone, is_ratio=False)
    expected = stats.ttest_rel(arm[:5], alone)
    np.testing.assert_allclose(found.p_value, expected.pvalue)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), interval)


def test_holms_correction():
    # 0.05 / 4, / 3, / 2, / 1: the third stops it, though the fourth is below 0.05.
    p_values = [0.04, 0.001, 0.03, 0.012]
    assert tables.survives(p_values, 4) == [False, True, False, True]
    assert tables.survives([0.001, np.nan], 9) == [True, False]
    assert tables.survives([0.01, np.nan], 9) == [False, False]


def test_the_sharpness_at_the_same_training_loss():
    losses = np.geomspace(2.0, 0.02, 20)
    alone = pd.Series(
        {
            "curve_train_loss": " ".join(f"{x:.8g}" for x in losses),
            "curve_expected_sharpness": " ".join(f"{x**2:.8g}" for x in losses),
        }
    )
    arm = pd.Series({"train_loss": 0.1})
    np.testing.assert_allclose(tables.at_same_loss(arm, alone), 0.01, rtol=1e-5)
    never = pd.Series({"train_loss": 0.001})
    assert np.isnan(tables.at_same_loss(never, alone))


def test_labels_are_drawn_with_the_probability_that_is_asked():
    """Of 20,000 labels; 4.5 standard deviations. A drawn one is right in one of ten."""
    labels = jnp.zeros(20_000, jnp.int32)
    for noise, share in (("0", 0.0), ("20", 0.18), ("40", 0.36)):
        wrong = float((tasks.with_noise(labels, noise, jax.random.key(0)) != 0).mean())
        error = 4.5 * (share * (1 - share) / labels.size) ** 0.5
        assert abs(wrong - share) <= error
    last = tasks.with_noise(labels, "200", jax.random.key(0))
    assert not last[:-200].any() and 150 < int((last[-200:] != 0).sum()) < 200


def test_the_transformer_sees_no_later_byte():
    params = text.init(jax.random.key(0))
    inputs = jnp.arange(text.CONTEXT, dtype=jnp.uint8)[None]
    changed = inputs.at[0, 40].set(200)
    one, other = (text.logits(params, None, x)[0] for x in (inputs, changed))
    np.testing.assert_array_equal(one[:40], other[:40])
    assert bool((one[40:] != other[40:]).any(axis=-1).all())
    # Embeddings of bytes and places, the head and its scale; 12 width^2 in each layer.
    expected = 2 * 256 * 128 + 64 * 128 + 128 + 2 * (12 * 128**2 + 2 * 128)
    assert sum(x.size for x in jax.tree.leaves(params)) == expected


def test_the_resnet_normalises_within_its_groups():
    params = resnet.init(jax.random.key(0))
    params["block0"]["norm2"]["scale"] += 1.0
    images = jax.random.randint(jax.random.key(1), (2, 4, 32, 32, 3), 0, 255)
    split = tasks.Split(images.astype(jnp.uint8), jnp.zeros((2, 4), jnp.int32))
    losses = resnet.group_losses(params, split)
    # Another second group leaves the loss of the first one as it is.
    other = split._replace(inputs=split.inputs.at[1].set(0))
    changed = resnet.group_losses(params, other)
    assert losses[0] == changed[0] and losses[1] != changed[1]
    # In tests, an image does not depend on the others.
    moments = resnet.statistics(params, tasks.Split(split.inputs[0], split.labels[0]))
    whole = resnet.logits(params, moments, split.inputs[0])
    np.testing.assert_allclose(
        resnet.logits(params, moments, split.inputs[0, :1]), whole[:1], rtol=1e-4
    )


def test_the_schedule_warms_up_and_ends_at_zero():
    shape = arms.schedule(2000)
    assert float(shape(100)) == 1.0 and 0.0 < float(shape(0)) < 0.02
    assert float(shape(1999)) < 1e-4


def test_batches_of_the_resnet_are_crops_in_groups():
    images = jnp.full((100, 32, 32, 3), 7, jnp.uint8)
    train = tasks.Split(images, jnp.arange(100, dtype=jnp.int32))
    batch = resnet.draw(jax.random.key(0), train)
    assert batch.inputs.shape == (4, 16, 32, 32, 3) and batch.inputs.dtype == jnp.uint8
    assert set(np.unique(batch.inputs)) == {0, 7}
    assert len(np.unique(batch.labels)) == 64


def test_the_published_tables_are_those_of_the_file():
    folder = pathlib.Path(__file__).parents[1] / "docs" / "results"
    runs = pd.read_csv(folder / "beyond_sgd_runs.csv", dtype={"noise": str})
    published = {path.name: path.read_text() for path in folder.glob("beyond_sgd_*.md")}
    assert published == {
        f"beyond_sgd_{name}.md": f"{text}\n"
        for name, text in tables.texts(runs).items()
    }
