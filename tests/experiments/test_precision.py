"""Steps with products in bfloat16: what else is in float32, and what they end with."""

import json
import shutil

import jax
import numpy as np
import pytest
import scipy.stats
from jax.extend.core import jaxprs_in_params

from heavytail_optax import cli
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.methods import METHOD_NAMES
from heavytail_optax.experiments.runs.measuring import trained_network
from heavytail_optax.experiments.storage.metrics_log import read_metrics
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer

SHAPES = {"lenet": (16, 16, 1), "vgg11": (32, 32, 3)}
# What neither rounds nor sums, but only moves numbers about or hands them on.
MOVES = {
    *("broadcast_in_dim", "concatenate", "copy", "pad", "reshape", "slice"),
    *("squeeze", "transpose", "optimization_barrier", "bitcast_convert_type"),
    *("stop_gradient", "clamp", "max", "min"),
    *("jit", "pjit", "closed_call", "custom_vjp_call", "while", "scan", "cond"),
}


@pytest.fixture
def settings(tiny):
    return replaced(tiny, precision="bfloat16", width=0.25, image_size=32)


def equations(jaxpr):
    """All of a program, those of its inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def types(variables):
    return {str(variable.aval.dtype) for variable in variables}


def program_of_steps(settings, shape, train):
    trainer = build_trainer(settings, shape, 10)
    keys = random_streams(0)
    state = trainer.init(keys)
    return trainer.take_steps.trace(state, keys, train, np.int32(1)).jaxpr


def random_split(dataset, shape):
    images = np.zeros((dataset.train.labels.size, *shape), np.uint8)
    return dataset.train._replace(images=images)


@pytest.mark.parametrize(
    ("model", "method"),
    [("vgg11", "sgd"), *(("lenet", method) for method in METHOD_NAMES)],
)
def test_only_products_are_in_bfloat16(settings, tiny_dataset, model, method):
    settings = replaced(settings, model=model, method=method)
    train = random_split(tiny_dataset, SHAPES[model])
    program = program_of_steps(settings, SHAPES[model], train)
    products = 0
    for equation in equations(program.jaxpr):
        name = equation.primitive.name
        assert name != "conv_general_dilated"
        if name == "dot_general":
            products += 1
            assert types(equation.invars) == {"bfloat16"}
            assert types(equation.outvars) == {"float32"}
        elif "bfloat16" in types([*equation.invars, *equation.outvars]):
            assert name in MOVES | {"convert_element_type"}
    # At least one forwards and two backwards for each layer but the first.
    layers = 4 if model == "lenet" else 11
    assert products >= 3 * layers - 1
    assert types(program.jaxpr.outvars) <= {"float32", "int32", "uint32", "key<fry>"}


def test_float32_has_no_bfloat16(settings, tiny_dataset):
    settings = replaced(settings, precision="float32")
    train = random_split(tiny_dataset, SHAPES["lenet"])
    program = program_of_steps(settings, SHAPES["lenet"], train)
    assert "bf16" not in str(program)


def test_evaluations_and_measures_are_in_float32(settings, tiny_dataset):
    shape, train = SHAPES["lenet"], tiny_dataset.train
    trainer = build_trainer(settings, shape, 10)
    params = trainer.init(random_streams(0)).params
    assert "bf16" not in str(trainer.evaluate.trace(params, train).jaxpr)
    network = trained_network(settings, params, train, 10)
    for function in (network.loss, network.error):
        assert "bf16" not in str(jax.make_jaxpr(function)(params, train))


SEEDS = range(10)
STEPS = 60


def mean_losses(settings, dataset):
    """Loss on all training images after the steps, and on the batches of the last half."""
    trainer = build_trainer(settings, SHAPES["lenet"], 10)
    found = []
    for seed in SEEDS:
        keys = random_streams(seed)
        state = trainer.take_steps(
            trainer.init(keys), keys, dataset.train, np.int32(STEPS)
        )
        of_batches = float(state.recent.loss[STEPS // 2 : STEPS].mean())
        scores = trainer.evaluate(state.params, dataset.train)
        found.append((float(scores.loss), of_batches))
    return np.array(found)


def test_losses_differ_by_less_than_the_seeds_tell(tiny, tiny_dataset):
    # At larger rates the paths of two runs part however little they differ.
    own = {"steps": STEPS, "eval_every": STEPS, "batch_size": 50}
    settings = replaced(tiny, method="sgd", learning_rate=0.02, **own)
    exact = mean_losses(settings, tiny_dataset)
    rounded = mean_losses(replaced(settings, precision="bfloat16"), tiny_dataset)
    assert (exact != rounded).all()

    # Two losses are checked, each with a false alarm in 2,000 keys.
    def p_values(losses):
        return scipy.stats.ttest_rel(losses, exact).pvalue

    assert (p_values(rounded) > 5e-4).all()
    # And a seed's loss moves by less than a fifth of what it does from seed to seed.
    assert (np.std(rounded - exact, axis=0) < 0.2 * np.std(exact, axis=0)).all()
    # The same check sees a learning rate that is larger by a fifth.
    faster = replaced(settings, learning_rate=1.2 * settings.training.learning_rate)
    assert (p_values(mean_losses(faster, tiny_dataset)) < 5e-4).any()


def test_it_is_recorded_and_kept(tiny_options, tmp_path):
    directory = tmp_path / "run"
    arguments = ["train", "--methods", "sgd", "--directory", str(directory)]
    assert cli.main([*arguments, *tiny_options, "--precision", "bfloat16"]) == 0
    run = directory / "sgd" / "seed-0"
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["settings"]["precision"] == "bfloat16"
    assert config["sources"]["precision"] == "user"
    assert "--precision bfloat16" in config["command"]
    # Without a checkpoint it begins again, and must end with the same numbers.
    before = read_metrics(run / "metrics.jsonl")
    shutil.rmtree(run / "checkpoints")
    assert cli.main(["train", "--resume", str(directory)]) == 0
    after = read_metrics(run / "metrics.jsonl")
    assert [row._replace(seconds=0) for row in after] == [
        row._replace(seconds=0) for row in before
    ]
    assert (run / "earlier-1").exists()
