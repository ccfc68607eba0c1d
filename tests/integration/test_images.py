"""The job images as a person gets them: run without privileges, each with a namespace of its own.

The images are built on first use (see ``carme_hub.demo.images``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import urllib.parse
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
from playwright.sync_api import sync_playwright
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from carme_hub.checks.node import GUARDED
from carme_hub.demo import apptainer, cache, images, packages

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="building and running images as somebody else needs root"
)

# An account of every Debian machine that nothing runs as, so what listens under its uid is ours.
PERSON = pwd.getpwnam("games")
SECONDS = 60

# $1 is an empty folder for a private /dev/fuse that everybody may use; the rest is the command.
NAMESPACE = """
mount -t tmpfs -o mode=755,size=64k tmpfs "$1"
mknod -m 666 "$1/fuse" c 10 229
mount --bind "$1/fuse" /dev/fuse
shift
cd /
exec "$@"
"""


def say(line):
    print(line)  # noqa: T201 - pytest shows it when a build fails


@dataclass
class Inside:
    """What a test needs to run something in an image as an ordinary person."""

    sifs: dict[str, Path]
    apptainer: Path
    scratch: Path
    home: Path

    def words(self, name, *command):
        return [
            *[
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
            ],
            *["sh", "-euc", NAMESPACE, "sh", str(self.scratch)],
            *[
                "setpriv",
                "--reuid",
                str(PERSON.pw_uid),
                "--regid",
                str(PERSON.pw_gid),
                "--clear-groups",
                "--",
            ],
            *[str(self.apptainer), "--silent", "exec", "--pid", "--ipc", "--containall"],
            *["--home", str(self.home), str(self.sifs[name]), *command],
        ]

    def run(self, name, *command):
        return subprocess.run(
            self.words(name, *command), capture_output=True, text=True, timeout=SECONDS, check=False
        )


@pytest.fixture(scope="module")
def inside():
    packages.ensure(say, packages.DEMO + packages.TEST)
    root = cache.root()
    # Not pytest's own folder: that one is closed to everybody but root.
    folder = Path(tempfile.mkdtemp(prefix="carme-images-"))
    folder.chmod(0o755)
    (folder / "scratch").mkdir()
    home = folder / "home"
    home.mkdir(mode=0o700)
    (home / "hello.txt").write_text("hello\n")
    for path in (home, home / "hello.txt"):
        os.chown(path, PERSON.pw_uid, PERSON.pw_gid)
    sifs = images.ensure(root, images.IMAGES, say)
    yield Inside(sifs, apptainer.command(apptainer.ensure(root, say)), folder / "scratch", home)
    shutil.rmtree(folder)


@dataclass
class Server:
    """JupyterLab, running from the base image."""

    port: int
    token: str
    process: subprocess.Popen

    def url(self, path):
        return urllib.parse.urlunsplit(("http", f"127.0.0.1:{self.port}", f"/user/x/{path}", "", ""))

    def ask(self, path, method="GET", body=None, token=True):
        """Return status and text of an answer; a redirect counts as the page it leads to."""
        headers = {"Authorization": f"token {self.token}"} if token else {}
        answer = requests.request(method, self.url(path), headers=headers, json=body, timeout=SECONDS)
        return answer.status_code, answer.url, answer.text


def wait(what, condition, seconds=SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {seconds} s")


@pytest.fixture(scope="module")
def server(inside, tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    log = tmp_path_factory.mktemp("server") / "log"
    words = inside.words(
        *["base", "jupyter", "lab", "--ip=127.0.0.1", f"--port={port}", "--no-browser"],
        *["--ServerApp.base_url=/user/x/", "--ServerApp.port_retries=0", f"--notebook-dir={inside.home}"],
    )
    with log.open("w") as out:
        process = subprocess.Popen(
            words,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "APPTAINERENV_JUPYTER_TOKEN": token},
            start_new_session=True,
        )
    running = Server(port, token, process)

    def answers():
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(requests.ConnectionError):
            return running.ask("api/status")[0] == 200

    try:
        wait("JupyterLab's answer", answers)
        yield running
    finally:
        # --kill-child ends the PID namespace and with it everything in the container.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=SECONDS)


def listening(uid):
    """Return the TCP ports on which processes of `uid` listen, from proc(5)'s /proc/net/tcp."""
    ports = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and int(words[7]) == uid:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


