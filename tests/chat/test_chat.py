#!/usr/bin/env python3
"""stretto chat on SmolLM2: through a pipe, and on a pseudo-terminal as a person would use it.

usage: test_chat.py PROGRAM MODEL [-v] [TEST...]

The oracle for an answer is `stretto run --chat`, which knows nothing of conversations; for what was
said, the file that /save writes.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    from screen import Screen
except ImportError as missing:
    print(f"skip: {missing}; ./dev test installs it into build/venv")
    sys.exit(77)

PROGRAM = MODEL = ""
LONG = "Write a very long story about the sea, with many chapters."


class Chat(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="stretto-chat-"))
        self.env = dict(os.environ, TERM="xterm", HOME=str(self.dir), LC_ALL="C.UTF-8",
                        XDG_STATE_HOME=str(self.dir / "state"), XDG_CONFIG_HOME=str(self.dir))
        self.terminal = None

    def tearDown(self):
        if self.terminal:
            self.terminal.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def pipe(self, text, *args, code=0):
        done = subprocess.run([PROGRAM, "chat", "-m", MODEL, "--temp", "0", *args], env=self.env,
                              input=text, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stderr)
        self.said = done.stderr
        return done.stdout

    def run_text(self, prompt, *args):
        """What `stretto run` writes after a prompt."""
        done = subprocess.run([PROGRAM, "run", "-m", MODEL, "-p", prompt, "-n", "24", "--temp", "0",
                               "--json", *args], env=self.env, capture_output=True, text=True,
                              check=True, timeout=300)
        return json.loads(done.stdout)["text"]

    def saved(self, name="talk.json"):
        return json.loads((self.dir / name).read_text())["messages"]

    def open(self, *args):
        self.terminal = Screen([PROGRAM, "chat", "-m", MODEL, "--temp", "0", *args], self.env)
        self.terminal.shows(r"Ctrl-D leaves.\n>$", 60)
        return self.terminal

    # ---- through a pipe

    def test_pipe_answers_as_run_does(self):
        question = "Name the capital of France."
        want = self.run_text(question, "--chat")
        self.assertGreater(len(want), 5)
        out = self.pipe(f"{question}\n/save {self.dir}/talk.json\n", "-n", "24")
        self.assertEqual(out, want + "\n")
        self.assertEqual(self.saved(), [{"role": "user", "content": question},
                                        {"role": "assistant", "content": want}])
        # The last line may lack its newline.
        out = self.pipe(f"My name is Ada.\n/reset\n{question}", "-n", "24")
        self.assertTrue(out.endswith(want + "\n"), out)

    def test_second_answer_is_that_of_the_whole_conversation(self):
        """Cached tokens and a rendered history give what one long prompt gives (--strict)."""
        asked = ["Name a colour.", "Name an animal."]
        self.pipe("\n".join(asked) + f"\n/save {self.dir}/talk.json\n", "-n", "24", "--strict",
                  "-sys", "Be brief.")
        messages = self.saved()
        self.assertEqual([m["content"] for m in messages[1::2]], asked)
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
                       for m in messages[:-1])
        self.assertEqual(self.run_text(text + "<|im_start|>assistant\n", "--strict"),
                         messages[-1]["content"])

    def test_pipe_keeps_the_conversation(self):
        save = f"/save {self.dir}/talk.json\n/save {self.dir}/talk.md\n"
        out = self.pipe("Hello.\n\n  \nAnd again.\r\n/regen\n" + save, "-n", "8",
                        "-sys", "You are terse.")
        messages = self.saved()
        self.assertEqual([m["role"] for m in messages],
                         ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual([messages[i]["content"] for i in (0, 1, 3)],
                         ["You are terse.", "Hello.", "And again."])
        first, second = messages[2]["content"], messages[4]["content"]
        self.assertEqual(out, f"{first}\n{second}\n{second}\n")    # greedy: /regen says the same
        self.assertIn(f"**assistant**\n\n{second}\n", (self.dir / "talk.md").read_text())

    def test_bytes_that_are_no_text(self):
        """A message in another encoding is asked with U+FFFD in it, not left out."""
        question = "Translate into French: caf\ufffd au lait"
        want = self.run_text(question, "--chat")
        raw = question.encode().replace("\ufffd".encode(), b"\xe9")
        done = subprocess.run([PROGRAM, "chat", "-m", MODEL, "--temp", "0", "-n", "24"], env=self.env,
                              input=raw + b"\n", capture_output=True, timeout=300, check=True)
        self.assertEqual(done.stdout.decode(), want + "\n")
        (self.dir / "latin").write_bytes(raw)
        done = subprocess.run([PROGRAM, "run", "-m", MODEL, "--temp", "0", "-n", "24", "--chat", "--json",
                               "-f", self.dir / "latin"], capture_output=True, timeout=300, check=True)
        self.assertEqual(json.loads(done.stdout)["text"], want)

    def test_commands(self):
        (self.dir / "mine").write_text("mine")
        out = self.pipe("/system\n/system Be kind.\n/system\n/system -\n/system\n/help\n"
                        f"/save {self.dir}/mine\n/save {self.dir}/no/such/folder\n/save\n/regen\n"
                        "/nonsense\n/compact\n/quit\nnever\n", code=1)
        self.assertEqual(out, "")
        for words in ("/system TEXT sets one", "Be kind.", "No system message", "/compact",
                      "mine is there already", "No such file", "needs the name",
                      "no answer to ask for again", "no command /nonsense",
                      "0 messages are forgotten"):
            self.assertIn(words, self.said)
        self.assertEqual((self.dir / "mine").read_text(), "mine")
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["mine"])
        self.pipe("/quit\n")

    def test_full_disk_leaves_no_half_file(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        self.pipe("/save /dev/full\n", code=1)
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "chat", "-m", MODEL, "-n", "4"], env=self.env,
                                  input="Hi\n", stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=300)
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)

    def test_full_context_offers_ways_on(self):
        long = "again and " * 300
        out = self.pipe(f"{long}\n/save {self.dir}/a.json\nHello.\n/save {self.dir}/b.json\n",
                        "-c", "256", "-n", "8", code=1)
        self.assertIn("/compact", self.said)
        self.assertIn("/reset", self.said)
        self.assertIn("256", self.said)
        self.assertEqual(self.saved("a.json"), [])
        self.assertEqual(len(self.saved("b.json")), 2)
        self.assertTrue(out.strip())
        # Exchanges until it is full; /compact makes room and keeps the newest.
        numbers = [f"Here is a number to remember: {i}{i}{i}." for i in range(1, 9)]
        self.pipe("\n".join(numbers) + f"\n/compact\n/save {self.dir}/c.json\nWhich number?\n"
                  f"/save {self.dir}/d.json\n", "-c", "256", "-n", "16", code=1)
        kept = self.saved("c.json")
        self.assertGreaterEqual(len(kept), 2)
        self.assertLess(len(kept), 2 * len(numbers))
        self.assertEqual(kept[0]["role"], "user")
        self.assertEqual(len(kept) % 2, 0)
        self.assertEqual(len(self.saved("d.json")), len(kept) + 2)
        taken = re.search(r"take (\d+) of 256 tokens", self.said)
        self.assertLessEqual(int(taken.group(1)), 128)

    def test_refusals(self):
        self.pipe("", "nonsense", code=2)
        self.pipe("", "-n", "-5", code=2)
        done = subprocess.run([PROGRAM, "chat", "-m", self.dir / "absent.gguf"], env=self.env,
                              input="", capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("absent.gguf", done.stderr)

    # ---- on a terminal

    def test_terminal(self):
        t = self.open("-n", "400")
        t.type("a line not sent")
        t.shows("not sent")
        t.type("\x03")                                    # Ctrl-C drops the line
        t.shows(r"not sent\^C\n>$")
        t.type("\x03")
        t.shows(r"leaves\)\n>$")
        t.type("Wrute\x7f\x7f\x7fite " + LONG[6:] + "\r")   # edited: three back, three typed
        t.shows(r"chapters\.\n(?s:.*)[a-z]{3}", 60)
        t.type("\x03")                                    # Ctrl-C ends the answer, not the program
        t.shows(r"\(stopped; /regen asks again\)\n>$")
        t.type('"""first\rsecond\rthird"""\r')
        t.shows(r"\. third\"\"\"\n(?s:.*)[a-z]{2}", 60)
        t.type("\x03")
        t.shows(r"third(?s:.*)again\)\n>$")
        t.type("\x1b[200~one\rtwo \u00e9\u65e5\x1b[201~\r")
        t.shows(r"\. two [^\n]*\n(?s:.*)[a-z]{2}", 60)
        t.type("\x03")
        t.shows(r"\. two (?s:.*)again\)\n>$")
        t.type(f"/save {self.dir}/talk.json\r")
        t.shows(r"messages are in [^>]*\n>$")
        t.type("\x04")                                    # Ctrl-D
        self.assertEqual(t.code(), 0)
        said = [m["content"] for m in self.saved() if m["role"] == "user"]
        self.assertEqual(said, [LONG, "first\nsecond\nthird", "one\ntwo \u00e9\u65e5"])
        self.assertTrue(all(m["content"] for m in self.saved()))
        path = self.dir / "state" / "stretto" / "history"
        self.assertEqual(path.read_text().splitlines()[:4], [LONG, '"""first\\', "second\\", 'third"""'])
        self.assertEqual(path.stat().st_mode & 0o077, 0)

    def test_history_comes_back(self):
        state = self.dir / "state" / "stretto"
        state.mkdir(parents=True)
        (state / "history").write_text("/system Old words.\n")
        t = self.open()
        t.type("\x1b[A\r")                               # up, enter
        t.shows(r"Old words\.\nThe system message is set.*\n>$")
        t.type("/system\r")
        t.shows(r"/system\nOld words\.\n>$")
        t.type("/quit\r")
        self.assertEqual(t.code(), 0)

    def test_ctrl_c_twice_and_unwritable_history(self):
        self.env["XDG_STATE_HOME"] = "/proc/none"
        t = self.open()
        t.type(LONG + "\r")
        t.shows(r"chapters\.\n(?s:.*)[a-z]{3}", 60)
        t.type("\x03")
        t.type("\x03")            # a second one, late, only gives a new prompt
        t.shows(r"again\)\n(?s:.*)>$")
        t.type("/quit\r")
        self.assertEqual(t.code(), 0)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not os.path.exists(sys.argv[2]):
        print("skip: SmolLM2 is not here; ./dev run fetches it")
        sys.exit(77)
    PROGRAM, MODEL = os.path.abspath(sys.argv.pop(1)), os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
