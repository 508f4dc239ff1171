#!/usr/bin/env python3
"""bench/peers.py with programs that only pretend: who is run when, what is printed, what is kept and judged, and
what failure looks like."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Answers with a speed that depends on its name, its flash attention and how often it has run.
FAKE = """#!/bin/sh
name=%s
echo "$name $*" >> %s
fa=0 np=1 d=0
while [ $# -gt 0 ]; do
    case $1 in
    -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; -fa) fa=$2 ;; -t) t=$2 ;; -np) np=$2 ;;
    --help) exit ;;
    tokenize) echo '[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]'; exit ;;
    info) echo '{"machine": {"level": "'${STRETTO_CPU:-amx}'"}}'; exit ;;
    run) sleep 0.1; echo x; exit ;;
    esac
    shift
done
count=$(grep -c "^$name.*-n $n" %s)
sep='['
for s in $(echo $np | tr , ' '); do
    printf '%%s{"n_prompt": %%d, "n_gen": %%d, "n_depth": %%d, "n_parallel": %%d, "n_threads": %%d, "avg_ts": %%d,' \\
        "$sep" $p $n $d $s $t $(( (%s) * (s == 1 ? 1 : s / 2) ))
    printf ' "roof_share": 0.9, "model_size": 1000, "cache_bytes": 0, "peak_rss": 24000550,'
    printf ' "operations": [{"operation": "all", "seconds": 2, "roof_seconds": 1}]}'
    sep=,
