#!/usr/bin/env python3
"""How fast a model learns here, beside others: tokens per core-second of whole training steps (forward, backward,
clipping, AdamW), all weights and LoRA on all linear layers, one thread each, in turns, in texts of 256 tokens of which
every one is learned. What is printed is the median of the turns.

    bench/peers_teach.py -m MODEL [--rows 1024] [--steps 2] [--turns 3] [--level avx2|avx512] [--ours STRETTO]
                         [--torch PYTHON] [--plain] [--finetune PROGRAM --float FILE -f TEXT] [--only full|lora]
                         [-o md|json]

MODEL is a GGUF file of the llama family. What is counted is processor time, so a busy machine matters little, behind a
first step that is not counted: ours is `stretto bench --teach`, whose LoRA runs over MODEL as it is. torch (--torch
names a Python that has it; give it a fast BLAS) trains a model of the same sizes with random numbers in float32,
written in its own layers and differentiated by it, as transformers' llama is; glibc keeps its memory between steps,
which makes it faster, unless --plain. llama-finetune (./dev peers --get builds it) trains all weights of --float, the
same model; it is timed by the difference of two runs, one of them --steps texts longer, and has the instructions it
was built for. --level holds ours, torch and its OpenBLAS to one."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

LENGTH, RANK = 256, 16               # as bench --teach has them
# torch takes its memory anew in each step. glibc gives it back to the system in between, which can take half as long
# again as the step; so it is told to keep it, in huge pages, and has done so behind its second step.
KEPT = ("glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:"
        "glibc.malloc.top_pad=268435456")
WARM = 2                             # steps of torch that are not counted
LEVELS = {
    "avx2": {"STRETTO_CPU": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell"},
    "avx512": {"OPENBLAS_CORETYPE": "SkylakeX"},
}
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

TORCH = r'''
import json, resource, sys, time
import torch
from torch import nn
from torch.nn import functional as F
how = json.loads(sys.argv[1])
torch.manual_seed(1)
torch.set_num_threads(1)
heads, kv, dim, width = how["heads"], how["kv_heads"], how["head_dim"], how["width"]


class Linear(nn.Module):
    """A layer, and beside it a layer of low rank where there is one."""
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs ** 0.5, requires_grad=not how["rank"])
        if how["rank"]:
            self.a = nn.Parameter(torch.randn(how["rank"], inputs) / inputs ** 0.5)
            self.b = nn.Parameter(torch.randn(outputs, how["rank"]) * 1e-3)

    def forward(self, x):
        y = F.linear(x, self.weight)
        return y + 2 * F.linear(F.linear(x, self.a), self.b) if how["rank"] else y


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width), requires_grad=not how["rank"])

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (Linear(width, n * dim) for n in (heads, kv, kv))
        self.o, self.norm, self.feed_norm = Linear(heads * dim, width), Norm(), Norm()
        self.gate, self.up = Linear(width, how["feed"]), Linear(width, how["feed"])
        self.down = Linear(how["feed"], width)

    def turn(self, x, cosine, sine):
        a, b = x.chunk(2, -1)
        return x * cosine + torch.cat((-b, a), -1) * sine

    def forward(self, x, cosine, sine, mask):
        n, rows, _ = x.shape
        y = self.norm(x)
        q, k, v = (f(y).view(n, rows, -1, dim).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = self.turn(q, cosine, sine), self.turn(k, cosine, sine)
        k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
        p = torch.softmax(q @ k.transpose(2, 3) / dim ** 0.5 + mask, -1)
        x = x + self.o((p @ v).transpose(1, 2).reshape(n, rows, -1))
        y = self.feed_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(how["vocabulary"], width) * 0.05, requires_grad=not how["rank"])
        self.layers, self.norm = nn.ModuleList(Layer() for _ in range(how["layers"])), Norm()

    def forward(self, ids):
        rows = ids.shape[1]
        angle = torch.arange(rows)[:, None] * 1e4 ** -(torch.arange(0, dim, 2) / dim)
        angle = torch.cat((angle, angle), -1)
        mask = torch.full((rows, rows), float("-inf")).triu(1)
        x = F.embedding(ids, self.table)
        for layer in self.layers:
            x = layer(x, angle.cos(), angle.sin(), mask)
        return F.linear(self.norm(x), self.table)


model = Model()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-5)
ids = torch.randint(0, how["vocabulary"], (how["rows"] // how["length"], how["length"] + 1))
for step in range(how["steps"] + how["warm"]):
    if step == how["warm"]:
        start = time.process_time()
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
seconds = time.process_time() - start
print(json.dumps({"rows": how["steps"] * ids[:, 1:].numel(), "seconds": seconds, "version": torch.__version__,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
'''


def run(argv, **how):
    """What it wrote, and the processor time and the most memory it took."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(argv, stdout=out, stderr=err, **how)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        text, said = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if child.returncode:
        last = (said.strip() or text.strip() or "no message").splitlines()[-1]
        sys.exit(f"peers_teach: {' '.join(argv[:2])}: exit status {child.returncode}: {last}")
    return text, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


