"""A small Slurm of any release, out of a folder with that Debian in it, in namespaces of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from carme_hub.demo.run import tail

SCRIPT = Path(__file__).with_name("little_slurm.sh")
PATIENCE = 60  # seconds
# /media is the part of the file system that the cluster shares with whoever looks at it from outside.
MUNGE = "/media/munge/munge.socket.2"
PEOPLE = "rosa:x:20004:20004:Rosa:/media/rosa:/bin/bash\nmia:x:20001:20001:Mia:/media/mia:/bin/bash\n"
COMMANDS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sdiag", "sinfo", "squeue", "srun", "sstat")
# The same programs for a process outside: with the release's own libraries; the configuration is shared.
WRAPPER = """\
#!/bin/sh
root={root}
libraries=$root/usr/lib/x86_64-linux-gnu
loader=$root/lib64/ld-linux-x86-64.so.2
exec "$loader" --library-path "$libraries/slurm-wlm:$libraries" "$root/usr/bin/{name}" "$@"
"""

# Nodes of several kinds. n5 never answers, the cloud's are off until they are needed.
SLURM_CONF = """\
ClusterName=little
SlurmctldHost=head(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket=/media/munge/munge.socket.2
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdSpoolDir=/var/lib/slurm/slurmd-%n
SlurmdPidFile=/run/slurmd-%n.pid
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
ReturnToService=2
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu,shard
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=2
Epilog=/etc/slurm/epilog
SlurmdTimeout=10
ResumeTimeout=30
SuspendTime=INFINITE
ResumeProgram=/bin/true
SuspendProgram=/bin/true
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass=/media/munge/munge.socket.2
AccountingStorageTRES=gres/gpu,gres/shard
AccountingStorageEnforce=associations
EnforcePartLimits=NO
NodeName=DEFAULT CPUs=8 Sockets=2 CoresPerSocket=4 RealMemory=16000
NodeName=n1 NodeHostname=head NodeAddr=127.0.0.1 Port=17001 Gres=gpu:a100:4,shard:16
NodeName=n2 NodeHostname=head NodeAddr=127.0.0.1 Port=17002 Gres=gpu:2
NodeName=n3 NodeHostname=head NodeAddr=127.0.0.1 Port=17003 Gres=gpu:1g.10gb:7,gpu:2g.20gb:3
NodeName=n4 NodeHostname=head NodeAddr=127.0.0.1 Port=17004 CPUs=32 CoresPerSocket=16
NodeName=n5 NodeHostname=head NodeAddr=127.0.0.1 Port=17005
NodeName=n6 NodeHostname=head NodeAddr=127.0.0.1 Port=17006 Gres=gpu:h100:2
NodeName=n7 NodeHostname=head NodeAddr=127.0.0.1 Port=17008
NodeName=cloud[1-2] Port=17007 State=CLOUD
PartitionName=gpu Nodes=n[1-3,6] MaxTime=1-00:00:00 DefaultTime=1:00:00 Default=YES
PartitionName=cpu Nodes=n[1,4-5,7] MaxTime=UNLIMITED
PartitionName=teaching Nodes=n4 MaxTime=4:00:00 DefaultTime=30:00 MaxNodes=1 AllowAccounts=course
PartitionName=hidden Nodes=n4 Hidden=YES DenyAccounts=course
PartitionName=closed Nodes=n4 State=DOWN
PartitionName=cloud Nodes=cloud[1-2] MaxTime=2:00:00
"""
GRES_CONF = """\
AutoDetect=off
NodeName=n1 Name=gpu Type=a100 File=/srv/gpu[0-1] Cores=0-3
NodeName=n1 Name=gpu Type=a100 File=/srv/gpu[2-3] Cores=4-7
NodeName=n1 Name=shard Count=16
NodeName=n2 Name=gpu File=/srv/gpu[0-1]
NodeName=n3 Name=gpu Type=1g.10gb File=/srv/gpu[0-6]
NodeName=n3 Name=gpu Type=2g.20gb File=/srv/gpu[7-9]
NodeName=n6 Name=gpu Type=h100 File=/srv/gpu[0-1]
"""
SLURMDBD_CONF = """\
DbdHost=head
DbdAddr=127.0.0.1
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket=/media/munge/munge.socket.2
PidFile=/run/slurmdbd.pid
LogFile=/var/log/slurm/slurmdbd.log
StorageType=accounting_storage/mysql
StorageLoc=slurm_acct_db
StorageUser=slurm
"""
# A job named in /run/hold stays COMPLETING.
EPILOG = """\
#!/bin/sh
[ "$(cat /run/hold 2>/dev/null)" != "$SLURM_JOB_ID" ] || sleep 600
"""


@dataclass
class LittleSlurm:
    """A running Slurm.

    Attributes
    ----------
    work
        Its folder; ``work/root`` is the machine as its daemons see it, ``work/bin`` has Slurm's commands.
    pid
        A process in its namespaces, which sees the machine's own files and ``work/root``.
    """

    work: Path
    pid: int

    def enter(self) -> list[str]:
        """Return the words before a command that runs in the namespaces, with the machine's own files."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--uts", "--ipc", "--"]

    def words(self, *words: str, user: str | None = None) -> list[str]:
        """Return a command that runs on the cluster's own machine, as root or as a person."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        return [*self.enter(), "chroot", str(self.work / "root"), *become, *words]

    def run(
        self,
        *words: str,
        user: str | None = None,
        stdin: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command on the cluster's own machine and return what it printed."""
        plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(env or {})}
        done = subprocess.run(
            self.words(*words, user=user),
            input=stdin,
            env=plain,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *options: str, script: str = "#!/bin/sh\nsleep 600\n", user: str = "rosa") -> int:
        """Submit a job and return its number."""
        words = ["sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "--mem=100", *options]
        return int(self.run(*words, user=user, stdin=script))


@contextlib.contextmanager
def little_slurm(
    root: Path,
    nodes: Sequence[str] = ("n1", "n2", "n3", "n4", "n6", "n7"),
    slurm_conf: str = SLURM_CONF,
    binds: Mapping[str, str] | None = None,
    library: Path | None = None,
) -> Iterator[LittleSlurm]:
    """Run a Slurm until the block ends.

    Parameters
    ----------
    root
        A folder with Slurm, munge and MariaDB in it; ``/`` for the machine's own.
    nodes
        Those whose slurmd runs.
    slurm_conf
        Its configuration.
    binds
        Folder of the machine -> where the cluster sees it.
    library
        For slurmdbd: a libmariadb.so.3 in place of the release's own.
    """
    work = Path(tempfile.mkdtemp(prefix="little-slurm-"))
    work.chmod(0o755)
    conf = work / "conf"
    conf.mkdir()
    files = {"slurm.conf": slurm_conf, "gres.conf": GRES_CONF, "slurmdbd.conf": SLURMDBD_CONF}
    files |= {"people": PEOPLE, "binds": "".join(f"{a} {b}\n" for a, b in (binds or {}).items())}
    if root != Path("/"):
        files["cgroup.conf"] = "CgroupPlugin=disabled\n"
    for name, text in files.items():
        (conf / name).write_text(text)
    (conf / "epilog").write_text(EPILOG)
    (conf / "epilog").chmod(0o755)
    (conf / "lib").mkdir()
    (work / "bin").mkdir()
    for name in COMMANDS:
        (work / "bin" / name).write_text(WRAPPER.format(root=work / "root", name=name))
        (work / "bin" / name).chmod(0o755)
    if library is not None:
        shutil.copy(library, conf / "lib" / "libmariadb.so.3")
    spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
    with (work / "log").open("wb") as log:
        outer = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                *spaces,
                "bash",
                str(SCRIPT),
                str(root),
                str(work),
                *nodes,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )
    try:
        yield _ready(work, outer, nodes)
    finally:
        outer.kill()
        outer.wait()
        shutil.rmtree(work, ignore_errors=True)


def _ready(work: Path, outer: subprocess.Popen[bytes], nodes: Sequence[str]) -> LittleSlurm:
    deadline = time.monotonic() + PATIENCE
    little = None
    while True:
        assert outer.poll() is None, (work / "log").read_text()
        assert time.monotonic() < deadline, _story(work, little)
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        if children:
            little = LittleSlurm(work, int(children[0]))
            with contextlib.suppress(AssertionError):
                little.run("test", "-e", "/run/ready")
                states = little.run("sinfo", "-N", "-h", "-a", "-n", ",".join(nodes), "-o", "%T").split()
                if states and set(states) <= {"idle", "mixed", "allocated"}:
                    return little
        time.sleep(0.1)


def _story(work: Path, little: LittleSlurm | None) -> str:
    """Return what the daemons said last."""
    files = [work / "log"]
    if little:
        logs = Path(f"/proc/{little.pid}/root{work}/root/var/log")
        files += [logs / "munged.log", *logs.glob("slurm*.log"), *logs.glob("slurm/*.log")]
    return "\n".join(f"== {file.name}\n{tail(file, 8)}" for file in files)
