"""A course profile's material: copied to the person's home before the server starts."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carme_hub.spawner.request import JobRequest

EXIT_MATERIAL = 92
EXIT_COPY = 93


def folder(home: str, profile: str) -> str:
    """Return where a course profile's material is copied to."""
    return f"{home}/courses/{profile}"


def copying(request: JobRequest, home: str) -> str:
    """Return the part of the batch script that copies the material; empty when the profile is no course."""
    course = request.profile.course
    if course is None:
        return ""
    target = folder(home, request.profile.name)
    call = f"copy_course {shlex.quote(course.material)} {shlex.quote(target)}\n"
    return _COPY.format(exit_material=EXIT_MATERIAL, exit_copy=EXIT_COPY) + "\n" + call


# Only what is missing is copied. Each file appears at once and whole: it is copied beside its place first,
# and a hard link never replaces anything. cp's own ways not to overwrite differ between its versions.
#
# Where the home has no room, or cannot be written at all, the session starts without the material, and says
# so (`carme_hub.spawner.homecare`): its owner could not make room else.
_COPY = """\
uncopied() {{
  [[ -n $(why_unwritable) ]] || fail {exit_copy} "$1"
  printf 'carme: %s\\n' "$1" >&2
  : >"$scratch/carme/uncopied"
}}

copy_course() {{
  local source=$1 target=$2 path from to part
  [[ -d $source && -r $source && -x $source ]] \\
    || fail {exit_material} "the course material $source cannot be read on $(hostname)"
  mkdir -p -- "$target" || {{ uncopied "the folder $target cannot be made"; return 0; }}
  while IFS= read -r -d '' path; do
    from=$source/$path
    to=$target/$path
    if [[ -d $from && ! -L $from ]]; then
      [[ -d $to ]] || mkdir -p -- "$to" || {{ uncopied "the folder $to cannot be made"; return 0; }}
    elif [[ ! -e $to && ! -L $to ]]; then
      part=${{to%/*}}/.carme-$SLURM_JOB_ID.part
      cp -P -- "$from" "$part" || {{ rm -f -- "$part"; uncopied "$to cannot be written"; return 0; }}
      [[ -L $part ]] || chmod u+w -- "$part"
      ln -T -- "$part" "$to" 2>/dev/null || mv -n -T -- "$part" "$to"
      rm -f -- "$part"
    fi
  done < <(find "$source" -mindepth 1 \\( -type d -o -type f -o -type l \\) -printf '%P\\0')
  wait "$!" || fail {exit_material} "a part of the course material $source cannot be read on $(hostname)"
}}
"""
