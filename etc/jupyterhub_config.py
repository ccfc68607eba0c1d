# The configuration of a carme-hub site. The demo site runs this very file; a site of your own starts from it:
# copy it to /etc/jupyterhub/jupyterhub_config.py, put your names in, and check it with `carme check`.
# Every setting is described in docs/configuration.md.
from pathlib import Path

import carme_hub

c = get_config()
carme_hub.configure(c)  # our spawner, login and pages, and safe settings of the hub

# --- The hub ---------------------------------------------------------------------------------------------
c.JupyterHub.bind_url = "http://:8000"  # put TLS in front of it: JupyterHub.ssl_key, ssl_cert
# Behind a web server or load balancer: name it, or all people share one address (see docs/login.md).
# c.JupyterHub.trusted_downstream_ips = ["192.0.2.1"]
# c.JupyterHub.public_url = "https://hub.example.org"
c.JupyterHub.hub_ip = ""  # sessions on the nodes talk to the hub, so it listens on the cluster's network too
c.JupyterHub.hub_connect_ip = "head.example.org"  # the hub's name as the nodes know it
c.JupyterHub.db_url = "sqlite:////var/lib/carme-hub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/var/lib/carme-hub/cookie_secret"
c.ConfigurableHTTPProxy.pid_file = "/var/lib/carme-hub/proxy.pid"

# --- Who comes in: an LDAP password and a one-time code --------------------------------------------------
c.CarmeAuthenticator.server_address = ["ldap.example.org"]
c.CarmeAuthenticator.ca_file = "/etc/jupyterhub/ca.pem"
c.CarmeAuthenticator.bind_dn_template = "uid={username},ou=people,dc=example,dc=org"
# An account that may read the directory: with it, who is removed there is out here within minutes.
c.CarmeAuthenticator.lookup_dn_search_user = "cn=reader,dc=example,dc=org"
c.CarmeAuthenticator.lookup_dn_search_password = Path("/etc/jupyterhub/ldap.password").read_text().strip()
c.CarmeAuthenticator.group_search_base = "ou=groups,dc=example,dc=org"
c.CarmeAuthenticator.admin_groups = {"hpc-admins"}
c.CarmeAuthenticator.database_url = "sqlite:////var/lib/carme-hub/carme.sqlite"
c.CarmeAuthenticator.secret_key_file = "/etc/jupyterhub/carme.key"  # `carme new-key FILE` makes one
c.CarmeAuthenticator.audit_file = "/var/lib/carme-hub/audit.jsonl"  # a line for each login and change
# c.CarmeAuthenticator.passkey_origin = "https://hub.example.org"  # with it, passkeys beside the codes

# --- What people work in ---------------------------------------------------------------------------------
c.CarmeSpawner.images = {
    "base": {
        "title": "Base",
        "path": "/srv/images/base.sif",
        "apps": ["lab", "code-server"],
        "mounts": ["slurm", "munge"],
    },
    "ml": {
        "title": "Machine learning (scikit-learn, pandas)",
        "path": "/srv/images/ml.sif",
        "apps": ["lab", "code-server"],
        "groups": ["researchers"],
        "mounts": ["datasets", "slurm", "munge"],
    },
}
# What a session sees of the machine beside the person's home, if its image names it.
c.CarmeSpawner.mounts = {
    "datasets": {"source": "/srv/datasets", "target": "/data", "read_only": True},
    # So that `srun` inside a session reaches the session's other nodes.
    "slurm": {"source": "/etc/slurm", "target": "/etc/slurm", "read_only": True},
    "munge": {"source": "/run/munge", "target": "/run/munge"},
}

# --- What people may ask for -----------------------------------------------------------------------------
c.CarmeSpawner.profiles = [
    {
        "name": "ml101",
        "title": "Machine Learning 101",
        "description": "The course's notebooks, ready to run.",
        "course": {"material": "/srv/courses/ml101", "notebook": "week1/intro.ipynb"},
        "partition": "teaching",
        "account": "teaching",
        "cpus": 1,
        "memory": "1G",
        "max_time": "2:00:00",
        "groups": ["ml101"],
        "images": ["base"],
    },
    {
        "name": "gpu",
        "title": "GPU session",
        "description": "One or more GPUs, on one node or on several.",
        "partition": "gpu",
        "account": "research",
        "gpu_type": "a100",
        "max_gpus_per_node": 4,
        "max_nodes": 2,
        "max_tasks_per_node": 4,  # for MPI; tasks share the GPUs' cores
        "cpus_per_gpu": 1,
        "memory_per_gpu": "2G",
        "max_time": "1-00:00:00",
        "default_time": "2:00:00",
        "max_extended_time": "1-12:00:00",  # its owner may extend a running session up to this
        "groups": ["researchers"],
        "images": ["base", "ml"],
    },
    {
        "name": "cpu",
        "title": "CPU session",
        "description": "To write, to prepare data, to look at results.",
        "partition": "cpu",
        "max_tasks_per_node": 4,
        "cpus": 1,
        "memory": "1G",
        "max_time": "8:00:00",
        "default_time": "2:00:00",
        "max_extended_time": "12:00:00",
        "images": ["base", "ml"],
    },
]
