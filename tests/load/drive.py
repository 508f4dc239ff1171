"""Servers that are started and stopped, and many requests at once (client.c). Only Python's own library."""
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One program that serves on 127.0.0.1; argv may hold {port}. With tls any certificate is believed."""

    def __init__(self, argv, port=None, patience=120, env=None, health="/health", log=None, tls=False):
        self.port = port or free_port()
        self.url = f"http{'s' * tls}://127.0.0.1:{self.port}"
        self.context = ssl._create_unverified_context() if tls else None
        self.argv = [str(a).replace("{port}", str(self.port)) for a in argv]
        self.log = open(log, "wb+") if log else tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(env or {})}, start_new_session=True)
        end = time.monotonic() + patience
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{' '.join(self.argv)}: ended with {self.process.returncode}: {self.said()}")
            try:
                if self.get(health, timeout=2)[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{' '.join(self.argv)}: not healthy after {patience} s: {self.said()}")
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def said(self, last=3000):
        """The last characters of what it said; None: all of them. Its writes go on where the file's position is, so
        nobody moves that."""
        fd = self.log.fileno()
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")[-last if last else 0:]

    def alive(self):
        return self.process.poll() is None

    def stop(self, how=signal.SIGTERM, patience=20):
        """The exit status."""
        if self.alive():
            self.process.send_signal(how)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()

    def call(self, method, path, body=None, headers=None, timeout=600):
        """(status, text, headers)"""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        r = urllib.request.Request(self.url + path, data=data, method=method,
                                   headers={"Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(r, timeout=timeout, context=self.context) as a:
                return a.status, a.read().decode(errors="replace"), a.headers
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode(errors="replace"), e.headers

    def get(self, path, **more):
        return self.call("GET", path, **more)

    def post(self, path, body, **more):
        return self.call("POST", path, body, **more)

    def ids(self, text, **more):
        return json.loads(self.post("/tokenize", {"content": text, **more})[1])["tokens"]

    def text(self, ids):
        return json.loads(self.post("/detokenize", {"tokens": ids})[1])["content"]

    # ---- what the system says of the process ----
    def memory(self, what="VmRSS"):
        """Bytes, of the process and its children."""
        total = 0
        for pid in self.family():
            try:
                with open(f"/proc/{pid}/status") as f:
                    total += sum(int(line.split()[1]) << 10 for line in f if line.startswith(what + ":"))
            except OSError:
                pass
        return total

    def family(self):
        out, ask = [], [self.pid]
        while ask:
            pid = ask.pop()
            out.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as f:
                        ask += [int(c) for c in f.read().split()]
            except OSError:
                pass
        return out

    def threads(self):
        """{name: CPU seconds} of all threads; the first of the process is "main", those of one name are added up."""
        out, tick = {}, os.sysconf("SC_CLK_TCK")
        for pid in self.family():
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/stat") as f:
                        name, _, rest = f.read().partition("(")[2].rpartition(")")
                    cells, name = rest.split(), "main" if int(task) == pid else name
                    out[name] = out.get(name, 0) + (int(cells[11]) + int(cells[12])) / tick
            except OSError:
                pass
        return out

    def files(self, kind=""):
        """Open descriptors; of a kind: "socket:"."""
        n = 0
        for pid in self.family():
            for fd in os.listdir(f"/proc/{pid}/fd"):
                try:
                    n += os.readlink(f"/proc/{pid}/fd/{fd}").startswith(kind)
                except OSError:
                    pass
        return n


def raw(path, body, key=None, method="POST", headers=(), at=0, close_events=-1, close_seconds=-1, send=-1, pause=0):
    """One request as client.c reads it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    if key:
        head.append(f"Authorization: Bearer {key}")
    whole = "\r\n".join(head + list(headers)).encode() + b"\r\n\r\n" + data
    return f"{at} {close_events} {close_seconds} {send} {pause} {len(whole)}\n".encode() + whole


def run(client, port, requests, at_once, patience=600):
    """Answers in the order of the requests."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:
        for r in requests:
            given.write(r)
        given.seek(0)
        subprocess.run([client, "127.0.0.1", str(port), str(at_once), str(patience)], stdin=given, stdout=told,
                       check=True)
        told.seek(0)
        return sorted((parsed(line) for line in told), key=lambda a: a["i"])


def parsed(line):
    try:
        return json.loads(line)
    except ValueError as e:
        raise RuntimeError(f"the load client told {line!r}: {e}") from None


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def gaps(answer):
    e = answer["events"]
    return [b - a for a, b in zip(e, e[1:])]
