"""The next byte of the help topics that come with Python, by a small transformer."""

import pathlib
import pydoc_data.topics

import beyond_sgd_tasks as tasks
import jax
import jax.numpy as jnp
import numpy as np

LAYERS, WIDTH, HEADS, CONTEXT, BATCH = 2, 128, 4, 64, 16
BYTES = 256


def text() -> np.ndarray:
    """All topics in the order of their names, as bytes."""
    topics = pydoc_data.topics.topics
    whole = "".join(topics[name] for name in sorted(topics))
    return np.frombuffer(whole.encode(), np.uint8)


def pieces(stretch: np.ndarray) -> tasks.Split:
    """Consecutive pieces, and the same one byte later."""
    number = (len(stretch) - 1) // CONTEXT
    inputs = stretch[: number * CONTEXT].reshape(number, CONTEXT)
    labels = stretch[1 : number * CONTEXT + 1].reshape(number, CONTEXT)
    return tasks.Split(jnp.asarray(inputs), jnp.asarray(labels, jnp.int32))


def init(key: jax.Array) -> dict:
    """Normal weights of standard deviation 0.02; those into the residual are smaller."""
    keys = iter(jax.random.split(key, 4 + 4 * LAYERS))

    def normal(*shape: int, scale: float = 0.02) -> jax.Array:
        return scale * jax.random.normal(next(keys), shape)

    into = 0.02 / (2 * LAYERS) ** 0.5
    layers = {
        f"layer{number}": {
            "attention": normal(WIDTH, 3 * WIDTH),
            "out": normal(WIDTH, WIDTH, scale=into),
            "up": normal(WIDTH, 4 * WIDTH),
            "down": normal(4 * WIDTH, WIDTH, scale=into),
            "scale1": jnp.ones(WIDTH),
            "scale2": jnp.ones(WIDTH),
        }
        for number in range(LAYERS)
    }
    return layers | {
        "bytes": normal(BYTES, WIDTH),
        "places": normal(CONTEXT, WIDTH),
        "head": normal(WIDTH, BYTES),
        "scale": jnp.ones(WIDTH),
    }


def normalised(x: jax.Array, scale: jax.Array) -> jax.Array:
    """By the root mean square."""
    return scale * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def logits(params: dict, statistics: object, inputs: jax.Array) -> jax.Array:
    """Of the next byte at each place, shape=(n, CONTEXT, 256)."""
    del statistics
    x = params["bytes"][inputs.astype(jnp.int32)] + params["places"]
    for number in range(LAYERS):
        own = params[f"layer{number}"]
        parts = normalised(x, own["scale1"]) @ own["attention"]
        query, key, value = (
            part.reshape(*part.shape[:2], HEADS, WIDTH // HEADS)
            for part in jnp.split(parts, 3, axis=-1)
        )
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        x = x + mixed.reshape(x.shape) @ own["out"]
        hidden = jax.nn.gelu(normalised(x, own["scale2"]) @ own["up"])
        x = x + hidden @ own["down"]
    return normalised(x, params["scale"]) @ params["head"]


def matrices(params: dict) -> dict:
    """Those between layers: embeddings and the head are for Adam."""
    found = tasks.matrices_of(params)
    return found | dict.fromkeys(("bytes", "places", "head"))


def draw(key: jax.Array, train: tasks.Split) -> tasks.Split:
    """Pieces from random places on."""
    stream = train.inputs.ravel()
    starts = jax.random.randint(key, (BATCH,), 0, stream.size - CONTEXT - 1)
    places = starts[:, None] + jnp.arange(CONTEXT + 1)
    drawn = stream[places]
    return tasks.Split(drawn[:, :-1], drawn[:, 1:].astype(jnp.int32))


def help_topics(data_dir: pathlib.Path | None) -> tasks.Task:
    """Next byte: training on the first 90 %, the rest for tuning and for tests."""
    del data_dir
    whole = text()
    first, second = int(0.9 * len(whole)), int(0.95 * len(whole))

    def losses(params: dict, batch: tasks.Split) -> jax.Array:
        return tasks.cross_entropies(logits(params, None, batch.inputs), batch.labels)

    return tasks.Task(
        steps=600,
        batch=BATCH,
        num_seeds=3,
        num_measured=64,
        num_scored=500,
        train=pieces(whole[:first]),
        valid=pieces(whole[first:second]),
        test=pieces(whole[second:]),
        checksum=tasks.checksum(whole),
        init=init,
        unit_losses=losses,
        units=lambda split: split,
        draw=draw,
        logits=logits,
        statistics=lambda params, train: None,
        matrices=matrices,
        has_images=False,
    )
