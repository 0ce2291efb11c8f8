"""What the tail estimators say of gradients of the study's networks, and how often.

A network is trained on the images of the study; then its parameters are held. Each sample
has the noise of 1,200 small batches that `heavytail diagnose` would draw. Nobody knows the
tail index of these draws. But their tail ends, their variance is finite, they are
independent, and the noise scale follows from the gradients of all single images. So four
rates of error are known beside the rates of the verdicts. Levels are 1 % for the end and
independence, 5 % for the moment; the interval of the noise scale is one of 95 %.

    python benchmarks/tail_verdicts_of_gradients.py --out benchmarks/results/tail_verdicts_of_gradients.csv
"""

import argparse
import collections

import jax
import jax.numpy as jnp
import numpy as np
import result_file
from tail_verdicts import VERDICTS

from heavytail_optax.experiments.data.dataset import Split, with_random_labels
from heavytail_optax.experiments.data.loading import read_dataset
from heavytail_optax.experiments.flat_settings import replaced
from heavytail_optax.experiments.measures.gradient_noise import (
    SIZES,
    NoiseDraws,
    Size,
    measure_gradient_noise,
)
from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.settings import Settings
from heavytail_optax.experiments.training.batches import random_streams
from heavytail_optax.experiments.training.trainer import build_trainer
from heavytail_optax.tail_index import (
    assess_tail,
    extremal_index,
    finite_moment_test,
    gradient_noise_scale,
)

NETWORKS: dict[str, dict[str, str | float | int]] = {
    "LeNet": {"model": "lenet"},
    "VGG11, an eighth": {"model": "vgg11", "width": 0.125, "image_size": 32},
}
DRAWS = 1200
NUM_CLASSES = 10


def trained(network: str, preset: str, steps: int) -> tuple[Settings, object, Split]:
    """Settings, parameters and training images after some steps of plain SGD."""
    settings = PRESETS[preset].settings
    settings = replaced(settings, method="sgd", steps=steps, **NETWORKS[network])
    keys = random_streams(0)
    data = read_dataset(settings.data)
    data = with_random_labels(data, keys.labels, settings.data.clean_examples)
    shape = data.train.images.shape[1:]
    trainer, keys = build_trainer(settings, shape, NUM_CLASSES), random_streams(0)
    state = trainer.take_steps(trainer.init(keys), keys, data.train, np.int32(steps))
    return settings, state.params, data.train


def measured(
    of: tuple[Settings, object, Split], draws: int, batch_size: int
) -> NoiseDraws:
    """The noise of batches of that size; with one image each, of all images."""
    settings, params, train = of
    arguments = {"draws": draws, "batch_size": batch_size}
    found = measure_gradient_noise(
        settings, params, train, NUM_CLASSES, arguments, lambda done, total: False
    )
    assert found is not None
    return found


def true_noise_scale(single: NoiseDraws, batch_size: int) -> float:
    """tr(Sigma) over the squared norm of the gradient, of batches without replacement."""
    noise = np.mean(single.of("norm").astype(float) ** 2)
    squares = np.mean(single.gradient_norms.astype(float) ** 2)
    number = single.gradient_norms.size
    return (number - batch_size) / (number - 1) * noise / (squares - noise)


def of_scale(noise: np.ndarray, norms: np.ndarray, size: int, true: float) -> str:
    """How often the interval of the noise scale holds it, as `diagnose` computes it."""
    found = gradient_noise_scale(
        np.hypot(norms.astype(float), noise.astype(float)),
        norms,
        small_batch_size=0.5 * size,
        large_batch_size=size,
    )
    return percent((found.lower <= true) & (true <= found.upper))


def percent(values: jax.Array | np.ndarray) -> str:
    """The share that is true."""
    return f"{100 * float(np.mean(values)):.1f}"


def row(network: str, size: Size, draws: np.ndarray) -> dict[str, str]:
    """One line of the table, of draws of shape (samples, `DRAWS`)."""
    found = [assess_tail(jnp.asarray(each)) for each in draws]
    verdicts = collections.Counter(each.verdict for each in found)
    line = {"network": network, "noise": size, "draws": str(draws.shape[1])}
    line |= {name: f"{100 * verdicts[name] / len(found):.0f}" for name in VERDICTS}
    hill = [float(each.index.corrected_estimate) for each in found]
    line["median_index"] = f"{np.median(hill):.2f}"
    line["end_said"] = percent(np.array([x.truncated.p_value < 0.01 for x in found]))
    clusters = extremal_index(draws, found[0].k)
    line["dependence_said"] = percent(clusters.p_value < 0.01)
    moment = finite_moment_test(jnp.asarray(draws), key=3)
    line["variance_finite_said"] = percent(moment.p_value < 0.05)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--preset", choices=PRESETS, default="corrupted-fashion-mnist")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--out", help="CSV file to write")
    arguments = parser.parse_args()
    rows, size = [], arguments.batch_size
    for network in arguments.networks:
        of = trained(network, arguments.preset, arguments.steps)
        number = of[2].labels.shape[0]
        true = true_noise_scale(measured(of, number, 1), size)
        noise = measured(of, arguments.samples * DRAWS, size)
        shape = arguments.samples, DRAWS
        for kind in SIZES:
            line = row(network, kind, noise.of(kind).reshape(shape))
            line |= {"batch_size": str(size), "noise_scale": "", "scale_covered": ""}
            if kind == "norm":
                parts = (noise.of(kind), noise.gradient_norms)
                covered = of_scale(*(x.reshape(shape) for x in parts), size, true)
                line |= {"noise_scale": f"{true:.3g}", "scale_covered": covered}
            print("  ".join(line.values()), flush=True)
            rows.append(line)
    result_file.write(arguments.out, rows, arguments.samples)


if __name__ == "__main__":
    main()
