"""Training jobs on real data: what the command `heavytail` runs.

Needs the extra: `pip install "heavytail-optax[experiments]"`. Nothing here is imported
by `import heavytail_optax`, and `settings`, `presets` and `train_command` load without
Flax, Orbax, scikit-learn and Matplotlib, so that `--help` stays quick.
"""
