import subprocess
import sys

import pytest

from heavytail_optax.experiments.flat_settings import flat, replaced
from heavytail_optax.experiments.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_has_a_source(name):
    preset = PRESETS[name]
    assert preset.name == name
    fields = set(flat(preset.settings))
    assert set(preset.sources) == fields
    papers = {"zhu", "theta", "foret", "izmailov", "becker", "li", "kalra"}
    known = {"slides", "ours", *papers}
    assert {source.split(":")[0] for source in preset.sources.values()} <= known


def test_a_changed_value_is_the_users():
    preset = PRESETS["corrupted-digits"]
    changed = replaced(preset.settings, alpha=1.9)
    sources = preset.sources_of(changed)
    assert sources["alpha"] == "user"
    assert {**sources, "alpha": "theta"} == preset.sources


def test_help_of_all_commands_loads_no_heavy_package():
    heavy = ["flax", "orbax", "sklearn", "matplotlib", "scipy.stats", "pandas"]
    program = (
        "import sys; from heavytail_optax import cli\n"
        "for name in cli.SUBCOMMANDS:\n"
        "    assert cli.main([name, '--help']) == 0\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    *pages, loaded = output.splitlines()
    assert len(pages) > 100 and loaded == "[]"
