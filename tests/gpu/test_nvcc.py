#!/usr/bin/env python3
"""Every kernel, with all options that the launchers use, compiled by nvcc for cards from Turing to Blackwell: no
warnings, registers and spills within their budgets, and of the code what DESIGN promises: dot products of bytes
in one instruction, no doubles, no atomics, no local memory, no inexact division.

usage: test_nvcc.py GPU_SOURCES MOCK [--all]

With --all, every source for every architecture. Without, a cover of them: the first of a kind for the architectures
that differ most; of linear layers every type, as cards with matrix instructions have it, and every fourth as Turing has
it; of attention every pair of cache and size, of cache and batch, and of size and batch. Each of these for one
architecture, the next one for the next.
"""
import concurrent.futures
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# A card's sources are those of the newest line that it reaches: Ampere brought matrix instructions.
ARCHS = {75: [75], 80: [80, 86, 89, 90, 100, 120]}
IN_TURN = [75, 90, 120]          # the oldest, the one of data centres, the newest
APART = [80, *IN_TURN]           # and the first with matrix instructions; the others are their neighbours
# Lanes beyond which a multiprocessor has too few registers for two work-groups of a hot kernel: 128. Kernels that are
# given whole tiles hold their sums in registers.
MOST_REGISTERS = 128
LARGER = {r"linear_many": 255, r"linear_mma_128": 255}
# Where a work-group is so large that 128 registers are all there are: a few words that are kept while a loop runs.
SPILLS = {"attend": 16, "linear_8": 16, "linear_many": 16}
# One that is known to spill more, by source and architecture: heads of 256 with rotated values, on Blackwell.
KNOWN = {("attention_q8_0_q4_0_256", 120): 28}
FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true",
         "-Werror", "all-warnings"]
FORBIDDEN = {
    r"\.f64\b": "doubles", r"\b(atom|red)\.": "atomics",
    r"\b(div\.full|div\.approx|sqrt\.approx)\b": "an inexact division or root",
}


def nvcc():
    for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if home and os.access(pathlib.Path(home, "bin/nvcc"), os.X_OK):
            return str(pathlib.Path(home, "bin/nvcc"))
    return shutil.which("nvcc")


def run(command, wrong):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode:
        wrong.append(" ".join(command) + "\n" + text)
    return text


def budget(kernel):
    for pattern, most in LARGER.items():
        if re.fullmatch(pattern, kernel):
            return most
    return MOST_REGISTERS


def resources(text, where, wrong, seen):
    """What ptxas -v says of each kernel."""
    kernels = 0
    source, arch = re.fullmatch(r"\d+_(.*) sm_(\d+)", where).groups()
    named = (source, int(arch))
    for part in re.split(r"Compiling entry function '", text)[1:]:
        kernel = part.split("'")[0]
        kernels += 1
        stack, stores, loads = map(int, re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part).groups())
        registers = int(re.search(r"Used (\d+) registers", part).group(1))
        if max(stack, stores, loads) > KNOWN.get(named, SPILLS.get(kernel, 0)):
            wrong.append(f"{where} {kernel}: stack {stack}, spills {stores} and {loads} bytes")
        if registers > budget(kernel):
            wrong.append(f"{where} {kernel}: {registers} registers, {budget(kernel)} at most")
        seen[kernel] = max(seen.get(kernel, 0), registers)
    if not kernels:
        wrong.append(f"{where}: no kernels")


def check(compiler, source, archs, folder):
    """What is wrong with one source, and the most registers of each kernel."""
    wrong, seen = [], {}
    options = source.read_text().split("\n", 1)[0].removeprefix("// options: ").split()
    for arch in archs:
        ptx, code = pathlib.Path(folder, f"{source.stem}_{arch}.ptx"), ""
        run([compiler, *FLAGS, f"-arch=compute_{arch}", *options, "-ptx", "-o", str(ptx), str(source)], wrong)
        if ptx.exists():
            code = ptx.read_text()
            text = run([str(pathlib.Path(compiler).parent / "ptxas"), f"-arch=sm_{arch}", "-v", "-o",
                        str(ptx.with_suffix(".cubin")), str(ptx)], wrong)
            resources(text, f"{source.stem} sm_{arch}", wrong, seen)
            ptx.unlink()
        for pattern, words in FORBIDDEN.items():
            found = re.search(f".*{pattern}.*", code)
            if found:
                wrong.append(f"{source.stem} sm_{arch}: {words}: {found.group(0).strip()}")
        if "linear_" in source.stem and "-DW_FLOAT" not in " ".join(options) and "dp4a." not in code:
            wrong.append(f"{source.stem} sm_{arch}: no dp4a")
    return wrong, seen


def pairs(source):
    """Of the options of attention, any two."""
    options = [x for x in source.read_text().split("\n", 1)[0].split() if x.startswith("-D")]
    options += [] if any("BATCH" in x for x in options) else ["one"]
    return set(itertools.combinations(options, 2))


def cover(sources):
    """The least that has each pair, or nearly: always the source with the most that are missing; of equals the last,
    whose heads are largest."""
    left = set().union(*map(pairs, sources))
    while left:
        best = max(reversed(sources), key=lambda s: len(pairs(s) & left))
        left -= pairs(best)
        yield best


def chosen(sources):
    """Of {source: architectures} those of the cover."""
    first, rest = {}, []
    for source, archs in sources.items():
        kind = (source.stem.split("_")[1], archs[0])
        if first.setdefault(kind, source) == source:
            yield source, [arch for arch in archs if arch in APART]
        else:
            rest.append(source)
    attention = [s for s in rest if "_attention_" in s.stem]
    turing = [s for s in rest if "_linear_" in s.stem and sources[s] == ARCHS[75]]
    left_out = set(attention) - set(cover(attention)) | set(turing) - set(turing[::4])
    for i, source in enumerate(s for s in rest if s not in left_out):
        some = [arch for arch in sources[source] if arch in IN_TURN]
        yield source, [some[i % len(some)]]


def main():
    program, mock, *more = sys.argv[1:]
    everything = "--all" in more
    compiler = nvcc()
    if not compiler:
        print("skip: nvcc is not here (CUDA_HOME, /usr/local/cuda): kernels are not compiled for cards")
        return 77
    wrong, most = [], {}
    with tempfile.TemporaryDirectory() as top, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sources = {}             # by what is in them: a file, and the architectures that have it
        for first, archs in ARCHS.items():
            folder = pathlib.Path(top, str(first))
            folder.mkdir()
            done = subprocess.run([program, mock, "--write", folder], capture_output=True, text=True, check=False,
                                  env=os.environ | {"MOCK_CUDA": f"arch={first}"})
            print(f"from sm_{first} on: {done.stdout}{done.stderr}", end="")
            if done.returncode:
                return done.returncode
            for source in sorted(folder.glob("*.cu")):
                sources.setdefault(source.read_text(), (source, []))[1].extend(archs)
        sources = dict(sources.values())
        some = sources.items() if everything else chosen(sources)
        jobs = [pool.submit(check, compiler, source, archs, source.parent) for source, archs in some]
        for job in jobs:
            bad, seen = job.result()
            wrong += bad
            for kernel, registers in seen.items():
                most[kernel] = max(most.get(kernel, 0), registers)
    for kernel, registers in sorted(most.items()):
        print(f"{kernel}: at most {registers} registers")
    print("\n".join(wrong) or f"{len(jobs)} sources compile, within their budgets")
    return 1 if wrong or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
