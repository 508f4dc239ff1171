#!/usr/bin/env python3
"""bench/peers.py with programs that only pretend: who is run when, what is printed, and what failure looks like."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Answers with a speed that depends on its name, its flash attention and how often it has run.
FAKE = """#!/bin/sh
name=%s
echo "$name $*" >> %s
fa=0
while [ $# -gt 0 ]; do
    case $1 in
    -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; -fa) fa=$2 ;; -t) t=$2 ;;
    esac
    shift
done
count=$(grep -c "^$name" %s)
echo "[{\\"n_prompt\\": $p, \\"n_gen\\": $n, \\"n_depth\\": $d, \\"n_threads\\": $t, \\"avg_ts\\": $((%s))}]"
"""


def main():
    with tempfile.TemporaryDirectory() as d:
        def path(name):
            return os.path.join(d, name)

        def fake(name, speed):
            with open(path(name), "w") as f:
                f.write(FAKE % (name, path("log"), path("log"), speed))
            os.chmod(path(name), 0o755)

        def peers(*more):
            r = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "peers.py"), "--ours", path("ours"),
                                "-m", path("model"), "-q", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
            return r.returncode, r.stdout, r.stderr

        fake("ours", "90 + 10 * count")            # 100, 110, 120 in the three rounds
        fake("them", "50 + 5 * fa")                 # better with flash attention
        with open(path("model"), "w") as f:
            f.write("x")
        rc, out, err = peers("--peer", path("them"), "--rows", "tg128", "-n", "3", "-o", "json", "-t", "2")
        assert rc == 0, err
        row, = json.loads(out)["rows"]
        assert row["ours"] == 110 and row["ours_samples"] == [100, 110, 120], row
        assert row["them"]["median"] == 55 and row["them"]["setting"] == "fa 1", row
        assert row["them"]["ratio"] == 2 and row["them"]["ratio_range"] == [100 / 55, 120 / 55], row
        with open(path("log")) as f:
            lines = f.read().splitlines()
        order = [line.split()[0] + ("1" if "-fa 1" in line else "") for line in lines]
        assert order == ["ours", "them", "them1", "them1", "them", "ours", "ours", "them", "them1"], order
        for line in lines:
            assert "-t 2" in line and "-ctk f16 -ctv f16" in line and "-n 128" in line, line
        rc, out, err = peers("--peer", "x=" + path("them"), "--full", "-n", "1", "-t", "2")
        assert rc == 0 and out.count("\n| ") == 1 + 4 * 3 and "ours / x" in out and "q8_0" in out, (rc, out, err)
        with open(path("broken"), "w") as f:
            f.write("#!/bin/sh\necho no such model >&2\nexit 3\n")
        os.chmod(path("broken"), 0o755)
        rc, out, err = peers("--peer", path("broken"), "-n", "1")
        assert rc == 1 and "no such model" in err and not out, (rc, out, err)
        rc, out, err = peers("--peer", path("nowhere"))
        assert rc == 2 and "nowhere" in err, (rc, err)
    print("ok")


if __name__ == "__main__":
    main()
