#!/bin/sh
# make-base.sh ARCH OUT.tar: the box's base where no image registry can be reached. Debian trixie with its Python 3.13
# and nothing that installs packages: no apt, no pip, no documentation. libstdc++6 is for pyzmq.
# Needs mmdebstrap and Debian's package mirror.
set -eu
exec mmdebstrap --quiet --architectures="$1" --variant=essential --include=python3,libstdc++6 --skip=output/dev \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    trixie "$2"
