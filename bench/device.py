#!/usr/bin/env python3
"""Equality and speed of one device; bench/device.sh finds the program and calls this.

    device.py STRETTO [--device WORD] [--toy] [--seconds N] [--only SHAPE,...] [--json FILE]

What could not be done is in the table as such, with the reason; the exit code is 1 when an answer was wrong or
nothing could be measured."""
import argparse
import array
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PLACES = [os.path.join(ROOT, *p) for p in (("build", "device"), ("shared", "data", "models"),
                                           ("..", "shared", "data", "models"))]
SHAPES = {"qwen2.5-1.5b": ("bf16", "q8_0", "q4_1"), "llama-3-8b": ("q8_0", "q4_1", "bf16")}
TOY = {"toy": ("bf16", "q8_0", "q4_1")}
BEGIN = "Once upon a time"
START = time.monotonic()


def parse():
    p = argparse.ArgumentParser(prog="bench/device.sh", description=__doc__.split("\n\n", maxsplit=1)[0],
                                epilog="--bundle alone puts all that another machine needs into build/device.")
    p.add_argument("stretto", help=argparse.SUPPRESS)
    p.add_argument("--device", default="gpu", help="as stretto info --devices lists them [gpu]")
    p.add_argument("--toy", action="store_true", help="small shapes, to try the script, also without a card")
    p.add_argument("--seconds", type=float, default=450, help="nothing new begins after so many")
    p.add_argument("--only", help="shapes to measure, separated by commas")
    p.add_argument("--json", help="where the figures go [$OUT/device.json, or device.json]")
    return p.parse_args()


def said(line):
    print(f"[{time.monotonic() - START:5.0f} s] {line}", file=sys.stderr, flush=True)


