#!/usr/bin/env python3
"""TLS with certificates that change, a listening socket and readiness as systemd has them, and the sandbox as the
kernel shows it.

    test_secure.py STRETTO-SERVE DATA"""
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import served
from served import Server

program, data = sys.argv[1:3]
TEXT = json.dumps({"prompt": "Once", "max_tokens": 4})


def make_pair(folder, name):
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={name}", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


def ask_tls(s, cert, **limits):
    """What the server says to one who trusts this certificate alone."""
    warnings.simplefilter("ignore", DeprecationWarning)
    context = ssl.create_default_context(cafile=cert)
    for name, value in limits.items():
        setattr(context, name, value)
    c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=30, context=context)
    c.request("POST", "/v1/completions", TEXT)
    r = c.getresponse()
    body = json.loads(r.read())
    version = c.sock.version() if c.sock else None
    c.close()
    return r.status, body, version


def wait_tls(s, cert):
    for _ in range(400):
        try:
            if ask_tls(s, cert)[0] == 200:
                return
        except (OSError, ssl.SSLError):
            pass
        assert s.process.poll() is None, s.words()
        time.sleep(0.05)
    raise AssertionError(s.words())


def check_tls(model, folder):
    cert, key = make_pair(folder, "first")
    old = os.path.join(folder, "old.pem")
    shutil.copy(cert, old)
    with Server(program, model, "-c", "512", "--ssl-cert-file", cert, "--ssl-key-file", key, wait=False) as s:
        wait_tls(s, cert)
        try:
            ask_tls(s, cert, maximum_version=ssl.TLSVersion.TLSv1_1)
            raise AssertionError("TLS 1.1")
        except (ssl.SSLError, OSError):
            pass
        with s.raw() as c:                              # plain HTTP
            c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            try:
                assert b"200" not in c.recv(100)
            except OSError:
                pass
        make_pair(folder, "second")
        s.process.send_signal(signal.SIGHUP)
        wait_tls(s, cert)
        try:
            ask_tls(s, old)
            raise AssertionError("the old certificate is still used")
        except ssl.SSLError:
            pass
        with open(key, "w") as f:                       # no pair: what was there stays
            f.write("nothing")
        s.process.send_signal(signal.SIGHUP)
        s.lines(1, lambda x: "stays as it was" in x)
        assert ask_tls(s, cert)[0] == 200
    check_renewals(model, folder)
    make_pair(folder, "third")
    r = subprocess.run([program, "-m", model, "--port", "0", "--ssl-cert-file", cert, "--ssl-key-file", old],
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "private key" in r.stderr, r


def check_renewals(model, folder):
    """Certificates that change while clients come and read: nobody is refused, whichever of them he gets; handshakes
    that stop in the middle, or are none, stand in nobody's way."""
    cert, key = make_pair(folder, "renewed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    bad, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=250, context=context)
                c.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 30, "stream": True}))
                got = c.getresponse().read()
                if not got.endswith(b"data: [DONE]\n\n"):
                    bad.append(got[-200:])
                c.close()
            except OSError as e:
                bad.append(repr(e))

    with Server(program, model, "-c", "512", "--ssl-cert-file", cert, "--ssl-key-file", key, wait=False) as s:
        wait_tls(s, cert)
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads:
            t.start()
        stuck = [s.raw() for _ in range(8)]
        for i, c in enumerate(stuck):
            c.sendall([b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n",
                       b"\x16\x03\x01\xff\xff" + b"\x01" * 900][i % 4])
        for i in range(12):
            make_pair(folder, f"renewed-{i}")
            s.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        stop.set()
        for t in threads:
            t.join()
        for c in stuck:
            c.close()
        wait_tls(s, cert)
        assert not bad, bad[:3]
        s.lines(1, lambda x: "read the certificate" in x)


