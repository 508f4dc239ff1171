#!/usr/bin/env python3
"""The table of docs/models.md is what the program runs and what the goldens prove of it.

    test_matrix.py STRETTO PAGE ANSWERS [--write]

A row for each architecture that `stretto info --families` names: the tiny models of tools/oracle/families.py in both
forms, whose every logit golden.families compares with float64; and the random files for which ANSWERS keeps what
llama.cpp said of them (property.gguf). --write puts the table into PAGE."""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path += [os.path.join(ROOT, "tools"), os.path.join(ROOT, "tests", "property")]
try:
    import gguf_files
    from folders import seed_of
    from oracle import families
except ImportError as e:
    print(f"skip: {e}; ./dev test installs what is missing")
    sys.exit(77)

BEGIN, END = "<!-- table: made by tests/golden/test_matrix.py --write -->\n", "<!-- end of the table -->\n"


def asked(answers):
    """How many files of each architecture llama.cpp was asked about."""
    found = {}
    with open(answers) as f:
        for line in f:
            if not line.startswith("#"):
                arch = gguf_files.make(seed_of(line.split()[0])).arch
                found[arch] = found.get(arch, 0) + 1
    return found


def table(stretto, answers):
    out = subprocess.run([stretto, "info", "--families", "--json"], check=True, stdout=subprocess.PIPE).stdout
    counts, lines = asked(answers), [
        "| models | GGUF | folders (`model_type`) | float64, GGUF | float64, folder | llama.cpp |\n",
        "|---|---|---|---|---|---|\n"]
    for row in json.loads(out):
        models = [(cfg, form) for cfg, _, form, _ in families.MODELS.values() if families.of(cfg).arch == row["name"]]
        gguf_form = sum(form != "single only" for _, form in models)
        folder = sum(form is not None for _, form in models)
        lines.append(f"| {row['title']} | `{row['name']}` | {', '.join(f'`{t}`' for t in row['model_types'])} "
                     f"| {gguf_form} | {folder} | {counts.get(row['name'], '-')} |\n")
    return "".join(lines)


def main():
    stretto, page, answers = sys.argv[1:4]
    with open(page) as f:
        text = f.read()
    head, _, rest = text.partition(BEGIN)
    was, _, tail = rest.partition(END)
    now = table(stretto, answers)
    if "--write" in sys.argv:
        with open(page, "w") as f:
            f.write(head + BEGIN + now + END + tail)
        return 0
    if was != now:
        print(f"FAIL the table of {page} is not what is proven; {sys.argv[0]} ... --write makes it:\n{now}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
