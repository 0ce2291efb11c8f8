"""CIFAR-10 by a small ResNet, which normalises within groups of a batch."""

import pathlib

import beyond_sgd_tasks as tasks
import dm_pix
import jax
import jax.numpy as jnp

from heavytail_optax.experiments.data.loading import read_dataset
from heavytail_optax.experiments.presets import PRESETS

CHANNELS, GROUPS, GROUP = 8, 4, 16
PADDING = 4
STATISTICS = 1000
BLOCKS = ((CHANNELS, 1), (2 * CHANNELS, 2), (4 * CHANNELS, 2))
EPSILON = 1e-5

Moments = tuple[jax.Array, jax.Array]


def init(key: jax.Array) -> dict:
    """He's initial weights; a block starts as its shortcut."""
    keys = iter(jax.random.split(key, 3 * len(BLOCKS) + 2))

    def kernel(size: int, inputs: int, outputs: int) -> jax.Array:
        scale = (2.0 / (size * size * inputs)) ** 0.5
        return scale * jax.random.normal(next(keys), (size, size, inputs, outputs))

    def norm(channels: int, scale: float = 1.0) -> dict:
        return {"scale": jnp.full(channels, scale), "bias": jnp.zeros(channels)}

    params: dict = {"first": kernel(3, 3, CHANNELS), "norm": norm(CHANNELS)}
    inputs = CHANNELS
    for number, (outputs, stride) in enumerate(BLOCKS):
        params[f"block{number}"] = own = {
            "kernel1": kernel(3, inputs, outputs),
            "norm1": norm(outputs),
            "kernel2": kernel(3, outputs, outputs),
            "norm2": norm(outputs, 0.0),
        }
        if stride > 1:
            own["shortcut"] = kernel(1, inputs, outputs)
        inputs = outputs
    scale = inputs**-0.5
    params["head"] = {
        "kernel": scale * jax.random.normal(next(keys), (inputs, 10)),
        "bias": jnp.zeros(10),
    }
    return params


def convolved(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """With a margin of zeros."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def forward(
    params: dict, images: jax.Array, known: list[Moments] | None
) -> tuple[jax.Array, list[Moments]]:
    """Logits and the moments of each layer, which are those of the images if not known."""
    moments: list[Moments] = []

    def norm(x: jax.Array, own: dict) -> jax.Array:
        if known is None:
            moments.append((x.mean((0, 1, 2)), x.var((0, 1, 2))))
        else:
            moments.append(known[len(moments)])
        mean, variance = moments[-1]
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * own["scale"] + own[
            "bias"
        ]

    x = (images.astype(jnp.float32) - 127.5) / 64.0
    x = jax.nn.relu(norm(convolved(x, params["first"]), params["norm"]))
    for number, (_, stride) in enumerate(BLOCKS):
        own = params[f"block{number}"]
        hidden = norm(convolved(x, own["kernel1"], stride), own["norm1"])
        hidden = norm(convolved(jax.nn.relu(hidden), own["kernel2"]), own["norm2"])
        short = convolved(x, own["shortcut"], stride) if stride > 1 else x
        x = jax.nn.relu(short + hidden)
    pooled = x.mean((1, 2))
    return pooled @ params["head"]["kernel"] + params["head"]["bias"], moments


def logits(params: dict, statistics: list[Moments], inputs: jax.Array) -> jax.Array:
    """Normalised by known moments."""
    return forward(params, inputs, statistics)[0]


def statistics(params: dict, train: tasks.Split) -> list[Moments]:
    """The moments of the first training images."""
    return forward(params, train.inputs[:STATISTICS], None)[1]


def group_losses(params: dict, groups: tasks.Split) -> jax.Array:
    """The mean loss of each group, normalised by its own moments."""

    def loss(group: tasks.Split) -> jax.Array:
        own = forward(params, group.inputs, None)[0]
        return tasks.cross_entropies(own, group.labels).mean()

    return jax.vmap(loss)(groups)


def in_groups(split: tasks.Split, number: int) -> tasks.Split:
    """Examples as groups of equal size."""
    return jax.tree.map(lambda x: x.reshape(number, -1, *x.shape[1:]), split)


def draw(key: jax.Array, train: tasks.Split) -> tasks.Split:
    """Random crops of images with a black margin, half of them mirrored."""
    batch_key, own_key = jax.random.split(key)
    batch = tasks.drawn(batch_key, train, GROUPS * GROUP)

    def augmented(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        margin = (PADDING, PADDING)
        padded = jnp.pad(image, (margin, margin, (0, 0)))
        cropped = dm_pix.random_crop(crop_key, padded, image.shape)
        return dm_pix.random_flip_left_right(flip_key, cropped)

    keys = jax.random.split(own_key, GROUPS * GROUP)
    images = jax.vmap(augmented)(keys, batch.inputs)
    return in_groups(batch._replace(inputs=images), GROUPS)


def resnet(data_dir: pathlib.Path | None) -> tasks.Task:
    """CIFAR-10, the last 5,000 training images for tuning."""
    settings = PRESETS["cifar10"].settings
    data = read_dataset(settings.data, data_dir)
    images, labels = data.train
    return tasks.Task(
        steps=1500,
        batch=GROUPS * GROUP,
        num_seeds=3,
        num_measured=500,
        num_scored=2000,
        train=tasks.Split(images[:45_000], labels[:45_000]),
        valid=tasks.Split(images[45_000:], labels[45_000:]),
        test=tasks.Split(*data.test),
        checksum=tasks.checksum(images, labels, *data.test),
        init=init,
        unit_losses=group_losses,
        units=lambda split: in_groups(split, 1),
        draw=draw,
        logits=logits,
        statistics=statistics,
        matrices=tasks.matrices_of,
        has_images=True,
    )