def check_systemd(model, folder):
    """A socket that is handed over, and READY=1 and STOPPING=1 to a socket that waits for it."""
    path = os.path.join(folder, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, socket.socket() as listening:
        told.bind(path)
        told.settimeout(60)
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        port = listening.getsockname()[1]
        log = tempfile.TemporaryFile("w+")

        start = (f'export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&{listening.fileno()}; '
                 f'exec "{program}" -m "{model}" -c 512 -t 1 --port 1')
        p = subprocess.Popen(["bash", "-c", start], pass_fds=[listening.fileno()], stdout=log, stderr=log,
                             env={**os.environ, "NOTIFY_SOCKET": path})
        heard = ""
        while "READY=1" not in heard:
            heard += told.recv(1000).decode()
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        c.request("GET", "/health")
        assert c.getresponse().status == 200
        c.close()
        p.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard += told.recv(1000).decode()
        assert p.wait(30) == 0, log
        two = start.replace("LISTEN_FDS=1", "LISTEN_FDS=2")
        r = subprocess.run(["bash", "-c", two], capture_output=True, text=True, pass_fds=[listening.fileno()],
                           timeout=60)
        assert r.returncode == 2 and "2 sockets were handed over" in r.stderr, r


def check_unit(folder):
    """systemd knows all that contrib's unit says, and lets the server lock itself in."""
    analyze = shutil.which("systemd-analyze")
    with open(os.path.join(served.ROOT, "contrib", "stretto-serve.service")) as f:
        text = f.read()
    allowed = [w for line in text.splitlines() if line.startswith("SystemCallFilter=") for w in line[17:].split()]
    for call in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"):
        assert call in allowed, (call, allowed)
    if not analyze:
        return
    units = [os.path.join(folder, "stretto-serve." + kind) for kind in ("service", "socket")]
    shutil.copy(os.path.join(served.ROOT, "contrib", "stretto-serve.socket"), units[1])
    with open(units[0], "w") as f:
        f.write(text.replace("/usr/bin/stretto ", os.path.realpath(program) + " "))
    r = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    said = [line for line in (r.stdout + r.stderr).splitlines() if "stretto" in line]
    assert not said, said


def check_sandbox(model):
    with Server(program, model, "-c", "512") as s:
        words = s.words()
        assert "no new privileges" in words and "seccomp" in words, words
        tasks = f"/proc/{s.process.pid}/task"
        for task in os.listdir(tasks):
            with open(os.path.join(tasks, task, "status")) as f:
                status = dict(line.split(":", 1) for line in f if ":" in line)
            assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", (task, status)
    with Server(program, model, "-c", "512", "--no-sandbox") as s:
        assert "sandbox" not in s.words()


def check_files(model, folder):
    """Files that are named are read in the sandbox too."""
    template = os.path.join(folder, "template.jinja")
    with open(template, "w") as f:
        f.write("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    with Server(program, model, "-c", "512", "--chat-template-file", template) as s:
        told = s.post("/apply-template", {"messages": [{"role": "user", "content": "Hello"}]})[2]
        assert told["prompt"] == "[Hello]", told
    links = os.path.join(folder, "links")
    os.mkdir(links)
    link = os.path.join(links, "model.gguf")
    os.symlink(model, link)
    keys = os.path.join(folder, "keys")                       # where certificates are renewed: a link to another folder
    with open(keys, "w") as f:
        f.write("first\n")
    os.symlink(keys, os.path.join(links, "keys"))
    with Server(program, link, "-c", "512", "--api-key-file", os.path.join(links, "keys")) as s:
        s.headers["Authorization"] = "Bearer first"
        assert s.get("/v1/models")[2]["data"][0]["id"] == "model"
        with open(keys + ".new", "w") as f:
            f.write("second\n")
        os.replace(keys + ".new", keys)
        s.process.send_signal(signal.SIGHUP)
        for _ in range(200):
            if s.get("/slots")[0] == 401:
                break
            time.sleep(0.02)
        assert s.get("/slots")[0] == 401 and s.get("/slots", Authorization="Bearer second")[0] == 200, s.words()


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = served.model(data, folder)
        check_unit(folder)
        check_sandbox(model)
        check_files(model, folder)
        check_systemd(model, folder)
        if not shutil.which("openssl"):
            served.skip("openssl is not there (./dev test installs it)")
        check_tls(model, folder)
    print("ok")


main()
