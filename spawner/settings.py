"""The settings that a session needs itself: `CarmeSpawner` has them, and hands them to its sessions."""

from __future__ import annotations

from traitlets import Dict, Float, HasTraits, Integer, List, Unicode

DAY = 86400  # seconds


class SessionSettings(HasTraits):  # type: ignore[misc]  # traitlets has no types
    """Traits that `CarmeSpawner` and the sessions share: its values are handed over."""

    apptainer = Unicode(
        "apptainer", config=True, help="Name or absolute path of Apptainer's command on the compute nodes."
    )
    clusters = Dict(
        config=True,
        help="""Slurm clusters, when there are several: name -> {"slurm_conf", "slurm_folder"}. A profile's
        `cluster` names one of them; the first is the default. Without this there is one cluster, described by
        slurm_conf and slurm_folder. The name "local" is the hub's own machine, without Slurm.
        Example: {"big": {"slurm_conf": "/etc/slurm-big/slurm.conf"}, "small": {}}""",
    )
    slurm_folder = Unicode(
        "/usr/bin",
        config=True,
        help="Folder of Slurm's commands: sbatch, squeue, sinfo, scancel, scontrol, sacct, sacctmgr, sstat.",
    )
    slurm_conf = Unicode(
        "", config=True, help="SLURM_CONF for these commands; empty for Slurm's own default."
    )
    slurm_time_out = Integer(20, min=1, config=True, help="Seconds after which a Slurm command is given up.")
    server_start_timeout = Integer(
        120,
        min=1,
        config=True,
        help="""Seconds from the job's start until its server has to listen. The time in the queue does not
        count; that is limited by start_timeout.""",
    )
    warn_before = List(
        Float(min=0),
        [15, 5],
        config=True,
        help="""Minutes before the end of a session's time limit in which its owner is warned: in the
        session's terminals, in JupyterLab and Code-Server (with images made from ours), and, from the first
        one on, on the hub's page. Empty for no warning.""",
    )
    # A job may wait in the queue for days, and that is nobody's fault.
    start_timeout = Integer(
        30 * DAY, config=True, help="Seconds a session may take to start, queue included."
    )
    http_timeout = Integer(60, config=True, help="Seconds for the server's first answer after it listens.")
    # All addresses, IPv4 and IPv6: nobody else on the node can have the same port in the other family.
    ip = Unicode("", config=True, help="Address the server listens on; empty for all of its node.")
    env_keep = List(Unicode(), config=True, help="Variables of the hub that sessions get; none by default.")
