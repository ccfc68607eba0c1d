"""`carme check`: files with one mistake each, and the very line that it brings, to be read by whoever judges it."""

# ruff: noqa: E501 - a line of output stands here as it is printed

from __future__ import annotations

import json
import re
from pathlib import Path

import certifi
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from carme_hub import cli
from carme_hub.authenticator.secretbox import new_key_file

RIGHT = """\
import carme_hub

c = get_config()
carme_hub.configure(c)
c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.db_url = "sqlite:///TMP/hub.sqlite"
c.CarmeAuthenticator.server_address = ["ldap.example.org"]
c.CarmeAuthenticator.bind_dn_template = "uid={username},ou=people,dc=example,dc=org"
c.CarmeAuthenticator.group_search_base = "ou=groups,dc=example,dc=org"
c.CarmeAuthenticator.admin_groups = {"hpc-admins"}
c.CarmeAuthenticator.database_url = "sqlite:///TMP/carme.sqlite"
c.CarmeAuthenticator.secret_key_file = "TMP/carme.key"
c.CarmeAuthenticator.audit_file = "TMP/audit.jsonl"
c.CarmeSpawner.images = {
    "base": {"title": "Base", "path": "/images/base.sif", "apps": ["lab", "code-server"]},
    "ml": {"title": "ML", "path": "/images/ml.sif", "groups": ["researchers"], "mounts": ["data"]},
}
c.CarmeSpawner.mounts = {"data": {"source": "/beegfs/data", "target": "/data", "read_only": True}}
c.CarmeSpawner.profiles = [
    {"name": "gpu", "title": "GPU session", "description": "One or more GPUs.", "partition": "gpu",
     "gpu_type": "a100", "max_gpus_per_node": 4, "max_nodes": 2, "cpus_per_gpu": 8, "memory_per_gpu": "32G",
     "max_time": "1-00:00:00", "default_time": "2:00:00", "groups": ["researchers"]},
    {"name": "ml101", "title": "Machine Learning 101", "partition": "teaching", "cpus": 2, "memory": "4G",
     "max_time": "2:00:00", "images": ["base"],
     "course": {"material": "/courses/ml101", "notebook": "week1/intro.ipynb"}},
]
c.CarmeSpawner.limits = {"max_running": 3}
"""

