#!/bin/sh
# sbatch.sh FOLDER: stands in for sbatch. Keeps the script and the environment it was given; the process id is the job's.
set -eu
env > "$1/$$.part"
mv "$1/$$.part" "$1/$$.environment"
cat > "$1/$$.part"
mv "$1/$$.part" "$1/$$.script"
echo $$
