"""Has the status bar show what this session may use, not what the node has.

jupyter-resource-usage takes its limits from its settings; Slurm says in the environment what it gave.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIB = 1 << 20


def memory(environ: Mapping[str, str] = os.environ) -> int:
    """Return the session's memory on this node in bytes; 0 where Slurm says nothing of it."""
    if whole := _number(environ, "SLURM_MEM_PER_NODE"):
        return whole * _MIB
    return _number(environ, "SLURM_MEM_PER_CPU") * _number(environ, "SLURM_CPUS_PER_TASK") * _MIB


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def setup(serverapp: Any) -> None:
    """Set the limits before jupyter-resource-usage is loaded: extensions are, by name."""
    shown = serverapp.config.ResourceUseDisplay
    for name, limit in (("mem_limit", memory()), ("cpu_limit", _number(os.environ, "SLURM_CPUS_PER_TASK"))):
        if limit and name not in shown:
            shown[name] = limit
