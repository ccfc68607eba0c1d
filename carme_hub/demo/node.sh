#!/bin/bash
# Turns the namespaces that this runs in (mount, PID, UTS, IPC, cgroup, network) into one compute node and runs slurmd.
#   node.sh NAME GPUS STATE-FOLDER CGROUP-FOLDERS...
# The last words are this node's folder in each control group hierarchy.
set -euo pipefail
name=$1 gpus=$2 state=$3
shift 3

cd / # slurmd goes back to where it was started, and the checkout may be out of sight soon
hostname "$name"
mount -t proc proc /proc
# The site's state (logs, secrets, databases) is none of the jobs' business; what is mounted from it stays.
mount -t tmpfs -o ro,mode=0700 tmpfs "$state"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp

# A /dev of its own: the few devices a job needs, and this node's GPUs.
mount -t tmpfs -o mode=0755,nosuid tmpfs /mnt
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
    IFS=: read -r file major minor <<<"$device"
    mknod -m 666 "/mnt/$file" c "$major" "$minor"
done
for ((gpu = 0; gpu < gpus; gpu++)); do
    # Numbers of consoles that nobody uses: opening one works, as opening a GPU would.
    mknod -m 666 "/mnt/nvidia$gpu" c 4 $((60 + gpu))
done
mkdir /mnt/pts /mnt/shm /mnt/mqueue
ln -s /proc/self/fd /mnt/fd
ln -s /proc/self/fd/0 /mnt/stdin
ln -s /proc/self/fd/1 /mnt/stdout
ln -s /proc/self/fd/2 /mnt/stderr
ln -s pts/ptmx /mnt/ptmx
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /mnt/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /mnt/shm
mount -t mqueue mqueue /mnt/mqueue
mount --move /mnt /dev

# Control groups: this node sees its own part of each hierarchy as the whole.
mount -t tmpfs -o mode=0755 tmpfs /sys/fs/cgroup
for folder in "$@"; do
    controller=$(basename "$(dirname "$(dirname "$folder")")")
    mkdir "/sys/fs/cgroup/$controller"
    mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
done

# As systemd would: a slurmd that dies is started again, and jobs do not notice.
while :; do
    slurmd -D -N "$name" || true
    sleep 1
done
