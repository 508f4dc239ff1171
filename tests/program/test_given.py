#!/usr/bin/env python3
"""What a person gives to `stretto run`: words, escapes, files and pipes.

    test_given.py STRETTO GOLDEN_FOLDER MODELS_FOLDER

The oracle is -f FILE with the bytes that Python makes of the same words: a model of random weights reads
them, so equal answers and equal counts mean equal prompts. Escapes: Python's own bytes literals, and what
llama-cli's string_process_escapes leaves alone."""
import ast
import json
import os
import pathlib
import pty
import random
import select
import signal
import subprocess
import sys
import tempfile
import time

stretto, golden, models = sys.argv[1:4]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)
MODEL = os.path.join(golden, "llama", "model.gguf")
folder = pathlib.Path(tempfile.mkdtemp(prefix="stretto-given-"))


def run(*args, feed=None, code=0):
    """The JSON of an answer; standard input is a pipe with `feed`, or /dev/null."""
    how = {"stdin": subprocess.DEVNULL} if feed is None else {"input": feed}
    done = subprocess.run([stretto, "run", "-m", MODEL, "--temp", "0", "-n", "6", "--ignore-eos", "--json",
                           *args], capture_output=True, timeout=120, **how)
    assert done.returncode == code, (args, feed, done.returncode, done.stderr)
    if code:
        return done.stderr.decode()
    out = json.loads(done.stdout)
    return out["ids"], out["prompt_tokens"]


def of(data):
    """What the model says to exactly these bytes."""
    path = folder / "prompt"
    path.write_bytes(data)
    return run("-f", path)


def check_unspelled():
    """A vocabulary that has lost its Z, so that no token spells it."""
    global MODEL
    whole, MODEL = MODEL, str(folder / "no-z.gguf")
    data = pathlib.Path(golden, "gpt2", "model.gguf").read_bytes()
    entry = (1).to_bytes(8, "little")
    assert data.count(entry + b"Z") == 1
    pathlib.Path(MODEL).write_bytes(data.replace(entry + b"Z", entry + b"\x01"))
    assert run("-p", "Y")[1] == 1
    assert "no token" in run("-p", "YZ", code=1)
    done = subprocess.run([stretto, "embed", "-m", MODEL], input=b"YZ", capture_output=True, timeout=120)
    assert done.returncode == 1 and b"no token" in done.stderr, done
    MODEL = whole


def check_pipes():
    assert run("-p", "ab") == of(b"ab")
    assert run(feed=b"ab ba\n") == of(b"ab ba")
    assert run("-", feed=b"ab ba\n") == of(b"ab ba")
    assert run("-p", "-", feed=b"ab ba\n\n") == of(b"ab ba\n")          # one newline, not two
    assert run("-f", "-", feed=b"ab ba\n") == of(b"ab ba\n")            # -f: unchanged
    assert run("-p", "ab", feed=b"one\ntwo\n") == of(b"ab\n\none\ntwo")
    assert run("ab", feed=b"one\ntwo\n") == of(b"ab\n\none\ntwo")
    assert run("-p", "ab", feed=b"") == of(b"ab")
    assert run("-p", "a\\tb", feed=b"c\\td\n") == of(b"a\\tb\n\nc\\td")
    assert run("-e", "-p", "a\\tb", feed=b"c\\td\n") == of(b"a\tb\n\nc\\td")   # a pipe's bytes are its own
    path = folder / "in"
    path.write_bytes(b"from a file\n")
    with open(path) as f:                                               # "< file" is a pipe too
        done = subprocess.run([stretto, "run", "-m", MODEL, "--temp", "0", "-n", "6", "--ignore-eos", "--json"],
                              stdin=f, capture_output=True, check=True)
    assert json.loads(done.stdout)["ids"] == of(b"from a file")[0]
    assert "prompt is missing" in run(code=2)
    assert "standard input is empty" in run(feed=b"", code=2)
    assert "standard input is empty" in run(feed=b"\n", code=2)
    assert "twice" in run("-p", "a", "b", code=2)
    assert "take one" in run("-p", "a", "-f", path, code=2)


def check_operands():
    """MODEL PROMPT as ollama has it: stretto run MODEL PROMPT, and MODEL before a pipe."""
    def bare(*args, feed=None, code=0, **env):
        how = {"stdin": subprocess.DEVNULL} if feed is None else {"input": feed}
        done = subprocess.run([stretto, "run", "--temp", "0", "-n", "6", "--ignore-eos", "--json", *args],
                              env=os.environ | env, capture_output=True, **how)
        assert done.returncode == code, (args, done.stderr)
        return json.loads(done.stdout)["ids"] if code == 0 else done.stderr.decode()

    want = of(b"ab ba")[0]
    assert bare(MODEL, "ab ba") == want
    assert "too many" in bare("-m", MODEL, MODEL, "ab ba", code=2)
    assert "twice" in bare(MODEL, "ab ba", "-p", "x", code=2)
    cache = folder / "stretto/models"
    cache.mkdir(parents=True)
    (folder / "catalogue").write_text("model tiny\n licence MIT\n source file:/x\n file tiny.gguf - -\n")
    (cache / "tiny.gguf").write_bytes(pathlib.Path(MODEL).read_bytes())
    env = {"XDG_CACHE_HOME": str(folder), "STRETTO_CATALOGUE": str(folder / "catalogue")}
    assert bare("tiny", "ab ba", **env) == want
    assert bare("tiny", feed=b"ab ba\n", **env) == want
    assert bare("tiny", "-p", "ab ba", **env) == want
    assert "prompt is missing" in bare("tiny", code=2, **env)
    assert bare("-m", "tiny", "tiny", **env) == of(b"tiny")[0]           # with -m an operand is a text


