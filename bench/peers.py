#!/usr/bin/env python3
"""Our speed beside another program's, on the same file, cache type and threads, in one run.

    ./dev peers --peer /path/to/llama-bench [--full] [-m MODEL.gguf] [-t 2] [-n PAIRS] [-o md|json]

Machines drift, so the programs take turns: in each of PAIRS rounds every row is run by ours, then by the
peer without and with flash attention, and every other round backwards. A figure is the median over the
rounds; the peer's figure is the better of its two settings, row by row. Rows: pp512 and tg128 on an
empty cache, pp4096, and tg64 after 4,096 tokens; --full adds the same rows with one thread and with a
q8_0 cache. Without --peer, programs named llama-bench on the PATH are used.

The exit status says whether the runs worked, never who was faster."""
import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stretto", "models")
ROWS = ((512, 0, 0), (0, 128, 0), (4096, 0, 0), (0, 64, 4096))      # prompt, generated, depth


class Failed(Exception):
    pass


def row_name(prompt, gen, depth):
    return (f"pp{prompt}" if prompt else f"tg{gen}") + (f" @ {depth}" if depth else "")


def run_bench(command, prompt, gen, depth, threads, cache, model, timeout):
    """One row by one program: (tokens per second, the row it printed)."""
    argv = command + ["-m", model, "-p", str(prompt), "-n", str(gen), "-d", str(depth), "-t", str(threads),
                      "-ctk", cache, "-ctv", cache, "-r", "1", "-o", "json"]
    try:
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(argv)}: no answer within {timeout} s (--timeout)")
    except OSError as e:
        raise Failed(f"{argv[0]}: {e.strerror}")
    if r.returncode:
        last = r.stderr.decode(errors="replace").strip().splitlines()
        raise Failed(f"{' '.join(argv)}: exit status {r.returncode}: {last[-1] if last else 'no message'}")
    try:
        rows = json.loads(r.stdout)
        rows = rows.get("rows", [rows]) if isinstance(rows, dict) else rows
        for row in rows:
            if (row["n_prompt"], row["n_gen"], row["n_depth"]) == (prompt, gen, depth):
                return float(row["avg_ts"]), row
    except (ValueError, KeyError, TypeError) as e:
        raise Failed(f"{' '.join(argv)}: output is not the JSON of a bench ({e!r})")
    raise Failed(f"{' '.join(argv)}: no row with n_prompt {prompt}, n_gen {gen}, n_depth {depth}")


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def environment(args, seen):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout.decode().strip()
    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "load_before": round(args.load, 2), "date": time.strftime("%Y-%m-%d"),
            "model": os.path.basename(args.model), "model_bytes": os.path.getsize(args.model),
            "ours": commit or "?", "peers": {name: row.get("build_commit", "?") for name, row in seen.items()}}


def measure(args, peers, cells):
    """{cell: {program: {setting: [tokens per second, one for each round]}}}, and one row of each peer."""
    programs = [("ours", "", [args.ours, "bench"])]
    for name, path in peers:
        programs += [(name, "fa 0", [path, "-fa", "0"]), (name, "fa 1", [path, "-fa", "1"])]
    got, seen, done = {}, {}, 0
    total = args.pairs * len(cells) * len(programs)
    for r in range(args.pairs):
        for cell in cells:
            prompt, gen, depth, threads, cache = cell
            for name, setting, command in programs[::-1] if r % 2 else programs:
                done += 1
                if not args.quiet:
                    print(f"\r{done}/{total} {name} {setting} {row_name(prompt, gen, depth)} -t {threads}"
                          f" {cache}\x1b[K", end="", file=sys.stderr, flush=True)
                if name != "ours" and setting == "fa 0" and cache == "q8_0":
                    continue            # llama.cpp keeps a quantised cache only with flash attention
                ts, row = run_bench(command, prompt, gen, depth, threads, cache, args.model, args.timeout)
                got.setdefault(cell, {}).setdefault(name, {}).setdefault(setting, []).append(ts)
                if name != "ours":
                    seen[name] = row
    if not args.quiet:
        print("\r\x1b[K", end="", file=sys.stderr)
    return got, seen


