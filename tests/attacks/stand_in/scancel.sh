#!/bin/sh
# scancel.sh FOLDER JOB: stands in for scancel.
rm -f "$1/$2.script"
