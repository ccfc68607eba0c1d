"""The last picture of each cluster: a service that starts while Slurm is away has something to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from carme_hub.authenticator.database import write
from carme_hub.records.tables import setting
from carme_hub.records.values import cut

if TYPE_CHECKING:
    from collections.abc import Mapping


def get(engine: sa.Engine, cluster: str) -> dict[str, Any] | None:
    """Return the picture of a cluster; None when there is none."""
    query = sa.select(setting.c.value).where(setting.c.key == _key(cluster))
    with engine.connect() as connection:
        value = connection.execute(query).scalar()
    return value if isinstance(value, dict) else None


def keep(engine: sa.Engine, cluster: str, picture: Mapping[str, Any]) -> None:
    """Keep a picture, a value for JSON, in the place of the one before."""
    with write(engine) as connection:
        connection.execute(setting.delete().where(setting.c.key == _key(cluster)))
        connection.execute(setting.insert().values(key=_key(cluster), value=dict(picture)))


def _key(cluster: str) -> str:
    return cut(setting.c.key, f"picture:{cluster}")
