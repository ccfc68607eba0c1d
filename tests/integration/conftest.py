"""A directory and a hub with our gate for each module that asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.fault_world import CLOSED, FaultHub, clean_up, partition, prepare
from tests.integration.gate_world import Hub, Slapd, gate_config, slapd
from tests.integration.gate_world import hub as gate_hub
from tests.support import Site


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """A real slapd with everybody in it."""
    with slapd(tmp_path_factory.mktemp("directory")) as running:
        yield running


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[Hub]:
    """A real hub; whatever a module's tests did to it, it never answered with a fault of its own."""
    with gate_hub(tmp_path_factory.mktemp("gate") / "hub", gate_config(directory)) as running:
        yield running
        assert " 500 " not in running.log
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def fault_hub(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultHub]:
    """A hub that tests may kill, and a partition that they may close; both are gone afterwards."""
    prepare(site)
    try:
        with FaultHub(site, tmp_path_factory.mktemp("fault")) as running:
            yield running
            running.clear()
    finally:
        clean_up(site)


@pytest.fixture
def hub(site: Site, fault_hub: FaultHub) -> Iterator[FaultHub]:
    """The same hub, without sessions and with a closed partition."""
    partition(site, CLOSED)
    yield fault_hub
    fault_hub.clear()
