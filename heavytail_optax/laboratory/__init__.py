"""The laboratory's commands: simulate, exit-times and markov-chain.

Needs the extra: `pip install "heavytail-optax[experiments]"`. Nothing here is imported by
`import heavytail_optax`; the modules whose name ends in `_command` load without JAX's
compiler and Matplotlib having to start, so that `--help` stays quick.
"""
