#!/bin/sh
# kcheck_arm64.sh SOURCE CMAKE LEVEL: cross-builds kcheck into build/arm64 and runs one level of it.
set -eu
source=$1 cmake=$2 level=$3
kcheck=$source/build/arm64/tests/kcheck

for tool in aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu qemu-aarch64:qemu-user ninja:ninja-build; do
    command -v "${tool%%:*}" >/dev/null || {
        echo "skip: ${tool%%:*} is missing (./dev test installs it; Debian: ${tool##*:})"
        exit 77
    }
done
cd "$source"
"$cmake" --preset arm64 >/dev/null
"$cmake" --build build/arm64 --target kcheck
out=$(qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$kcheck" --level "$level") && rc=0 || rc=$?
echo "$out"
case $out in
*"not on this machine"*) echo "qemu-aarch64 does not know what level $level needs"; exit 1 ;;
*"$level "*" cells"*) exit $rc ;;
*) echo "kcheck printed no column for $level"; exit 1 ;;
esac
