#!/usr/bin/env python3
"""The completions do in bash, zsh and fish what a person at the keyboard expects: commands, options, choices,
names of models from the catalogue and the folder of models, and what `models rm` can remove.

usage: test_completion.py STRETTO FOLDER_OF_COMPLETIONS

The oracle is the rows of the command (stretto help --json) and the files that were put into the folder of
models. Bash is asked through its completion function for every option there is, and bash and zsh at a
pseudo-terminal: keys in, and out comes the argument list that the shell would have run.
"""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

PROGRAM, SCRIPTS = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="stretto-complete-"))
EVIL = "$(touch PWNED) `touch PWNED`.gguf"
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("STRETTO_", "BASH_", "ZDOTDIR"))} | {
    "HOME": str(FOLDER), "XDG_CACHE_HOME": str(FOLDER / "cache"), "XDG_CONFIG_HOME": str(FOLDER / "config"),
    "XDG_DATA_HOME": str(FOLDER / "data"), "STRETTO_CATALOGUE": str(FOLDER / "catalogue"), "INPUTRC": "/dev/null",
    "PATH": f"{FOLDER / 'bin'}:{os.environ['PATH']}", "TERM": "dumb", "PROGRAM": PROGRAM, "LC_ALL": "C.UTF-8"}
wrong = []


def make_world():
    """A catalogue of two models, one of them here, one of Hugging Face, one put there by hand, and one whose name
    would be a command if a shell expanded it."""
    models, bin_ = FOLDER / "cache/stretto/models", FOLDER / "bin"
    for path in (models / "user/repo", bin_, FOLDER / "work/some-folder"):
        path.mkdir(parents=True)
    (FOLDER / "catalogue").write_text("".join(f"model {n}\n licence MIT\n source file:/x\n file {n}.gguf - -\n"
                                              for n in ("small-here", "small-away")))
    for name in ("small-here.gguf", "user/repo/m.gguf", "byhand.gguf", EVIL):
        (models / name).write_bytes(b"GGUF")
    (FOLDER / "work/some.gguf").write_bytes(b"GGUF")
    # Names of models come from the program, and every other command line shows what it was given.
    (bin_ / "stretto").write_text('#!/bin/sh\n[ "$1" = models ] && [ "$2" = list ] && exec "$PROGRAM" "$@"\n'
                                  'printf "<<"; for a; do printf "[%s]" "$a"; done; printf ">>\\n"\n')
    (bin_ / "stretto").chmod(0o755)


def expect(what, found, wanted):
    if found != wanted:
        wrong.append(f"{what}: {found!r} instead of {wanted!r}")