def check_llama_flags():
    """A command line of llama-cli: what changes nothing is taken, and the answer is the same."""
    taken = ("--mmap --no-mmap -fa -fa on --flash-attn off -fa auto --color "
             "--color on -co -no-cnv --no-warmup --jinja --simple-io -b 2048 -ub 512 -tb 4 --no-display-prompt "
             "--keep 0 --no-context-shift --mirostat 0 --typical 1.0 -nkvo --keepalive 5m -sm layer -ngld 9").split()
    assert run("-ngl", "0", "--n-gpu-layers=0", "-ngl", "auto", "-dev", "none", "-p", "ab") == of(b"ab")
    assert run(*taken, "-p", "ab") == of(b"ab")
    done = subprocess.run([stretto, "run", "-m", MODEL, *taken, "-p", "ab", "-n", "1"], capture_output=True,
                          stdin=subprocess.DEVNULL, text=True, errors="replace", check=True)
    notes = [line for line in done.stderr.split("\n") if "is accepted and changes nothing: " in line]
    assert len(notes) == sum(word.startswith("-") for word in taken), done.stderr
    assert any("-ngld 9 " in line and "draft model" in line for line in notes)
    for words, said in (("-ngl 99", "-ngl 99 goes with --device gpu"), ("-ngl all", "--device gpu"),
                        ("--n-gpu-layers=1", "everything runs on the CPU"), ("-ngl many", "all or auto, not 'many'"),
                        ("-mg 1", "--device gpu:N"), ("-sm row", "-ngl N"), ("-fa maybe", None),
                        ("--grammar x", "--grammar x"),
                        ("-j {}", "grammar"), ("--lora-scaled a", "--lora FILE=SCALE"), ("-cnv", "stretto chat"),
                        ("--mirostat 2", "--top-k"), ("--samplers top_k", "--top-k"), ("--draft-n 3", "--draft-max"),
                        ("--rope-freq-base 1e6", "model's file"), ("--numa isolate", "numactl"),
                        ("-mu https://x", "stretto pull"), ("--override-kv a=int:1", "model's file"),
                        ("--ngl", "no option --ngl"), ("--jinja=1", "--jinja 1")):
        if said:
            assert said in run(*words.split(), "-p", "ab", code=2), words
        else:
            assert run(*words.split()) == of(b"maybe")                   # -fa, and a prompt
    done = subprocess.run([stretto, "chat", "-m", MODEL, "-no-cnv"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "stretto run" in done.stderr, done.stderr


def check_waiting():
    """A pipe that nobody closes: it says what it waits for, and goes on when the pipe ends."""
    child = subprocess.Popen([stretto, "run", "-m", MODEL, "--temp", "0", "-n", "6", "--ignore-eos", "--json",
                              "-p", "ab"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    line = child.stderr.readline().decode()
    assert "waiting for text on standard input" in line and "</dev/null" in line, line
    out, _ = child.communicate(b"late\n", timeout=60)
    assert json.loads(out)["ids"] == of(b"ab\n\nlate")[0]


def check_terminal():
    """At a terminal a missing prompt is refused at once, and `-` reads what is typed up to Ctrl-D."""
    for words, keys, want in (([], b"", b"prompt is missing"), (["-"], b"ab ba\n\x04", None)):
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(stretto, [stretto, "run", "-m", MODEL, "--temp", "0", "-n", "6", "--ignore-eos", "--json",
                               *words])
        os.write(fd, keys)
        seen, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([fd], [], [], 1)[0]:
                try:
                    block = os.read(fd, 65536)
                except OSError:
                    break
                seen += block
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(fd)
        if want:
            assert code == 2 and want in seen and b"stretto chat" in seen, (code, seen)
        else:
            ids = json.loads(seen[seen.index(b"{"):])["ids"]
            assert code == 0 and ids == of(b"ab ba")[0], seen


def literal(words):
    """The words as Python reads them in a bytes literal; unknown escapes stay, as in llama-cli."""
    out, i = b"", 0
    while i < len(words):
        for n in (2, 4):
            piece = words[i:i + n]
            if (n == 2 and piece in (r"\n", r"\r", r"\t", r"\'", r"\"", r"\\")) or \
                    (n == 4 and piece[:2] == r"\x" and len(piece) == 4
                     and all(c in "0123456789abcdefABCDEF" for c in piece[2:])):
                out += ast.literal_eval("b'" + piece + "'")
                i += n
                break
        else:
            out += words[i].encode()
            i += 1
    return out


def check_escapes():
    rng = random.Random(11)
    pieces = [r"\n", r"\t", r"\r", "\\", r"\\", r"\"", r"\'", r"\x41", r"\xe9", r"\xZZ", r"\x4", r"\x", r"\q",
              r"\0", "a", "n", "é", " ", "x4"]
    for fixed in ("a\\", "\\x41\\x", "\\\\n", "\\\\\\n", "\\xc3\\xa9", "a\\x00b"):
        assert run("-e", "-p", fixed) == of(literal(fixed)), fixed
    for _ in range(25):
        words = "a" + "".join(rng.choice(pieces) for _ in range(rng.randint(1, 9)))
        assert run("-e", "-p", words) == of(literal(words)), words
        assert run("-p", words) == of(words.encode()), words
    # Stops too; a NUL cannot be one.
    ids, _ = of(b"ab")
    assert "cannot hold" in run("-e", "-p", "a", "-r", "x\\x00", code=2)
    assert run("-e", "-p", "ab", "-r", "\\x01\\x02\\x01\\x02") == run("-p", "ab") and ids


def check_system():
    assert "--system-file goes with --chat" in run("-p", "a", "--system-file", folder / "x", code=2)
    path = folder / "system"
    path.write_bytes(b"Be brief.\nAnd kind.\n")
    assert "chat template" in run("--chat", "-p", "a", "--system-file", path, code=1)
    assert "take one" in run("--chat", "-p", "a", "-sys", "x", "--system-file", path, code=2)
    assert "none" in run("--chat", "-p", "a", "--system-file", folder / "none", code=1)
    path.write_bytes(b"a\0b")
    assert "NUL" in run("--chat", "-p", "a", "--system-file", path, code=1)
    assert "cannot hold" in run("--chat", "-e", "-p", "a", "-sys", "\\x00", code=2)
    real = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not os.path.exists(real):
        print("note: SmolLM2 is not here; system messages that reach a template were not compared")
        return
    path.write_bytes(b"Be brief.\nAnd kind.\n")
    want = run("-m", real, "--chat", "-p", "Hi", "-sys", "Be brief.\nAnd kind.")
    assert want != run("-m", real, "--chat", "-p", "Hi")
    assert run("-m", real, "--chat", "-p", "Hi", "--system-file", path) == want
    assert run("-m", real, "--chat", "-p", "Hi", "-e", "-sys", r"Be brief.\nAnd kind.") == want
    assert run("-m", real, "--chat", "-p", "Hi", "-e", "--system-file", path) == want


def check_odd_bytes():
    """A byte that no token spells is named, whichever command reads it."""
    real = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not os.path.exists(real):
        print("note: SmolLM2 is not here; bytes without a token and Ctrl-C in a long prompt were not tried")
        return
    path = folder / "odd"
    path.write_bytes(b"ok \xff then\n")
    for words in (["run", "-n", "1"], ["eval", "ppl"], ["embed"]):
        done = subprocess.run([stretto, *words, "-m", real, "-f", path], capture_output=True, timeout=120,
                              stdin=subprocess.DEVNULL)
        said = done.stderr.decode()
        assert done.returncode == 1 and "no token for the byte 0xFF" in said, (words, done.returncode, said)
    path.write_bytes(b"a" * (16 << 20))
    for extra in ([], ["--chat"]):
        p = subprocess.Popen([stretto, "run", "-m", real, "-f", path, *extra], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(2)
        p.send_signal(signal.SIGINT)
        said = p.communicate(timeout=5)[1].decode()
        assert p.returncode != 0 and "tokens and the context" not in said, (p.returncode, said)


def check_notes():
    """A note that follows an answer begins a line, also where both go to one file."""
    done = subprocess.run([stretto, "run", "-m", MODEL, "-p", "ab", "-c", "16", "--ignore-eos", "--temp", "0"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=120)
    assert b"\nstretto run: the context is full" in done.stdout, done.stdout
    for context, told in ((16, False), (20000, True)):
        done = subprocess.run([stretto, "run", "-m", MODEL, "-p", "ab", "-c", str(context), "-n", "2"],
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
        assert (b"that the model was trained for" in done.stderr) == told, (context, done.stderr)


check_unspelled()
check_pipes()
for way, said in (("jacoby", "'jacobi'"), ("lookup+sufix", "'suffix'"), ("autp", "'auto'")):
    assert f"did you mean {said}?" in run("-p", "ab", "--decode", way, code=2), way
assert "mean" not in run("-p", "ab", "--decode", "nonsense", code=2)
check_operands()
check_llama_flags()
check_waiting()
check_terminal()
check_escapes()
check_system()
check_notes()
check_odd_bytes()
print("words, files and pipes arrive as they were given")
