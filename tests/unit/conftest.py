"""Values that the unit tests share, and golden files."""

from __future__ import annotations

from pathlib import Path

import pytest

from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.request import JobRequest, Person

GOLDEN = Path(__file__).parents[1] / "golden"

IMAGES = {
    "base": {
        "title": "Base",
        "path": "/srv/images/base.sif",
        "apps": ["lab", "code-server"],
        "mounts": ["slurm"],
    },
    "ml": {
        "title": "Machine learning",
        "path": "/srv/images/ml.sif",
        "groups": ["researchers"],
        "mounts": ["datasets", "slurm", "munge"],
    },
}
MOUNTS = {
    "datasets": {"source": "/srv/datasets", "target": "/data", "read_only": True},
    "slurm": {"source": "/etc/slurm", "target": "/etc/slurm", "read_only": True},
    "munge": {"source": "/run/munge", "target": "/run/munge"},
}
PROFILES = [
    {
        "name": "gpu",
        "title": "GPU session",
        "partition": "gpu",
        "account": "research",
        "gpu_types": ["a100", "h100"],
        "max_gpus_per_node": 4,
        "max_nodes": 2,
        "cpus_per_gpu": 2,
        "memory_per_gpu": "2G",
        "max_time": "1-00:00:00",
        "default_time": "2:00:00",
        "groups": ["researchers"],
    },
    {
        "name": "ml101",
        "title": "Machine Learning 101",
        "course": {"material": "/srv/courses/ml101", "notebook": "week1/intro.ipynb"},
        "partition": "teaching",
        "cpus": 1,
        "memory": "1G",
        "max_time": "2:00:00",
        "groups": ["ml101"],
        "images": ["base"],
    },
]


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew")


@pytest.fixture
def catalog():
    return Catalog.load(IMAGES, MOUNTS, PROFILES)


@pytest.fixture
def researcher():
    return Person("rosa", frozenset({"researchers"}))


@pytest.fixture
def student():
    return Person("mia", frozenset({"ml101"}))


@pytest.fixture
def ask(catalog, researcher):
    """Return a function from options to the request of a researcher (or another person)."""
    return lambda options=None, person=researcher: JobRequest.parse(options or {}, catalog, person)


@pytest.fixture
def golden(request):
    """Return a function that compares a text with a file, or writes it with --update-golden."""

    def compare(name, text):
        file = GOLDEN / name
        if request.config.getoption("--update-golden", default=False):
            file.write_text(text)
        assert text == file.read_text()

    return compare
