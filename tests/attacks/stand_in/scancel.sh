#!/bin/sh
# scancel.sh FOLDER JOB: stands in for scancel.
mv "$1/$2.script" "$1/$2.ended"