class Bench:
    def __init__(self, args):
        self.args = args
        self.environment = {**os.environ, **LEVELS.get(args.level, {})}
        self.dir = tempfile.TemporaryDirectory(prefix="teach-")
        info = json.loads(run([args.ours, "info", "-m", args.model, "--json"])[0])["model"]
        if info["family"] != "llama":
            sys.exit(f"peers_teach: {args.model} is of the family {info['family']}; torch's side is a llama")
        sizes = ("layers", "width", "heads", "kv_heads", "head_dim", "feed", "vocabulary")
        self.sizes = {k: info[k] for k in sizes}

    def path(self, name):
        return os.path.join(self.dir.name, name)

    def tokens(self, text):
        argv = [self.args.ours, "tokenize", "-m", self.args.model, "--json"]
        return len(json.loads(subprocess.run(argv, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout))

    def ours(self, method):
        argv = [self.args.ours, "bench", "--teach", method, "-m", self.args.model, "-p", str(self.args.rows), "-r",
                str(self.args.steps), "-t", "1", "-o", "json"]
        r = json.loads(run(argv, env=self.environment)[0])[0]
        return {"name": "stretto", "rows": r["rows"], "seconds": r["cpu_seconds"], "peak": r["peak_bytes"]}

    def torch(self, method):
        how = {**self.sizes, "rank": RANK if method == "lora" else 0, "rows": self.args.rows, "length": LENGTH,
               "steps": self.args.steps, "warm": WARM}
        environment = {**self.environment, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                       **({} if self.args.plain else {"GLIBC_TUNABLES": KEPT})}
        text, _, _ = run([self.args.torch, "-c", TORCH, json.dumps(how)], env=environment)
        r = json.loads(text)
        return {"name": "torch " + r["version"], "rows": r["rows"], "seconds": r["seconds"], "peak": r["peak"]}

    def windows(self, text, n):
        """So much of the text that llama-finetune makes n windows of it: they begin half a window apart."""
        want, end, have = LENGTH + 1 + LENGTH // 2 * n + LENGTH // 4, 4 * LENGTH, 0
        while abs(have - want) > LENGTH // 8:
            have = self.tokens(text[:end])
            if have < want and end > len(text):
                sys.exit(f"peers_teach: {self.args.file} is too short for {n} windows of {LENGTH} tokens")
            end = end * want // max(have, 1) if abs(have - want) > LENGTH // 8 else end
        return text[:end]

    def finetune(self, method):
        """Of --steps windows: it takes a step for each, and reads and writes the model once a run."""
        if method != "full":
            return None
        text, used, peak, length = open(self.args.file, encoding="utf-8").read(), [], 0, str(LENGTH)
        for n in (1, 1 + self.args.steps):
            path = self.path("finetune.txt")
            with open(path, "w", encoding="utf-8") as f:
                f.write(self.windows(text, n))
            _, seconds, peak = run([self.args.finetune, "-m", self.args.float, "-f", path, "-c", length, "-b", length,
                                    "-ub", length, "-t", "1", "-epochs", "1", "-val-split", "0",
                                    "-o", self.path("finetuned.gguf")])
            used.append(seconds)
        return {"name": "llama-finetune", "rows": self.args.steps * LENGTH, "seconds": used[1] - used[0], "peak": peak}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-f", "--file", help="what llama-finetune reads")
    p.add_argument("--rows", type=int, default=1024)
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--level", choices=LEVELS, help="what the processor may use; else what each finds by itself")
    p.add_argument("--only", choices=("full", "lora"))
    p.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("--torch", help="a Python that has torch")
    p.add_argument("--plain", action="store_true", help="torch's memory as glibc has it by itself")
    p.add_argument("--finetune", help="llama-finetune")
    p.add_argument("--float", help="MODEL in float32, which llama-finetune wants")
    p.add_argument("-o", "--output", choices=("md", "json"), default="md")
    args = p.parse_args()
    if args.finetune and not (args.float and args.file):
        p.error("--finetune goes with --float and -f")
    bench = Bench(args)
    sides = [bench.ours] + [bench.torch] * bool(args.torch) + [bench.finetune] * bool(args.finetune)
    results = {}
    for method in [args.only] if args.only else ["full", "lora"]:
        for _ in range(args.turns):
            for side in sides:
                r = side(method)
                if r:
                    results.setdefault((method, r["name"]), []).append(r)
    table = []
    for (method, name), turns in results.items():
        all_rates = {k: [r["rows"] / r["seconds"] for r in v] for k, v in results.items()}
        rate, ours = (statistics.median(all_rates[method, n]) for n in (name, "stretto"))
        table.append({"method": method, "name": name, "tokens_per_core_second": rate, "ours_times": ours / rate,
                      "all": all_rates[method, name], "peak_bytes": max(r["peak"] for r in turns)})
    if args.output == "json":
        print(json.dumps(table))
        return
    print("| method | program | tokens per core-second | turns | stretto is | peak MB |\n|---|---|--:|--:|--:|--:|")
    for r in table:
        print(f"| {r['method']} | {r['name']} | {r['tokens_per_core_second']:.1f} | "
              f"{', '.join(f'{v:.1f}' for v in r['all'])} | {r['ours_times']:.2f} x | {r['peak_bytes'] / 1e6:.0f} |")


if __name__ == "__main__":
    main()
