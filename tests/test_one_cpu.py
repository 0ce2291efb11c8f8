"""The noise once more with one device: the other tests see eight."""

import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).parent


def test_noise_on_one_cpu():
    files = [TESTS / "test_noise.py", TESTS / "test_noise_traces.py"]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *files],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        cwd=TESTS.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on one CPU" not in done.stdout, done.stdout