def table(got, peers):
    out = []
    for (prompt, gen, depth, threads, cache), by in got.items():
        ours = by["ours"][""]
        row = {"test": row_name(prompt, gen, depth), "n_prompt": prompt, "n_gen": gen, "n_depth": depth,
               "n_threads": threads, "cache": cache, "ours": statistics.median(ours), "ours_samples": ours}
        for name, _ in peers:
            setting, best = max(by[name].items(), key=lambda kv: statistics.median(kv[1]))
            pairs = [a / b for a, b in zip(ours, best)]
            row[name] = {"median": statistics.median(best), "setting": setting, "settings": by[name],
                         "ratio": statistics.median(ours) / statistics.median(best),
                         "ratio_range": [min(pairs), max(pairs)]}
        out.append(row)
    return out


def markdown(rows, peers, env):
    names = [n for n, _ in peers]
    lines = [f"{env['model']}, {env['cpu']}, {env['cores']} cores, Linux {env['kernel']}, load before "
             f"{env['load_before']}, {env['date']}, ours {env['ours']}, "
             + ", ".join(f"{n} {c}" for n, c in env["peers"].items()), "",
             "| test | threads | cache | ours t/s | " + " | ".join(f"{n} t/s | setting | ours / {n} (range)"
                                                                  for n in names) + " |",
             "|---|--:|---|--:|" + "--:|---|--:|" * len(names)]
    for r in rows:
        cells = [r["test"], str(r["n_threads"]), r["cache"], f"{r['ours']:.1f}"]
        for n in names:
            p = r[n]
            cells += [f"{p['median']:.1f}", p["setting"],
                      f"{p['ratio']:.2f} ({p['ratio_range'][0]:.2f} to {p['ratio_range'][1]:.2f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--peer", action="append", metavar="[NAME=]PATH", help="a llama-bench; may be repeated")
    ap.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("-m", "--model", default=os.path.join(MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf"))
    ap.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("-n", "--pairs", type=int, default=3, help="rounds (default 3)")
    ap.add_argument("-r", "--rows", help="only these, comma separated: pp512,tg128,pp4096,tg64")
    ap.add_argument("--full", action="store_true", help="also one thread, and a q8_0 cache")
    ap.add_argument("--timeout", type=int, default=1800, help="seconds for one run (default 1800)")
    ap.add_argument("-q", "--quiet", action="store_true", help="no progress line")
    ap.add_argument("-o", "--output", choices=("md", "json"), default="md")
    args = ap.parse_args()
    if args.pairs < 1 or args.threads < 1:
        ap.error("--pairs and --threads must be at least 1")
    args.load = os.getloadavg()[0]
    found = shutil.which("llama-bench")
    named = args.peer or ([found] if found else [])
    if not named:
        ap.error("name a peer: --peer /path/to/llama-bench (there is none on the PATH)")
    peers = []
    for p in named:
        name, eq, path = p.partition("=")
        if not eq or "/" in name:
            name, path = os.path.basename(p), p
        if name == "ours" or name in [n for n, _ in peers]:
            ap.error(f"two programs are called {name}: give them names, --peer NAME=PATH")
        peers.append((name, path))
    for what, path in [("model", args.model), ("our program", args.ours)] + peers:
        if not os.path.isfile(path):
            ap.error(f"{what}: there is no file {path}")
    rows = ROWS
    if args.rows:
        rows = [r for r in ROWS if row_name(*r).split()[0] in args.rows.split(",")]
        if not rows:
            ap.error(f"--rows {args.rows}: the rows are pp512, tg128, pp4096, tg64")
    kinds = [(args.threads, "f16")]
    if args.full:
        kinds += [(1, "f16")] * (args.threads > 1) + [(args.threads, "q8_0")]
    if args.load > 0.5 and not args.quiet:
        print(f"peers: the machine is busy (load {args.load:.2f}); figures will be low and uneven",
              file=sys.stderr)
    try:
        got, seen = measure(args, peers, [r + k for k in kinds for r in rows])
    except Failed as e:
        print(f"\npeers: {e}", file=sys.stderr)
        return 1
    result, env = table(got, peers), environment(args, seen)
    print(json.dumps({"environment": env, "rows": result}, indent=1) if args.output == "json"
          else markdown(result, peers, env))
    return 0


if __name__ == "__main__":
    sys.exit(main())
