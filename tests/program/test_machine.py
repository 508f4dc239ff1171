#!/usr/bin/env python3
"""--mlock, -C and --cpu-range, as the kernel sees them in /proc.

    test_machine.py STRETTO GOLDEN_FOLDER"""
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

stretto, golden = sys.argv[1:3]
if not os.path.isdir(golden) or not os.path.exists("/proc/self/status"):
    print(f"skip: there is no {golden}, or no /proc")
    sys.exit(77)
MODEL = os.path.join(golden, "llama", "model.gguf")
MINE = sorted(os.sched_getaffinity(0))


def call(*args, code=0, **how):
    done = subprocess.run([stretto, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          errors="replace", **how)
    assert done.returncode == code, (args, done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def status(folder):
    """/proc/.../status as a dict; empty when the thread is gone."""
    try:
        return dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    except OSError:
        return {}


def cpus(text):
    out = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        out += range(int(low), int(high or low) + 1)
    return out


def while_writing(*args, until):
    """Starts an answer without end; ends it when until(process) is true."""
    child = subprocess.Popen([stretto, "run", "-m", MODEL, "-p", "ab", "--ignore-eos", "--decode", "plain", *args],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # The first text: the model is loaded and its threads work.
    first = child.stdout.read(1)
    try:
        assert first, child.stderr.read()
        return until(pathlib.Path("/proc", str(child.pid)))
    finally:
        child.kill()
        child.communicate()


def check_cpus():
    threads = json.loads(call("info", "--machine", "--json"))["machine"]["threads"]
    assert 1 <= threads <= len(MINE)                                     # a control group may allow fewer
    one = MINE[-1]
    for args in (("-C", f"{1 << one:x}"), ("--cpu-mask", f"0x{1 << one:X}"), ("--cpu-range", f"{one}-{one}"),
                 ("-C", f"{1 << one:x}", "-Cr", f"{one}-{one}")):
        assert json.loads(call("info", "--machine", "--json", *args))["machine"]["threads"] == 1, args

        def seen(process):
            return {tuple(cpus(s["Cpus_allowed_list"])) for t in (process / "task").iterdir() if (s := status(t))}
        assert while_writing(*args, until=seen) == {(one,)}, args
        # With more threads than CPUs all of them stay there.
        assert while_writing(*args, "-t", "3", until=seen) == {(one,)}, args
    both = f"{sum(1 << c for c in MINE):x}"
    assert json.loads(call("info", "--machine", "--json", "-C", both))["machine"]["threads"] == threads
    for text in (f"{MINE[0]}-", f"-{MINE[-1]}"):
        call("info", "--machine", "--cpu-range", text)
    for args, words in ((("-C", "0"), "no CPU"), (("-C", "g"), "hexadecimal"), (("-C", ""), "hexadecimal"),
                        (("-C", "0x"), "hexadecimal"), (("-C", "1" + "0" * 300), "hexadecimal"),
                        (("-C", f"{1 << (MINE[-1] + 1):x}"), f"CPUs {MINE[-1] + 1}"),
                        (("--cpu-range", "3"), "FIRST-LAST"),
                        (("--cpu-range", "-"), "FIRST-LAST"), (("--cpu-range", "2-1"), "FIRST-LAST"),
                        (("--cpu-range", "0-1-2"), "FIRST-LAST"), (("--cpu-range", "0-99999"), "FIRST-LAST"),
                        (("--cpu-range", "900-901"), "CPUs 900-901")):
        assert words in call("run", "-m", MODEL, "-p", "ab", *args, code=2), args
    want = call("run", "-m", MODEL, "-p", "ab", "-n", "8", "--temp", "0", "--ignore-eos")
    assert call("run", "-m", MODEL, "-p", "ab", "-n", "8", "--temp", "0", "--ignore-eos", "-C", f"{1 << one:x}") == want


def locked(process):
    return int(status(process)["VmLck"].split()[0]) * 1024


def check_lock():
    weights = json.loads(call("info", "-m", MODEL, "--json"))["model"]["weight_bytes"]
    assert while_writing(until=locked) == 0
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    free = limit == resource.RLIM_INFINITY or limit > 2 * weights or os.geteuid() == 0
    if free:
        held = while_writing("--mlock", until=locked)
        assert weights <= held < weights + (4 << 20), (weights, held)
    # Without the right to it and with a low limit it says so, and what to do.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(stretto, folder)
        model = shutil.copy(MODEL, folder)
        os.chmod(model, 0o644)
        how = {"user": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run([program, "run", "-m", model, "-p", "ab", "-n", "1", "--mlock"], text=True,
                              errors="replace", capture_output=True, stdin=subprocess.DEVNULL, **how,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096)))
    assert done.returncode == 1 and done.stdout == "", (done.returncode, done.stderr)
    for words in ("--mlock cannot lock", "RLIMIT_MEMLOCK", "ulimit -l"):
        assert words in done.stderr, done.stderr


check_cpus()
# Sanitizers make mlock do nothing.
if any(name in pathlib.Path(stretto).read_bytes() for name in (b"__asan_init", b"__tsan_init")):
    print("note: built with a sanitizer, so locked memory was not looked at")
else:
    check_lock()
print("CPUs and locked memory are as asked for")
