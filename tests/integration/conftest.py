"""A directory and a hub with our gate for each module that asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.gate_world import Hub, Slapd, gate_config, hub, slapd


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A real slapd with everybody in it."""
    with slapd(tmp_path_factory.mktemp("directory")) as running:
        yield running


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[Hub]:
    """A real hub; whatever a module's tests did to it, it never answered with a fault of its own."""
    with hub(tmp_path_factory.mktemp("gate") / "hub", gate_config(directory)) as running:
        yield running
        assert " 500 " not in running.log
        assert "Traceback" not in running.log
