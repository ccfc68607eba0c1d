"""Kernels of a session: over Unix sockets, or with a word.

Kernels talk to the server over sockets in a private folder (`KernelManager.transport`). Some cannot: they
know TCP only, or run on another node. Their kernelspec says so, and they get TCP::

    {"argv": ["julia", ...], "metadata": {"carme": {"transport": "tcp"}}}
    {"argv": ["srun", "-n1", "-r1", ...], "metadata": {"carme": {"transport": "tcp", "node": 1}}}

Without that they would wait for ever for a server that waits for them, so the server looks whether the
sockets appear, and says what to do when they do not.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from tornado import web
from traitlets import Float

LOOK = 0.05
COMMAND = 20  # seconds for one of Slurm's commands
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - of another node of the job; messages have a key
LAUNCHER = str(Path(__file__).with_name("ipykernel_local.py"))
PYTHON = re.compile(r"(?:.*/)?python[0-9.]*")
CHANNELS = ("shell_port", "iopub_port", "control_port")
NO_SOCKETS = (
    'The kernel "{name}" does not answer over Unix sockets, which kernels of a session use. If it can '
    'only use TCP, put "metadata": {{"carme": {{"transport": "tcp"}}}} into {folder}/kernel.json and '
    "start it again. Other users of the node can then connect to it."
)
OVER_TCP = (
    'The kernel "%s" listens on TCP, as its kernelspec asks for: other users of the node can connect to it '
    "and, where it does not encrypt, read what it prints."
)


def local(command: list[str]) -> list[str]:
    """Return the command of a kernel, with ipykernel started so that it opens no TCP port.

    Only where a Python is called by itself: what a wrapper calls may be in a place that has no such file.
    """
    if not command or not PYTHON.fullmatch(command[0]):
        return command
    for place, (flag, module) in enumerate(itertools.pairwise(command)):
        if flag == "-m" and module in {"ipykernel_launcher", "ipykernel"}:
            return [*command[:place], LAUNCHER, *command[place + 2 :]]
    return command


def wish_of(metadata: Any) -> tuple[str | None, int | None]:
    """Return the transport, and the node of the session, that a kernelspec's metadata ask for."""
    wish = metadata.get("carme") if isinstance(metadata, dict) else None
    wish = wish if isinstance(wish, dict) else {}
    transport, node = wish.get("transport"), wish.get("node")
    if isinstance(node, bool) or not isinstance(node, int) or node < 0:
        node = None
    return (transport if transport in {"tcp", "ipc"} else None), (node if transport == "tcp" else None)


async def address_of(node: int) -> str:
    """Return the address of one of the session's nodes, counted from 0 as by ``srun --relative``.

    Raises
    ------
    web.HTTPError
        If the session has no such node.
    """
    nodes: list[str] = []
    if there := os.environ.get("SLURM_JOB_NODELIST"):
        program = await asyncio.create_subprocess_exec(
            "scontrol", "show", "hostnames", there, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(program.communicate(), COMMAND)
        nodes = said.decode().split()
    if node >= len(nodes):
        raise web.HTTPError(
            400, f"The kernel asks for node {node}, and this session has {len(nodes)}, from 0."
        )
    found = await asyncio.get_running_loop().getaddrinfo(nodes[node], None, family=socket.AF_INET)
    return str(found[0][4][0])


class SessionKernelManager(ServerKernelManager):  # type: ignore[misc]
    """A kernel of a session."""

    patience = Float(
        60,
        help="""
        Seconds for a kernel to open its Unix sockets. After that it is ended, and its owner told what to do.
        A large environment on a slow file system can take half a minute.
        """,
    ).tag(config=True)
    transport: str
    connection_file: str
    elsewhere = ""  # the address of a kernel on another node

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command to start."""
        return local(super().format_kernel_cmd(extra_arguments))

    async def _async_pre_start_kernel(self, **kwargs: Any) -> Any:
        wish, node = wish_of(self.kernel_spec.metadata)
        if wish and wish != self.transport:
            self.transport = wish
            self.transport_encryption = "auto"  # of kernels whose kernelspec says that they can
            self.ip = self._ip_default()
        if self.transport == "tcp":
            self.log.warning(OVER_TCP, self.kernel_spec.display_name)
        if node is not None:
            await self.lead_to(node)
        return await super()._async_pre_start_kernel(**kwargs)

    async def _async_post_start_kernel(self, **kwargs: Any) -> None:
        if self.transport == "ipc" and not await self.listens():
            self.log.warning("carme: %s opens no sockets", self.kernel_spec.argv)
            await self._async_kill_kernel()
            await self._async_cleanup_resources()
            spec = self.kernel_spec
            raise web.HTTPError(504, NO_SOCKETS.format(name=spec.display_name, folder=spec.resource_dir))
        await super()._async_post_start_kernel(**kwargs)

    pre_start_kernel = _async_pre_start_kernel
    post_start_kernel = _async_post_start_kernel

    async def lead_to(self, node: int) -> None:
        """Have a kernel that its command starts on another node listen there, and talk to it there."""
        self.elsewhere = await address_of(node)
        self.ip = EVERY_ADDRESS  # which it has to be before the start: it is not this node's
        folder = Path.home() / ".local" / "share" / "jupyter" / "runtime"  # both nodes see the home
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.connection_file = str(folder / Path(self.connection_file).name)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
        await super()._async_launch_kernel(kernel_cmd, **kw)
        if self.elsewhere:
            self.ip = self.elsewhere

    _launch_kernel = _async_launch_kernel

    async def listens(self) -> bool:
        """Return whether a kernel opens its sockets in time. Of one that ends before, others tell."""
        sockets = [Path(f"{self.ip}-{getattr(self, channel)}") for channel in CHANNELS]
        end = asyncio.get_running_loop().time() + self.patience
        while not all(path.exists() for path in sockets):
            if not await self.is_alive():
                return True
            if asyncio.get_running_loop().time() > end:
                return False
            await asyncio.sleep(LOOK)
        return True


def setup(serverapp: Any) -> None:
    """Start kernels so from now on."""
    serverapp.kernel_manager.kernel_manager_class = f"{__name__}.{SessionKernelManager.__name__}"
