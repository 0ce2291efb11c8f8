"""How often the noise of many leaves is traced, and that this changes nothing."""

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import heavytail_optax as hto

TREE = [jnp.zeros((8 + index % 2, 4)) for index in range(10)]


@dataclasses.dataclass(frozen=True)
class Counting:
    """Symmetric Pareto law that counts how often its `sample` runs, by its index."""

    alpha: float

    is_centred = True
    right_tail_weight = 0.5
    samples: ClassVar[dict[float, int]] = {}

    @property
    def tail_index(self):
        return self.alpha

    def sample(self, key, shape=(), dtype=jnp.float32, *, out_sharding=None):
        self.samples[float(self.alpha)] = self.number + 1
        law = hto.tails.symmetric_pareto(self.alpha)
        return law.sample(key, shape, dtype, out_sharding=out_sharding)

    def tail_probability(self, x):
        return hto.tails.symmetric_pareto(self.alpha).tail_probability(x)

    @property
    def number(self):
        return self.samples.get(float(self.alpha), 0)


class CountingPytree(Counting):
    """The same, known to JAX."""


jax.tree_util.register_dataclass(CountingPytree, data_fields=["alpha"], meta_fields=[])


def noise_of(tail, update=jax.jit):
    transformation = hto.add_heavy_tailed_noise(tail, 1.0, key=3)
    return update(transformation.update)(TREE, transformation.init(TREE))[0]


def test_leaves_of_one_shape_share_a_trace():
    tail = CountingPytree(1.25)
    noise = noise_of(tail)
    assert tail.number == 2
    chex.assert_trees_all_equal(noise, noise_of(hto.tails.symmetric_pareto(1.25)))
    # Where JAX cannot see into a tail each leaf draws by itself, the same.
    opaque = Counting(1.26)
    noise = noise_of(opaque)
    assert opaque.number == 10
    chex.assert_trees_all_equal(noise, noise_of(hto.tails.symmetric_pareto(1.26)))


@pytest.mark.parametrize("alpha", [1.27, 1.28])
def test_outside_of_jit_nothing_is_traced_anew(alpha):
    tail = CountingPytree(alpha)
    transformation = hto.add_heavy_tailed_noise(tail, 1.0, key=0)
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), TREE)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), transformation.init(TREE))
    for _ in range(3):
        if alpha == 1.27:
            transformation.update(TREE, transformation.init(TREE))
        else:
            jax.vmap(transformation.update)(batch, states)
    assert tail.number == 2


def test_gradients_pass_through_a_traced_index():
    def size(alpha):
        noise = noise_of(hto.tails.symmetric_pareto(alpha), lambda update: update)
        return sum(jnp.log(jnp.abs(leaf)).sum() for leaf in noise)

    # |Z| = U^(-1/alpha), so that alpha d log|Z| / d alpha is -log|Z|.
    value, slope = jax.value_and_grad(size)(1.4)
    np.testing.assert_allclose(1.4 * slope, -value, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(size))(1.4), slope, rtol=1e-5)
