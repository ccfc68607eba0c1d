"""Profiles on two clusters and on the hub's own machine, with a real hub that is killed in between."""

from __future__ import annotations

import json

import pytest

from tests.integration.fault_world import FaultHub, fault_hub
from tests.support import until
