#!/usr/bin/env bash
# The fast tests, or other targets of the Makefile, under the newest Python of Debian sid:
#   sudo tests/newest_python.sh FOLDER [TARGET ...]
# FOLDER becomes a small Debian (0.5 GB, 10 with the environment) and is reused; BIND names further
# folders of this machine that pip needs there, a wheelhouse for example. Needs debootstrap.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,5s/^# //p' "$0"; exit 2; }
repository="$(cd "$(dirname "$0")/.." && pwd)"
folder="$(realpath -m "$1")"
shift
if [ ! -x "$folder/usr/bin/python3" ]; then
    debootstrap --variant=minbase \
        --include=python3,python3-venv,python3-dev,make,git,gcc,procps,ca-certificates sid "$folder"
fi
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
    [ ! -e "$file" ] || cp -L "$file" "$folder$file"
done
bound=(/proc /dev)
for one in /etc/ssl/certs ${BIND:-}; do
    mkdir -p "$folder$one"
    bound+=("$one")
done
release() {
    for one in "${bound[@]}"; do umount -l "$folder$one" 2> /dev/null || true; done
}
trap release EXIT
for one in "${bound[@]}"; do mount --rbind --make-rslave "$one" "$folder$one"; done
rm -rf "$folder/quartet"
git clone --quiet "$repository" "$folder/quartet"
export HOME=/root
chroot "$folder" git config --global --replace-all safe.directory /quartet
chroot "$folder" make -C /quartet PYTHON=/usr/bin/python3 VENV=/environment "${@:-fast}"
