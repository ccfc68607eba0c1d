"""The site's one description: read `jupyterhub_config.py` outside the hub, as the hub reads it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from traitlets import TraitError
from traitlets.config import Config, PyFileConfigLoader

SITE_PATH = "/etc/jupyterhub/jupyterhub_config.py"


def default_path() -> str:
    """Return the configuration that is meant when none is named."""
    return os.environ.get("CARME_CONFIG") or SITE_PATH


def load(path: str) -> Config:
    """Return the configuration in `path`.

    Raises
    ------
    SystemExit
        When there is no such file, or it cannot be run.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise SystemExit(
            f"carme: there is no configuration at {file}. Name the site's jupyterhub_config.py with --config."
        )
    try:
        loaded: Config = PyFileConfigLoader(file.name, path=str(file.parent)).load_config()
    except (OSError, SyntaxError, NameError) as error:
        raise SystemExit(f"carme: {file} cannot be read: {error}") from None
    return loaded


def check(config: Config) -> int:
    """Say whether images, mounts and profiles are in order; return the exit code."""
    from carme_hub.spawner.spawner import check_config  # noqa: PLC0415  it brings JupyterHub with it

    try:
        catalog = check_config(config)
    except (ValueError, TraitError) as error:
        sys.stderr.write(f"carme: {error}\n")
        return 1
    counts = f"{len(catalog.images)} images, {len(catalog.mounts)} mounts, {len(catalog.profiles)} profiles"
    sys.stdout.write(f"{counts}: in order\n")
    return 0