# What is written in place of what (or at the end, in place of nothing), and the line that it brings.
# fmt: off
WRONG = [
    ("carme_hub.configure(c)\n", "", "carme_hub.configure(c): it is missing, so that this is a JupyterHub without carme-hub. Write it below `c = get_config()`, before all settings"),
    ("", "c.CarmeSpawner.profile = []", 'c.CarmeSpawner: unknown name "profile", did you mean "profiles"?'),
    ("", 'c.CarmeAuthenticator.admin_group = {"x"}', 'c.CarmeAuthenticator: unknown name "admin_group", did you mean "admin_groups"?'),
    ("", "c.CarmeSpawnr.images = {}\nc.CarmeSpawnr.start_timeout = 3", 'c.CarmeSpawnr: there is no class "CarmeSpawnr", did you mean "CarmeSpawner"?'),
    ("", 'c.LocalProcessSpawner.shell_cmd = ["bash"]', "c.LocalProcessSpawner: no part of this hub is of this class; its settings have no effect"),
    ("", 'c.JupyterHub.bind_ulr = "http://:8000"', 'c.JupyterHub: unknown name "bind_ulr", did you mean "bind_url"?'),
    ("", "c.jupyterhub = 3", 'c.jupyterhub: there is no class "jupyterhub", did you mean "JupyterHub"?'),
    ("", 'c.CarmeSpawner.start_timeout = "1 day"', 'CarmeSpawner.start_timeout: a whole number is needed, not "1 day"'),
    ("", "c.CarmeSpawner.server_start_timeout = 0", "CarmeSpawner.server_start_timeout: at least 1 is needed, not 0"),
    ("", 'c.CarmeSpawner.profiles = {"gpu": {}}', "CarmeSpawner.profiles: a list is needed, not {'gpu': {}}"),
    ("", 'c.CarmeAuthenticator.enrolment = "tokens"', 'CarmeAuthenticator.enrolment: unknown value "tokens", did you mean "token"?'),
    ("", 'c.CarmeSpawner.mem_limit = "4G"', "CarmeSpawner.mem_limit: it has no effect: Slurm limits a session to what its profile says: set memory or memory_per_gpu in CarmeSpawner.profiles"),
    ("", 'c.CarmeAuthenticator.auth_state_attributes = ["mail"]', "CarmeAuthenticator.auth_state_attributes: it cannot be set: carme-hub keeps no attributes of people; names, groups and the admin's right come with each login"),
    ("", 'c.CarmeAuthenticator.admin_groups = {"cn=admins,ou=groups,dc=example,dc=org"}', "CarmeAuthenticator.admin_groups: it takes names (cn) of groups, not DNs: 'cn=admins,ou=groups,dc=example,dc=org'"),
    ("", "c.CarmeSpawner.profiles = []", "CarmeSpawner.profiles: there is no profile, so nobody can start a session. Describe one"),
    ("", 'c.CarmeSpawner.images = {}\nc.CarmeSpawner.profiles = [{"name": "p", "title": "P"}]', "CarmeSpawner.images: there is no image, so nobody can start a session. Describe one"),
    ('"description": "One', '"desciption": "One', 'CarmeSpawner.profiles, profile "gpu": unknown name "desciption", did you mean "description"?'),
    ('"title": "GPU session", ', "", 'CarmeSpawner.profiles, profile "gpu": "title" is missing; add it'),
    ('"title": "GPU session"', '"titel": "GPU session"', 'CarmeSpawner.profiles, profile "gpu": unknown name "titel", did you mean "title"?'),
    ('"name": "ml101", ', "", 'CarmeSpawner.profiles, profile 2: "name" is missing; add it'),
    ('"name": "ml101"', '"name": "gpu"', 'CarmeSpawner.profiles: two profiles have the name "gpu"; give one of them another'),
    ('"name": "ml101"', '"name": "ml 101"', 'CarmeSpawner.profiles, profile "ml 101", name: "ml 101" is no name: letters, digits, ".", "_" and "-" are allowed, a letter or digit first, 63 characters at most'),
    ('"max_nodes": 2', '"max_nodes": "2"', 'CarmeSpawner.profiles, profile "gpu", max_nodes: a whole number is needed, not "2"'),
    ('"max_nodes": 2', '"max_nodes": 0', 'CarmeSpawner.profiles, profile "gpu", max_nodes: at least 1 is needed, not 0'),
    ('"max_nodes": 2', '"max_nodes": 2, "default_nodes": 3', 'CarmeSpawner.profiles, profile "gpu": default_nodes is 3, but has to be from 1 to 2'),
    ('"max_gpus_per_node": 4', '"max_gpus_per_node": 4, "default_gpus_per_node": 8', 'CarmeSpawner.profiles, profile "gpu": default_gpus_per_node is 8, but has to be from 1 to 4'),
    ('"default_time": "2:00:00"', '"default_time": "2-00:00:00"', 'CarmeSpawner.profiles, profile "gpu": default_time is more than max_time; lower it'),
    ('"max_time": "1-00:00:00"', '"max_time": "1 day"', 'CarmeSpawner.profiles, profile "gpu", max_time: a time like "90" (minutes), "1:30:00" or "1-00:00:00" is needed, not "1 day"'),
    ('"memory": "4G"', '"memory": "4 GB"', 'CarmeSpawner.profiles, profile "ml101", memory: an amount of memory like "512M" or "16G" is needed, not "4 GB"'),
    ('"memory_per_gpu": "32G"', '"memory_per_gpu": "32G", "memory": "4G"', 'CarmeSpawner.profiles, profile "gpu": memory and max_memory exclude memory_per_gpu; remove one'),
    ('"partition": "teaching"', '"partition": "teaching nodes"', "CarmeSpawner.profiles, profile \"ml101\", partition: \"teaching nodes\" has characters that a name of Slurm's cannot have"),
    ('"images": ["base"]', '"images": ["bsae"]', 'CarmeSpawner.profiles, profile "ml101", images: there is no image "bsae", did you mean "base"?'),
    ('"images": ["base"]', '"images": "base"', 'CarmeSpawner.profiles, profile "ml101", images: a list is needed, not "base"'),
    ('"cpus": 2', '"cluster": "huge", "cpus": 2', 'CarmeSpawner.profiles, profile "ml101", cluster: there is no cluster "huge"; known are local, slurm'),
    ('"cpus": 2', '"cpus": 8, "max_cpus": 4', 'CarmeSpawner.profiles, profile "ml101": cpus is more than max_cpus; lower it'),
    ('"notebook": "week1/intro.ipynb"', '"notebook": "/courses/ml101/week1/intro.ipynb"', 'CarmeSpawner.profiles, profile "ml101", course, notebook: a relative path without "." and ".." is needed, not "/courses/ml101/week1/intro.ipynb"'),
    ('"notebook": "week1/intro.ipynb"', '"notebok": "week1/intro.ipynb"', 'CarmeSpawner.profiles, profile "ml101", course: unknown name "notebok", did you mean "notebook"?'),
    ('"path": "/images/ml.sif"', '"path": "images/ml.sif"', 'CarmeSpawner.images, image "ml", path: an absolute path is needed, not "images/ml.sif"'),
    ('"path": "/images/ml.sif"', '"path": "/images//ml.sif"', "CarmeSpawner.images, image \"ml\", path: the path has to be written without \".\" and \"..\" and doubled or final \"/\": '/images//ml.sif'"),
    ('["lab", "code-server"]', '["lab", "codeserver"]', 'CarmeSpawner.images, image "base", apps: unknown name "codeserver", did you mean "code-server"?'),
    ('"mounts": ["data"]', '"mounts": ["date"]', 'CarmeSpawner.images, image "ml", mounts: there is no mount "date", did you mean "data"?'),
    ('"groups": ["researchers"], "mounts"', '"groups": "researchers", "mounts"', 'CarmeSpawner.images, image "ml", groups: a list is needed, not "researchers"'),
    ('"target": "/data"', '"target": "/usr"', 'CarmeSpawner.mounts, mount "data", target: the container needs /usr for itself'),
    ('"read_only": True', '"readonly": True', 'CarmeSpawner.mounts, mount "data": unknown name "readonly", did you mean "read_only"?'),
    ('"read_only": True', '"read_only": "yes"', 'CarmeSpawner.mounts, mount "data", read_only: True or False is needed, not "yes"'),
    ('"ml": {"title"', '"base": {"title"', 'line 16: the name "base" stands twice in one dictionary, and only the last counts. Give one of them another name'),
    ('{"max_running": 3}', '{"max_runing": 3}', 'CarmeSpawner.limits: unknown name "max_runing", did you mean "max_running"?'),
    ('{"max_running": 3}', '{"max_running": -1}', "CarmeSpawner.limits, max_running: at least 0 is needed, not -1"),
    ("", 'c.CarmeSpawner.group_limits = {"staff": {"max_gpu": 16}}', 'CarmeSpawner.group_limits, group "staff": unknown name "max_gpu", did you mean "max_gpus"?'),
    ("", 'c.CarmeSpawner.clusters = {"big": {"slurm_conf": "slurm.conf"}}', 'CarmeSpawner.clusters, cluster "big", slurm_conf: an absolute path is needed, not "slurm.conf"'),
    ('c.CarmeAuthenticator.server_address = ["ldap.example.org"]\n', "", "CarmeAuthenticator.server_address: it is not set: name the directory server"),
    ('c.CarmeAuthenticator.group_search_base = "ou=groups,dc=example,dc=org"\n', "", 'CarmeAuthenticator.group_search_base: it is not set, so that nobody has groups, but CarmeAuthenticator.admin_groups, image "ml", profile "gpu" name some. Say where the directory has its groups'),
    ("", 'c.CarmeAuthenticator.passkey_origin = "hub.example.org"', "CarmeAuthenticator.passkey_origin: 'hub.example.org' is not the address of a hub as browsers write it: https, a name in lower case and not a number, perhaps a port, no path, for example https://hub.example.org"),
    ("TMP/carme.key", "TMP/none.key", "CarmeAuthenticator.secret_key_file: The key file TMP/none.key cannot be read: No such file or directory. Make one with 'carme new-key FILE' and name it in CarmeAuthenticator.secret_key_file"),
    ("TMP/carme.key", "TMP/open.key", "CarmeAuthenticator.secret_key_file: The key file TMP/open.key can be read by everybody or written by its group. Close it with 'chmod 600 TMP/open.key'"),
    ("TMP/carme.key", "TMP/empty.key", "CarmeAuthenticator.secret_key_file: There is no key in TMP/empty.key. Make one with 'carme new-key FILE'"),
    ("", 'c.CarmeAuthenticator.ca_file = "TMP/none.pem"', "CarmeAuthenticator.ca_file: TMP/none.pem cannot be read: No such file or directory. Name a file in PEM"),
    ("", 'c.CarmeAuthenticator.ca_file = "TMP/empty.key"', "CarmeAuthenticator.ca_file: TMP/empty.key holds no certificates. Name a file in PEM"),
    ("", 'c.JupyterHub.ssl_cert = "TMP/none.pem"\nc.JupyterHub.ssl_key = "TMP/tls.key"', "JupyterHub.ssl_cert: TMP/none.pem cannot be read: No such file or directory. Name a file in PEM"),
    ("", 'c.JupyterHub.ssl_key = "TMP/tls.key"', "JupyterHub.ssl_cert: it is missing, while ssl_key is set. TLS needs both"),
    ('"http://:8000"', '":8000"', 'JupyterHub.bind_url: ":8000" is no address. Write it like "http://:8000"'),
    ("", 'c.JupyterHub.hub_connect_ip = "http://head.example.org"', "JupyterHub.hub_connect_ip: \"http://head.example.org\" is an address. Write the host's name or number alone"),
    ('"sqlite:///TMP/carme.sqlite"', '"TMP/carme.sqlite"', 'CarmeAuthenticator.database_url: this is no address of a database. Write "sqlite:////FOLDER/FILE" or "postgresql+psycopg://USER:PASSWORD@HOST/NAME"'),
    ('"sqlite:///TMP/carme.sqlite"', '"sqlite:///TMP/none/carme.sqlite"', "CarmeAuthenticator.database_url: the folder TMP/none does not exist. Make it, for the hub's account alone (mode 700)"),
    ('"sqlite:///TMP/carme.sqlite"', '"mysql://hub@db/carme"', "CarmeAuthenticator.database_url: the program for this kind of database is not installed (MySQLdb). Install it, or correct the address"),
    ("TMP/audit.jsonl", "TMP/none/audit.jsonl", "CarmeAuthenticator.audit_file: the folder TMP/none does not exist. Make it, for the hub's account alone (mode 700)"),
    ("", 'from pathlib import Path\nc.CarmeAuthenticator.lookup_dn_search_user = "cn=reader"\nc.CarmeAuthenticator.lookup_dn_search_password = Path("TMP/ldap.password").read_text().strip()', "CarmeAuthenticator.lookup_dn_search_password: everybody on this machine can read TMP/ldap.password (mode 644). Close it: chmod 600 TMP/ldap.password"),
    ("", 'c.CarmeAuthenticator.lookup_dn_search_user = "cn=reader"\nc.CarmeAuthenticator.lookup_dn_search_password = "in the file itself"', "CarmeAuthenticator.lookup_dn_search_password: everybody on this machine can read TMP/conf.py (mode 644). Close it: chmod 600 TMP/conf.py"),
    ("", "c.JupyterHub.services = []", "JupyterHub.services: it does not name the service 'carme': dashboard, history and admin pages are missing. Write `c.JupyterHub.services += [...]` after carme_hub.configure(c), not `=`"),
    ("", 'c.JupyterHub.template_paths = ["/srv/templates"]', "JupyterHub.template_paths: it leaves out carme-hub's own pages. Write `c.JupyterHub.template_paths = [YOURS, *c.JupyterHub.template_paths]` after carme_hub.configure(c)"),
]
# fmt: on


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Return a function that checks a configuration: exit code, what was said, and what was complained of."""
    monkeypatch.delenv("CARME_SECRET_KEY", raising=False)
    tmp_path.chmod(0o700)
    for name in ("carme.key", "open.key"):
        new_key_file(tmp_path / name)
    (tmp_path / "open.key").chmod(0o644)
    (tmp_path / "empty.key").touch(0o600)
    (tmp_path / "ldap.password").write_text("sesame secret\n")
    (tmp_path / "ldap.password").chmod(0o644)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "tls.key").write_bytes(pem)
    (tmp_path / "tls.key").chmod(0o600)
    file = tmp_path / "conf.py"

    def run(text, *words):
        file.write_text(text.replace("TMP", str(tmp_path)))
        file.chmod(0o644)
        with pytest.raises(SystemExit) as end:
            cli.main(["--config", str(file), "check", *words])
        said = capsys.readouterr()
        return end.value.code, *(one.replace(str(tmp_path), "TMP") for one in said)

    return run


def changed(old, new):
    """Return the right file with one mistake in it."""
    assert not old or RIGHT.count(old), old
    return RIGHT.replace(old, new, 1) if old else f"{RIGHT}{new}\n"


def test_check_is_silent_about_a_right_file(check):
    assert check(RIGHT) == (0, "OK: 2 images, 1 mount, 2 profiles\n", "")
    assert check(RIGHT, "--json") == (0, "[]\n", "")


@pytest.mark.parametrize(("old", "new", "line"), WRONG)
def test_check_finds_one_mistake_and_tells_it_in_one_line(check, old, new, line):
    assert check(changed(old, new)) == (1, "", f"{line}\n1 mistake in TMP/conf.py\n")


def test_check_tells_all_mistakes_at_once(check):
    text = changed('"title": "ML"', '"titel": "ML"').replace("max_running", "max_runing")
    code, _, said = check(text.replace("TMP/carme.key", "TMP/none.key") + "c.CarmeSpawner.profile = []\n")
    assert code == 1
    assert said.endswith("4 mistakes in TMP/conf.py\n")
    assert len(said.splitlines()) == 5


def test_check_tells_programs_the_same(check):
    code, told, said = check(changed('"title": "ML"', '"titel": "ML"'), "--json")
    assert (code, said) == (1, "")
    (one,) = json.loads(told)
    assert one["name"] == 'CarmeSpawner.images, image "ml"'
    assert one["state"] == "failed"
    assert one["sentence"] == 'unknown name "titel", did you mean "title"?'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c = get_config(\n", "TMP/conf.py, line 1 cannot be run: '(' was never closed"),
        ("\nx = unknown\n", "TMP/conf.py, line 2 cannot be run: NameError: name 'unknown' is not defined"),
        ("open('TMP/none')\n", "TMP/conf.py, line 1 cannot be run: TMP/none: No such file or directory"),
        ("[][1]\n", "TMP/conf.py, line 1 cannot be run: IndexError: list index out of range"),
    ],
)
def test_check_names_the_line_of_a_file_that_cannot_be_run(check, tmp_path, text, said):
    code, _, _ = check(text)
    assert code == f"carme: {said}".replace("TMP", str(tmp_path))


SILENT = [
    "c.Spawner.http_timeout = 30",
    "c.CarmeSpawner.environment = {'A': 'b'}",
    "c.Authenticator.admin_users = {'adam'}",
    "c.LDAPAuthenticator.lookup_dn = False",
    "c.JupyterHub.services += [{'name': 'x', 'api_token': 'y'}]",
    "c.JupyterHub.template_paths = ['/srv', *c.JupyterHub.template_paths]",
    "c.JupyterHub.db_url = 'jupyterhub.sqlite'",
    "c.JupyterHub.public_url = 'https://hub.example.org'",
    "c.ConfigurableHTTPProxy.should_start = False",
    "c.CarmeSpawner.profiles.append({'name': 'x', 'title': 'X'})",
    "c.CarmeAuthenticator.tls_strategy = 'insecure'",
    "if c.CarmeSpawnr: pass",
    "from carme_hub.spawner.spawner import CarmeSpawner as C\nclass Mine(C): pass\nc.JupyterHub.spawner_class = Mine\nc.Mine.default_url = '/lab'",
]


@pytest.mark.parametrize("more", SILENT)
def test_check_raises_no_false_alarm(check, more):
    assert check(f"{RIGHT}{more}\n")[0::2] == (0, "")


DOCS = Path(__file__).parents[2] / "docs"


def examples():
    """Return the Python of the docs that is whole: what has an ellipsis is a part of something."""
    for page in sorted(DOCS.glob("*.md")):
        for number, block in enumerate(re.findall(r"```python\n(c\..*?)```", page.read_text(), re.DOTALL)):
            if "..." not in block:
                yield pytest.param(block, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("block", list(examples()))
def test_check_is_silent_about_the_names_in_the_docs(check, block):
    _, _, said = check(f"{RIGHT}{block}\n")
    assert "unknown" not in said
    assert "no class" not in said
    assert "needed" not in said


def test_check_is_silent_about_the_demos_own_file(check, tmp_path):
    text = (DOCS.parent / "etc" / "jupyterhub_config.py").read_text()
    (tmp_path / "ldap.password").chmod(0o600)
    authorities = tmp_path / "ca.pem"
    authorities.write_text(Path(certifi.where()).read_text())
    for there, here in {
        "/etc/jupyterhub/carme.key": "TMP/carme.key",
        "/etc/jupyterhub/ldap.password": "TMP/ldap.password",
        "/etc/jupyterhub/ca.pem": "TMP/ca.pem",
        "/var/lib/carme-hub": "TMP",
    }.items():
        text = text.replace(there, here)
    assert check(text) == (0, "OK: 2 images, 3 mounts, 3 profiles\n", "")
