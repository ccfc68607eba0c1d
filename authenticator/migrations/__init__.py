"""The shapes the gate's tables had, one after the other."""

from pathlib import Path

from carme_hub.authenticator.shapes import Shapes

SHAPES = Shapes(Path(__file__).parent, "carme_alembic_version", ("0001", "0002", "0003"))