def test_runs_as_the_person_and_nobody_else(inside):
    done = inside.run("base", "sh", "-c", "id -un; id -u; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'")
    name, uid, first, count = done.stdout.split("\n")[:4]
    assert (name, uid) == (PERSON.pw_name, str(PERSON.pw_uid)), done.stderr
    assert first in {"appinit", "sh"}
    assert int(count) < 10  # a PID namespace of its own


@pytest.mark.parametrize("name", sorted(images.IMAGES))
def test_files_are_for_everybody(inside, name):
    assert stat.S_IMODE(inside.sifs[name].stat().st_mode) & 0o044 == 0o044


def test_versions(inside):
    words = ["import json, importlib.metadata as m", "print(json.dumps({n: m.version(n) for n in NAMES}))"]
    names = ["jupyterhub", "jupyterlab", "jupyter-server-proxy", "numpy", "matplotlib"]
    done = inside.run("base", "python", "-c", "; ".join(words).replace("NAMES", repr(names)))
    found = json.loads(done.stdout)
    assert found["jupyterhub"].split(".")[0] == version("jupyterhub").split(".")[0]
    assert found["jupyterlab"].split(".")[0] == "4"
    assert found["jupyter-server-proxy"].split(".")[0] == "4"
    assert inside.run("base", "jupyterhub-singleuser", "--version").returncode == 0
    assert "with Code" in inside.run("base", "code-server", "--version").stdout


def test_image_has_what_developers_reach_for(inside):
    commands = (
        "gcc g++ gfortran make cmake gdb git git-lfs ssh rsync wget curl vim vi nano less tmux screen htop "
        "zip unzip mpicc mpif90 mpirun nvtop srun sbatch pylsp jupyter code-server"
    )
    look = f"for c in {commands}; do command -v $c >/dev/null || echo $c; done"
    missing = inside.run("base", "sh", "-c", look)
    assert missing.stdout == ""
    program = (
        "#include <mpi.h>\n#include <pmix.h>\n"
        "int main(int n, char **a) { MPI_Init(&n, &a); MPI_Finalize(); return 0; }"
    )
    build = (
        f"cd /tmp && printf '%s' {shlex.quote(program)} > x.c && "
        'mpicc -I "$(echo /usr/lib/*/pmix2/include)" x.c -o x'
    )
    done = inside.run("base", "sh", "-c", f"{build} && mpirun -n 1 ./x && echo built")
    assert done.stdout.endswith("built\n"), done.stderr


def test_image_jupyterlab_has_git_a_language_server_and_the_resources(server):
    settings = json.loads(server.ask("lab/api/settings")[2])["settings"]
    names = {one["id"].partition(":")[0] for one in settings}
    assert {"@jupyterlab/git", "@jupyter-lsp/jupyterlab-lsp", "@jupyter-server/resource-usage"} <= names
    assert "pylsp" in json.loads(server.ask("lsp/status")[2])["sessions"]
    status, _, usage = server.ask("api/metrics/v1")
    assert status == 200
    assert json.loads(usage)["rss"] > 0
    # Nobody reads figures without the token.
    for path in ("api/metrics/v1", "metrics", "lsp/status"):
        status, url, _ = server.ask(path, token=False)
        assert status in {401, 403} or "/login" in url, path


