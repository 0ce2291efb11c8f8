"""What is handed out: the wheel, the source distribution, and what they install."""

import datetime
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

import pytest

import heavytail_optax as hto

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

CHAIN = """
import sys
import jax, jax.numpy as jnp, optax
import heavytail_optax as hto

assert "site-packages" in hto.__file__, hto.__file__
assert not {"flax", "scipy", "matplotlib"} & set(sys.modules)
optimizer = optax.chain(
    hto.add_heavy_tailed_noise(hto.tails.symmetric_pareto(1.4), 0.1, key=0),
    optax.sgd(0.05),
    hto.truncate_update_norm(0.25),
)
params = jnp.ones(3)
updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
assert 0.0 < float(optax.tree.norm(updates)) <= 0.2501
print(hto.__version__)
"""


def run(*command, cwd, check=True):
    """Runs a command away from the checkout, so that only what is installed is found."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=check,
        timeout=900,
    )


def clean_environment():
    """The environment without what would let a checkout or another one shine through."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "XLA_FLAGS")
    return {name: value for name, value in os.environ.items() if name not in hidden}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the source distribution, built with what is installed here."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = (sys.executable, "-m", "hatchling", "build", "-d", folder)
    run(*command, cwd=ROOT)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def test_version_has_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", hto.__version__)


def test_changelog_has_a_dated_section_of_this_version():
    """Above it, nothing but the heading for what comes next."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    version, date = headings[1].split(" - ")
    assert (headings[0], version) == ("Unreleased", hto.__version__)
    datetime.date.fromisoformat(date)


def test_readme_says_how_to_cite_the_paper_and_this_version():
    text = (ROOT / "README.md").read_text("utf-8").split("## How to cite")[1]
    (bibtex,) = re.findall(r"```bibtex\n(.*?)```", text, re.DOTALL)
    paper, package = bibtex.split("@")[1:]
    assert paper.startswith("inproceedings{") and "2102.04297" in paper
    fields = dict(re.findall(r"(\w+) += \{(.+)\},", package))
    assert fields["version"] == hto.__version__
    for entry in (paper, package):
        assert entry.count("{") == entry.count("}")
        assert re.search(r"\bauthor +=", entry) and re.search(r"\byear +=", entry)


def test_oldest_versions_are_those_of_the_lane():
    lane = dict(
        line.split("==")
        for line in (ROOT / ".ci" / "oldest.txt").read_text("utf-8").splitlines()
        if not line.startswith("#")
    )
    extras = PROJECT["optional-dependencies"]
    wanted = list(PROJECT["dependencies"])
    for extra in ("experiments", "cluster", "tensorboard", "hub"):
        wanted += extras[extra]
    bounds = dict(re.match(r"([\w-]+)>=([\d.]+)", each).groups() for each in wanted)
    assert set(lane) - set(bounds) == {"jaxlib"}

    def numbers(version, length):
        return tuple(int(part) for part in version.split("."))[:length]

    for name, bound in bounds.items():
        length = bound.count(".") + 1
        assert numbers(lane[name], length) == numbers(bound, length), name
        assert not any(numbers(lane[name], None)[length:]), name


def test_wheel_holds_the_package_and_nothing_else(distributions):
    wheel, _ = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(record).decode("utf-8")
    info = record.removesuffix("/METADATA")
    assert {name.split("/")[0] for name in names} == {"heavytail_optax", info}
    assert "heavytail_optax/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    in_checkout = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "heavytail_optax").rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == in_checkout
    assert f"\nVersion: {hto.__version__}\n" in metadata
    requirements = re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)
    core = [each for each in requirements if "extra ==" not in each]
    assert sorted(re.split(r"[><=]", each)[0] for each in core) == ["jax", "optax"]


def test_source_distribution_can_be_tested(distributions):
    _, source = distributions
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for name in ("LICENSE", "README.md", "tests/conftest.py", "docs/conf.py"):
        assert name in names, name


def make_environment(folder, *requirements):
    """A virtual environment with these installed; its folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", *requirements, cwd=folder)
    return programs


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 1], ids=["wheel", "source"])
def test_core_alone(distributions, tmp_path, kind):
    programs = make_environment(tmp_path / "core", distributions[kind])
    output = run(programs / "python", "-c", CHAIN, cwd=tmp_path).stdout
    assert output.splitlines()[-1] == hto.__version__

    command = programs / "heavytail"
    assert "usage: heavytail" in run(command, "--help", cwd=tmp_path).stdout
    for name in ("train", "flatness", "simulate"):
        result = run(command, name, "--help", cwd=tmp_path, check=False)
        assert result.returncode == 1
        assert 'pip install "heavytail-optax[experiments' in result.stdout
        assert "Traceback" not in result.stdout


@pytest.mark.slow
def test_experiments(distributions, tmp_path):
    wheel = f"{distributions[0]}[experiments]"
    programs = make_environment(tmp_path / "full", wheel)
    result = run(
        *(programs / "heavytail", "train", "--preset", "corrupted-digits-short"),
        *("--methods", "balanced", "--steps", "5", "--eval-every", "5"),
        cwd=tmp_path,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert list(tmp_path.rglob("metrics*")), result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra, module",
    [
        ("cluster", "submitit"),
        ("tensorboard", "tensorboardX"),
        ("hub", "huggingface_hub"),
        ("docs", "sphinx"),
    ],
)
def test_other_extras(distributions, tmp_path, extra, module):
    programs = make_environment(tmp_path / extra, f"{distributions[0]}[{extra}]")
    imports = f"import heavytail_optax, {module}"
    run(programs / "python", "-c", imports, cwd=tmp_path)
