"""A server of stretto's on a model of 260,000 weights, and a plain client of it. Nothing but Python's own library
speaks HTTP here."""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEMPLATE = ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")


def skip(words):
    print(f"skip: {words}")
    sys.exit(77)


def model(data, folder):
    """The stories model as GGUF, with a chat template."""
    weights, tokens = (os.path.join(data, "models", f) for f in ("stories260K.bin", "tok512.bin"))
    if not os.path.isfile(weights):
        skip(f"there is no {weights}")
    try:
        import gguf  # noqa: F401
    except ImportError:
        skip("gguf is not installed (./dev test installs it)")
    plain, out = os.path.join(folder, "plain.gguf"), os.path.join(folder, "stories.gguf")
    subprocess.run([sys.executable, os.path.join(ROOT, "tools", "make-model"), "stories", weights, tokens, plain],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", plain, out, "--chat-template", TEMPLATE,
                    "--force"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


class Server:
    """A running server; `with` ends it and looks that it ended well."""

    def __init__(self, program, model, *args, wait=True, env=None, log=None):
        self.log = log or tempfile.TemporaryFile("w+")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(
            [program, "-m", model, "--port", str(self.port), "-t", "1", *args], stdout=self.log, stderr=self.log,
            env={**os.environ, **(env or {})})
        self.headers = {}
        if wait:
            self.ready()

    def ready(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.words()}")
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready:\n{self.words()}")

    def said(self):
        """All that it said, as bytes. Its writes go on where the file's position is, so nobody moves that."""
        if not self.log.readable():
            return b""
        fd = self.log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0)

    def words(self):
        return self.said().decode(errors="replace")

    def lines(self, n, wanted=lambda line: True, seconds=60):
        """The wanted lines of the log, once there are n: a line is written a moment after its answer was sent. Those
        of --log-json are parsed."""
        end = time.time() + seconds
        while True:
            lines = [x.decode() for x in self.said().split(b"\n")[:-1]]
            found = [x for x in (json.loads(x) if x.startswith("{") else x for x in lines) if wanted(x)]
            if len(found) >= n:
                return found
            assert time.time() < end, (n, found, lines[-20:])
            time.sleep(0.02)

    def connect(self, timeout=250):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None):
        """status, headers (lower case), body as JSON where it is some."""
        c = self.connect()
        text = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        c.request(method, path, text, {**self.headers, **(headers or {})})
        r = c.getresponse()
        raw = r.read()
        c.close()
        head = {k.lower(): v for k, v in r.getheaders()}
        if "json" in head.get("content-type", "") and method != "HEAD":
            raw = json.loads(raw)
        return r.status, head, raw

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, path, body, **headers):
        return self.ask("POST", path, body, headers)

    def stream(self, path, body, **headers):
        """The data of a stream's events, parsed; [DONE] as it is."""
        c = self.connect()
        c.request("POST", path, json.dumps(body), {**self.headers, **headers})
        r = c.getresponse()
        assert r.status == 200, (r.status, r.read())
        assert r.getheader("Content-Type") == "text/event-stream", r.getheaders()
        out = []
        for event in r.read().decode().split("\n\n"):
            for line in event.split("\n"):
                if line.startswith("data: "):
                    out.append(line[6:] if line == "data: [DONE]" else json.loads(line[6:]))
        c.close()
        return out

    def idle(self, seconds=20):
        """Nobody is being answered any more."""
        end = time.time() + seconds
        while time.time() < end:
            if self.get("/health")[2]["slots_processing"] == 0:
                return
            time.sleep(0.02)
        raise AssertionError("the server is still at work")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = "killed"
        if kind is None:
            assert code == 0, f"the server ended with {code}:\n{self.words()}"
        else:
            print(self.words()[-3000:], file=sys.stderr)