# ---- bash, asked through its function --------------------------------------------------------------
ASK = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _stretto; printf '%s\\n' "${COMPREPLY[@]}" """


def bash_offers(*words):
    done = subprocess.run(["bash", "-c", ASK, "bash", str(SCRIPTS / "stretto.bash"), "stretto", *words], check=True,
                          text=True, capture_output=True, env=ENV, cwd=FOLDER / "work")
    if done.stderr:
        sys.exit(f"{words}: {done.stderr}")
    return set(done.stdout.split("\n")) - {""}


def check_bash_rows(rows):
    names = {row["name"] for row in rows}
    expect("commands", bash_offers(""), names | {"help", "--version", "list", "rm"})
    expect("help", bash_offers("help", ""), names)
    expect("inf", bash_offers("inf"), {"info"})
    for row in rows:
        options = [o for group in row["groups"] for o in group["options"]]
        flags = {flag for o in options for flag in o["flags"].split()} | {"--help"}
        expect(row["name"], bash_offers(row["name"], "-"), flags)
        for o in options:
            if o["kind"] == "choice":
                for flag in o["flags"].split():
                    expect(f"{row['name']} {flag}", bash_offers(row["name"], flag, ""), set(o["value"].split("|")))
            if o["kind"] == "strategies":
                offered = bash_offers(row["name"], o["flags"].split()[0], "")
                expect(f"{row['name']} {o['flags']}", {w for w in offered if f" {w}," in o["help"]}, offered)
                expect("a decoding strategy", "lookup" in offered and len(offered) > 2, True)
            if o["kind"] in ("int", "real"):
                expect(f"{row['name']} {o['flags']}", bash_offers(row["name"], o["flags"].split()[0], ""), set())
    evil = bash_offers("run", "-m", "$")
    if len(evil) != 1 or not evil.pop().startswith("\\$\\(touch"):
        wrong.append("a name that a shell would expand is not quoted")


# ---- at the keyboard --------------------------------------------------------------------------------
class Shell:
    """A shell at a pseudo-terminal; ask() types words, presses Tab and Enter, and returns the arguments."""

    def __init__(self, argv, setup):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(FOLDER / "work")
            os.execvpe(argv[0], argv, ENV)
        self.seen = ""
        # Commands before a mark that the echo of the keys does not hold.
        os.write(self.fd, (setup + "\necho re''ady\n").encode())
        self.until("ready")

    def until(self, pattern, seconds=60):
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen, re.S)):
            if time.monotonic() > end:
                sys.exit(f"waited for {pattern!r}, saw {self.seen!r}")
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    sys.exit(f"the shell ended: {self.seen!r}")
        self.seen = self.seen[found.end():]
        return found

    def ask(self, words):
        os.write(self.fd, words.encode() + b"\t")
        time.sleep(0.3)                        # Tab and Enter in one block would be taken for pasted text
        os.write(self.fd, b"\n")
        shown = self.until("<<(.*?)>>").group(1)
        return re.findall(r"\[([^]]*)\]", shown)

    def close(self):
        os.write(self.fd, b"\nexit\n")
        os.close(self.fd)
        os.waitpid(self.pid, 0)


TYPED = [
    ("stretto con", ["convert"]), ("stretto rm sm", ["rm", "small-here"]), ("stretto models r", ["models", "rm"]),
    ("stretto models rm by", ["models", "rm", "byhand.gguf"]), ("stretto run --thr", ["run", "--threads"]),
    ("stretto run -m small-h", ["run", "-m", "small-here"]), ("stretto run -m small-a", ["run", "-m", "small-away"]),
    ("stretto chat --model hf:us", ["chat", "--model", "hf:user/repo"]),
    ("stretto run -hf us", ["run", "-hf", "user/repo"]), ("stretto pull small-a", ["pull", "small-away"]),
    ("stretto convert hf:user/r", ["convert", "hf:user/repo"]),
    ("stretto models rm hf:u", ["models", "rm", "hf:user/repo"]),
    ("stretto convert --type q8", ["convert", "--type", "q8_0"]), ("stretto run --decode loo", None),
    ("stretto run --decode ja", ["run", "--decode", "jacobi"]), ("stretto eval pp", ["eval", "ppl"]),
    ("stretto run -f some.", ["run", "-f", "some.gguf"]), ("stretto run -m some.", ["run", "-m", "some.gguf"]),
    ("stretto run -p x -m small-h", ["run", "-p", "x", "-m", "small-here"]),
]


def check_keyboard(name, shell):
    for words, wanted in TYPED:
        if wanted:
            found = shell.ask(words)
            expect(f"{name}: {words}<Tab>", found, wanted)
    shell.close()


def check_bash_keyboard():
    check_keyboard("bash", Shell(["bash", "--norc", "--noprofile", "-i"],
                                 f"bind 'set enable-bracketed-paste off'; PS1='> '; source {SCRIPTS}/stretto.bash"))


def check_zsh():
    script = SCRIPTS / "stretto.zsh"
    subprocess.run(["zsh", "-n", script], check=True)
    functions = FOLDER / "functions"
    functions.mkdir()
    shutil.copy(script, functions / "_stretto")
    check_keyboard("zsh", Shell(["zsh", "-f", "-i"], "PS1='> '; unset zle_bracketed_paste; "
                                f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -D; "
                                "bindkey '^I' complete-word"))


def check_fish():
    script = SCRIPTS / "stretto.fish"
    subprocess.run(["fish", "--no-execute", script], check=True)
    for words, wanted in TYPED:
        if not wanted:
            continue
        done = subprocess.run(["fish", "--no-config", "-c", f"source {script}; complete -C '{words}'"], env=ENV,
                              text=True, cwd=FOLDER / "work", capture_output=True, check=True)
        found = [line.split("\t")[0] for line in done.stdout.splitlines()]
        expect(f"fish: {words}<Tab>", found, [wanted[-1]])


def main():
    if not shutil.which("bash"):
        print("skip: bash is not here")
        return 77
    make_world()
    rows = json.loads(subprocess.run([PROGRAM, "help", "--json"], check=True, text=True,
                                     capture_output=True).stdout)["commands"]
    check_bash_rows(rows)
    check_bash_keyboard()
    done = ["bash"]
    for shell, check in (("zsh", check_zsh), ("fish", check_fish)):
        if shutil.which(shell):
            check()
            done.append(shell)
        else:
            print(f"skip: {shell} is not here (./dev test installs it); its completion was not tried")
    if list(FOLDER.rglob("PWNED")):
        wrong.append("the name of a model was run as a command")
    shutil.rmtree(FOLDER)
    print("\n".join(wrong) or f"{len(rows)} commands complete in {', '.join(done)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
