#!/bin/sh
# squeue.sh FOLDER JOB: stands in for squeue. A job runs on this machine from sbatch.sh to scancel.sh.
if [ -e "$1/$2.script" ]; then echo "RUNNING 127.0.0.1"; fi
