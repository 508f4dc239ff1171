#!/usr/bin/env python3
"""One machine's speed at one commit, kept as a small file in bench/history.

    ./dev bench --record [OPTIONS OF stretto bench]

Runs `stretto bench` (without options: a prompt of 512, 128 tokens written, one and 16 sequences), keeps what
`stretto bench --compare OLD NEW` reads, and names the file after processor and commit. A commit that was not
clean is marked with a plus."""
import json
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from peers import MODELS, SMOL, cpu_name  # noqa: E402

KEEP = ("device", "n_threads", "type_k", "n_prompt", "n_gen", "n_depth", "n_parallel", "samples_ts", "roof_share",
        "roof_gb_s", "load_s", "peak_rss")


def git(*args):
    return subprocess.run(["git", "-C", HERE, *args], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout.decode().strip()


def short(value):
    if isinstance(value, list):
        return [short(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: record.py STRETTO [OPTIONS OF stretto bench]")
    ours, options = sys.argv[1], sys.argv[2:]
    # By its name: --compare matches the rows of two files by model.
    if not any(o in ("-m", "--model") or o.startswith("--model=") for o in options):
        options += ["-m", os.path.join(MODELS, SMOL)]
    r = subprocess.run([ours, "bench", "-np", "1,16", *options, "-o", "json"], stdout=subprocess.PIPE)
    if r.returncode:
        sys.exit(r.returncode)
    rows = [{"model_filename": os.path.basename(row["model_filename"]),
             **{k: short(row[k]) for k in KEEP if row.get(k) is not None}} for row in json.loads(r.stdout)]
    r = subprocess.run([ours, "info", "--machine", "--json"], stdout=subprocess.PIPE)
    machine = json.loads(r.stdout)["machine"]
    commit = git("rev-parse", "--short=10", "HEAD") or "unknown"
    commit += "+" if git("status", "--porcelain", "-uno") else ""
    cpu = cpu_name()
    result = {"machine": {"cpu": cpu, "threads": machine["threads"], "level": machine["level"]}, "commit": commit,
              "date": time.strftime("%Y-%m-%d"), "rows": rows}
    name = re.sub(r"[^a-z0-9]+", "-", f"{cpu} {machine['threads']} {machine['level']}".lower()).strip("-")
    path = os.path.join(HERE, "history", f"{name}-{commit}.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "w") as f:
        head = json.dumps({k: v for k, v in result.items() if k != "rows"})[:-1]
        f.write(head + ', "rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n")
    os.replace(path + ".part", path)
    print(os.path.relpath(path))


if __name__ == "__main__":
    main()
