import jax
import jax.numpy as jnp
import numpy as np

from heavytail_optax.experiments.checkpoints import Checkpoints
from heavytail_optax.experiments.training import build_trainer


def test_nothing_saved_is_none(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore_latest({"a": jnp.zeros(3)}) is None


def test_state_comes_back_with_its_structure(tiny, tmp_path):
    for method in ("sgd", "balanced", "truncated-heavy-tailed-sgd"):
        state = build_trainer(tiny, method, (16, 16, 1), 10).init()
        blank = jax.tree.map(jnp.zeros_like, state)
        with Checkpoints(tmp_path / method) as checkpoints:
            checkpoints.save(3, blank)
            checkpoints.save(5, state)
        with Checkpoints(tmp_path / method) as checkpoints:
            restored = checkpoints.restore_latest(blank)
        assert jax.tree.structure(restored) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        dtypes = [
            [leaf.dtype for leaf in jax.tree.leaves(t)] for t in (restored, state)
        ]
        assert dtypes[0] == dtypes[1]


def test_only_the_newest_are_kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(5):
            checkpoints.save(step, {"a": jnp.full(3, step)})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"3", "4"}


def test_a_checkpoint_that_was_cut_short_is_not_seen(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.ones(3)})
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "default").write_text("half")
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest({"a": jnp.zeros(3)})
    np.testing.assert_array_equal(restored["a"], np.ones(3))


def test_a_saved_state_does_not_follow_a_donated_one(tmp_path):
    advance = jax.jit(lambda x: {"a": x["a"] + 1}, donate_argnums=0)
    x = {"a": jnp.zeros(100_000)}
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(3):
            checkpoints.save(step, x)
            x = advance(x)
        restored = checkpoints.restore_latest(x)
    np.testing.assert_array_equal(restored["a"], np.full(100_000, 2.0))
