#!/usr/bin/env bash
# The README's commands in a Debian 12 that holds nothing but what the README names.
#
#   sudo scripts/bare-debian.sh [FOLDER]       (default: a new folder under /var/tmp; about 20 GB; removed at the end)
#
#   DEMO_SECONDS=150   seconds of training in the demo; 0 leaves the demo out
#   TEST=1             also `make test` (half an hour); 0 leaves it out
#   PLUGIN=1           also the README's lines for an environment that has nerfstudio already
#   MIRROR=URL         Debian mirror for debootstrap (default: debootstrap's own)
#
# Needs root, debootstrap and a network. What is tried is the last commit, not the working tree. The certificates that this
# machine trusts and the settings of pip are taken along, since a network may need them.
set -euo pipefail
repository="$(cd "$(dirname "$0")/.." && pwd)"
folder="${1:-$(mktemp -d /var/tmp/bare-debian.XXXXXX)}"
demo_seconds="${DEMO_SECONDS:-150}"

[ "$(id -u)" = 0 ] || { echo "bare-debian.sh makes and enters a system of its own: run it as root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: sudo apt-get install debootstrap" >&2; exit 1; }
[ -z "$(ls -A "$folder" 2>/dev/null)" ] || { echo "$folder is not empty: name a folder that is" >&2; exit 1; }

cleanup() {
    status=$?
    for mounted in dev/shm dev proc; do
        mountpoint -q "$folder/$mounted" && umount "$folder/$mounted"
    done
    # Nothing of the host may be removed through a mount that is still there.
    if ! grep -q " $folder/" /proc/mounts; then rm -rf --one-file-system "$folder"; fi
    [ $status = 0 ] && echo "== bare-debian: all of it passed" || echo "== bare-debian: FAILED with status $status"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s  (%s, %s s)\n' "$1" "$(date -u +%H:%M:%S)" "$SECONDS"; }
within() { chroot "$folder" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 TERM=dumb \
    DEBIAN_FRONTEND=noninteractive "${taken[@]}" /bin/bash -euc "$1"; }

chmod 755 "$folder"  # apt reads as a user of its own
say "a minimal Debian 12 in $folder"
debootstrap --variant=minbase bookworm "$folder" ${MIRROR:+"$MIRROR"} >"$folder.log" 2>&1 || { tail "$folder.log"; exit 1; }
rm -f "$folder.log"
mount -t proc proc "$folder/proc"
mount --bind /dev "$folder/dev"
mount -t tmpfs tmpfs "$folder/dev/shm"
cp /etc/resolv.conf "$folder/etc/resolv.conf"
echo '127.0.0.1 localhost' >"$folder/etc/hosts"  # which Debian's installer writes, and debootstrap does not

taken=()
for file in /etc/pip.conf /etc/xdg/pip/pip.conf; do
    if [ -f "$file" ]; then install -D -m 644 "$file" "$folder$file"; fi
done
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then  # by another name: Debian's own package writes that file
    cp /etc/ssl/certs/ca-certificates.crt "$folder/root/trusted.crt"
    taken+=(PIP_CERT=/root/trusted.crt)
fi
while read -r constraint; do  # a file that pip's settings name
    install -D -m 644 "$constraint" "$folder$constraint"
done < <(sed -n 's/^constraint *= *//p' /etc/xdg/pip/pip.conf 2>/dev/null)

mkdir "$folder/root/instant-hash"
git -C "$repository" archive HEAD | tar -x -C "$folder/root/instant-hash"

# The packages are those of the README, not a list of this script's own.
apt="$(sed -n 's/^sudo \(apt-get install make.*\)$/\1/p' "$repository/README.md")"
[ -n "$apt" ] || { echo "README.md has no line that begins 'sudo apt-get install make'" >&2; exit 1; }
say "$apt"
within "apt-get update -qq; ${apt/install/install -y -qq} >/dev/null"

if [ "$demo_seconds" != 0 ]; then
    say "make demo, $demo_seconds s of training"
    within "cd /root/instant-hash; make demo DEMO_SECONDS=$demo_seconds"
    within "cd /root/instant-hash; ls outputs/demo/instant-hash/*/eval.json outputs/demo/instant-hash/*/turntable | head -5"
fi

if [ "${PLUGIN:-1}" != 0 ]; then
    say "into an environment that has nerfstudio"
    lines="$(sed -n '/^Into an environment that has nerfstudio/,/^```$/p' "$repository/README.md" | sed -n '/^```bash$/,/^```$/p' | sed '/^```/d')"
    [ -n "$lines" ] || { echo "README.md does not say how to add the plugin" >&2; exit 1; }
    # How somebody came by nerfstudio is not what is tried here: fpsample 1.x would want a C++ compiler.
    within "python3 -m venv /root/nerf; . /root/nerf/bin/activate; pip install -q 'nerfstudio==1.1.5' 'fpsample<1' torch torchvision
        cd /root/instant-hash; rm -rf .venv
        $(grep -v '^ns-install-cli' <<<"$lines")" >"$folder/root/plugin.log"
    grep -E 'Usage|usage|--max-train-seconds' "$folder/root/plugin.log"
fi

if [ "${TEST:-1}" != 0 ]; then
    say "make test"
    # What .ci/system-packages says is missing, as a person would install it.
    within "cd /root/instant-hash; .ci/system-packages --install; make test"
fi
