#!/usr/bin/env python3
"""stretto bench: --roof's bytes and multiply-adds against the model's sizes, its times against each other; what
--compare says of made-up files, and its exit status.

    test_bench.py STRETTO GOLDEN_FOLDER"""
import json
import os
import re
import subprocess
import sys
import tempfile
import threading

stretto, golden = sys.argv[1:3]
model = os.path.join(golden, "llama", "model.gguf")


def call(*args, **variables):
    r = subprocess.run([stretto, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       env=os.environ | variables)
    return r.returncode, r.stdout, r.stderr


def near(a, b):
    return abs(a - b) <= 1e-6 * abs(b)


def mix():
    code, out, err = call("bench", "-m", model, "--mix", "-np", "1,3", "-r", "2", "-o", "json")
    assert code == 0, err
    rows = json.loads(out)
    assert [(r["requests"], r["prompts"]) for r in rows] == [(n, p) for n in (1, 3) for p in ("mixed", "whole")]
    for r in rows:
        assert 0 < r["first_s"] <= r["first_95_s"] < 60 and 0 < r["gap_s"] <= r["gap_95_s"] <= r["gap_longest_s"], r
        # All answers are written between the first arrival and the end.
        assert 0 < r["avg_ts"] * max(r["first_s"], r["gap_s"]) and r["n_gen"] == 64 and r["n_prompt"] == 200, r
    code, out, err = call("bench", "-m", model, "--mix", "-r", "1", "-np", "2", "-o", "csv")
    assert code == 0 and len(out.splitlines()) == 3, (out, err)
    for more in (["-p", "3"], ["-n", "9"], ["--roof"], ["-d", "1"]):
        code, out, err = call("bench", "-m", model, "--mix", *more)
        assert code == 2 and "--mix" in err, (more, code, err)
    code, out, err = call("bench", "-m", model, "--mix", "--decode", "auto", "--prompts", "x")
    assert code == 2 and "--mix" in err, (code, err)


def roof():
    info = json.loads(call("info", "-m", model, "--json")[1])["model"]
    layers, width, feed, vocabulary = (info[k] for k in ("layers", "width", "feed", "vocabulary"))
    for threads in ("1", "2"):
        code, out, err = call("bench", "-m", model, "--roof", "-p", "16", "-n", "4", "-d", "0,8", "-np", "1,3",
                              "-r", "1", "-t", threads, "-o", "json")
        assert code == 0, err
        rows = json.loads(out)
        assert len(rows) == 6, len(rows)
        for r in rows:
            ops = {o["operation"]: o for o in r["operations"]}
            n, steps = (16, 1) if r["n_prompt"] else (r["n_parallel"], 4)
            first = r["n_depth"] + 1
            seen = sum(range(first, first + 16)) if r["n_prompt"] else n * sum(range(first, first + 4)) / 4
            assert near(ops["ffn_down"]["macs"], n * layers * feed * width), ops["ffn_down"]
            assert near(ops["ffn_gate/ffn_up"]["macs"], 2 * n * layers * feed * width), ops
            asks = 1 if r["n_prompt"] else n
            assert near(ops["head"]["macs"], asks * vocabulary * width), ops["head"]
            heads = info["heads"] * info["head_dim"]
            assert near(ops["attention"]["macs"], 2 * layers * seen * heads), (ops["attention"], seen)
            assert ops["attention"]["times"] == layers and ops["plan, answers"]["times"] == 1, ops
            every = [o for o in r["operations"] if o["operation"] != "all"]
            total = sum(o["seconds"] for o in every)
            assert near(total, ops["all"]["seconds"]) and 0 < total * steps < 60, total
            for o in every:
                assert 0 <= o["wait"] <= o["seconds"] + 1e-9 or abs(o["wait"]) < 1e-6, o
            # No file tensor that is multiplied with counts twice, none is left out; look-ups are no reading.
            read = sum(o["bytes"] for o in every if o["macs"] > 0 and o["operation"] != "attention")
            assert 0.5 * info["tensor_bytes"] < read <= info["tensor_bytes"], (read, info["tensor_bytes"])
            assert r["cache_bytes"] > 0 and r["peak_rss"] > info["tensor_bytes"]
    code, out, err = call("bench", "-m", model, "--roof", "-p", "8", "-n", "0", "-r", "1", "-t", "1")
    assert code == 0 and "| attention |" in out and "roofs:" in out, (out, err)
    code, out, err = call("bench", "-m", model, "--roof", "-p", "8", "-n", "0", "-r", "1", "-t", "1", "-o", "csv")
    assert code == 0 and out.startswith("test,operation,") and "\npp8,\"all\"," in out, (out, err)
    code, out, err = call("bench", "-m", model, "--roof", "-p", "8", "-n", "2", "-r", "1", "-t", "1", "-o", "csv")
    assert code == 0 and out.count("test,operation,") == 1 and "\ntg2,\"all\"," in out, (out, err)


def compare():
    with tempfile.TemporaryDirectory() as tmp:
        def write(name, value):
            path = os.path.join(tmp, name)
            with open(path, "w") as f:
                f.write(value if isinstance(value, str) else json.dumps(value))
            return path

        def row(n, *samples):
            return {"model_filename": "m.gguf", "n_prompt": n, "n_gen": 0, "n_depth": 0, "n_parallel": 1,
                    "n_threads": 2, "type_k": "f16", "samples_ts": samples}
        a = write("a", [row(512, 100, 101, 99), row(64, 100, 101, 99), row(8, 5)])
        b = write("b", {"commit": "x", "rows": [row(512, 150, 151, 149), row(64, 99, 102, 98.5), row(9, 5)]})
        code, out, err = call("bench", "--compare", a, b)
        assert code == 0 and err == "", (code, err)
        lines = {line.split(",")[0][2:]: line for line in out.splitlines()[2:]}
        assert "| faster |" in lines["pp512"] and "| no difference seen |" in lines["pp64"], out
        assert "only before" in lines["pp8"] and "only after" in lines["pp9"], out
        code, out, _ = call("bench", "--compare", b, a)
        assert code == 1 and "| slower |" in out, (code, out)
        one = write("one", [row(512, 50)])
        code, out, _ = call("bench", "--compare", a, one)
        assert code == 0 and "one sample" in out, (code, out)
        other = write("other", [row(3, 5, 6, 7)])
        code, out, err = call("bench", "--compare", a, other)
        assert code == 1 and "nothing was compared" in err, (code, err)
        for args, words in ((("--costs", "1,2"), "--costs goes with"), (("--prompts", a), "--prompts goes with"),
                            (("-c", "9"), "-c goes with"), (("--decode", "auto", "-d", "3"), "-d goes with"),
                            (("--decode", "auto", "-o", "csv"), "-o csv goes with"),
                            (("--compare", a, a, "--roof"), "no other option"),
                            (("-p", "0", "-n", "0"), "nothing to measure")):
            code, out, err = call("bench", *args)
            assert code == 2 and words in err, (args, code, err)
        for bad, words in ((write("bad", "[{]"), "line 1"), (write("none", ""), "line"),
                           (write("empty", []), "list of"),
                           (os.path.join(tmp, "missing"), "missing"), (tmp, "regular file")):
            code, out, err = call("bench", "--compare", a, bad)
            assert code == 2 and words in err and not out, (bad, code, out, err)
        assert call("bench", "--compare", a)[0] == 2 and call("bench", a)[0] == 2


def joules():
    """A counter that somebody turns, one that cannot be read, and none."""
    args = ("bench", "-m", model, "-p", "8", "-n", "4", "-r", "2", "-t", "1")
    with tempfile.TemporaryDirectory() as tmp:
        code, out, err = call(*args, STRETTO_POWERCAP=tmp)
        assert code == 0 and "J/token" not in out and "joules" not in out, (out, err)
        for r in json.loads(call(*args, "-o", "json", STRETTO_POWERCAP=tmp)[1]):
            assert r["joules_per_token"] is None and r["joules_of"] is None
        zone = os.path.join(tmp, "intel-rapl:0")
        os.mkdir(zone)

        def write(name, text):
            with open(os.path.join(zone, "new"), "w") as f:
                f.write(text)
            os.replace(os.path.join(zone, "new"), os.path.join(zone, name))

        write("name", "package-0\n")
        write("max_energy_range_uj", "262143328850\n")
        code, out, err = call(*args, STRETTO_POWERCAP=tmp)
        assert code == 0 and "J/token" not in out, (out, err)
        assert re.search(r"^no joules: .*energy_uj cannot be read: No such file", out, re.M), out
        write("energy_uj", "0\n")
        done = threading.Event()

        def turn():
            joules = 0
            while not done.wait(0.0002):
                joules += 1000
                write("energy_uj", f"{joules}000000\n")

        thread = threading.Thread(target=turn)
        thread.start()
        try:
            long = ("-p", "400", "-n", "400", "-r", "20", "-o", "json") # the counter turns while one runs
            rows = json.loads(call(*args, *long, STRETTO_POWERCAP=tmp)[1])
            code, out, err = call(*args, STRETTO_POWERCAP=tmp)
        finally:
            done.set()
            thread.join()
        for r in rows:
            assert r["joules_per_token"] > 0 and r["joules_of"] == "cpu", r
        assert code == 0 and "| J/token |" in out and "no joules" not in out, (out, err)
        assert len({line.count("|") for line in out.splitlines() if line.startswith("|")}) == 1, out
        assert re.search(r"^J/token: all that the CPU", out, re.M), out


def teach():
    info = json.loads(call("info", "-m", model, "--json")[1])["model"]
    layers, width, feed, vocabulary = (info[k] for k in ("layers", "width", "feed", "vocabulary"))
    for method in ("full", "lora"):
        code, out, err = call("bench", "-m", model, "--teach", method, "-p", "40", "-r", "2", "-t", "2", "-o", "json")
        assert code == 0, err
        r = json.loads(out)[0]
        ops = {o["operation"]: o for o in r["operations"]}
        assert r["rows"] == 40 and r["rows_per_core_second"] > 0 and ops["optimizer"]["times"] == 1, r
        rank = min(16, width, feed)
        down = {"full": ("ffn_down", 0), "lora": ("ffn_down/ffn_down.a", rank)}[method]
        assert near(ops[down[0]]["macs"], 40 * layers * feed * (width + down[1])), ops
        assert near(ops["head"]["macs"], 40 * vocabulary * width), ops["head"]
        seen = layers * 40 * 41 / 2 * info["heads"] * info["head_dim"]
        assert near(ops["see"]["macs"], 2 * seen) and near(ops["see: gradient"]["macs"], 5 * seen), ops
        assert ("head: weights" in ops) == (method == "full"), ops
    code, out, err = call("bench", "-m", model, "--teach", "lora", "-p", "20", "-r", "1", "-t", "1")
    assert code == 0 and "| optimizer |" in out and "a second of a core" in out, (out, err)
    for more in (["-n", "9"], ["--mix"], ["-d", "1"]):
        code, out, err = call("bench", "-m", model, "--teach", "lora", *more)
        assert code == 2 and "--teach" in err, (more, code, err)


mix()
teach()
joules()
roof()
compare()
print("ok")
