#!/bin/sh
# What a card does: first whether it answers as the CPU does, then how fast it is, in at most eight minutes.
#
#   bench/device.sh --bundle          here, after a build: puts all that the other machine needs into build/device
#   bench/device.sh [--device WORD]   there, in the root of the tree: checks, measures, prints one table, and writes
#                                     $OUT/device.json (here without OUT)
#   bench/device.sh --toy             small shapes, to try the script, also without a card (--device opencl)
#
# The other machine needs Linux on x86-64 with glibc 2.36 or newer, Python 3.9 and the card's driver. NVIDIA's run-time
# compiler comes along where there is one here; PyTorch is measured beside us where it is there. Nothing is installed.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${STRETTO_BUILD:-$root/build/release}
bundle=$root/build/device

# Libraries of our programs that a bare machine has not: all but the C library's own.
libraries() {
    ldd "$@" | awk '/=> \//{print $3}' | grep -Ev '/(libc|libm|ld-linux[^/]*|libdl|libpthread|librt)\.so' | sort -u
}

if [ "${1:-}" = --bundle ]; then
    rm -rf "$bundle"
    mkdir -p "$bundle/lib" "$bundle/tests"
    cp "$build/stretto" "$bundle/"
    for kernels in linear rows head attention; do
        test=$build/tests/backend_test_gpu_$kernels
        if [ -x "$test" ]; then cp "$test" "$bundle/tests/"; fi
    done
    if [ -x "$build/tests/invariance" ]; then cp "$build/tests/invariance" "$bundle/tests/"; fi
    libraries "$bundle/stretto" "$bundle"/tests/* | while read -r l; do cp -L "$l" "$bundle/lib/"; done
    if [ -f "$build/golden/llama/model.gguf" ]; then
        cp "$build/golden/llama/model.gguf" "$bundle/llama.gguf"
    fi
    for folder in "$root/shared/data/models" "$root/../shared/data/models"; do
        if [ -f "$folder/stories260K.bin" ]; then cp "$folder/stories260K.bin" "$folder/tok512.bin" "$bundle/"; fi
    done
    for folder in "${CUDA_HOME:-/usr/local/cuda}/lib64" /usr/lib/x86_64-linux-gnu; do
        for l in "$folder"/libnvrtc.so.1[0-9] "$folder"/libnvrtc-builtins.so.1[0-9].[0-9]; do
            if [ -f "$l" ] && [ ! -f "$bundle/$(basename "$l").xz" ]; then
                xz -2 -c "$(readlink -f "$l")" >"$bundle/$(basename "$l").xz"
            fi
        done
    done
    du -sh "$bundle"
    exit 0
fi

if [ -x "$bundle/stretto" ]; then
    stretto=$bundle/stretto
    LD_LIBRARY_PATH=$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
    # The machine's own compiler fits its driver: that of a toolkit, which stretto finds, or PyTorch's; else ours.
    own=$(python3 -c "import glob, site
print(next((f for d in [*site.getsitepackages(), site.getusersitepackages()]
            for f in sorted(glob.glob(d + '/nvidia/*/lib/libnvrtc.so.1[0-9]'))), ''))")
    if [ -n "$own" ] && [ -z "${STRETTO_NVRTC:-}" ]; then export STRETTO_NVRTC="$own"; fi
    if [ -z "${STRETTO_NVRTC:-}" ] && [ ! -e "${CUDA_HOME:-/usr/local/cuda}/lib64/libnvrtc.so" ]; then
        for l in "$bundle"/libnvrtc*.xz; do
            if [ ! -f "$l" ]; then break; fi
            name=$(basename "$l" .xz)
            if [ ! -f "$bundle/lib/$name" ]; then python3 -c "import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], 'wb'))" "$l" "$bundle/lib/$name"; fi
            case $name in libnvrtc.so.*) export STRETTO_NVRTC="$bundle/lib/$name" ;; esac
        done
    fi
else
    stretto=$build/stretto
fi
if ! "$stretto" --version >/dev/null; then
    echo "$stretto does not run here: build it, or bring build/device along" >&2
    exit 1
fi
exec python3 "$root/bench/device.py" "$stretto" "$@"
