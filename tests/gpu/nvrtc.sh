#!/bin/sh
# Kernels compiled by the real NVRTC, with the options of our driver, for a Turing card, a data-centre card and one
# whose architecture the library does not know (then it is PTX): one of each kind; with "all", all of them for the
# second. usage: nvrtc.sh GPU_SOURCES MOCK [all]
set -e
STRETTO_KERNELS=; export STRETTO_KERNELS           # compiled anew
for library in "$CUDA_HOME/lib64/libnvrtc.so" /usr/local/cuda/lib64/libnvrtc.so; do
    [ -e "$library" ] || continue
    MOCK_CUDA=arch=75 "$1" "$2" --build-few "$library"
    case $3 in all) which=--build ;; *) which=--build-few ;; esac
    MOCK_CUDA=arch=90 "$1" "$2" $which "$library"
    MOCK_CUDA=arch=199 "$1" "$2" --build-few "$library"
    exit 0
done
echo "skip: NVRTC is not here (CUDA_HOME, /usr/local/cuda): kernels are not compiled as on a card"
exit 77
