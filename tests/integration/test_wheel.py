"""The wheel, installed alone, is the whole thing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

LOOK = """
from importlib.metadata import entry_points
from pathlib import Path
import carme_hub
assert "site-packages" in carme_hub.__file__, carme_hub.__file__
for group in ("jupyterhub.spawners", "jupyterhub.authenticators"):
    (entry,) = [e for e in entry_points(group=group) if e.name == "carme"]
    print(entry.load().__name__)
for name in ("templates/login.html", "templates/password_fields.html", "templates/spawn.html",
             "singularity/base.def", "etc/jupyterhub_config.py", "etc/sudoers.d/carme-hub",
             "etc/demo/slurm/slurm.conf", "etc/demo/courses/ml101/week1/intro.ipynb"):
    assert (Path(carme_hub.__file__).parent / name).is_file(), name
from carme_hub.authenticator.database import open_engine  # which brings a new database up to date
open_engine("sqlite:///gate.sqlite").dispose()
"""


def test_a_wheel_installed_alone_has_everything(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT],
        check=True,
        timeout=600,
        capture_output=True,
    )
    (wheel,) = Path(tmp_path).glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, timeout=600)
    looked = subprocess.run(
        [python, "-c", LOOK], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.split() == ["CarmeSpawner", "CarmeAuthenticator"]
    shown = subprocess.run(
        [python.with_name("carme"), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "enrol" in shown.stdout or "user" in shown.stdout
