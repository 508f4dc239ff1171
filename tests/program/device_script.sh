#!/bin/sh
# bench/device.sh --toy on the CPU, where it must find no difference at all, and on an OpenCL device, as PoCL is one.
#
# usage: device_script.sh ROOT BUILD
set -eu
export STRETTO_BUILD="$2" OUT
OUT=$(mktemp -d)
trap 'rm -rf "$OUT"' EXIT
"$1/bench/device.sh" --toy --device cpu >"$OUT/cpu" 2>&1 || { cat "$OUT/cpu"; exit 1; }
grep -q "at most 0 from the CPU's" "$OUT/cpu" || { cat "$OUT/cpu"; exit 1; }
if ! "$2/stretto" info --devices --json | grep -q '"opencl:0"'; then
    echo "skip: there is no OpenCL device (./dev test installs PoCL); the script was run on the CPU alone"
    exit 77
fi
"$1/bench/device.sh" --toy --device opencl >"$OUT/opencl" 2>&1 || { cat "$OUT/opencl"; exit 1; }
python3 - "$OUT/device.json" <<'END'
import json
import sys
with open(sys.argv[1]) as f:
    result = json.load(f)
assert result["device"]["word"] == "opencl:0" and all(e["equal"] is not False for e in result["equality"]), result
assert len(result["equality"]) >= 5 and all(r["one"]["tokens_s"] > 0 for r in result["rows"]), result
print(f"{len(result['equality'])} comparisons, {len(result['rows'])} models")
END
