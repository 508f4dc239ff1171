#!/usr/bin/env python3
"""How much of what a smaller model lost it regains by learning from the whole one: KL(teacher || model) on texts that
it has not learned from, before and after, within a stated time.

    bench/distill.py --teacher MODEL --data DATA_FOLDER (--drop 3 | --student MODEL)
                     [--budget 25m] [--bytes 1200000] [--held-bytes 40000] [--work build/distill]
                     [--ours STRETTO] [-o md|json] [-- OPTIONS OF stretto teach]

--drop 3 makes the student: the teacher without every third of its layers (the middle one of each three, so that the
first and the last stay), all else as it was. --student names one: a model that `stretto squeeze --shrink` made, or a
smaller model with the same tokens (Qwen 1.5B -> 0.5B).

Texts of DATA_FOLDER: half of what is learned is prose (wikitext-2 train), a quarter code (docstrings with their
bodies of Python's library), a quarter conversations (GSM8K, MBPP). Held out are others: wikitext-2 test, HumanEval,
instructions with answers (self-instruct). Lines are cut to about 1,200 bytes. `stretto teach --teacher` measures what
is held out itself; `stretto eval kl` measures the file that was written, on the same texts in windows, before and
after. A run that was interrupted goes on."""
import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIECE = 1200


def run(argv, quiet=True):
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if quiet else None, text=True)
    if r.returncode:
        sys.exit(f"distill: {' '.join(argv)}: exit status {r.returncode}")
    return r.stdout


# ---- a student ---------------------------------------------------------------------------------

