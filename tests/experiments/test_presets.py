import subprocess
import sys

import pytest

from heavytail_optax.experiments.presets import PRESETS
from heavytail_optax.experiments.settings import flat, replaced


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_has_a_source(name):
    preset = PRESETS[name]
    assert preset.name == name
    fields = set(flat(preset.settings))
    assert set(preset.sources) == fields
    known = {"slides", "zhu", "theta", "foret", "izmailov", "ours"}
    assert {source.split(":")[0] for source in preset.sources.values()} <= known


def test_a_changed_value_is_the_users():
    preset = PRESETS["corrupted-digits"]
    changed = replaced(preset.settings, alpha=1.9)
    sources = preset.sources_of(changed)
    assert sources["alpha"] == "user"
    assert {**sources, "alpha": "theta"} == preset.sources


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "experiments.presets",
        "experiments.settings",
        "experiments.commands.train",
    ],
)
def test_schema_loads_no_heavy_package(module):
    heavy = ["flax", "orbax", "sklearn", "matplotlib", "scipy.stats"]
    program = (
        f"import sys, heavytail_optax.{module}; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"
