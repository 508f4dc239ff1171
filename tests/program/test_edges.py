#!/usr/bin/env python3
"""Where the program meets a system that is not as it hoped: full disks, terminals, pipes in place of models, files
that are there already, little memory.

    test_edges.py STRETTO GOLDEN_FOLDER MODELS_FOLDER"""
import array
import json
import math
import os
import pty
import re
import stat
import subprocess
import sys
import tempfile

stretto, golden, models = sys.argv[1:4]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)
LLAMA = os.path.join(golden, "llama", "model.gguf")
HF = os.path.join(golden, "llama", "hf")


def run(*args, **kw):
    if "input" not in kw:
        kw.setdefault("stdin", subprocess.DEVNULL)
    r = subprocess.run([stretto, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, **kw)
    return r.returncode, r.stdout, r.stderr.decode(errors="replace")


def on_terminal(*args, text=b""):
    """What arrives at a terminal on standard output."""
    master, slave = pty.openpty()
    p = subprocess.Popen([stretto, *args], stdin=subprocess.PIPE, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    p.stdin.write(text)
    p.stdin.close()
    out = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        out += part
    p.stderr.read()
    assert p.wait() == 0, (args, p.returncode)
    os.close(master)
    return out.replace(b"\r\n", b"\n")


def check_full_disk(tmp):
    vars_file, prompt = os.path.join(tmp, "v.json"), ("-p", "ab ab", "-n", "4", "--temp", "0")
    with open(vars_file, "w") as f:
        f.write("{}")
    template = os.path.join(tmp, "t.jinja")
    with open(template, "w") as f:
        f.write("text")
    commands = [("--help",), ("-h",), ("help",), ("help", "run"), ("help", "--json"), ("--version",), ("run", "--help"),
                ("models",), ("info", "--machine"), ("info", "-m", LLAMA, "--json"), ("run", "-m", LLAMA, *prompt),
                ("run", "-m", LLAMA, *prompt, "--json"), ("tokenize", "-m", HF), ("tokenize", "-m", HF, "--json"),
                ("embed", "-m", LLAMA), ("embed", "-m", LLAMA, "--json"),
                ("template", "--template", template, "--vars", vars_file),
                ("eval", "ppl", "-m", LLAMA, "-f", vars_file + ".txt", "-c", "3"),
                ("bench", "-m", LLAMA, "-p", "4", "-n", "2", "-r", "1")]
    with open(vars_file + ".txt", "w") as f:
        f.write("ab " * 40)
    for args in commands:
        with open("/dev/full", "w") as full:
            r = subprocess.run([stretto, *args], input=b"ab\n", stdout=full, stderr=subprocess.PIPE, timeout=120)
        assert r.returncode == 1 and b"output" in r.stderr, (args, r.returncode, r.stderr)
        assert subprocess.run([stretto, *args], input=b"ab\n", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              timeout=120).returncode == 0, args


def check_terminal(tmp):
    """Every byte reaches a pipe; of a control character none reaches a terminal."""
    text = "a\x1b[2Jb\x07\tc\u009bd\x7fé\n"
    vars_file, template = os.path.join(tmp, "t.json"), os.path.join(tmp, "x.jinja")
    with open(vars_file, "w") as f:
        json.dump({"x": text}, f)
    with open(template, "w") as f:
        f.write("{{ x }}")
    args = ("template", "--template", template, "--vars", vars_file)
    assert run(*args)[1].decode() == text
    assert on_terminal(*args) == "a[2Jb\tcdé\n".encode(), on_terminal(*args)
    ids = json.loads(run("tokenize", "-m", HF, "--json", input=b"\x1b[31mab\xe2\x82")[1])
    whole = run("tokenize", "-m", HF, "--decode", input=json.dumps(ids).encode())[1]
    shown = on_terminal("tokenize", "-m", HF, "--decode", text=json.dumps(ids).encode())
    assert b"\x1b" in whole and whole.endswith(b"\xe2\x82"), whole
    assert shown == whole.replace(b"\x1b", b"").decode(errors="replace").encode(), (shown, whole)
    pieces = "".join(re.findall(r'"(.*)"', run("tokenize", "-m", HF, input=b"\x1b\xe2\x82\xc2\x9ba\n")[1].decode()))
    assert pieces == r"\x1B\xE2\x82\xC2\x9Ba\n", pieces
    # A model that says nothing but one byte.
    for byte in 0x1b, 0x9b, 0xe2:
        token = byte_token(byte)
        args = ("run", "-m", LLAMA, "-p", "ab", "-n", "3", "--temp", "0", "-l", f"{token}+1000")
        out, shown = run(*args)[1], on_terminal(*args)
        text = json.loads(run(*args, "--json")[1])["text"]
        assert text == (bytes([byte]) * 3).decode(errors="replace"), (byte, text)
        assert out.decode() == text + "\n", (byte, out)
        assert shown.decode() == ("" if byte == 0x1b else text) + "\n", (byte, shown)
    # Names out of files and of the command line, in messages.
    _, _, err = run("info", "-m", os.path.join(tmp, "no\x1b[2Jmodel\x07"))
    assert "\x1b" not in err and "\x07" not in err and "no?[2Jmodel?" in err, err


def byte_token(byte):
    """GPT-2's letters for bytes: the printable ones stand for themselves, the others from U+0100 on."""
    own = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    letter = chr(byte) if byte in own else chr(0x100 + [b for b in range(256) if b not in own].index(byte))
    with open(os.path.join(HF, "tokenizer.json"), encoding="utf-8") as f:
        return json.load(f)["model"]["vocab"][letter]


def check_files(tmp):
    """What is there stays unless --force says otherwise; what fails leaves nothing."""
    raw, svg = os.path.join(tmp, "raw"), os.path.join(tmp, "t.svg")
    for path, args in ((raw, ("eval", "logits", "-m", LLAMA, "--ids", "1,5,6", "--raw", raw)),
                       (svg, ("run", "-m", LLAMA, "-p", "ab", "-n", "3", "--trace", svg))):
        assert run(*args)[0] == 0
        whole = open(path, "rb").read()
        umask = os.umask(0)
        os.umask(umask)
        assert whole and stat.S_IMODE(os.stat(path).st_mode) == 0o666 & ~umask
        with open(path, "wb") as f:
            f.write(b"precious")
        os.chmod(path, 0o640)
        code, _, err = run(*args)
        assert code == 2 and "--force" in err and path in err, (code, err)
        # Before anything is read: the model need not even exist.
        assert "--force" in run(*[x if x != LLAMA else "none.gguf" for x in args])[2]
        assert open(path, "rb").read() == b"precious"
        assert run(*args, "--force")[0] == 0
        again = open(path, "rb").read()
        assert again == whole if path == raw else again.endswith(b"</svg>\n"), path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        # A device is no file that could be lost; a full one fails.
        other = [x if x != path else "/dev/null" for x in args]
        assert run(*other)[0] == 0
        code, _, err = run(*[x if x != path else "/dev/full" for x in args])
        assert code == 1 and "/dev/full" in err, (code, err)
    out = os.path.join(tmp, "late")
    code, _, err = run("eval", "logits", "-m", LLAMA, "--ids", "1,99999", "--raw", out)
    assert code != 0 and not os.path.exists(out), err
    assert not [f for f in os.listdir(tmp) if f.endswith(".part")], os.listdir(tmp)
    # A limit on the size of files stands for a full disk.
    limited = f"trap '' XFSZ; ulimit -f 1; exec {stretto} eval logits -m {LLAMA} --ids 1,2,3 --raw {out}"
    r = subprocess.run(["bash", "-c", limited], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 1 and b"cannot write" in r.stderr, r
    assert not [f for f in os.listdir(tmp) if f.startswith("late")], os.listdir(tmp)


def check_pipes(tmp):
    pipe = os.path.join(tmp, "pipe")
    os.mkfifo(pipe)
    for args in (("info", "-m", pipe), ("run", "-m", pipe, "-p", "a"), ("tokenize", "-m", pipe),
                 ("convert", pipe, os.path.join(tmp, "c.gguf")),
                 ("run", "-m", LLAMA, "-md", pipe, "-p", "a"), ("run", "-m", LLAMA, "--heads", pipe, "-p", "a"),
                 ("template", "--template", pipe, "--vars", pipe)):
        code, _, err = run(*args, stdin=subprocess.DEVNULL)
        assert code == 1 and "pipe" in err and "save" in err, (args, code, err)
    folder = os.path.join(tmp, "folder")
    os.mkdir(folder)
    os.mkfifo(os.path.join(folder, "config.json"))
    code, _, err = run("info", "-m", folder)
    assert code == 1 and "config.json" in err and "pipe" in err, err


def check_windows(tmp):
    """-c 1 and -c 2 leave nothing to count; the numbers of -c 3 are those of its logits."""
    text = os.path.join(tmp, "text")
    with open(text, "w") as f:
        f.write("ab ba " * 30)
    for c, said in ("1", "1 token "), ("2", "2 tokens "):
        code, out, err = run("eval", "ppl", "-m", LLAMA, "-f", text, "-c", c)
        assert code == 2 and said in err and "3 or more" in err and not out, (c, code, err)
    ids = json.loads(run("tokenize", "-m", LLAMA, "--json", "--add-special", input=open(text, "rb").read())[1])
    got = json.loads(run("eval", "ppl", "-m", LLAMA, "-f", text, "-c", "3", "--chunks", "4", "--json",
                         "--reference")[1])
    nll = []
    for w in range(4):
        window = ids[3 * w:3 * w + 3]
        window[0] = ids[0] if ids[0] == 1 else window[0]
        raw = os.path.join(tmp, f"window{w}")
        assert run("eval", "logits", "-m", LLAMA, "--ids", ",".join(map(str, window)), "--raw", raw,
                   "--reference")[0] == 0
        rows = array.array("f", open(raw, "rb").read())
        row = rows[len(rows) // 3:2 * len(rows) // 3]
        top = max(row)
        nll.append(top + math.log(sum(math.exp(x - top) for x in row)) - row[window[2]])
    assert got["tokens"] == 4 and abs(got["nll"] - sum(nll) / 4) < 1e-5 * abs(got["nll"]), (got, nll)


class Group:
    """A control group of this test's own, version 2 or 1; None where the system gives none."""

    def __init__(self, limit):
        for line in open("/proc/self/cgroup"):
            _, names, where = line.rstrip("\n").split(":", 2)
            base, name = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes") if "memory" in names.split(",") else
                          ("/sys/fs/cgroup", "memory.max"))
            if names and "memory" not in names.split(","):
                continue
            for top in base + where.rstrip("/"), base:
                self.path = os.path.join(top, f"stretto-test-{os.getpid()}")
                try:
                    os.mkdir(self.path)
                    with open(os.path.join(self.path, name), "w") as f:
                        f.write(str(limit))
                    return
                except OSError:
                    self.close()
        raise OSError("no control group can be made")

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w") as f:
            f.write("0")

    def close(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


def check_memory():
    big = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not os.path.exists(big):
        print(f"without a control group: {big} is not there")
        return
    try:
        group = Group(70 << 20)
    except OSError as e:
        print(f"without a control group: {e}")
        return
    try:
        code, _, err = run("info", "-m", big, preexec_fn=group.enter)
        took = re.search(r"the weights take (\S+) MB of memory and (\S+) can be had.*raise the limit", err)
        assert code == 1 and took, (code, err)
        size = json.loads(run("info", "-m", big, "--json")[1])["model"]["weight_bytes"]
        assert abs(float(took[1]) - size / 1e6) < 0.1 and 0 < float(took[2]) <= 70 * 1.05, (took, size)
    finally:
        group.close()


def main():
    with tempfile.TemporaryDirectory() as tmp:
        for check in check_full_disk, check_terminal, check_files, check_pipes, check_windows:
            inside = os.path.join(tmp, check.__name__)
            os.mkdir(inside)
            check(inside)
    check_memory()
    print("the edges hold")


if __name__ == "__main__":
    main()