def without_layers(path, out, every):
    """The file without layers every // 2, every // 2 + every, ..."""
    import gguf
    r = gguf.GGUFReader(path)
    arch = r.fields["general.architecture"].contents()
    layers = r.fields[f"{arch}.block_count"].contents()
    kept = [i for i in range(layers) if i % every != every // 2]
    w = gguf.GGUFWriter(out, arch)
    for field in r.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind, value = field.types[0], field.contents()
        if field.name == f"{arch}.block_count":
            value = len(kept)
        elif kind == gguf.GGUFValueType.ARRAY and field.name.startswith(arch + ".") and len(value) == layers:
            value = [value[i] for i in kept]
        w.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    place = {f"blk.{old}.": f"blk.{new}." for new, old in enumerate(kept)}
    for t in r.tensors:
        head = ".".join(t.name.split(".")[:2]) + "."
        if t.name.startswith("blk.") and head not in place:
            continue
        w.add_tensor(t.name.replace(head, place.get(head, head), 1), t.data, raw_dtype=t.tensor_type)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return layers, len(kept)


# ---- texts -------------------------------------------------------------------------------------

def read_lines(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def pieces(text):
    """Cut at ends of lines, about PIECE bytes each."""
    out, part, n = [], [], 0
    for line in text.splitlines(keepends=True):
        part.append(line)
        n += len(line.encode())
        if n >= PIECE:
            out.append("".join(part))
            part, n = [], 0
    return out + (["".join(part)] if n > PIECE // 4 else [])


def talk(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def spread(items, size, most):
    """As many of them, from everywhere, as have `most` bytes together."""
    all_bytes = sum(map(size, items))
    step = max(1.0, all_bytes / most)
    return [items[int(i * step)] for i in range(int(len(items) / step))]


def learn_texts(data, most):
    with open(os.path.join(data, "text", "wikitext2_raw_train_5k_lines.txt"), encoding="utf-8") as f:
        prose = [{"text": t} for t in pieces(f.read())]
    code = read_lines(data, "code", "python_stdlib_doc2code_train.jsonl")
    code = "\n\n".join(f'{d["signature"]}\n    """{d["docstring"]}"""\n{d["body"]}' for d in code)
    code = [{"text": t} for t in pieces(code)]
    talks = [talk(d["question"], d["answer"]) for d in read_lines(data, "math", "gsm8k_train.jsonl")[::2]]
    talks += [talk(d["text"], "```python\n" + d["code"].replace("\r", "") + "\n```")
              for d in read_lines(data, "code", "mbpp_train_dev.jsonl")]
    size = lambda d: len(json.dumps(d, ensure_ascii=False).encode())
    return [d for kind, share in ((prose, 2), (code, 1), (talks, 1)) for d in spread(kind, size, most * share / 4)]


def held_texts(data, most):
    """As files that `stretto eval` reads: two texts and conversations."""
    with open(os.path.join(data, "text", "wikitext2_raw_test.txt"), encoding="utf-8") as f:
        prose = f.read(most)
    code = "\n\n".join(d["prompt"] + d["canonical_solution"] for d in read_lines(data, "code", "humaneval_dev.jsonl"))
    talks = []
    for d in read_lines(data, "chat", "self_instruct_seed_tasks.jsonl"):
        x = d["instances"][0]
        if len(x["output"]) > 40:
            talks.append(talk(d["instruction"] + ("\n\n" + x["input"] if x["input"] else ""), x["output"]))
    return {"prose.txt": prose, "code.txt": code[:most], "chat.jsonl": talks}


def write_texts(args):
    at = lambda name: os.path.join(args.work, name)
    held = held_texts(args.data, args.held_bytes)
    lines = {"learn.jsonl": learn_texts(args.data, args.bytes),
             "held.jsonl": [{"text": t} for name in ("prose.txt", "code.txt") for t in pieces(held[name])]
             + held["chat.jsonl"][:args.held_bytes // 600]}
    for name, rows in lines.items():
        with open(at(name), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for name in ("prose.txt", "code.txt"):
        with open(at(name), "w", encoding="utf-8") as f:
            f.write(held[name])
    with open(at("chat.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in held["chat.jsonl"])


# ---- the row -----------------------------------------------------------------------------------

def divergence(args, model, *more):
    texts = [a for name in ("prose.txt", "code.txt", "chat.jsonl") for a in ("-f", os.path.join(args.work, name))]
    return json.loads(run([args.ours, "eval", "kl", "-m", model, *more, "--base", args.teacher, *texts, "--chunks",
                           str(args.chunks), "-t", str(args.threads), "--json"]))


def student(args):
    if args.student:
        return args.student, os.path.basename(args.student)
    path = os.path.join(args.work, "student.gguf")
    if not os.path.exists(path):
        layers, kept = without_layers(args.teacher, path + ".part", args.drop)
        os.replace(path + ".part", path)
        print(f"distill: {kept} of {layers} layers are left", file=sys.stderr)
    return path, f"without every {args.drop}. layer"


def teach(args, model):
    out = os.path.join(args.work, "run")
    common = [args.ours, "teach", "-o", out, "--json", "-t", str(args.threads)]
    if os.path.exists(os.path.join(out, "run.json")):
        return json.loads(run([*common, "--resume"], quiet=False)), out
    texts = ["-d", os.path.join(args.work, "learn.jsonl"), "--valid", os.path.join(args.work, "held.jsonl")]
    return json.loads(run([*common, "-m", model, "--teacher", args.teacher, *texts, "--method", args.method, "--budget",
                           args.budget, "-c", "1024", "--skip-long", *args.more], quiet=False)), out


def cells(before, after):
    lost, left = before["mean_kl"], after["mean_kl"]
    return [f"{lost:.3f} ± {before['mean_kl_error']:.3f}", f"{left:.3f} ± {after['mean_kl_error']:.3f}",
            f"**{100 * (1 - left / lost):.1f} %**"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--teacher", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--student")
    p.add_argument("--drop", type=int)
    p.add_argument("--method", default="full", choices=("full", "lora"))
    p.add_argument("--budget", default="25m")
    p.add_argument("--bytes", type=int, default=1200000)
    p.add_argument("--held-bytes", type=int, default=40000)
    p.add_argument("--chunks", type=int, default=16)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--work", default=os.path.join(ROOT, "build", "distill"))
    p.add_argument("--ours", default=os.path.join(ROOT, "build", "release", "stretto"))
    p.add_argument("-o", default="md", choices=("md", "json"), dest="form")
    p.add_argument("more", nargs="*")
    args = p.parse_args()
    if bool(args.student) == bool(args.drop) or (args.drop or 2) < 2:
        p.error("name a --student, or say with --drop N (2 or more) which layers of the teacher go")
    os.makedirs(args.work, exist_ok=True)
    write_texts(args)
    model, name = student(args)
    before = divergence(args, model)
    report, out = teach(args, model)
    after = divergence(args, model, "--lora", os.path.join(out, "adapter.gguf")) if args.method == "lora" \
        else divergence(args, os.path.join(out, "model.gguf"))
    row = {"teacher": os.path.basename(args.teacher), "student": name, "method": args.method, "budget": args.budget,
           "teach": report, "before": before, "after": after}
    if args.form == "json":
        print(json.dumps(row, indent=1))
        return
    print("| teacher | student | learned from | text | KL before, nats | KL after | regained |\n|" + "---|" * 7)
    tokens = f"{report['steps']} steps, {report['cpu_seconds'] / 60:.1f} minutes of a processor"
    texts = zip(["all", *(t["text"] for t in before["texts"])], [before, *before["texts"]], [after, *after["texts"]])
    for text, was, now in texts:
        print("| " + " | ".join([row["teacher"], name, tokens, os.path.basename(text), *cells(was, now)]) + " |")
    held = report.get("first_held")
    if held:
        print(f"\nheld out by `stretto teach`: {held:.3f} -> {report['held']:.3f} ± {report['held_error']:.3f} "
              f"({100 * report['regained']:.1f} %)")


if __name__ == "__main__":
    main()
