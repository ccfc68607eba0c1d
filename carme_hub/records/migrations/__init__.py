"""The shapes the tables of `carme_hub.records` had, one after the other."""

from pathlib import Path

from carme_hub.authenticator.shapes import Shapes

SHAPES = Shapes(Path(__file__).parent, "carme_records_version", ("0001",))
