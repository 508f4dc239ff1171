#!/usr/bin/env python3
"""What speed costs in quality: perplexity of the fast path and of the float32 path, and their divergence.

    bench/quality.py -f TEXT [-m MODEL.gguf ...] [--chunks 16] [-ctk TYPE]
                     [--peer /path/to/llama-perplexity] [-o md|json]

One line for each model: perplexity in llama-perplexity's convention (windows of 512 tokens, the second half of
each counts), mean and 99 % KL divergence from the same model's float32 path in nats, how often the best
token is the same; with --peer also that program's perplexity on the very same windows."""
import argparse
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stretto", "models")


def output_of(argv):
    try:
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as e:
        sys.exit(f"quality: {argv[0]}: {e.strerror}")
    if r.returncode:
        last = r.stderr.decode(errors="replace").strip().splitlines()
        sys.exit(f"quality: {' '.join(argv)}: exit status {r.returncode}: {last[-1] if last else 'no message'}")
    return r.stdout.decode(), r.stderr.decode(errors="replace")


def peer_perplexity(args, model):
    out, err = output_of([args.peer, "-m", model, "-f", args.file, "-c", "512", "--chunks", str(args.chunks)])
    found = re.search(r"PPL = ([0-9.]+)", out + err)
    if not found:
        sys.exit(f"quality: {args.peer} printed no final estimate")
    return float(found.group(1))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", action="append")
    ap.add_argument("-f", "--file", required=True)
    ap.add_argument("--chunks", type=int, default=16, help="windows of 512 tokens (default 16: 8,192 tokens)")
    ap.add_argument("-ctk", "--cache-type", help="the fast path's cache (default: the program's)")
    ap.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("--peer", help="a llama-perplexity")
    ap.add_argument("-o", "--output", choices=("md", "json"), default="md")
    args = ap.parse_args()
    cache = ["-ctk", args.cache_type, "-ctv", args.cache_type] if args.cache_type else []
    rows = []
    for model in args.model or [os.path.join(MODELS, "SmolLM2-135M-Instruct.Q4_1.gguf")]:
        out, _ = output_of([args.ours, "eval", "kl", "-m", model, "--base-reference", "-f", args.file, "-c", "512",
                            "--chunks", str(args.chunks), "--json"] + cache)
        row = {"model": os.path.basename(model), **json.loads(out)}
        if args.peer:
            row["peer_perplexity"] = peer_perplexity(args, model)
        rows.append(row)
    if args.output == "json":
        print(json.dumps(rows, indent=1))
        return
    print("| model | cache | tokens | perplexity float32 | fast | mean KL | 99 % KL | same best token |"
          + (" peer's perplexity |" if args.peer else ""))
    print("|---|---|--:|--:|--:|--:|--:|--:|" + ("--:|" if args.peer else ""))
    for r in rows:
        change = 100 * (r["perplexity"] / r["base_perplexity"] - 1)
        line = (f"| {r['model']} | {r['cache']} | {r['tokens']} | {r['base_perplexity']:.3f} | {r['perplexity']:.3f} "
                f"({change:+.2f} %) | {r['mean_kl']:.5f} | {r['p99_kl']:.4f} | {100 * r['same_top']:.2f} % |")
        if args.peer:
            change = 100 * (r["peer_perplexity"] / r["base_perplexity"] - 1)
            line += f" {r['peer_perplexity']:.3f} ({change:+.2f} %) |"
        print(line)


if __name__ == "__main__":
    main()