def test_image_a_language_server_speaks_through_pipes_only(server):
    before = listening(PERSON.pw_uid)
    address = server.url("lsp/ws/pylsp").replace("http:", "ws:")
    headers = {"Authorization": f"token {server.token}"}

    async def speak():
        connection = await websocket_connect(HTTPRequest(address, headers=headers))
        asked = {"processId": None, "rootUri": None, "capabilities": {}}
        await connection.write_message(
            json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked})
        )
        while True:
            said = json.loads(await connection.read_message())
            if said.get("id") == 1:
                connection.close()
                return said["result"]["capabilities"]

    capabilities = asyncio.run(asyncio.wait_for(speak(), SECONDS))
    assert capabilities["completionProvider"]
    assert listening(PERSON.pw_uid) == before == {server.port}


def test_image_takes_extensions_of_a_site_and_people_may_add_their_own(inside, tmp_path):
    """What base.def does with a folder of .vsix files, done again in a copy of the image's editor."""
    folder = tmp_path / "site"
    folder.mkdir()
    with zipfile.ZipFile(folder / "an extension.vsix", "w") as packed:
        about = {"name": "hello", "publisher": "site", "version": "1.0.0", "engines": {"vscode": "^1.80.0"}}
        packed.writestr("extension/package.json", json.dumps(about))
        packed.writestr("extension.vsixmanifest", "<x/>")
    text = (images.DEFINITIONS / "base.def").read_text()
    loop = text[text.index("    for vsix in ") :]
    loop = loop[: loop.index("    done\n") + len("    done\n")].replace("/opt/carme", str(tmp_path / "carme"))
    (tmp_path / "carme").mkdir()
    folder.rename(tmp_path / "carme/extensions")
    builtin = tmp_path / "builtin"
    builtin.mkdir()
    done = subprocess.run(
        ["sh", "-euc", f"builtin={builtin}\n{loop}"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = builtin.iterdir()
    assert made.name == "site-an-extension"
    assert json.loads((made / "package.json").read_text())["name"] == "hello"
    # It lies beside those that come with Code-Server, which no extension of a person's hides.
    place = "/opt/code-server/lib/node_modules/code-server/lib/vscode/extensions"
    assert "carme-session-bar" in inside.run("base", "ls", place).stdout.split()


def test_image_code_server_that_cannot_start_says_why(inside):
    script = (
        "code-server-watch /tmp/s sh -c 'echo no room; exit 3' & "
        "for i in $(seq 100); do curl -s --unix-socket /tmp/s http://x/ && break; sleep 0.1; done; kill %1"
    )
    said = inside.run("base", "bash", "-c", script).stdout
    assert "Code-Server ended with exit code 3." in said
    assert "no room" in said


def test_every_python_package_is_the_pinned_one(inside):
    pinned = (images.DEFINITIONS / "constraints.txt").read_text().lower().splitlines()
    frozen = (
        inside.run("ml", "/opt/jupyter/bin/pip", "list", "--format=freeze", "--local").stdout.lower().split()
    )
    assert frozen
    assert set(frozen) <= set(pinned)


def test_the_server_does_not_build_a_parser_that_it_does_not_need(inside):
    program = "import sys, jupyter_events, jsonschema; print('rfc3987_syntax' in sys.modules)"
    assert inside.run("base", "python", "-c", program).stdout == "False\n"


def test_the_image_says_that_its_server_is_guarded(inside):
    assert inside.run("base", "test", "-e", GUARDED).returncode == 0
    assert inside.run("base", "python", "-c", "import carme_session.guard").returncode == 0


def test_a_job_can_name_slurms_user(inside):
    # slurm.conf's SlurmUser has to be known where srun runs.
    assert inside.run("base", "getent", "passwd", "slurm").returncode == 0


def test_libraries_of_one_group_are_not_in_the_other_image(inside):
    assert inside.run("ml", "python", "-c", "import sklearn, pandas").returncode == 0
    assert "No module named 'sklearn'" in inside.run("base", "python", "-c", "import sklearn").stderr


def test_labels(inside):
    done = subprocess.run(
        [inside.apptainer, "inspect", "--json", inside.sifs["ml"]],
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    labels = json.loads(done.stdout)["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.title"] == "ml"
    assert labels["org.opencontainers.image.version"]


def test_nothing_of_the_building_machine_stays(inside):
    script = (
        "cat /etc/apt/sources.list; ls -A /opt/carme /var/lib/apt/lists /mnt; cat /etc/pip.conf /root/.npmrc"
    )
    done = inside.run("base", "sh", "-c", script + " 2>/dev/null")
    assert "bookworm" in done.stdout
    for name in ("PIP_INDEX_URL", "NPM_CONFIG_REGISTRY", "HTTPS_PROXY"):
        if value := os.environ.get(name):
            assert value not in done.stdout
    assert "/mnt" not in inside.run("base", "env").stdout


def test_a_persons_own_packages_reach_kernels_but_not_the_server(inside):
    own = inside.home / ".local/lib/python3.11/site-packages"
    own.mkdir(parents=True)
    (own / "carme_probe.py").write_text("")
    try:
        assert inside.run("base", "python", "-c", "import carme_probe").returncode == 1
        kernel = json.loads(
            inside.run("base", "cat", "/opt/jupyter/share/jupyter/kernels/python3/kernel.json").stdout
        )
        words = [f"{key}={value}" for key, value in kernel["env"].items()]
        assert (
            inside.run("base", "env", *words, kernel["argv"][0], "-c", "import carme_probe").returncode == 0
        )
    finally:
        shutil.rmtree(inside.home / ".local")


def test_code_server_and_kernels_open_no_tcp_port(server):
    assert listening(PERSON.pw_uid) == {server.port}
    status, _, text = server.ask("code-server/")
    assert status == 200
    assert "workbench" in text
    status, _, kernel = server.ask("api/kernels", "POST", {"name": "python3"})
    assert status == 201
    wait("the kernel", lambda: _state(server, json.loads(kernel)["id"]) in {"idle", "starting"})
    # Both run now, and still nothing but the server itself can be reached over the network.
    assert listening(PERSON.pw_uid) == {server.port}


def _state(server, kernel):
    return json.loads(server.ask(f"api/kernels/{kernel}")[2])["execution_state"]


def test_code_servers_socket_is_the_persons_alone(server):
    server.ask("code-server/")
    sockets = [
        Path(line.split()[-1])
        for line in Path(f"/proc/{_code_server()}/net/unix").read_text().splitlines()
        if "jupyter-server-proxy-" in line
    ]
    assert sockets
    root = Path(f"/proc/{_code_server()}/root")
    for path in set(sockets):
        found = root / path.relative_to("/")
        assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
        assert found.parent.stat().st_uid == PERSON.pw_uid


def _code_server():
    """Return the process id of Code-Server in the container of this test."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"--socket" in words and folder.stat().st_uid == PERSON.pw_uid:
                return int(folder.name)
    raise AssertionError("no Code-Server runs")


def test_without_the_token_there_is_no_code_server(server):
    status, url, text = server.ask("code-server/", token=False)
    assert status == 403 or "/login" in url
    assert "workbench" not in text


def test_other_hosts_are_not_proxied(server):
    assert server.ask("proxy/192.0.2.1:80/")[0] == 403


def test_lab_and_code_server_in_a_browser(server):
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.url(f"lab?token={server.token}&reset"))
        page.locator('.jp-LauncherCard[title*="Code-Server"]').first.wait_for(timeout=SECONDS * 1000)
        sockets = []
        page.on("websocket", lambda opened: sockets.append(opened.url))
        page.goto(server.url("code-server/"))
        # The name of a file of the home comes through Code-Server's own websockets.
        page.get_by_role("treeitem", name="hello.txt").wait_for(timeout=SECONDS * 1000)
        assert any("/user/x/code-server/" in address for address in sockets)
        assert page.title().endswith("Code-Server")
        browser.close()
