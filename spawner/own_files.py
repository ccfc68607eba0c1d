"""What a session has of its own below /.carme, written on each node by a function for bash.

The stand-ins for Slurm's commands, what each container begins with, and what gives shells their PATH back.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.spawner import standin

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

FOLDER = str(standin.FOLDER)
BEGIN = f"{FOLDER}/begin"
COMMANDS = ("srun", "sbatch", "salloc", "carme-sbatch")
MODULES = ("standin", "srun", "submit")

_END = "CARME_FILE_ENDS_HERE"

# Every container of a session begins here, those of srun's tasks included. CARME_PATH is the PATH that shells
# get back; PROMPT_COMMAND and ENV are how bash and sh are told, after the person's own start-up files.
# Apptainer's PROMPT_COMMAND only sets a prompt. The last three are read by Slurm's commands, never by their
# stand-ins, which take them away: a command that is called around its stand-in refuses, and says this.
_BEGIN = f"""\
#!/bin/sh
export CARME_PATH="${{CARME_PATH:-$PATH}}" ENV="${{ENV:-{FOLDER}/shell}}"
case ${{PROMPT_COMMAND-}} in
  '' | *Apptainer* | *Singularity*) export PROMPT_COMMAND='[ ! -r {FOLDER}/shell ] || . {FOLDER}/shell' ;;
esac
export SLURM_WAIT='{standin.GUARD}srun' SBATCH_WAIT_ALL_NODES='{standin.GUARD}sbatch'
export SALLOC_WAIT_ALL_NODES='{standin.GUARD}salloc'
exec "$@"
"""

# Read by shells, in whose middle it runs: no variable of it stays, and it needs nothing but a sh. What the
# session began with and PATH lacks comes before the first folder that both have: a folder that the person
# has put in front stays there, and the image's programs come before the system's.
_PATH = f"""\
PATH=$(
  begun=${{CARME_PATH:-{FOLDER}/bin:$PATH}} missing= before=
  rest=$begun:
  while [ -n "$rest" ]; do
    folder=${{rest%%:*}} rest=${{rest#*:}}
    case :$PATH: in *":$folder:"*) ;; *) missing=$missing$folder: ;; esac
  done
  rest=$PATH:
  while [ -n "$rest" ]; do
    folder=${{rest%%:*}}
    case :$begun: in *":$folder:"*) break ;; esac
    before=$before$folder: rest=${{rest#*:}}
  done
  folder=$before$missing$rest
  printf '%s' "${{folder%:}}"
)
export PATH
"""

# Once for each shell, when the person's own files have been read: PATH is theirs from then on.
_SHELL = f"""\
if [ "${{_carme_shell-}}" != "$$" ]; then
  _carme_shell=$$
  . {FOLDER}/path.sh
fi
"""

# In /etc/profile.d: before the person's own files. A bash that is no terminal's has no prompt afterwards, so
# its first command of its own is what is waited for: one of no file, or of the script itself.
_PROFILE = f"""\
. {FOLDER}/path.sh
export CARME_PATH="${{CARME_PATH:-$PATH}}"
case $- in
  *i*) [ -z "${{BASH_VERSION-}}" ] || : "${{PROMPT_COMMAND=. {FOLDER}/shell}}" ;;
  *)
    [ -z "${{BASH_VERSION-}}" ] \\
      || trap 'case ${{BASH_SOURCE[0]-$0}} in "$0") trap - DEBUG; . {FOLDER}/path.sh ;; esac' DEBUG
    ;;
esac
"""

# Any Python of the image will do, and PATH may be without it.
_COMMAND = f"""\
#!/bin/sh
python=$(PATH="$PATH:${{CARME_PATH-}}:/usr/local/bin:/usr/bin:/bin"; command -v python3) || {{
  echo "carme: this image has no python3, which ${{0##*/}} needs in a session" >&2
  exit 127
}}
exec "$python" -I -S {FOLDER}/lib/start.py "${{0##*/}}" "$@"
"""

_START = f"""\
import sys
sys.path.insert(0, "{FOLDER}/lib")
sys.dont_write_bytecode = True
from carme_hub.spawner import srun, submit
name, *words = sys.argv[1:]
sys.exit(srun.main(words) if name == "srun" else submit.main(name, words))
"""


def function(request: JobRequest, home: str) -> str:
    """Return the function ``own_files FOLDER``, which makes the folder and writes all files into it.

    Parameters
    ----------
    request
        Names the mounts.
    home
        The person's home folder.

    Raises
    ------
    ValueError
        When a text contains the line that ends it.
    """
    shared = [home, *(mount.target for mount in request.mounts if mount.target == mount.source)]
    files = {
        "begin": _BEGIN,
        "path.sh": _PATH,
        "shell": _SHELL,
        "profile.sh": _PROFILE,
        "bin/srun": _COMMAND,
        "lib/start.py": _START,
        **{f"lib/carme_hub/spawner/{name}.py": source(name) for name in MODULES},
    }
    others = " ".join(f'"$folder/bin/{name}"' for name in COMMANDS[1:])
    return "\n".join(
        [
            "own_files() {",
            "  local folder=$1 name",
            '  mkdir -p -- "$folder/bin" "$folder/lib/carme_hub/spawner" || return',
            """  printf '%s' "$PATH" >"$folder/path" || return""",
            f"""  printf '%s\\n' {" ".join(map(shlex.quote, shared))} >"$folder/shared" || return""",
            *(_written(name, text) for name, text in files.items()),
            f'  for name in {others}; do cp -- "$folder/bin/srun" "$name" || return; done',
            '  chmod 755 -- "$folder/bin"/* || return',
            "  if [[ -v carme_job ]]; then",
            """    printf '%s' "$carme_job" >"$folder/job" && chmod 755 -- "$folder/job" || return""",
            "  fi",
            "}",
        ]
    )


def source(name: str) -> str:
    """Return the source text of one of the stand-ins' modules."""
    return Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")


def _written(name: str, text: str) -> str:
    if _END in text.splitlines():
        raise ValueError(f"{name} contains the line that ends it")
    return f"""  cat >"$folder/{name}" <<'{_END}' || return\n{text}{_END}"""
