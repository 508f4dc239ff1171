#!/usr/bin/env python3
"""What leaving out costs: zeros, a smaller shape, low rank beside a squeezed file; and the same bytes spent on bits.

    bench/prune.py masks|shapes|lowrank|width -m MODEL -f TEXT [--chunks 6] [--tokens 16384] [--share 20%]
                   [--dir DIR] [--peer DIR] [--ours STRETTO] [-o md|json]

MODEL is a GGUF file of floats. Divergence is from it, on windows of 512 tokens of TEXT, the second half of each
counted; nothing is learned from TEXT.

masks    half of the weights zero by magnitude, Wanda and SparseGPT, freely, as 2:4 and 4:8, and as tiles of 16 x 32
shapes   a share of the parameters left out: solved anew, and cut by the size of weights in the same shape; then both
         shapes and the original at several types, and what a megabyte costs by leaving out and by fewer bits
width    channels of the residual stream set to zero wherever they are written, those with the smallest weights
lowrank  the adapter of --low-rank beside a squeezed file, measured by llama-perplexity (--peer), and the next types"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()
        sys.exit(f"prune: {' '.join(argv)}: exit status {done.returncode}: {last[-1] if last else 'no message'}")
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


class Bench:
    def __init__(self, args):
        self.args, self.rows = args, []
        self.dir = args.dir or tempfile.mkdtemp(prefix="prune-")
        os.makedirs(self.dir, exist_ok=True)

    def file(self, name, source, *how):
        """The file of that name, made if it is not there."""
        path = os.path.join(self.dir, name + ".gguf")
        if not os.path.exists(path):
            run([self.args.ours, "squeeze", "-m", source, "-o", path, "--no-proof", "-q", "--tokens",
                 str(self.args.tokens), *how])
        return path

    def measure(self, path, **more):
        out, _ = run([self.args.ours, "eval", "kl", "--base", self.args.model, "-m", path, "-f", self.args.file, "-c",
                      "512", "--chunks", str(self.args.chunks), "--json"])
        r = json.loads(out)
        row = {**more, "bytes": os.path.getsize(path), "kl": r["mean_kl"], "kl_error": r.get("mean_kl_error", 0),
               "same_top": r["same_top"], "perplexity": r["perplexity"], "base_perplexity": r["base_perplexity"]}
        self.rows.append(row)
        if self.args.output == "md":
            print(f"| {' | '.join(str(v) for v in more.values())} | {row['bytes'] / 1e6:.1f} | {row['kl']:.4f} | "
                  f"{100 * row['same_top']:.1f} % | {row['perplexity']:.2f} |", flush=True)
        return row

    def head(self, *names):
        if self.args.output == "md":
            print(f"| {' | '.join(names)} | MB | KL | same best token | perplexity |")
            print("|" + "---|" * len(names) + "--:|--:|--:|--:|", flush=True)


def masks(b):
    b.head("zeros", "chosen by")
    got = {}
    for pattern, how in (("50 %", ["--sparsity", "50%"]), ("2:4", ["--pattern", "2:4"]), ("4:8", ["--pattern", "4:8"])):
        for mask in ("magnitude", "wanda", "sparsegpt"):
            path = b.file(f"{mask}-{pattern.replace(' ', '').replace(':', 'of')}", b.args.model, "--type", "f16", *how,
                          "--mask", mask)
            got[pattern, mask] = b.measure(path, zeros=pattern, by=mask)["perplexity"]
            os.unlink(path)
    for share in ("10%", "25%", "50%"):
        path = b.file(f"tiles-{share}", b.args.model, "--type", "f16", "--sparsity", share, "--pattern", "16x32")
        b.measure(path, zeros=f"{share} as tiles 16x32", by="sparsegpt")
        os.unlink(path)
    order = got["50 %", "sparsegpt"] <= got["50 %", "wanda"] < got["50 %", "magnitude"]
    print(f"\nSparseGPT <= Wanda < magnitude at 50 %: {'yes' if order else 'no'}")


def shapes(b):
    share = b.args.share
    b.head("shape", "type")
    solved = b.file("solved", b.args.model, "--type", "f16", "--shrink", share)
    cut = b.file("cut", b.args.model, "--type", "f16", "--shape-of", solved, "--repair", "none")
    a = b.measure(solved, shape=f"{share} left out, solved", type="f16")
    n = b.measure(cut, shape=f"{share} left out, by size of weights", type="f16")
    whole = b.measure(b.file("whole-q8_0", b.args.model, "--type", "q8_0"), shape="whole", type="q8_0")
    rates = []
    for t in ("q8_0", "q5_0", "q4_0"):
        bits = whole if t == "q8_0" else b.measure(
            b.file(f"whole-{t}", b.args.model, "--type", t), shape="whole", type=t)
        less = b.measure(b.file(f"solved-{t}", solved, "--type", t), shape=f"{share} left out, solved", type=t)
        rates.append((f"leaving out at {t}", bits, less))
        if t != "q8_0":
            rates.append((f"q8_0 to {t}", whole, bits))
    print(f"\nsolved / by size of weights: {a['kl'] / n['kl']:.3f}\n\n"
          "| a step | MB saved | KL more | KL a MB |\n|---|--:|--:|--:|")
    for name, x, y in rates:
        saved, more = (x["bytes"] - y["bytes"]) / 1e6, y["kl"] - x["kl"]
        print(f"| {name} | {saved:.1f} | {more:.4f} | {more / saved:.5f} |")


def width(b):
    """A tied head reads the stream as the embedding writes it, so channels can only be picked, not rotated."""
    import gguf
    import numpy as np
    b.head("channels of the stream that are zero")
    reader = gguf.GGUFReader(b.args.model)
    writers = [t for t in reader.tensors if t.name == "token_embd.weight"
               or t.name.endswith(("attn_output.weight", "ffn_down.weight"))]
    size = sum(np.sum(np.asarray(t.data, np.float64) ** 2, axis=0 if t.name == "token_embd.weight" else 1)
               for t in writers)
    for share in (0.05, 0.1, 0.2):
        path = os.path.join(b.dir, "width.gguf")
        with open(b.args.model, "rb") as f:
            data = bytearray(f.read())
        gone = np.argsort(size)[:int(share * len(size))]
        for t in writers:
            assert t.tensor_type.name == "F32", "the model has to be float32"
            w = np.array(t.data)
            if t.name == "token_embd.weight":
                w[:, gone] = 0
            else:
                w[gone] = 0
            data[t.data_offset:t.data_offset + t.n_bytes] = w.tobytes()
        with open(path, "wb") as f:
            f.write(data)
        b.measure(path, channels=f"{len(gone)} of {len(size)}")
        os.unlink(path)


def peer_kl(b, model, *more):
    tool = os.path.join(b.args.peer, "llama-perplexity")
    base = os.path.join(b.dir, "base.kld")
    common = [tool, "-f", b.args.file, "-c", "512", "--chunks", str(b.args.chunks), "-t", "2",
              "--kl-divergence-base", base]
    if not os.path.exists(base):
        run([*common, "-m", b.args.model])
    out, err = run([*common, "-m", model, "--kl-divergence", *more])
    return float(re.search(r"Mean\s+KLD:\s+([0-9.]+)", out + err).group(1))


def lowrank(b):
    if not b.args.peer:
        sys.exit("prune: lowrank needs --peer, the folder of llama-perplexity: this program does not run adapters")
    print("| file | adapter | MB | KL (llama-perplexity) |\n|---|---|--:|--:|")
    for t in ("q3_k_s", "q4_0"):
        path = os.path.join(b.dir, f"low-{t}.gguf")
        for rank in (8, 16):
            adapter = path + ".lora.gguf"
            run([b.args.ours, "squeeze", "-m", b.args.model, "-o", path, "--type", t, "--no-proof", "-q", "--force",
                 "--tokens", str(b.args.tokens), "--low-rank", str(rank)])
            size = os.path.getsize(path)
            if rank == 8:
                print(f"| {t} | none | {size / 1e6:.1f} | {peer_kl(b, path):.4f} |", flush=True)
            print(f"| {t} | rank {rank} | {(size + os.path.getsize(adapter)) / 1e6:.1f} | "
                  f"{peer_kl(b, path, '--lora', adapter):.4f} |", flush=True)
    for t in ("q3_k_m", "q4_0", "q4_1", "q5_0"):
        path = b.file(f"bits-{t}", b.args.model, "--type", t)
        print(f"| {t} | none | {os.path.getsize(path) / 1e6:.1f} | {peer_kl(b, path):.4f} |", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=("masks", "shapes", "lowrank", "width"))
    ap.add_argument("-m", "--model", required=True)
    ap.add_argument("-f", "--file", required=True)
    ap.add_argument("--chunks", type=int, default=6, help="windows of 512 tokens (default 6)")
    ap.add_argument("--tokens", type=int, default=16384, help="to learn from (default 16384)")
    ap.add_argument("--share", default="20%", help="of the parameters that is left out")
    ap.add_argument("--dir", help="where files go, and are found again")
    ap.add_argument("--peer", help="the folder of llama-perplexity")
    ap.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("-o", "--output", choices=("md", "json"), default="md")
    args = ap.parse_args()
    b = Bench(args)
    {"masks": masks, "shapes": shapes, "lowrank": lowrank, "width": width}[args.what](b)
    if args.output == "json":
        print(json.dumps(b.rows, indent=1))


if __name__ == "__main__":
    main()
