import signal
import subprocess
import sys

import pytest
from rich.console import Console

from heavytail_optax.experiments.errors import StoppedError
from heavytail_optax.experiments.terminal import Progress, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_noted(number):
    before = signal.getsignal(number)
    notes = []
    with StopRequest(lambda: notes.append("stopping")) as stop:
        assert not stop.is_set()
        assert stop.exit_status == 0
        signal.raise_signal(number)
        assert stop.is_set()
    assert notes == ["stopping"]
    assert stop.exit_status == 128 + number
    assert signal.getsignal(number) is before


def test_second_signal_ends_the_process():
    program = (
        "import signal, time; "
        "from heavytail_optax.experiments.terminal import StopRequest\n"
        "with StopRequest(lambda: print('stopping', flush=True)):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(0.5)\n"
        "    print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('not reached', flush=True)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert process.returncode == -signal.SIGINT
    assert process.stdout == "stopping\nstill here\n"


def test_signals_are_heard_while_no_line_of_python_ends():
    """As while XLA compiles."""
    program = (
        "import hashlib, os, threading, time\n"
        "from heavytail_optax.experiments.terminal import StopRequest\n"
        "def press():\n"
        "    for _ in range(2):\n"
        "        time.sleep(0.3)\n"
        "        os.kill(os.getpid(), 2)\n"
        "with StopRequest(lambda: print('stopping', flush=True)):\n"
        "    threading.Thread(target=press).start()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**8)\n"
        "print('not reached', flush=True)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 128 + signal.SIGINT
    assert process.stdout == "stopping\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_the_decoding_of_images(number):
    with Progress(Console(quiet=True)) as progress:
        progress.reading(1, 2)
        signal.raise_signal(number)
        with pytest.raises(StoppedError) as error:
            progress.reading(1, 2)
    assert error.value.exit_status == 128 + number
