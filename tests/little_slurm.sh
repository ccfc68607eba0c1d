#!/bin/bash
# A whole Slurm with accounting out of one root folder, in the namespaces that this is started in:
#   unshare --mount --pid --net --uts --ipc --fork --kill-child little_slurm.sh ROOT WORK NODES...
# ROOT is read only here; what is written goes to memory. WORK/conf holds the configuration and the people.
# Afterwards WORK/root is the machine that the daemons see, and WORK/ready is there.
set -euo pipefail

if [ "$1" = inside ]; then
    shift
    # Not chroot alone: from there no user namespace could be made, and Apptainer makes one.
    umount -l /mnt
    as() { local user=$1; shift; setpriv --reuid="$user" --regid="$user" --init-groups -- "$@"; }
    until_works() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; "$@"; }
    socket=/media/munge/munge.socket.2
    mkdir -p /media/munge /run/munge /run/mysqld /run/data /var/log/munge /var/lib/munge /etc/munge /var/log/slurm \
        /var/lib/slurm/slurmctld /run/lock
    head -c 1024 /dev/urandom > /etc/munge/munge.key
    chmod 400 /etc/munge/munge.key
    chown -R munge:munge /media/munge /run/munge /var/log/munge /var/lib/munge /etc/munge
    chmod 711 /var/lib/munge
    chown -R slurm:slurm /var/log/slurm /var/lib/slurm /etc/slurm/slurmdbd.conf
    chmod 600 /etc/slurm/slurmdbd.conf
    chown mysql:mysql /run/mysqld /run/data
    as munge munged --foreground --socket=$socket >/var/log/munged.log 2>&1 &
    mariadb-install-db --no-defaults --user=mysql --datadir=/run/data --skip-test-db >/var/log/mysql.log 2>&1
    mariadbd --no-defaults --user=mysql --datadir=/run/data --socket=/run/mysqld/mysqld.sock --skip-networking \
        --pid-file=/run/mysqld/pid --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
        --innodb-flush-method=fsync --innodb-use-native-aio=0 >>/var/log/mysql.log 2>&1 &
    until_works mariadb -e 'select 1'
    mariadb -e 'create user slurm@localhost identified via unix_socket; grant all on slurm_acct_db.* to slurm@localhost'
    until_works munge --no-input --socket=$socket
    LD_LIBRARY_PATH=/etc/slurm/lib slurmdbd -D >/var/log/slurmdbd.log 2>&1 &
    until_works sacctmgr -n show cluster
    sacctmgr -i add cluster little >/dev/null 2>&1 || true
    sacctmgr -i add account course research Cluster=little >/dev/null
    while IFS=: read -r name _; do
        sacctmgr -i add user "$name" Account=research >/dev/null
    done < /etc/slurm/people
    slurmctld -D >/var/log/slurmctld.log 2>&1 &
    until_works scontrol ping
    for node in "$@"; do
        slurmd -D -N "$node" >"/var/log/$node.log" 2>&1 &
    done
    touch /run/ready
    wait
    exit
fi

root=$1 work=$2
shift 2
mount --make-rprivate /
mount -t proc proc /proc
hostname head
ip link set lo up
# With loopback alone, Slurm finds no address to listen on (getaddrinfo, AI_ADDRCONFIG).
ip link add little type bridge
ip address add 10.75.0.1/24 dev little
ip link set little up
mkdir -p "$work/memory" "$work/root"
mount -t tmpfs -o mode=0755,size=2g tmpfs "$work/memory"
mkdir "$work/memory/upper" "$work/memory/work"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/memory/upper,workdir=$work/memory/work" "$work/root"
for folder in dev sys; do mount --rbind "/$folder" "$work/root/$folder"; done
mount -t proc proc "$work/root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$work/root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$work/root/run"
# Bound from outside: "FOLDER TARGET" a line.
while read -r from to; do
    mkdir -p "$work/root$to"
    mount --rbind "$from" "$work/root$to"
done < "$work/conf/binds"
rm -rf "$work/root/etc/slurm"
cp -r "$work/conf" "$work/root/etc/slurm"
printf '127.0.0.1 localhost head\n' > "$work/root/etc/hosts"
cat "$work/conf/people" >> "$work/root/etc/passwd"
while IFS=: read -r name _ uid gid _ home _; do
    echo "$name:x:$gid:" >> "$work/root/etc/group"
    mkdir -p "$work/root$home"
    chown "$uid:$gid" "$work/root$home"
done < "$work/conf/people"
# Without udev the device is root's alone; images are mounted by the person who runs them (demo/apptainer.py).
mknod -m 666 "$work/root/srv/fuse" c 10 229
mount --bind "$work/root/srv/fuse" "$work/root/dev/fuse"
# What stands for GPUs: Slurm wants a file for each where they are shared or belong to cores.
for gpu in {0..9}; do mknod -m 666 "$work/root/srv/gpu$gpu" c 1 3; done
cp "$0" "$work/root/run/little_slurm.sh"
ln -s "root/run/ready" "$work/ready"
# The same for whoever looks from outside, as a hub does: people, homes, configuration, plugins.
mount --bind "$work/root/media" /media
mount --bind "$work/root/etc/slurm" /etc/slurm
mount --bind "$work/root/usr/lib/x86_64-linux-gnu/slurm-wlm" /usr/lib/x86_64-linux-gnu/slurm-wlm
mount --bind "$work/root/etc/passwd" /etc/passwd
mount --bind "$work/root/etc/group" /etc/group
mount --bind "$work/root/etc/hosts" /etc/hosts
cd "$work/root"
unshare --mount bash -c 'pivot_root . mnt && cd / && exec bash /run/little_slurm.sh inside "$@"' bash "$@"
