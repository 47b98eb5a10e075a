#!/bin/sh
# rootless.sh UID DIR... -- COMMAND...: run COMMAND as a plain user, to whom root's files in each DIR seem to be its own.
# To be started by enter.sh. Airlock runs as root here and its boxes' directories are closed to others: without the
# mapping, an engine of another user could mount none of them.
set -eu

user=$1
shift
if ! id "$user" >/dev/null 2>&1; then
    useradd --uid "$user" --create-home engine  # with sub-uids, which the engine needs for its boxes' users
fi
while [ "$1" != -- ]; do
    mount --bind -o "X-mount.idmap=b:0:$user:1" "$1" "$1"
    shift
done
shift
chown "$user:$user" /home/engine /run
# crun refuses the hybrid of both cgroup versions; without version 2's directory it sees version 1 alone.
umount /sys/fs/cgroup/unified 2>/dev/null || true
exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME=/home/engine XDG_RUNTIME_DIR=/run "$@"
