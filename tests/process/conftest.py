"""Fixtures: a tqfpm of one's own in a folder of its own, with PHP scripts, on free ports."""
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from server import Nginx, Server


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("these tests start daemons as root and look at who the workers are: run them as root", 2)
    config.addinivalue_line("markers", "serial: looks at the whole machine, or changes what all tests share: not beside others")
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def folder():
    """A folder that every user may enter, in a short path (Unix sockets take 107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="tq."))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(folder):
    """A function that makes a Server; each is stopped at the end and must have left nothing behind."""
    made = []

    def make(**settings):
        made.append(Server(folder, number=len(made), **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def nginx(folder):
    made = []

    def make(*arguments, **settings):
        made.append(Nginx(folder, *arguments, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