class Bench:
    def __init__(self, o):
        self.o, self.failed, self.late = o, [], False
        self.result = {"device": None, "equality": [], "rows": [], "torch": None}

    def left(self):
        return self.o.seconds - (time.monotonic() - START)

    def call(self, *args, env=None, most=240.0, program=None, feed=""):
        """Standard output; None after a failure, which is told."""
        self.late = False
        what = " ".join([os.path.basename(program or "stretto"), *args[:4]])
        try:
            r = subprocess.run([program or self.o.stretto, *args], capture_output=True, text=True,
                               timeout=max(5, min(most, self.left() + 30)), input=feed,
                               env=os.environ | (env or {}))
        except subprocess.TimeoutExpired:
            said(f"{what} took too long")
            self.late = True
            return None
        if r.returncode == 0:
            return r.stdout
        words = (r.stderr or r.stdout).strip().split("\n")
        said(f"{what}: {words[-1][:300] or r.returncode}")
        return None

    # ---- what there is ----
    def find(self):
        out = self.call("info", "--devices", "--json")
        devices = json.loads(out) if out else []
        for d in devices:
            said(f"{d['word']}: {d['name']} {d['driver']} {d.get('why', '')}".rstrip())
        word = self.o.device
        for d in devices:
            number = f"gpu:{d['number']}" if "number" in d else None
            if d["usable"] and (d["word"] in (word, word + ":0") or number in (word, word + ":0")):
                self.result["device"] = d
                return True
        said(f"there is no usable {word}")
        return False

    # ---- equality ----
    def check(self, what, good, words):
        self.result["equality"].append({"what": what, "equal": good, "words": words})
        said(f"{what}: {words}")
        if good is False:
            self.failed.append(what)

    def texts(self, folder):
        stories = next(([os.path.join(p, n) for n in ("stories260K.bin", "tok512.bin")] for p in PLACES
                        if os.path.exists(os.path.join(p, "stories260K.bin"))), None)
        if not stories:
            self.check("stories260K", None, "not checked: its files are not here")
            return
        for kind in ("f32", "bf16"):
            path = os.path.join(folder, f"stories-{kind}.gguf")
            subprocess.run([sys.executable, os.path.join(ROOT, "tools", "make-model"), "stories", *stories, path,
                            "--type", kind], check=True)
            ids = []
            for word in ("cpu", self.o.device):
                out = self.call("run", "-m", path, "-p", BEGIN, "-n", "200", "--temp", "0", "--ignore-eos",
                                "--json", "--device", word)
                ids.append(json.loads(out)["ids"] if out else [])
            same = next((i for i, (a, b) in enumerate(zip(*ids)) if a != b), min(map(len, ids)))
            words, good = f"{same} tokens are the CPU's", same == 200
            if same < min(map(len, ids)):
                gap, top = self.gap(path, ids[0][:same], ids[0][same], ids[1][same], folder)
                words += f"; there two tokens are {gap:.2g} apart, of logits up to {top:.3g}"
                good = gap <= 1e-3 * top
            self.check(f"stories260K {kind}, 200 tokens", good, words)

    def gap(self, path, before, a, b, folder):
        """How far apart the CPU holds two tokens behind a text, and its largest logit."""
        ids = json.loads(self.call("tokenize", "-m", path, "--add-special", "--json", feed=BEGIN)) + before
        raw, values = os.path.join(folder, "raw"), array.array("f")
        if self.call("eval", "logits", "-m", path, "--ids", ",".join(map(str, ids)), "--raw", raw, "--force") is None:
            return float("inf"), 0.0
        with open(raw, "rb") as f:
            values.frombytes(f.read())
        last = values[-(len(values) // len(ids)):]
        return abs(last[a] - last[b]), max(map(abs, last))

    def logits(self, folder):
        """Logits of 64 positions against the CPU's: how far, and how often another token is best.

        The device adds in another order, so a code of an activation may round to its neighbour, and then others
        behind it. Hence the bound: what codes take from the CPU's own logits, against its float32 arithmetic."""
        ids = ",".join(str(i * 37 % 1000 + 3) for i in range(64))
        for kind in ("f32", "bf16", "q8_0", "q4_1"):
            path, rows = self.model(folder, "toy", kind), []
            for how in (["cpu"], [self.o.device], ["cpu", "--reference"]):
                raw = os.path.join(folder, "raw")
                out = self.call("eval", "logits", "-m", path, "--ids", ids, "--raw", raw, "--force", "--device", *how)
                values = array.array("f")
                if out is not None:
                    with open(raw, "rb") as f:
                        values.frombytes(f.read())
                rows.append(values)
            n = len(rows[0]) // 64
            if not n or len({len(r) for r in rows}) > 1:
                self.check(f"logits, {kind}", False, "there are none")
                continue
            far, codes = (max(abs(a - b) for a, b in zip(rows[0], other)) for other in rows[1:])
            top = max(map(abs, rows[0]))
            other = sum(max(range(n), key=rows[0][i * n:i * n + n].__getitem__) !=
                        max(range(n), key=rows[1][i * n:i * n + n].__getitem__) for i in range(64))
            self.check(f"logits, {kind}", far <= max(codes, 1e-3 * top), f"at most {far:.2g} from the CPU's, of "
                       f"{top:.3g} (the CPU's codes: {codes:.2g}); another best token at {other} of 64 positions")

    def tests(self):
        """Programs of the test suite that were brought along."""
        folder = os.path.join(os.path.dirname(self.o.stretto), "tests")
        cuda = self.result["device"]["word"].startswith("cuda")
        env = {"STRETTO_TEST_GPU": "cuda" if cuda else "opencl", "STRETTO_DEVICE": self.result["device"]["word"]}
        if not os.path.exists(os.path.join(folder, "invariance")) or self.o.toy:
            return
        for name in sorted(os.listdir(folder)):
            models = [os.path.join(os.path.dirname(self.o.stretto), "llama.gguf")]
            args = ["--few", *filter(os.path.exists, models)] if name == "invariance" else []
            if name.startswith("backend_test_gpu_") or args:
                good = self.call(*args, env=env, most=60, program=os.path.join(folder, name))
                self.check(name, None if self.late else good is not None,
                           "not checked: it takes too long" if self.late else "FAILS" if good is None else "passes")

    # ---- speed ----
    def model(self, folder, shape, kind):
        path = os.path.join(folder, f"{shape}-{kind}.gguf")
        if not os.path.exists(path):
            subprocess.run([sys.executable, os.path.join(ROOT, "tools", "make-model"), shape, kind, path], check=True)
        return path

    def measure(self, folder, shape, kind):
        row = {"shape": shape, "type": kind}
        self.result["rows"].append(row)
        if self.left() < (5 if self.o.toy else 45):
            row["why"] = "no time was left"
            return
        path = self.model(folder, shape, kind)
        row["bytes"] = os.path.getsize(path)
        n, prompt, many = (8, 64, "4,8") if self.o.toy else (64, 4096, "16,64")
        common = ["bench", "-m", path, "--device", self.o.device, "-r", "3", "-o", "json"]
        one = self.call(*common, "-p", str(prompt), "-n", str(n), "--roof")
        several = self.call(*common, "-p", "0", "-n", str(n), "-np", many)
        if path.startswith(folder) and shape != "toy":
            os.unlink(path)
        if one is None or several is None:
            row["why"] = "it failed"
            return
        for r in json.loads(one):
            speed = {"tokens_s": r["avg_ts"], "deviation": r["stddev_ts"]}
            if r["n_prompt"]:
                whole = r["operations"][-1]
                share = whole["roof_seconds"] / whole["seconds"] if whole["seconds"] else None
                row["prompt"] = speed | {"tokens": r["n_prompt"], "of_the_roof": share}
            else:
                row["one"] = speed | {"of_the_roof": r["roof_share"]}
                row["read_gb_s"], row["joules_per_token"] = r["roof_gb_s"], r.get("joules_per_token")
            row["device"], row["load_s"] = r["device"], r["load_s"]
        few, lots = (r["avg_ts"] for r in json.loads(several))
        rows = [int(x) for x in many.split(",")]
        row["several"] = {str(rows[0]): few, str(rows[1]): lots}
        row["step_ratio"] = rows[0] * row["one"]["tokens_s"] / few
        row["times_one"] = lots / row["one"]["tokens_s"]
        said(f"{shape} {kind}: {row['one']['tokens_s']:.1f} tokens/s")

    def torch(self):
        if self.o.toy or self.left() < 30:
            return
        out = self.call(os.path.join(HERE, "device_torch.py"), program=sys.executable, most=100)
        self.result["torch"] = json.loads(out.strip().split("\n")[-1]) if out else None


def cell(x, form="{:.1f}"):
    return "-" if x is None else form.format(x)


def table(result):
    d = result["device"]
    print(f"\n{d['word']}: {d['name']} ({d['driver']})\n")
    print("| shape | type | GB | read GB/s | one, tokens/s | of the roof | step of several / of one | many × one "
          "| prompt, tokens/s | of the roof | torch bf16: one | prompt |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    beside = (result["torch"] or {}).get("models", {})
    for r in result["rows"]:
        t = beside.get(r["shape"], {})
        if "why" in r:
            print(f"| {r['shape']} | {r['type']} | not measured: {r['why']} |||||||||")
            continue
        p = r.get("prompt", {})
        print("|", " | ".join([
            r["shape"], r["type"], cell(r["bytes"] / 1e9, "{:.2f}"), cell(r["read_gb_s"]), cell(r["one"]["tokens_s"]),
            cell(r["one"]["of_the_roof"], "{:.0%}"), cell(r["step_ratio"], "{:.2f}"), cell(r["times_one"]),
            cell(p.get("tokens_s")), cell(p.get("of_the_roof"), "{:.0%}"), cell(t.get("one")),
            cell(t.get("prompt"))]), "|")
    if result["torch"]:
        print("\ntorch: " + ", ".join(f"{k} {v:.4g}" for k, v in result["torch"].items() if isinstance(v, float)))
    print("\n| equality with the CPU | |\n|---|---|")
    for e in result["equality"]:
        print(f"| {e['what']} | {e['words']} |")


def main():
    o = parse()
    out = o.json or os.path.join(os.environ.get("OUT", "."), "device.json")
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    b = Bench(o)
    if not b.find():
        return 1
    shapes = TOY if o.toy else SHAPES
    shared = "/dev/shm"
    room = os.path.isdir(shared) and shutil.disk_usage(shared).free > 40e9 and not o.toy
    with tempfile.TemporaryDirectory(dir=shared if room else None) as folder:
        b.texts(folder)
        b.logits(folder)
        b.tests()
        for shape in filter(lambda s: not o.only or s in o.only.split(","), shapes):
            if shape == next(iter(shapes)):
                b.torch()
            for kind in shapes[shape]:
                b.measure(folder, shape, kind)
    b.result["seconds"] = time.monotonic() - START
    with open(out, "w", encoding="utf-8") as f:
        json.dump(b.result, f, indent=1)
        f.write("\n")
    table(b.result)
    print(f"\n{b.result['seconds']:.0f} s; all figures: {out}")
    if b.failed:
        print("WRONG: " + ", ".join(b.failed))
    return 1 if b.failed or all("why" in r for r in b.result["rows"]) else 0


if __name__ == "__main__":
    sys.exit(main())
