#!/usr/bin/env python3
"""Models named before they are here: fetched on first use after a question or with --yes, found again
without the network, and removed by name. Against a local server that speaks as the hub does.

usage: test_first_use.py STRETTO STRETTO-PULL GOLDEN_FOLDER [-v] [TEST...]

The oracle is the same command given the path of the file that the server serves.
"""
import hashlib
import json
import os
import pathlib
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import Server

STRETTO = PULL = GOLDEN = ""


class FirstUse(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="stretto-first-"))
        self.models = self.dir / "cache/stretto/models"
        self.server = Server()
        self.env = {k: v for k, v in os.environ.items()
                    if not k.lower().endswith("_proxy") and not k.startswith(("HF_", "STRETTO_"))}
        self.env |= {"HOME": str(self.dir), "XDG_CACHE_HOME": str(self.dir / "cache"), "TERM": "dumb",
                     "XDG_CONFIG_HOME": str(self.dir / "config"), "HF_ENDPOINT": self.server.url(""),
                     "STRETTO_CATALOGUE": str(self.dir / "catalogue")}
        self.gguf = pathlib.Path(GOLDEN, "llama/model.gguf")
        self.other = pathlib.Path(GOLDEN, "llama-yarn/model.gguf")
        self.bert = pathlib.Path(GOLDEN, "bert/model.gguf")
        self.catalogue(one=self.gguf, encoder=self.bert)

    def tearDown(self):
        self.server.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def catalogue(self, **models):
        text = ""
        for name, path in models.items():
            data = path.read_bytes()
            self.server.routes[f"/{name}.gguf"] = lambda r, nth, data=data: r.file(data)
            text += (f"model {name}\n title A model\n licence MIT\n source {self.server.url(f'/{name}.gguf')}\n"
                     f" file {name}.gguf {len(data)} {hashlib.sha256(data).hexdigest()}\n")
        (self.dir / "catalogue").write_text(text)

    def repo(self, files, repo="user/repo", revision="main"):
        tree = []
        for name, data in files.items():
            sha = hashlib.sha256(data).hexdigest()
            tree.append({"type": "file", "path": name, "size": len(data), "oid": "0" * 40,
                         "lfs": {"oid": sha, "size": len(data)}})
            self.server.routes[f"/{repo}/resolve/{revision}/{name}"] = (
                lambda r, nth, data=data: r.file(data))
        self.server.routes[f"/api/models/{repo}/tree/{revision}"] = (
            lambda r, nth: r.reply(200, json.dumps(tree).encode()))

    def call(self, *args, code=0, feed=""):
        done = subprocess.run([STRETTO, *map(str, args)], env=self.env, capture_output=True, text=True,
                              errors="replace", input=feed, timeout=120)
        self.assertNotIn("Sanitizer", done.stderr)
        self.assertEqual(done.returncode, code, (args, done.stderr))
        self.said = done.stderr
        return done.stdout

    def answer(self, *args, code=0):
        out = self.call("run", "-p", "ab", "-n", "6", "--temp", "0", "--ignore-eos", "--json", *args, code=code)
        return json.loads(out)["ids"] if code == 0 else None

    def here(self):
        if not self.models.exists():
            return []
        return sorted(str(p.relative_to(self.models)) for p in self.models.rglob("*") if p.is_file())

    def terminal(self, keys, *args):
        """The command at a terminal; what the screen shows, and the exit code."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(STRETTO, [STRETTO, *map(str, args)], self.env)
        seen, end, typed = b"", time.monotonic() + 60, False
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.2)[0]:
                try:
                    seen += os.read(fd, 65536)
                except OSError:
                    break
            if not typed and (b"/N] " in seen or b"/n] " in seen):
                os.write(fd, keys)
                typed = True
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(fd)
        return seen.decode(errors="replace"), code

    # ---- asking

    def test_no_terminal_says_how(self):
        self.answer("-m", "one", code=1)
        for words in ("not on this machine yet", "stretto pull one", "--yes", "MB"):
            self.assertIn(words, self.said)
        self.answer("-m", "hf:user/repo:Q4_0", code=1)
        self.assertIn("stretto pull hf:user/repo:Q4_0", self.said)
        self.assertEqual(self.server.asked, [])

    def test_terminal_asks(self):
        run = ["run", "-p", "ab", "-n", "2", "--ignore-eos", "-m", "one"]
        for keys in (b"n\n", b"no\n", b"what\n", b"\x04"):
            screen, code = self.terminal(keys, *run)
            self.assertIn("A model; ", screen)
            self.assertIn("MIT). Fetch it? [Y/n]", screen)
            self.assertIn("nothing was fetched", screen)
            self.assertEqual((code, self.here()), (1, []))
        screen, code = self.terminal(b"\n", *run)
        self.assertEqual((code, self.here()), (0, ["one.gguf"]), screen)
        screen, code = self.terminal(b"", *run)                      # and never again
        self.assertNotIn("Fetch", screen)
        self.assertEqual(code, 0)

    # ---- every command

    def test_every_command_that_names_a_model(self):
        text = self.dir / "text"
        text.write_text("ab " * 200)
        (self.dir / "vars").write_text('{"messages": []}')
        (self.dir / "prompts").write_text('{"prompt": "ab"}\n')
        out = self.dir / "out.gguf"
        cases = [("run", "-m", "one", "-p", "ab", "-n", "2"), ("info", "-m", "one"),
                 ("eval", "ppl", "-m", "one", "-c", "64", "-f", text), ("tokenize", "-m", "one"),
                 ("bench", "-m", "one", "-p", "8", "-n", "2", "-r", "1"), ("embed", "-m", "encoder"),
                 ("convert", "one", out, "--type", "f32"),
                 ("run", "-m", self.gguf, "-md", "one", "-p", "ab", "-n", "2"),
                 ("eval", "kl", "-m", self.gguf, "--base", "one", "-c", "64", "-f", text)]
        for case in cases:
            shutil.rmtree(self.models, ignore_errors=True)
            self.call(*case, "--yes", feed="ab")
            self.assertEqual(len(self.here()), 1, case)
        self.assertTrue(out.exists())
        # These models have no chat template: both say so after they fetched.
        for case in (("template", "-m", "one", "--vars", self.dir / "vars"), ("chat", "-m", "one")):
            shutil.rmtree(self.models)
            self.call(*case, "-y", code=1)
            self.assertIn("chat template", self.said)
            self.assertEqual(self.here(), ["one.gguf"], case)

    # ---- Hugging Face

    def test_repositories(self):
        data, other = self.gguf.read_bytes(), self.other.read_bytes()
        want, wanted = self.answer("-m", self.gguf), self.answer("-m", self.other)
        self.assertNotEqual(want, wanted)
        self.repo({"README.md": b"#", "model.gguf": data})
        self.repo({"model.gguf": other}, repo="user/second")
        self.assertEqual(self.answer("-m", "hf:user/repo", "-y"), want)
        self.assertEqual(self.answer("-hf", "user/second", "-y"), wanted)       # a file of the same name
        self.assertEqual(self.here(), ["user/repo/model.gguf", "user/second/model.gguf"])
        asked = len(self.server.asked)
        for name in ("hf:user/repo", "hf.co/user/repo", "hf:user/repo/model.gguf", "hf:user/repo@main"):
            self.assertEqual(self.answer("-m", name), want, name)
        self.assertEqual(self.answer("-hf", "user/repo"), want)
        self.assertEqual(len(self.server.asked), asked)                  # nobody was asked again
        self.answer("-m", "one", "-hf", "user/repo", code=2)
        self.answer("-m", "hf:user/absent", "-y", code=1)
        self.assertIn("404", self.said)

    def test_quants(self):
        data, other = self.gguf.read_bytes(), self.other.read_bytes()
        want, wanted = self.answer("-m", self.gguf), self.answer("-m", self.other)
        self.repo({"m-Q4_K_S.gguf": b"x", "m-Q4_K_M.gguf": data, "m-Q8_0.gguf": other, "m-IQ4_K.gguf": b"y",
                   "mmproj-m-Q8_0.gguf": b"z"})
        self.assertEqual(self.answer("-m", "hf:user/repo:q8_0", "-y"), wanted)
        self.assertEqual(self.here(), ["user/repo/m-Q8_0.gguf"])
        self.assertEqual(self.answer("-m", "hf:user/repo:Q4_K_M", "-y"), want)
        self.assertEqual(self.answer("-m", "hf:user/repo:Q8_0"), wanted)
        self.assertEqual(self.answer("-m", "hf:user/repo"), want)                # of several: Q4_K_M
        self.answer("-m", "hf:user/repo:Q4_K", "-y", code=1)                     # not Q4_K_M, not Q4_K_S
        self.assertIn("m-Q4_K_S.gguf", self.said)
        shutil.rmtree(self.models)
        self.assertEqual(self.answer("-m", "hf:user/repo", "-y"), want)
        self.assertIn("4 GGUF files; taking the Q4_K_M one", self.said)
        self.assertEqual(self.here(), ["user/repo/m-Q4_K_M.gguf"])

    def test_revisions_and_folders(self):
        self.repo({"deep/m.gguf": self.gguf.read_bytes()}, revision="refs%2Fpr%2F1")
        want = self.answer("-m", self.gguf)
        self.assertEqual(self.answer("-m", "hf:user/repo@refs/pr/1", "-y"), want)
        self.assertEqual(self.here(), ["user/repo@refs%2Fpr%2F1/deep/m.gguf"])
        self.answer("-m", "hf:user/repo", code=1)                        # another revision, not this one
        self.assertEqual(self.call("list", "-q", "--here"), "hf:user/repo@refs/pr/1\n")
        folder = pathlib.Path(GOLDEN, "llama/hf")
        files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
        self.repo(files, repo="user/folder")
        self.assertEqual(self.answer("-m", "hf:user/folder", "-y"), self.answer("-m", folder))
        asked = len(self.server.asked)
        self.assertEqual(self.answer("-m", "hf:user/folder"), self.answer("-m", folder))
        self.assertEqual(len(self.server.asked), asked)
        (self.models / "user/folder/.whole").unlink()                    # as a download that broke leaves it
        self.answer("-m", "hf:user/folder", code=1)
        self.assertIn("stretto pull hf:user/folder", self.said)

    def test_split_file(self):
        parts = {f"m-{i:05}-of-00002.gguf": self.gguf.read_bytes() for i in (1, 2)}
        self.repo(parts)
        self.call("pull", "-q", "hf:user/repo")
        self.assertEqual(self.here(), sorted(f"user/repo/{n}" for n in parts))
        self.assertEqual(self.call("ls", "-q", "--here"), "hf:user/repo\n")
        (self.models / "user/repo/m-00002-of-00002.gguf").rename(self.dir / "away")
        self.answer("-m", "hf:user/repo", code=1)
        self.assertIn("not on this machine", self.said)
        (self.dir / "away").rename(self.models / "user/repo/m-00002-of-00002.gguf")
        self.call("rm", "-y", "hf:user/repo")
        self.assertEqual(list(self.models.iterdir()), [])

    # ---- names that are wrong

    def test_did_you_mean(self):
        for wrong, right in (("onne", "one"), ("encodr", "encoder"), ("enc", "encoder")):
            self.answer("-m", wrong, code=1)
            self.assertIn(f"did you mean '{right}'?", self.said)
        self.answer("-m", "quite-another", code=1)
        self.assertNotIn("mean", self.said)
        self.answer("-m", "user/repo", code=1)
        self.assertIn("hf:user/repo", self.said)
        self.answer("-m", "hf:user", code=1)
        self.assertIn("hf:USER/REPO", self.said)
        for bad in ("hf:../x", "hf:user/repo:", "hf:user/repo:Q4/x", "hf:user/repo/x.gguf:Q4", "hf:user/repo@../x"):
            self.answer("-m", bad, "-y", code=1)
        self.assertEqual(self.server.asked, [])

    def test_without_the_other_program(self):
        alone = self.dir / "bin"
        alone.mkdir()
        shutil.copy(STRETTO, alone / "stretto")
        done = subprocess.run([alone / "stretto", "info", "-m", "one", "-y"], env=self.env | {"PATH": str(alone)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("stretto-pull is missing", done.stderr)

    # ---- list and rm

    def test_list_and_remove(self):
        self.repo({"a-Q8_0.gguf": self.gguf.read_bytes(), "a-Q4_K_M.gguf": self.other.read_bytes()})
        self.call("pull", "-q", "one", "hf:user/repo", "hf:user/repo:Q8_0")
        shutil.copy(self.gguf, self.models / "mine.gguf")
        shutil.copytree(pathlib.Path(GOLDEN, "llama/hf"), self.models / "folder")
        (self.models / "notes.txt").write_text("kept")
        # Names that -m would not take, and that could command a terminal, are not shown.
        for odd in ("\x1b[31mred.gguf", "user/repo/\x1b[31mred.gguf", "-m.gguf", ".hidden.gguf"):
            shutil.copy(self.gguf, self.models / odd)
        odd = [n for n in self.here() if "red" in n or n.startswith(("-", "."))]
        self.assertEqual(len(odd), 4)
        names = ["one", "folder", "hf:user/repo/a-Q4_K_M.gguf", "hf:user/repo/a-Q8_0.gguf", "mine.gguf"]
        for words in (["models"], ["models", "list"], ["models", "ls"], ["list"], ["ls"]):
            self.assertEqual(self.call(*words, "-q", "--here").split(), names, words)
        self.assertEqual(self.call("list", "-q").split(), ["one", "encoder", *names[1:]])
        table = self.call("list")
        self.assertNotIn("\x1b", table)
        self.assertTrue(all(n in table for n in [*names, "encoder"]), table)
        listed = {m["name"]: m for m in json.loads(self.call("list", "--json"))}
        self.assertEqual(sorted(listed), sorted([*names, "encoder"]))
        for name in names:                                               # every name works with -m
            self.answer("-m", name)
            self.assertTrue(os.path.exists(listed[name]["path"]))
        size = sum(p.stat().st_size for p in (self.models / "folder").rglob("*"))
        self.assertEqual(listed["folder"]["bytes"], size)
        for name in odd:
            (self.models / name).unlink()
        # Nothing goes without a question or -y, and nothing from elsewhere at all.
        before = self.here()
        self.call("rm", "one", code=2)
        self.assertIn("-y", self.said)
        outside = self.dir / "outside.gguf"
        shutil.copy(self.gguf, outside)
        for name in (str(outside), "../outside.gguf", "../../../outside.gguf", "notes.txt", "user", ".", "..", "",
                     str(self.models), "encoder", "hf:user/repo/../../x", "hf:user/absent",
                     str(self.models / "mine.gguf")):
            self.call("models", "rm", "-y", "--", name, code=1)
        self.call("models", "rm", code=2)
        self.call("models", "remove", "one", code=2)
        self.call("rm", "-y", "mine.guf", code=1)
        self.assertIn("did you mean 'mine.gguf'?", self.said)
        screen, code = self.terminal(b"\n", "rm", "one")
        self.assertIn("remove one (", screen)
        self.assertEqual((code, self.here()), (1, before))
        screen, code = self.terminal(b"y\n", "models", "rm", "one")
        self.assertEqual(code, 0)
        self.assertEqual(self.here(), [n for n in before if n != "one.gguf"])
        self.call("rm", "-y", "hf:user/repo:Q8_0", "mine.gguf")
        (self.models / "folder" / "link").symlink_to(self.dir / "outside.gguf")
        self.call("rm", "-y", "folder", "hf:user/repo")
        self.assertEqual(self.here(), ["notes.txt"])
        self.assertEqual(sorted(p.name for p in self.models.iterdir()), ["notes.txt"])
        self.assertTrue(outside.exists())

    def test_remove_what_is_half_there(self):
        self.models.mkdir(parents=True)
        (self.models / "one.gguf.part").write_bytes(b"half")
        (self.models / "one.gguf.info").write_bytes(b"about")
        self.call("rm", "-y", "one")
        self.assertEqual(self.here(), [])
        self.call("rm", "-y", "one", code=1)
        self.assertIn("not on this machine", self.said)


if __name__ == "__main__":
    STRETTO, PULL, GOLDEN = (os.path.abspath(sys.argv.pop(1)) for _ in range(3))
    if not os.path.exists(PULL) or not os.path.isdir(GOLDEN):
        print(f"skip: there is no {PULL if not os.path.exists(PULL) else GOLDEN}")
        sys.exit(77)
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
