"""A small transformer on the language reference that comes with Python.

It learns to continue the text of `pydoc_data.topics`, letter by letter, once with AdamW
alone and once with tail inflation before it. This shows how a loss per sequence is
written. It is not a recipe: tail inflation is known to help SGD on image networks, and
before AdamW it did harm where it was measured (`benchmarks/adam.py`).
"""

from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import heavytail_optax as hto

CONTEXT, BATCH, CHANNELS, HEADS = 64, 16, 64, 4


class Block(nnx.Module):
    """Attention to earlier letters, then two dense layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(CHANNELS, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            HEADS, CHANNELS, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(CHANNELS, rngs=rngs)
        self.widen = nnx.Linear(CHANNELS, 4 * CHANNELS, rngs=rngs)
        self.narrow = nnx.Linear(4 * CHANNELS, CHANNELS, rngs=rngs)

    def __call__(self, hidden: jax.Array, mask: jax.Array) -> jax.Array:
        hidden = hidden + self.attention(self.norm1(hidden), mask=mask)
        return hidden + self.narrow(nnx.gelu(self.widen(self.norm2(hidden))))


class Transformer(nnx.Module):
    """Two blocks."""

    def __init__(self, letters: int, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(letters, CHANNELS, rngs=rngs)
        self.places = nnx.Embed(CONTEXT, CHANNELS, rngs=rngs)
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.norm = nnx.LayerNorm(CHANNELS, rngs=rngs)
        self.output = nnx.Linear(CHANNELS, letters, rngs=rngs)

    def __call__(self, letters: jax.Array) -> jax.Array:
        hidden = self.embedding(letters) + self.places(jnp.arange(CONTEXT))[None]
        mask = jnp.tril(jnp.ones((1, 1, CONTEXT, CONTEXT), bool))
        for block in self.blocks:
            hidden = block(hidden, mask)
        return self.output(self.norm(hidden))


def main(steps: int = 300) -> dict[str, tuple[float, float]]:
    """Trains, and returns the losses in nats per letter at the start and at the end."""
    text = np.array(list("\n".join(topics[name] for name in sorted(topics))))
    alphabet, codes = np.unique(text, return_inverse=True)
    codes = jnp.asarray(codes, jnp.int32)
    # No noise for the last fifth of the steps, so that the run settles.
    inflated = optax.join_schedules(
        [optax.constant_schedule(1.0), optax.constant_schedule(0.0)], [4 * steps // 5]
    )
    return {
        "AdamW alone": _train(codes, alphabet.size, steps, 0.0),
        "AdamW, inflated": _train(codes, alphabet.size, steps, inflated),
    }


def _train(
    codes: jax.Array, letters: int, steps: int, scale: float | optax.Schedule
) -> tuple[float, float]:
    model = Transformer(letters, nnx.Rngs(0))
    optimizer = nnx.Optimizer(
        model,
        optax.chain(optax.adamw(1e-3), hto.truncate_update_norm(0.5)),
        wrt=nnx.Param,
    )

    @nnx.jit(donate_argnums=(0, 1))
    def step(
        model: Transformer, optimizer: nnx.Optimizer, number: jax.Array
    ) -> jax.Array:
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss_per_example(params, batch):
            logits = nnx.merge(graphdef, params, rest)(batch[:, :-1])
            losses = optax.softmax_cross_entropy_with_integer_labels(
                logits, batch[:, 1:]
            )
            # A sequence is one example, and all its letters have the same weight.
            return losses.mean(axis=-1)

        gradient = hto.tail_inflated_value_and_grad(
            loss_per_example, hto.tails.pareto(1.4), scale
        )
        batch_key, key = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
        starts = jax.random.randint(batch_key, (BATCH, 1), 0, codes.size - CONTEXT - 1)
        batch = codes[starts + jnp.arange(CONTEXT + 1)[None]]
        loss, grads = gradient(key, params, batch, step=number)
        optimizer.update(model, grads)
        return loss

    losses = [step(model, optimizer, jnp.int32(number)) for number in range(steps)]
    tenth = max(1, steps // 10)
    first, last = jnp.stack(losses[:tenth]), jnp.stack(losses[-tenth:])
    return float(first.mean()), float(last.mean())


if __name__ == "__main__":
    print("nats a letter, in the first and last tenth of the steps")
    for way, (at_first, at_last) in main().items():
        print(f"{way}: {at_first:.2f}, {at_last:.2f}")
