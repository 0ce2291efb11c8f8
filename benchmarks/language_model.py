r"""Curvature of a transformer of 30 million parameters with a vocabulary of 50,304.

The largest eigenvalue by five products of Lanczos' algorithm and one more for its
residual, with the Hessian and with the Gauss-Newton matrix. Each case is a process of its
own, which reports its peak memory; what XLA says that the program takes stands beside.

    python benchmarks/language_model.py --out benchmarks/results/language_model.csv
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import optax
import result_file

from heavytail_optax import flatness

VOCABULARY, WIDTH, LAYERS, HEADS = 50_304, 384, 6, 6
LENGTH, EXAMPLES = 128, 2
MATVECS = 5
CASES = {
    "gradient": {},
    "Hessian": {"matrix": "hessian"},
    "Hessian, closed cross-entropy": {"matrix": "hessian", "closed": True},
    "Gauss-Newton": {"matrix": "gauss-newton"},
    "Gauss-Newton, closed cross-entropy": {"matrix": "gauss-newton", "closed": True},
    "Gauss-Newton, closed, blocks checkpointed": {
        "matrix": "gauss-newton",
        "closed": True,
        "checkpointed": True,
    },
    "Gauss-Newton, closed, an example at a time": {
        "matrix": "gauss-newton",
        "closed": True,
        "batched": True,
    },
    # Its loss is computed in bfloat16, so the weights are cast first.
    "Hessian of bfloat16 weights": {"matrix": "hessian", "closed": True, "half": True},
}


def first_weights(
    key, vocabulary=VOCABULARY, width=WIDTH, layers=LAYERS, length=LENGTH
):
    """Normal ones, with the usual standard deviation of 0.02."""
    shapes = {
        "queries": (width, 3 * width),
        "joined": (width, width),
        "up": (width, 4 * width),
        "down": (4 * width, width),
    }
    whole = {"tokens": (vocabulary, width), "places": (length, width)}
    blocks = [{k: (*shape,) for k, shape in shapes.items()} for _ in range(layers)]
    tree = {**whole, "blocks": blocks}
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(key, len(leaves))
    draws = [0.02 * jax.random.normal(k, s) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, draws)


def normalised(x):
    """Layer normalisation without parameters."""
    return jax.nn.standardize(x, axis=-1)


def block(weights, x):
    """Causal attention and two dense layers, each beside a shortcut."""
    heads = (*x.shape[:-1], 3, HEADS, x.shape[-1] // HEADS)
    q, k, v = jnp.moveaxis((normalised(x) @ weights["queries"]).reshape(heads), -3, 0)
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    x = x + mixed.reshape(x.shape) @ weights["joined"]
    return x + jax.nn.gelu(normalised(x) @ weights["up"]) @ weights["down"]


def predict(params, tokens, targets, *, apply=block):
    """The logits of the next token at each place."""
    del targets
    x = params["tokens"][tokens] + params["places"]
    for weights in params["blocks"]:
        x = apply(weights, x)
    return normalised(x) @ params["tokens"].T


def checkpointed(params, tokens, targets):
    """The same; the backward pass computes each block again."""
    return predict(params, tokens, targets, apply=jax.checkpoint(block))


def loss_by_optax(logits, tokens, targets):
    del tokens
    of_each = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return of_each.mean()


def loss_in_closed_form(logits, tokens, targets):
    del tokens
    return flatness.softmax_cross_entropy(logits, targets).mean()


def measure(name):
    """One case in this process."""
    case = CASES[name]
    params = first_weights(jax.random.key(0))
    tokens = jax.random.randint(
        jax.random.key(1), (EXAMPLES, LENGTH + 1), 0, VOCABULARY
    )
    data = tokens[:, :-1], tokens[:, 1:]
    outputs = checkpointed if case.get("checkpointed") else predict
    of_outputs = loss_in_closed_form if case.get("closed") else loss_by_optax

    def plain(params, *data):
        return of_outputs(outputs(params, *data), *data)

    is_gauss_newton = case.get("matrix") == "gauss-newton"
    loss = flatness.gauss_newton_loss(outputs, of_outputs) if is_gauss_newton else plain
    if case.get("batched"):
        loss = flatness.mean_over_batches(loss, 1)
    if case.get("half"):
        half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
        params = jax.tree.map(lambda x: x.astype(jnp.float32), half)

    def eigenvalue(params, *data):
        return flatness.hessian_eigenvalues(
            loss, params, key=2, args=data, num_matvecs=MATVECS
        )

    work = jax.grad(plain) if name == "gradient" else eigenvalue
    started = time.perf_counter()
    program = jax.jit(work).lower(params, *data).compile()
    compiled = time.perf_counter()
    processor = time.process_time()
    result = jax.block_until_ready(program(params, *data))
    done, used = time.perf_counter(), time.process_time() - processor
    products = 1 if name == "gradient" else MATVECS + 1
    known = isinstance(result, flatness.HessianEigenvalues)
    return {
        "case": name,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "tokens": EXAMPLES * LENGTH,
        "products": products,
        "top_eigenvalue": round(float(result.values[0]), 4) if known else "",
        "residual": float(f"{float(result.residuals[0]):.2g}") if known else "",
        "seconds_to_compile": round(compiled - started, 1),
        "seconds": round(done - compiled, 1),
        "processor_seconds_a_product": round(used / products, 2),
        "program_gb": round(program.memory_analysis().temp_size_in_bytes / 1e9, 2),
        "peak_gb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--only", nargs="+", choices=CASES, default=[*CASES])
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case)))
        return
    rows = []
    for name in arguments.only:
        output = subprocess.run(
            [sys.executable, __file__, "--case", name],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        rows.append(json.loads(output.splitlines()[-1]))
        print(rows[-1], flush=True)
        result_file.write(arguments.out, rows, 1)


if __name__ == "__main__":
    main()
