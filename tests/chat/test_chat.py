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
# An answer has begun: a row that is not the progress of reading.
ANSWER = r"\n(?:reading[^\n]*\n)*(?!reading)[^\n]*[a-z]{2}"
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
                              stdin=subprocess.DEVNULL, check=True, timeout=300)
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
                      "mine exists: /save! replaces it", "No such file", "needs the name",
                      "no answer to write again", "no command /nonsense; /help lists them",
                      "Forgot 0 messages"):
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
                        "-c", "256", "-n", "8", "--on-full", "stop", code=1)
        self.assertIn("/compact", self.said)
        self.assertIn("/reset", self.said)
        self.assertIn("256", self.said)
        self.assertEqual(self.saved("a.json"), [])
        self.assertEqual(len(self.saved("b.json")), 2)
        self.assertTrue(out.strip())
        # Exchanges until it is full; /compact makes room and keeps the newest.
        numbers = [f"Here is a number to remember: {i}{i}{i}." for i in range(1, 9)]
        self.pipe("\n".join(numbers) + f"\n/compact\n/save {self.dir}/c.json\nWhich number?\n"
                  f"/save {self.dir}/d.json\n", "-c", "256", "-n", "16", "--on-full", "stop", code=1)
        kept = self.saved("c.json")
        self.assertGreaterEqual(len(kept), 2)
        self.assertLess(len(kept), 2 * len(numbers))
        self.assertEqual(kept[0]["role"], "user")
        self.assertEqual(len(kept) % 2, 0)
        self.assertEqual(len(self.saved("d.json")), len(kept) + 2)
        taken = re.search(r"take (\d+) of 256 tokens", self.said)
        self.assertLessEqual(int(taken.group(1)), 128)

    # ---- a full context

    def numbers(self, n):
        return "\n".join(f"Here is a number to remember: {i}{i}{i}." for i in range(1, n + 1)) + "\n"

    def test_oldest_messages_make_room(self):
        """Aloud; the system message and the newest stay, and the answer is that to what is kept."""
        for n in (6, 7, 8, 9, 10):
            self.pipe(self.numbers(n) + f"/save! {self.dir}/talk.json\n", "-c", "256", "-n", "16", "--strict",
                      "-sys", "Be brief.")
            if "forgotten" in "".join(self.said.splitlines()[-2:-1]):   # while the last one was asked
                break
        found = re.findall(r"is full: the oldest (\d+) messages are forgotten, (\d+) kept", self.said)
        self.assertTrue(found, self.said)
        messages = self.saved()
        self.assertEqual(messages[0], {"role": "system", "content": "Be brief."})
        self.assertEqual(len(messages) - 1, 2 * n - sum(int(gone) for gone, _ in found))
        self.assertEqual(int(found[-1][1]), len(messages) - 2)         # the last answer came after it
        self.assertEqual([m["role"] for m in messages[1:]], ["user", "assistant"] * (len(messages) // 2))
        self.assertEqual(messages[-2]["content"], f"Here is a number to remember: {n}{n}{n}.")
        text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages[:-1])
        done = subprocess.run([PROGRAM, "run", "-m", MODEL, "-p", text + "<|im_start|>assistant\n", "-n", "16",
                               "--temp", "0", "--strict", "--json"], stdin=subprocess.DEVNULL, capture_output=True,
                              check=True, timeout=300)
        self.assertEqual(json.loads(done.stdout)["text"], messages[-1]["content"])

    def test_answer_goes_on_when_it_fills_the_context(self):
        self.pipe(f"{self.numbers(2)}/set n 160\n{LONG}\n/stats\n/save {self.dir}/talk.json\n", "-c", "256", "-n", "24",
                  "--logit-bias", "2-100,0-100")                       # no end tokens
        self.assertRegex(self.said, r"256 tokens is full: the oldest [24] messages are forgotten, [13] kept")
        self.assertRegex(self.said, r"last answer: .* wrote 160 at")
        said = self.saved()
        self.assertEqual(said[-2]["content"], LONG)
        self.assertGreater(len(said[-1]["content"]), 300)

    def test_message_that_can_never_fit(self):
        self.pipe("Hello.\n" + "again and " * 300 + f"\n/save {self.dir}/talk.json\n", "-c", "256", "-n", "8",
                  code=1)
        self.assertIn("the context holds 256", self.said)
        self.assertEqual(len(self.saved()), 2)                 # nothing was forgotten in vain

    # ---- the command line

    def test_first_message(self):
        question = "Name the capital of France."
        want = self.run_text(question, "--chat")
        for args in ([question], ["-p", question], ["-st", "-p", question]):
            self.assertEqual(self.pipe("", *args, "-n", "24"), want + "\n")
        out = self.pipe("And of Italy?\n", question, "-n", "24")
        self.assertEqual(len(out.splitlines()) > 1 and out.startswith(want + "\n"), True, out)
        self.assertEqual(self.pipe("not asked\n", "-st", question, "-n", "24"), want + "\n")
        self.pipe("", "one", "-p", "two", code=2)
        self.pipe("", "-st", code=2)
        for args in ([MODEL, question], ["smollm2-135m"], ["smollm2-135m", question]):      # as in ollama
            done = subprocess.run([PROGRAM, "chat", "--temp", "0", "-n", "24", *args], input="", env=dict(
                self.env, XDG_CACHE_HOME=pathlib.Path(MODEL).parents[2]), capture_output=True, text=True, timeout=300)
            self.assertEqual((done.returncode, done.stdout), (0, want + "\n" if question in args else ""), done.stderr)

    def test_escapes_stops_and_system_file(self):
        (self.dir / "sys").write_text("You are terse.\n")
        save = f"/save {self.dir}/talk.json\n"
        self.pipe(save, "-e", "a\\tb\\nc", "-sys", "x\\ny", "-n", "4")
        self.assertEqual([m["content"] for m in self.saved()][:2], ["x\ny", "a\tb\nc"])
        self.pipe(save.replace("/save", "/save!"), "a\\tb", "--system-file", self.dir / "sys", "-n", "4")
        self.assertEqual([m["content"] for m in self.saved()][0].strip(), "You are terse.")
        self.assertEqual(self.saved()[1]["content"], "a\\tb")
        self.pipe("", "-sys", "a", "--system-file", self.dir / "sys", code=2)
        whole = self.pipe("", "Count from one to twenty.", "-n", "60").strip()
        at = whole[8:11]
        self.assertEqual(self.pipe("", "Count from one to twenty.", "-n", "60", "-r", at).rstrip("\n"),
                         whole[:whole.index(at)].rstrip("\n"))

    # ---- /set, /stats

    def test_set(self):
        self.pipe("/set\n/set temperature 0.5\n/set --top-p 0.7\n/set parameter num_predict 3\n/set min_p=0\n"
                  "/set stop END\n/set seed 7\n/set system Be kind.\n/set seed\n/set\n")
        before, after = self.said[:self.said.index("from now on")], self.said[self.said.rindex("  temperature"):]
        self.assertRegex(before, r"  temperature +0\n")
        for row in ("temperature +0.5", "top_p +0.7", "n +3", "min_p +0", "stop +END", "seed +7", "system +Be kind.",
                    "verbose +off"):
            self.assertRegex(after, rf"\n? *{row}\n")
        self.assertIn("seed is 7: seed of the noise", self.said)
        self.assertIn('An answer stops before "END" from now on.', self.said)
        self.pipe("/set temprature 1\n/set top_k -3\n/set top_k 1.5\n/set min_p x\n/set nonsense 1\n/sett\n",
                  code=1)
        for words in ("no parameter temprature; did you mean 'temperature'?", "top_k takes a whole number from 0",
                      "not '1.5'", "min_p takes a number from 0 to 1", "no parameter nonsense; /set shows",
                      "no command /sett; did you mean '/set'?"):
            self.assertIn(words, self.said)
        self.assertNotIn("from now on", self.said)
        # A parameter that is set is that of the command line.
        question = "Name a colour."
        want = self.run_text(question, "--chat", "--temp", "1.5", "--seed", "5", "--top-k", "0")
        out = self.pipe(f"/set temp 1.5\n/set seed 5\n/set top_k 0\n/set n 24\n{question}\n")
        self.assertEqual(out, want + "\n")

    def test_stats(self):
        question = "Name the capital of France."
        done = subprocess.run([PROGRAM, "run", "-m", MODEL, "--chat", "-p", question, "-n", "5", "--temp", "0",
                               "--json"], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=300)
        n = json.loads(done.stdout)["prompt_tokens"]
        self.pipe(f"/stats\n{question}\n/stats\n{question}\n/stats\n", "-n", "5")
        self.assertIn("0 messages\nno answer yet\n", self.said)
        self.assertRegex(self.said, rf"2 messages\nlast answer: read {n} tokens at [0-9.]+/s "
                                    r"\(0 more were in the cache\), "
                                    r"wrote 5 at [0-9.]+/s\n")
        self.assertRegex(self.said, r"4 messages\nlast answer: .*\nall 2 answers: .*, wrote 10 at")
        self.assertNotIn("stretto chat:", self.said)
        self.pipe(f"{question}\n/set quiet\n{question}\n/set verbose\n", "-n", "5", "-v")
        self.assertEqual(len(re.findall(r"stretto chat: read \d+ tokens at", self.said)), 1)

    # ---- saved conversations

    def test_saved_chat_goes_on_exactly(self):
        """Parameters, seed and messages: sampled answers come as they would have."""
        one, two = "Tell me about a colour.", "And now about another one."
        how = ["--temp", "1.2", "--strict", "--top-k", "0", "--special-in-text"]
        how += ["-l", "260-100,281+1.5"]
        out = self.pipe(f"{one}\n/save {self.dir}/a.jsonl\n{two}\n", "-n", "24", "-sys", "Be odd.", "-r", "Q", *how)
        first = json.loads((self.dir / "a.jsonl").read_text().splitlines()[-1])["content"]
        for way in ((["--resume", self.dir / "a.jsonl"], ""), ([], f"/load {self.dir}/a.jsonl\n")):
            done = subprocess.run([PROGRAM, "chat", "-m", MODEL, "--strict", *way[0]], env=self.env,
                                  input=f"{way[1]}/save! {self.dir}/b.jsonl\n{two}\n/set\n", capture_output=True,
                                  text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(first + "\n" + done.stdout, out)
            self.assertEqual((self.dir / "a.jsonl").read_text(), (self.dir / "b.jsonl").read_text())
            head = json.loads((self.dir / "b.jsonl").read_text().splitlines()[0])["parameters"]
            self.assertEqual((head["logit_bias"], head["special_in_text"]), ([[260, -100], [281, 1.5]], True))
            for row in (r"temperature +1\.2", "top_k +0", "n +24", "stop +Q", r"system +Be odd\."):
                self.assertRegex(done.stderr, row)
        self.pipe("/set\n", "--resume", self.dir / "a.jsonl", "--temp", "0.3", "-n", "7", "-sys", "Be even.")
        for row in (r"temperature +0\.3", "n +7", r"system +Be even\.", "top_k +0"):     # the words here win
            self.assertRegex(self.said, row)

    def test_save_refuses_to_overwrite(self):
        path = self.dir / "mine.jsonl"
        path.write_text("mine")
        self.pipe(f"/save {path}\n", code=1)
        self.assertIn("/save! replaces it", self.said)
        self.assertEqual(path.read_text(), "mine")
        self.pipe(f"/save! {path}\n/save {path}\n")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual(lines[0]["stretto_chat"], 1)

    def test_load(self):
        """Conversations that Python's json has written, as lines, as a list, as a document."""
        said = [{"role": "system", "content": "S\u00e9"}, {"role": "user", "content": "a\tb\n\"c\" \U0001f600"},
                {"role": "assistant", "content": "x"}, {"role": "user", "content": "last"}]
        forms = {"lines": "\n\n".join(json.dumps(m) for m in said), "list": json.dumps(said, indent=1),
                 "document": json.dumps({"model": "m", "messages": said}),
                 "raw": "\r\n".join(json.dumps(m, ensure_ascii=False) for m in said)}
        for name, text in forms.items():
            (self.dir / name).write_text(text, encoding="utf-8")
            self.pipe(f"/load {self.dir}/{name}\n/save! {self.dir}/talk.json\n/regen\n/save! {self.dir}/all.json\n",
                      "-n", "4")
            self.assertEqual(self.saved(), json.loads(json.dumps(said[:3])), name)
            self.assertEqual(self.saved("all.json")[:4], json.loads(json.dumps(said)), name)
            self.assertIn("no answer yet: /regen", self.said)

    def test_load_refuses(self):
        user = {"role": "user", "content": "kept"}
        bad = {"absent": (None, "No such file"), "broken": ("{\"role\": ", "line 1"), "number": ("1\n", "line 1"),
               "role": (json.dumps({"role": "tool", "content": "x"}), "not \"tool\""),
               "second": (json.dumps(user) + "\n" + json.dumps({"role": "user", "content": [1]}), "line 2"),
               "more": (json.dumps({**user, "tool_calls": [1]}), "\"tool_calls\""),
               "late": (json.dumps([user, {"role": "system", "content": "x"}]), "not the first message"),
               "nul": (json.dumps({"role": "user", "content": "a\0b"}), "NUL"),
               "new": ("{\"stretto_chat\": 2}", "newer version"), "a.md": ("**user**", "Markdown"),
               "param": ("{\"stretto_chat\": 1, \"parameters\": {\"mirostat\": 2}}", "\"mirostat\""),
               "bias": ('{"stretto_chat": 1, "parameters": {"logit_bias": [[1]]}}', "\"logit_bias\""),
               "stop": ('{"stretto_chat": 1, "parameters": {"stop": "x"}}', "\"stop\""),
               "value": ("{\"stretto_chat\": 1, \"parameters\": {\"top_p\": 2}}", "\"top_p\"")}
        for name, (text, words) in bad.items():
            if text is not None:
                (self.dir / name).write_text(text)
            self.pipe(f"/load {self.dir}/{name}\n", code=1)
            self.assertIn(words, self.said, name)
        self.pipe("", "--resume", self.dir / "broken", code=1)
        (self.dir / "good").write_text(json.dumps([user, {"role": "assistant", "content": "y"}]))
        self.pipe(f"/load {self.dir}/good\n/load {self.dir}/broken\n/save {self.dir}/talk.json\n", code=1)
        self.assertEqual([m["content"] for m in self.saved()], ["kept", "y"])      # a failure changes nothing
        (self.dir / "half").write_text('{"stretto_chat": 1, "parameters": {"top_k": 3, "stop": [], "temp": "x"}}')
        self.pipe(f"/load {self.dir}/good\n/set stop mine\n/load {self.dir}/half\n/save! {self.dir}/talk.json\n"
                  "/set top_k\n/set stop\n", code=1)
        self.assertEqual([m["content"] for m in self.saved()], ["kept", "y"])
        self.assertIn("top_k is 40", self.said)
        self.assertIn("stop before: mine", self.said)

    def test_names_of_others(self):
        for leave in ("/bye", "/exit", "/quit"):
            self.pipe(f"/?\n{leave}\n/nonsense\n")
            self.assertIn("/bye, /exit, /quit", self.said)
        self.pipe(f"Hi.\n/clear\n/save {self.dir}/talk.json\n", "-n", "2")
        self.assertEqual(self.saved(), [])

    def test_refusals(self):
        self.pipe("", "--on-full", "wait", code=2)
        self.pipe("", "one", "two", code=2)                       # with -m there is one message at most
        self.pipe("", "-n", "-5", code=2)
        done = subprocess.run([PROGRAM, "chat", "-m", self.dir / "absent.gguf"], env=self.env,
                              input="", capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("absent.gguf", done.stderr)

    # ---- on a terminal

    def test_terminal(self):
        t = self.open("-n", "400", "-l", "0-100,2-100")     # answers do not end by themselves
        t.type("a line not sent")
        t.shows("not sent")
        t.type("\x03")                                    # Ctrl-C drops the line
        t.shows(r"not sent\^C\n>$")
        t.type("\x03")
        t.shows(r"leaves\)\n>$")
        t.type("Wrute\x7f\x7f\x7fite " + LONG[6:] + "\r")   # edited: three back, three typed
        t.shows(r"chapters\." + ANSWER, 60)
        t.type("\x03")                                    # Ctrl-C ends the answer, not the program
        t.shows(r"\(stopped; /regen asks again\)\n>$")
        t.type('"""first\rsecond\rthird"""\r')
        t.shows(r"\. third\"\"\"" + ANSWER, 60)
        t.type("\x03")
        t.shows(r"third(?s:.*)again\)\n>$")
        t.type("\x1b[200~one\rtwo \u00e9\u65e5\x1b[201~\r")
        t.shows(r"\. two [^\n]*" + ANSWER, 60)
        t.type("\x03")
        t.shows(r"\. two (?s:.*)again\)\n>$")
        t.type(f"/save {self.dir}/talk.json\r")
        t.shows(r"Saved [0-9]+ messages in [^>]*\n>$")
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
        t = self.open("-l", "0-100,2-100")
        t.type(LONG + "\r")
        t.shows(r"chapters\." + ANSWER, 60)
        t.type("\x03")
        t.type("\x03")            # a second one, late, only gives a new prompt
        t.shows(r"again\)\n(?s:.*)>$")
        t.type("/quit\r")
        self.assertEqual(t.code(), 0)

    def test_first_message_on_a_terminal(self):
        """It is shown as if it had been typed; then the person goes on. Notes stand back, where colours are."""
        self.terminal = t = Screen([PROGRAM, "chat", "-m", MODEL, "--temp", "0", "-n", "5", "Hi there."], self.env, 40)
        t.shows(r"> Hi there\.\n(?s:.+)\n>$", 60)
        self.assertIn(b"\x1b[2m/help", t.raw)
        t.type("/st\t\r")
        t.shows(r"> /stats\ncontext: \d+ of \d+ tokens, 2 messages\n")
        t.type("/bye\r")
        self.assertEqual(t.code(), 0)
        self.env["NO_COLOR"] = "1"
        t = self.open()
        t.type("\x04")
        self.assertEqual(t.code(), 0)
        self.assertNotRegex(t.raw, rb"\x1b\[[0-9;]*m")

    def test_in_the_background(self):
        """An answer is written there to its end; what wants to be typed waits for fg."""
        self.env.update(PS1="$ ", ENV="")
        self.terminal = t = Screen(["/bin/sh", "-i"], self.env, 100)
        t.shows(r"\$")
        t.type(f"{PROGRAM} chat -m {MODEL} --temp 0 -n 4 -st Hi. &\r")
        t.shows(r"> Hi\.\n(?s:.*)-n says", 60)
        t.type("wait; echo over $?\r")
        t.shows(r"\nover 0\n")
        self.assertNotIn("Stopped", "\n".join(t.lines()))
        t.type(f"clear; {PROGRAM} chat -m {MODEL} --temp 0 -n 4 Hi. &\r")
        t.shows(r"-n says", 60)
        t.type("fg\r")
        t.shows(r"\n> *$")
        t.type("/bye\r")
        t.shows(r"> /bye\n\$$")
        t.type("exit\r")
        t.code()

    def test_dumb_terminal(self):
        self.env["TERM"] = "dumb"
        t = self.open("-n", "4")
        t.type("Hi.\n")
        t.shows(r"> Hi\.\n(?s:.+)\n>$", 60)
        t.type("\x04")
        self.assertEqual(t.code(), 0)
        self.assertNotIn(b"\x1b", t.raw)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not os.path.exists(sys.argv[2]):
        print("skip: SmolLM2 is not here; ./dev run fetches it")
        sys.exit(77)
    PROGRAM, MODEL = os.path.abspath(sys.argv.pop(1)), os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
