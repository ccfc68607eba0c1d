"""Image, mounts and home folder -> the Apptainer command line, as a list of words. A pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carme_hub.spawner.values import absolute_path

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest


def command(request: JobRequest, home: str, apptainer: str = "apptainer") -> list[str]:
    """Return the words that run something in the container of a session; the program's words follow.

    Parameters
    ----------
    request
        Names image, mounts and GPUs.
    home
        The person's home folder, absolute; the only folder besides the mounts that the session sees.
    apptainer
        Name or path of Apptainer's command on the compute nodes.

    Returns
    -------
    list of str
        Words, none of which needs a shell.

    Raises
    ------
    ValueError
        When the home folder's path cannot be written as a mount.

    Notes
    -----
    - ``--containall``: own PID, IPC and mount namespaces, a /dev with the few devices every program needs,
      private /tmp, /var/tmp and /dev/shm, and none of the node's environment. ``--pid`` and ``--ipc`` are
      part of it and written out because they matter.
    - /tmp would be a small piece of memory; the script sets ``APPTAINER_WORKDIR`` to a private folder on the
      node's disk, which Apptainer then uses for it.
    - ``--quiet``: warnings and errors only, so that the end of the log is about the session.
    - ``--no-mount``: what the node's apptainer.conf would add (``bind path``, the other file systems, the
      current folder) is not the site's definition of this image. /etc/hosts is, else the hub has no name.
    - ``--no-eval``: values of variables are handed in as they are, not evaluated by a shell once more.
    - no ``--writable-tmpfs``: what is written outside home and mounts would be lost with the session and use
      up its memory; an error at once is better.
    - ``--nv`` shows the devices of all GPUs; which of them can be opened is decided by Slurm's control group.
    """
    absolute_path(home)
    words = [apptainer, "--quiet", "exec", "--containall", "--pid", "--ipc", "--no-eval"]
    words += ["--no-mount", "hostfs,cwd,bind-paths", "--home", f"{home}:{home}", "--pwd", home]
    if request.gpus:
        words.append("--nv")
    words += ["--bind", "/etc/hosts:/etc/hosts:ro"]
    for mount in request.mounts:
        words += ["--bind", f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"]
    return [*words, request.image.path]
