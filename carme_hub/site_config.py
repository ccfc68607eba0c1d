"""The site's one description: read `jupyterhub_config.py` outside the hub, as the hub reads it."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

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
    except Exception as error:  # noqa: BLE001 - it is a program, and may fail in every way
        raise SystemExit(f"carme: {_where(error, file)} cannot be run: {_said(error)}") from None
    return loaded


def _where(error: Exception, file: Path) -> str:
    """Name the line of a configuration that failed."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}, line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f"{file}, line {lines[-1]}" if lines else str(file)


def _said(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