done
echo ']'
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main():
    with tempfile.TemporaryDirectory() as d:
        def path(name):
            return os.path.join(d, name)

        def write(name, text):
            with open(path(name), "w") as f:
                f.write(text)
            os.chmod(path(name), 0o755)

        def fake(name, speed):
            write(name, FAKE % (name, path("log"), path("log"), speed))

        def peers(*more):
            env = dict(os.environ, XDG_CACHE_HOME=path("cache"), PATH="/usr/bin:/bin")
            r = subprocess.run([sys.executable, peers_py, "--ours", path("ours"), "--results", path("kept"), "-q",
                                *more],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
            return r.returncode, r.stdout, r.stderr

        def log():
            with open(path("log")) as f:
                return [line for line in f.read().splitlines() if not line.endswith(("--help", "--json"))]

        # Where no peers were ever fetched.
        peers_py = path("tree/bench/peers.py")
        os.makedirs(os.path.dirname(peers_py))
        shutil.copy(os.path.join(ROOT, "bench", "peers.py"), peers_py)
        fake("ours", "90 + 10 * count")            # 100, 110, 120 in the three rounds
        fake("them", "50 + 5 * fa")                 # better with flash attention
        write("model", "x")
        m = ("-m", path("model"))
        three = (*m, "--peer", path("them"), "--rows", "tg128", "-n", "3", "-o", "json", "-t", "2")
        rc, out, err = peers(*three, "--again")
        assert rc == 0, err
        row, = json.loads(out)["rows"]
        assert row["ours"] == 110 and row["ours_samples"] == [100, 110, 120], row
        assert row["them"]["median"] == 55 and row["them"]["setting"] == "fa 1", row
        assert row["ratio"] == 2 and row["them"]["ratio_range"] == [100 / 55, 120 / 55], row
        assert "reached" not in row, row
        lines = log()
        order = [line.split()[0] + ("1" if "-fa 1" in line else "") for line in lines]
        assert order == ["ours", "them", "them1", "them1", "them", "ours", "ours", "them", "them1"], order
        for line in lines:
            assert "-t 2" in line and "-ctk f16 -ctv f16" in line and "-n 128" in line, line
        # What was measured is not measured again.
        rc, again, err = peers(*three)
        assert rc == 0 and json.loads(again)["rows"] == json.loads(out)["rows"], (again, err)
        assert log() == lines
        # A measurement that was cut off in the middle of its line is made again.
        with open(path("kept")) as f:
            kept = f.read()
        write("kept", kept[:-20])
        rc, again, err = peers(*three)
        assert rc == 0 and len(log()) == len(lines) + 1, err

        # A line that is not ours costs only itself, and what follows one that was cut off is not lost with it.
        lines = log()
        with open(path("kept")) as f:
            kept = f.read().splitlines()
        write("kept", "\n".join(["[]", '{"key": 1}', *kept[:4], '{"key": "x", "rows": {"a": "fast"}}', *kept[4:-1],
                                 kept[-1][:-9]]))
        rc, again, err = peers(*three)
        assert rc == 0 and len(log()) == len(lines) + 1 and "5 lines are not" in err, err
        lines = log()
        rc, again, err = peers(*three)
        assert rc == 0 and log() == lines and json.loads(again)["rows"], err

        # The table of --full: one model that is there, targets of a machine with AMX.
        os.makedirs(path("cache/stretto/models"))
        write("cache/stretto/models/SmolLM2-135M-Instruct.Q4_1.gguf", "x")
        fake("slow", "10")
        fake("fast", "20 * (1 + (n == 128) * 4)")
        rc, out, err = peers("--full", "--peer", "a=" + path("slow"), "--peer", "llama.cpp=" + path("fast"), "-n", "1",
                             "-t", "2", "-o", "json", "-m", "smollm2-q4_1", "-m", "gemma-3-270m")
        assert rc == 0, err
        assert "gemma-3-270m is left out" in err and "stretto pull gemma-3-270m" in err, err
        rows = {r["test"]: r for r in json.loads(out)["rows"]}
        assert rows["pp512"]["fastest"] == "llama.cpp" and rows["pp512"]["target"] == "≥ 2.5 x", rows["pp512"]
        assert rows["pp512"]["reached"] == "yes" and rows["pp512"]["roof"] == 0.5, rows["pp512"]
        # Slower than the peer, and at the roof: nothing left to reach.
        assert rows["tg128"]["ratio"] < 1.8 and rows["tg128"]["reached"] == "at the roof", rows["tg128"]
        assert rows["c16"]["ours"] == 2 and rows["c16"]["reached"] == "yes", rows["c16"]
        assert rows["c4"]["reached"] == "no", rows["c4"]
        assert rows["first"]["ours"] > 0.1 and rows["first"]["reached"] == "?", rows["first"]
        assert abs(rows["rss"]["ours"] - 24000550 / 48001100) < 1e-9 and rows["rss"]["reached"] == "yes", rows["rss"]
        # Without AMX the measure is llama.cpp, whoever is the fastest; what another level did is not taken for it.
        fake("quick", "1000")
        os.environ["STRETTO_CPU"] = "avx2"
        lines = log()
        rc, out, err = peers("--full", "--peer", "a=" + path("quick"), "--peer", "llama.cpp=" + path("fast"), "-n", "1",
                             "-t", "2", "-o", "json", "-m", "smollm2-q4_1", "--rows", "pp512,tg128")
        del os.environ["STRETTO_CPU"]
        rows = {r["test"]: r for r in json.loads(out)["rows"]}
        assert [r["fastest"] for r in rows.values()] == ["a", "a"], rows
        assert rows["pp512"]["reached"].startswith("yes, ") and rows["pp512"]["target"] == "≥ 1.2 x llama.cpp", rows
        assert [line.split()[0] for line in log()[len(lines):]] == ["ours", "quick", "quick"] * 2, log()
        # The table so far.
        lines = log()
        rc, out, err = peers("--full", "--peer", "a=" + path("quick"), "--kept", "-n", "1", "-t", "2", "-o", "json",
                             "-m", "smollm2-q4_1")
        rows = {r["test"]: r for r in json.loads(out)["rows"]}
        assert rc == 0 and "a" in rows["pp512"] and "a" not in rows["x16"] and log() == lines, (rc, rows, err)
        rc, out, err = peers("--full", "--peer", "a=" + path("slow"), "-n", "1", "-t", "2", "--rows", "pp512,rss",
                             "-m", "smollm2-q4_1")
        assert rc == 0 and out.count("\n| ") == 3 and "| reached |" in out, (rc, out, err)

        write("broken", "#!/bin/sh\necho no such model >&2\nexit 3\n")
        rc, out, err = peers(*m, "--peer", path("broken"), "-n", "1")
        assert rc == 1 and "broken is no peer" in err and "exit status 3: no such model" in err, (rc, out, err)
        # What a peer cannot do is kept; what others can do is measured all the same.
        full = ("--full", "--peer", "a=" + path("slow"), "--peer", "b=" + path("broken"), "-n", "1", "-t", "2",
                "--rows", "pp512,tg128", "-m", "smollm2-q4_1", "-o", "json")
        write("broken", "#!/bin/sh\necho broken $1 >> %s\necho other words >&2\nexit 3\n" % path("log"))
        for asked in (2, 0):            # both settings of the first row, then never again
            lines = log()
            rc, out, err = peers(*full)
            assert rc == 0 and err.count("b is no peer for smollm2-q4_1") == 1 and "other words" in err, (rc, err)
            rows = {r["test"]: r for r in json.loads(out)["rows"]}
            assert list(rows) == ["pp512", "tg128"] and all("a" in r and "b" not in r for r in rows.values()), rows
            assert [line for line in log()[len(lines):] if "broken" in line] == ["broken -fa"] * asked, log()
        write("killed", "#!/bin/sh\nkill -9 $$\n")
        rc, out, err = peers(*m, "--peer", path("killed"), "-n", "1", "--rows", "pp512")
        assert rc == 1 and "ended by SIGKILL" in err and "| pp512 |" in out, (rc, out, err)
        write("words", "#!/bin/sh\necho pp512 is fast\n")
        rc, out, err = peers(*m, "--peer", path("words"), "-n", "1", "--rows", "pp512")
        assert rc == 1 and "not the JSON of a bench" in err, (rc, out, err)
        write("sleeps", "#!/bin/sh\n[ $1 = --help ] && exit\nsleep 60 &\necho $! > %s\nwait\n"
              % path("pid"))
        rc, out, err = peers(*m, "--peer", path("sleeps"), "-n", "1", "--rows", "pp512", "--timeout", "1")
        assert rc == 1 and "no answer within 1 s" in err, (rc, out, err)
        with open(path("pid")) as f:
            assert not is_running(int(f.read())), "what a peer started outlived it"
        write("text", "no program")
        os.chmod(path("text"), 0o644)
        rc, out, err = peers(*m, "--peer", path("text"))
        assert rc == 2 and "cannot be run" in err, (rc, err)
        rc, out, err = peers("-m", "gemma", "--peer", path("slow"))
        assert rc == 2 and "gemma-3-270m" in err, (rc, err)

        # ^C says what is kept.
        write("cache/stretto/models/other", "x")
        os.remove(path("pid"))
        stopped = subprocess.Popen([sys.executable, peers_py, "--ours", path("ours"), "--results", path("kept"), "-q",
                                    "--rows", "pp512", "-m", path("cache/stretto/models/other"), "--peer",
                                    path("sleeps")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not os.path.isfile(path("pid")) or not os.path.getsize(path("pid")):
            time.sleep(0.02)
        stopped.terminate()
        out, err = stopped.communicate()
        assert stopped.returncode == 130 and "1 made until now are kept" in err, (stopped.returncode, err)
        with open(path("pid")) as f:
            assert not is_running(int(f.read())), "what a peer started outlived us"

        rc, out, err = peers(*m, "--peer", path("nowhere"))
        assert rc == 2 and "nowhere" in err, (rc, err)
        rc, out, err = peers(*m, "--peer", path("them"), "--rows", "pp1")
        assert rc == 2 and "pp512" in err, (rc, err)
    print("ok")


if __name__ == "__main__":
    main()
