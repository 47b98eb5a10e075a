#!/bin/sh
# enter.sh SOURCE ROOT FROM:TO... -- COMMAND...: run COMMAND in the file system of SOURCE, with other directories in it.
# To be started by `unshare --mount`: every mount made here is private and gone when the command's processes are.
#
# SOURCE is mounted at ROOT (they may be one), each FROM at ROOT/TO, and ROOT becomes the root. That is pivot_root and
# not chroot, since engines pivot themselves when they unpack an image, and in a chroot the kernel refuses it.
set -eu

source=$1
root=$2
shift 2
mount --bind "$source" "$root"
for shared in /proc /sys /dev; do
    mount --rbind "$shared" "$root$shared"
done
while [ "$1" != -- ]; do
    mkdir -p "$root${1#*:}"
    mount --bind "${1%%:*}" "$root${1#*:}"
    shift
done
shift
cd "$root"
pivot_root . .
umount -l .  # the old root, which lies on top of the new one
cd /
exec "$@"
