#!/bin/bash
# Stands in for Apptainer where a test is about the hub and many sessions: runs what follows the image's name
# on the node itself, with the variables that the session would have.
if [[ $1 != --quiet ]]; then exit 0; fi # questions about Apptainer itself
while (($#)) && [[ $1 != *.sif ]]; do shift; done
shift
for name in "${!APPTAINERENV_@}"; do
  export "${name#APPTAINERENV_}=${!name}"
done
# The session's own folder is in the container only.
if [[ $1 == /bin/sh && $2 == /.carme/begin ]]; then shift 2; fi
exec "$@"
