#!/usr/bin/env python3
"""stretto-pull against a local server that cuts connections, lies, stalls and redirects.

usage: test_pull.py PROGRAM [-v] [TEST...]     PROGRAM: the stretto-pull to test

The oracle is hashlib and the bytes the server was given. After every test nothing may lie under a
final name but the whole right file.
"""
import hashlib
import json
import os
import pathlib
import pty
import random
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import Server

PROGRAM = ""
MB = 1 << 20
DATA = b"GGUF" + random.Random(1).randbytes(3 * MB + 12341)
OTHER = b"GGUF" + random.Random(2).randbytes(3 * MB + 12341)
SHA = hashlib.sha256(DATA).hexdigest()


class Pull(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="stretto-pull-"))
        self.into = self.dir / "models"
        self.server = Server()
        self.routes = self.server.routes
        self.env = {k: v for k, v in os.environ.items()
                    if not k.lower().endswith("_proxy") and not k.startswith(("HF_", "STRETTO_"))}
        self.env |= {"HOME": str(self.dir), "XDG_CACHE_HOME": str(self.dir / "cache"),
                     "XDG_CONFIG_HOME": str(self.dir / "config"), "TERM": "dumb",
                     "HF_ENDPOINT": self.server.url("")}

    def tearDown(self):
        self.server.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- helpers

    def command(self, *args, options=()):
        return [PROGRAM, "--into", str(self.into), "--retry-wait", "0.01", *options,
                *map(str, args)]

    def pull(self, *args, code=0, preexec=None, into=True):
        argv = self.command(*args) if into else [PROGRAM, "--retry-wait", "0.01", *map(str, args)]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=120,
                              preexec_fn=preexec)
        self.assertNotIn("Sanitizer", done.stderr)
        self.assertNotIn("runtime error", done.stderr)
        self.assertEqual(done.returncode, code, done.stderr)
        self.said = done.stderr
        return done.stdout

    def files(self, where=None):
        where = where or self.into
        return sorted(str(p.relative_to(where)) for p in where.rglob("*") if p.is_file())

    def assert_only(self, name="a.gguf", data=DATA):
        self.assertEqual(self.files(), [name])
        self.assertTrue((self.into / name).read_bytes() == data, "the bytes differ")

    def serve(self, path="/a.gguf", data=DATA, **how):
        self.routes[path] = lambda r, nth: r.file(data, **how)
        return self.server.url(path)

    def catalogue(self, *sources, name="one", file="a.gguf", size=len(DATA), sha=SHA, more=""):
        text = f"model {name}\n licence MIT\n file {file} {size} {sha}\n{more}"
        text += "".join(f" source {s}\n" for s in sources)
        path = self.dir / "catalogue"
        path.write_text(text)
        self.env["STRETTO_CATALOGUE"] = str(path)

    def pause_at(self, size):
        """A route that sends `size` bytes of DATA and then waits until self.go is set."""
        self.go, self.reached = threading.Event(), threading.Event()

        def pace(sent):
            if sent >= size and not self.reached.is_set():
                self.reached.set()
                self.go.wait(60)
        return pace

    def interrupted(self, sig, name="/a.gguf", **how):
        """Starts a pull, ends it with a signal after a megabyte; returns the process."""
        self.routes[name] = lambda r, nth: r.file(DATA, pace=self.pause_at(MB), **how)
        child = subprocess.Popen(self.command(self.server.url(name)), env=self.env, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        part = self.into / "a.gguf.part"
        for _ in range(3000):
            if part.exists() and part.stat().st_size >= MB // 2:
                break
            time.sleep(0.01)
        child.send_signal(sig)
        out, self.said = child.communicate(timeout=60)
        self.go.set()
        return child

    # ---- whole files

    def test_whole_file_and_json(self):
        url = self.serve()
        out = json.loads(self.pull(url, "--json"))
        self.assert_only()
        self.assertEqual(out[0]["path"], str(self.into / "a.gguf"))
        self.assertEqual(out[0]["files"][0]["sha256"], SHA)
        self.assertEqual(out[0]["files"][0]["bytes"], len(DATA))
        self.assertFalse(out[0]["files"][0]["verified"])
        self.assertEqual(self.pull(url), str(self.into / "a.gguf") + "\n")       # there already
        self.assertEqual(len(self.server.asked), 1)

    def test_empty_file_and_chunks(self):
        self.pull(self.serve("/empty", b""))
        self.assert_only("empty", b"")
        shutil.rmtree(self.into)

        def chunked(r, nth):
            r.send_response(200)
            r.send_header("Transfer-Encoding", "chunked")
            r.end_headers()
            for at in range(0, len(DATA), 100000):
                block = DATA[at:at + 100000]
                r.wfile.write(b"%x\r\n" % len(block) + block + b"\r\n")
            r.wfile.write(b"0\r\n\r\n")
        self.routes["/a.gguf"] = chunked
        self.pull(self.server.url("/a.gguf"))
        self.assert_only()

    def test_length_unknown_needs_a_hash(self):
        def endless(r, nth):
            r.protocol_version = "HTTP/1.0"
            r.send_response(200)
            r.end_headers()
            r.wfile.write(DATA)
            r.close_connection = True
        self.routes["/a.gguf"] = endless
        self.pull(self.server.url("/a.gguf"), code=1)
        self.assertIn("--sha256", self.said)
        self.assertEqual(self.files(), [])
        self.pull(self.server.url("/a.gguf"), "--sha256", SHA)
        self.assert_only()

    def test_names(self):
        url = self.serve("/x/..%2f..%2fevil")
        self.pull(url, code=1)
        self.assertIn("--as", self.said)
        self.pull(url, "--as", "fine.gguf")
        self.assert_only("fine.gguf")
        self.pull(url, "--as", "../evil", code=2)
        self.pull(self.serve("/dir/"), code=1)
        self.pull(self.serve("/b%20c.gguf") + "?secret=1")
        self.assertIn("b c.gguf", self.files())

    # ---- cut and resumed

    def test_cut_connections_are_resumed(self):
        cuts = [MB, 2 * MB + 1, 2 * MB + 1]
        self.routes["/a.gguf"] = lambda r, nth: r.file(DATA, stop_at=cuts[nth] if nth < 3 else None)
        self.pull(self.server.url("/a.gguf"), "--retries", "2")
        self.assert_only()
        ranges = self.server.ranges("/a.gguf")
        self.assertEqual(len(ranges), 4)
        self.assertEqual(ranges[0], None)
        self.assertTrue(all(r for r in ranges[1:]), ranges)
        self.assertTrue(all(h.get("If-Range") == '"one"' for _, h in self.server.asked[1:]))
        self.assertLessEqual(self.server.sent, len(DATA) + 4 * 65536)

    def test_cut_for_ever_ends(self):
        self.routes["/a.gguf"] = lambda r, nth: r.file(DATA, stop_at=MB, ranges=False)
        self.pull(self.server.url("/a.gguf"), "--retries", "3", code=1)
        self.assertLessEqual(len(self.server.asked), 5)
        self.assertNotIn("a.gguf", self.files())

    def test_killed_and_resumed(self):
        child = self.interrupted(signal.SIGKILL)
        self.assertEqual(child.returncode, -signal.SIGKILL)
        self.assertNotIn("a.gguf", self.files())
        self.assertIn("a.gguf.part", self.files())
        out = json.loads(self.pull(self.serve(), "--json"))
        self.assert_only()
        self.assertGreaterEqual(out[0]["files"][0]["resumed"], MB // 2)

    def test_interrupted_and_resumed(self):
        for sig in signal.SIGINT, signal.SIGTERM:
            child = self.interrupted(sig)
            self.assertEqual(child.returncode, 1, self.said)
            self.assertIn("resumes there", self.said)
            self.assertEqual(self.files(), ["a.gguf.info", "a.gguf.part"])
            out = json.loads(self.pull(self.serve(), "--json"))
            self.assert_only()
            self.assertGreaterEqual(out[0]["files"][0]["resumed"], MB // 2)
            shutil.rmtree(self.into)

    def test_server_without_ranges_begins_again(self):
        self.interrupted(signal.SIGINT)
        self.pull(self.serve(ranges=False))
        self.assertIn("starting over", self.said)
        self.assert_only()

    def test_changed_file_is_not_mixed(self):
        self.interrupted(signal.SIGINT)
        self.pull(self.serve(data=OTHER, etag='"two"'))             # If-Range makes it send all
        self.assert_only(data=OTHER)
        shutil.rmtree(self.into)
        self.interrupted(signal.SIGINT)
        self.pull(self.serve(data=OTHER, etag='"two"', if_range=False))     # sends the rest
        self.assert_only(data=OTHER)
        shutil.rmtree(self.into)
        self.interrupted(signal.SIGINT)
        self.pull(self.serve(data=OTHER[:MB // 4], etag='"one"'))   # shorter than what we have
        self.assert_only(data=OTHER[:MB // 4])

    def test_without_a_validator_nothing_is_resumed(self):
        self.interrupted(signal.SIGINT, etag=None)
        before = len(self.server.asked)
        self.pull(self.serve(data=OTHER, etag=None))
        self.assertNotIn("Range", self.server.asked[before][1])
        self.assert_only(data=OTHER)
        shutil.rmtree(self.into)
        self.interrupted(signal.SIGINT, etag='W/"weak"')
        before = len(self.server.asked)
        self.pull(self.serve(data=OTHER, etag='W/"weak"'))
        self.assertNotIn("Range", self.server.asked[before][1])
        self.assert_only(data=OTHER)

    def test_without_a_validator_the_hash_lets_it_go_on(self):
        """No ETag, no Last-Modified: length and sha256 decide, between runs and within one."""
        for etag in None, 'W/"weak"':
            self.interrupted(signal.SIGINT, etag=etag)
            self.assertIn("a.gguf.part", self.files())
            url = self.serve(etag=etag)
            out = json.loads(self.pull(url, "--sha256", SHA, "--json"))
            self.assert_only()
            self.assertGreaterEqual(out[0]["files"][0]["resumed"], MB // 2)
            self.assertTrue(out[0]["files"][0]["verified"])
            shutil.rmtree(self.into)
            # Another file of the same length there by now: found out by its hash, nothing mixed.
            self.interrupted(signal.SIGINT, etag=etag)
            self.pull(self.serve(data=OTHER, etag=etag), "--sha256", SHA, code=1)
            self.assertIn(hashlib.sha256(OTHER).hexdigest(), self.said)
            self.assertNotIn("a.gguf", self.files())
            shutil.rmtree(self.into)
            # Without a hash nothing would notice: it begins again, and says so.
            self.interrupted(signal.SIGINT, etag=etag)
            self.pull(self.serve(etag=etag))
            self.assertIn("with --sha256 it could be continued", self.said)
            self.assert_only()
            shutil.rmtree(self.into)
        # A connection that is cut every megabyte.
        self.routes["/b.gguf"] = lambda r, nth: r.file(DATA, etag=None, stop_at=(nth + 1) * MB)
        self.pull(self.server.url("/b.gguf"), "--sha256", SHA)
        self.assert_only("b.gguf")
        self.assertEqual(self.server.ranges("/b.gguf"), [None, f"bytes={MB}-", f"bytes={2 * MB}-", f"bytes={3 * MB}-"])

    def test_what_is_no_model_does_not_take_its_name(self):
        page = b"\r\n <!DOCTYPE html><html><title>Log in</title></html>" + b" " * 1000
        lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"
        tensors = (2).to_bytes(8, "little") + b"{}"
        for name, data, words in (("a.gguf", page, "web page"), ("a.safetensors", page, "web page"),
                                  ("a.json", b"\xef\xbb\xbf<html>", "web page"), ("a.gguf", lfs, "git-lfs"),
                                  ("a.gguf", b'{"error":"not found"}', "not a GGUF"), ("a.gguf", b"GG", "not a GGUF"),
                                  ("a.safetensors", b'{"error":"no"}', "not a safetensors"),
                                  ("a.safetensors", (3).to_bytes(8, "little") + b"{}", "not a safetensors")):
            self.pull(self.serve("/" + name, data, Content_Type="text/html"), code=1)
            self.assertIn(words, self.said)
            self.assertEqual(self.files(), [])
        for name, data in ("a.safetensors", tensors), ("a.html", page), ("a.json", b"{}"):
            self.pull(self.serve("/" + name, data))
            self.assert_only(name, data)
            shutil.rmtree(self.into)
        # The next source is asked, and a page that was on its way is not resumed.
        self.pull(self.serve("/x/a.gguf", page), code=1)
        self.pull(self.serve("/y/a.gguf"))
        self.assert_only()

    def test_another_source_goes_on_when_the_hash_is_known(self):
        self.interrupted(signal.SIGINT)
        self.catalogue(self.serve("/mirror/a.gguf", etag='"mirror"'))
        out = json.loads(self.pull("one", "--json"))
        self.assert_only()
        self.assertGreaterEqual(out[0]["files"][0]["resumed"], MB // 2)
        self.assertTrue(out[0]["files"][0]["verified"])

    def test_bad_partial_file_is_found_out(self):
        url = self.serve()
        self.catalogue(url)
        self.into.mkdir()
        for bad in OTHER[:MB], DATA + b"more", b"x" * len(DATA), DATA:
            (self.into / "a.gguf.part").write_bytes(bad)
            self.pull("one")
            self.assert_only()
            (self.into / "a.gguf").unlink()
        long_line = b"stretto partial 1\nvalidator " + b"x" * 5000 + b"\n"
        for bad in b"\0\1\2", long_line, b"\n" * 100:
            (self.into / "a.gguf.part").write_bytes(OTHER[:MB])
            (self.into / "a.gguf.info").write_bytes(bad)
            self.pull(url)
            self.assert_only()
            (self.into / "a.gguf").unlink()

    def test_partial_file_that_is_a_link_is_refused(self):
        self.into.mkdir()
        precious = self.dir / "precious"
        precious.write_bytes(b"precious")
        (self.into / "a.gguf.part").symlink_to(precious)
        self.pull(self.serve(), code=1)
        self.assertEqual(precious.read_bytes(), b"precious")

    # ---- wrong bytes

    def test_wrong_hash_falls_back(self):
        self.catalogue(self.serve("/bad", OTHER), self.serve("/short", DATA[:-1]),
                       self.server.url("/absent"), self.serve("/good", etag='"g"'))
        out = json.loads(self.pull("one", "--json"))
        self.assert_only()
        self.assertEqual(out[0]["files"][0]["source"], self.server.url("/good"))
        self.assertEqual(self.said.count("trying the next source"), 3)

    def test_wrong_hash_everywhere_fails(self):
        self.catalogue(self.serve("/bad", OTHER), self.serve("/bad2", OTHER))
        self.pull("one", code=1)
        self.assertIn(SHA, self.said)
        self.assertIn(hashlib.sha256(OTHER).hexdigest(), self.said)
        self.assertEqual(self.files(), [])

    def test_wrong_length_is_refused_before_it_arrives(self):
        over = threading.Event()

        def first_bytes(r, nth):
            r.send_response(200)
            r.send_header("Content-Length", str(len(DATA) + 1))
            r.end_headers()
            r.wfile.write(DATA[:1000])
            over.wait(60)                # the rest never comes: only the headers can tell
            r.close_connection = True
        self.routes["/long"] = first_bytes
        self.catalogue(self.server.url("/long"))
        self.pull("one", "--stall", "20", code=1)
        over.set()
        self.assertIn(f"should have {len(DATA)}", self.said)
        self.assertEqual(self.files(), [])

    def test_more_than_it_said(self):
        def liar(r, nth):
            r.send_response(200)
            r.send_header("Transfer-Encoding", "chunked")
            r.end_headers()
            while True:
                r.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.routes["/a.gguf"] = liar
        self.catalogue(self.server.url("/a.gguf"))
        self.pull("one", code=1)
        self.assertIn("sends more", self.said)
        self.assertNotIn("a.gguf", self.files())

    def test_what_is_there_is_checked_and_kept(self):
        self.catalogue(self.serve())
        self.into.mkdir()
        mine = self.into / "a.gguf"
        for wrong in b"my own file", OTHER:
            mine.write_bytes(wrong)
            self.pull("one", code=1)
            self.assertIn("--force", self.said)
            self.assertTrue(mine.read_bytes() == wrong)
        self.catalogue(self.serve("/bad", b"?" * len(DATA)))
        self.pull("one", "--force", code=1)
        self.assertTrue(mine.read_bytes() == OTHER, "a failed --force must leave the old file")
        self.catalogue(self.serve())
        self.pull("one", "--force")
        self.assert_only()
        mine.unlink()
        mine.mkdir()
        self.pull("one", code=1)

    # ---- statuses, time, redirects

    def test_busy_servers_are_asked_again(self):
        for status in 429, 500, 502, 503, 504, 408:
            def route(r, nth, status=status):
                if nth < 2:
                    r.reply(status, b"later", Retry_After="0")
                else:
                    r.file(DATA)
            self.routes[f"/{status}"] = route
            self.pull(self.server.url(f"/{status}"), "--as", "a.gguf")
            self.assert_only()
            shutil.rmtree(self.into)

    def test_retries_are_bounded(self):
        self.routes["/a.gguf"] = lambda r, nth: r.reply(503, b"x" * 200000)
        self.pull(self.server.url("/a.gguf"), "--retries", "3", code=1)
        self.assertEqual(len(self.server.asked), 4)
        self.assertIn("503", self.said)
        self.routes["/b.gguf"] = lambda r, nth: r.reply(429, Retry_After="7200")
        self.pull(self.server.url("/b.gguf"), code=1)
        self.assertIn("come back", self.said)
        self.assertEqual(self.files(), [])

    def test_refusals_are_not_repeated(self):
        for status in 400, 401, 403, 404, 410, 451:
            self.routes[f"/{status}"] = lambda r, nth, status=status: r.reply(status, b"no")
            self.pull(self.server.url(f"/{status}"), code=1)
            self.assertIn(str(status), self.said)
            self.assertEqual(sum(p == f"/{status}" for p, _ in self.server.asked), 1)
        self.assertEqual(self.files(), [])

    def test_slow_and_silent_servers_are_given_up(self):
        def drip(r, nth):
            r.send_response(200)
            r.send_header("Content-Length", "1000000")
            r.end_headers()
            for _ in range(400):
                r.wfile.write(b"x")
                r.wfile.flush()
                time.sleep(0.1)
        self.routes["/drip"] = drip
        self.routes["/mute"] = lambda r, nth: time.sleep(40)
        for path in "/drip", "/mute":
            self.pull(self.server.url(path), "--stall", "1", "--retries", "0", code=1)
            self.assertIn("too slow or silent", self.said)
            self.assertNotIn(path[1:], self.files())

    def redirect(self, path, to, status=302, **headers):
        self.routes[path] = lambda r, nth: r.reply(status, b"moved", Location=to, **headers)
        return self.server.url(path)

    def test_redirects(self):
        self.serve("/real")
        for status in 301, 302, 303, 307, 308:
            url = self.redirect("/a.gguf", "/real", status)
            self.pull(url)
            self.assert_only()
            shutil.rmtree(self.into)
        self.redirect("/loop", "/loop")
        self.pull(self.server.url("/loop"), code=1)
        self.assertIn("circles", self.said)
        self.assertEqual(sum(p == "/loop" for p, _ in self.server.asked), 9)
        for i, to in enumerate(["file:///etc/passwd", "ftp://127.0.0.1/x",
                                "http://example.invalid/x",
                                "http://127.0.0.1.example.invalid/x", "http://u:p@127.0.0.1/x",
                                "gopher://127.0.0.1/", ""]):
            self.pull(self.redirect(f"/to{i}", to), code=1)
        self.assertEqual(self.files(), [])

    def test_resumes_behind_a_redirect(self):
        self.redirect("/a.gguf", "/real")
        self.routes["/real"] = lambda r, nth: r.file(DATA, stop_at=MB if nth == 0 else None)
        self.pull(self.server.url("/a.gguf"))
        self.assert_only()
        self.assertEqual(len(self.server.ranges("/real")), 2)
        self.assertTrue(self.server.ranges("/real")[1])

    def test_only_https_and_this_machine(self):
        for url in ("http://example.invalid/x", "ftp://127.0.0.1/x", "http://127.evil.invalid/x",
                    "https://user:secret@example.invalid/x", "http://", "https://", "nonsense:x"):
            self.pull(url, code=1)
            self.assertNotIn("secret", self.said)

    # ---- TLS

    def test_tls(self):
        if not shutil.which("openssl"):
            self.skipTest("no openssl to make a certificate with")
        key, cert = self.dir / "key.pem", self.dir / "cert.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        secure = Server(context)
        try:
            secure.routes["/a.gguf"] = lambda r, nth: r.file(DATA)
            self.pull(secure.url("/a.gguf"), code=1)
            self.assertIn("SSL_CERT_FILE", self.said)
            self.assertEqual(secure.asked, [])
            self.env["SSL_CERT_FILE"] = str(cert)
            self.pull(secure.url("/a.gguf"))
            self.assert_only()
            secure.routes["/down"] = lambda r, nth: r.reply(302, Location=self.serve("/plain"))
            self.pull(secure.url("/down"), code=1)
            self.assertIn("away from https", self.said)
            self.assertEqual(self.server.asked, [])
        finally:
            secure.close()

    # ---- disks

    def test_file_size_limit(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (MB, MB))
        self.pull(self.serve(), code=1, preexec=limit)
        self.assertIn("a.gguf.part", self.said)
        self.assertNotIn("a.gguf", self.files())
        out = json.loads(self.pull(self.serve(), "--json"))
        self.assertEqual(out[0]["files"][0]["resumed"], MB)
        self.assert_only()

    def test_full_disk(self):
        self.into.mkdir()
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.into],
                               capture_output=True)
        if mount.returncode:
            self.skipTest("a small file system cannot be mounted here")
        try:
            self.pull(self.serve(), code=1)                       # known before the first byte
            self.assertIn("free some space", self.said)
            self.assertEqual(self.files(), [])

            def chunked(r, nth):                                  # found out on the way
                r.send_response(200)
                r.send_header("Transfer-Encoding", "chunked")
                r.end_headers()
                for at in range(0, len(DATA), 65536):
                    block = DATA[at:at + 65536]
                    r.wfile.write(b"%x\r\n" % len(block) + block + b"\r\n")
                r.wfile.write(b"0\r\n\r\n")
            self.routes["/b.gguf"] = chunked
            self.pull(self.server.url("/b.gguf"), code=1)
            self.assertIn("the disk is full", self.said)
            self.assertIn("b.gguf.part", self.said)
            self.assertNotIn("b.gguf", self.files())
        finally:
            subprocess.run(["umount", "-l", self.into], check=True)

    def test_folder_that_cannot_be_made(self):
        (self.dir / "plain").write_text("a file")
        self.into = self.dir / "plain" / "models"
        self.pull(self.serve(), code=1)
        self.assertIn("--into", self.said)

    # ---- two at once

    def test_two_at_once(self):
        self.routes["/a.gguf"] = lambda r, nth: r.file(DATA, pace=self.pause_at(MB))
        url = self.server.url("/a.gguf")
        both = [subprocess.Popen(self.command(url, "--json"), env=self.env, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        for _ in range(6000):
            if hasattr(self, "reached") and self.reached.wait(0.01):
                break
            time.sleep(0.01)
        time.sleep(0.5)           # lets the other one find the lock; the outcome is the same
        self.go.set()
        outs = [c.communicate(timeout=60) for c in both]
        self.assertEqual([c.returncode for c in both], [0, 0], outs)
        self.assert_only()
        self.assertEqual(len(self.server.asked), 1)
        present = [json.loads(out)[0]["files"][0]["present"] for out, _ in outs]
        self.assertEqual(sorted(present), [False, True])

    # ---- offline, file:

    def test_offline(self):
        self.catalogue(self.serve())
        self.pull("one", "--offline", code=1)
        self.assertIn("--offline", self.said)
        self.pull("hf:u/r", "--offline", code=1)
        self.pull(self.server.url("/a.gguf"), "--offline", code=1)
        self.assertEqual(self.server.asked, [])
        self.pull("one")
        self.pull("one", "--offline")
        self.assertIn("sha256 as expected", self.said)
        self.assert_only()

    def test_file_sources(self):
        source = self.dir / "the source.gguf"
        source.write_bytes(DATA)
        out = json.loads(self.pull(f"file:{source}", "--offline", "--json", "--sha256", SHA))
        self.assert_only("the source.gguf")
        self.assertTrue(out[0]["files"][0]["verified"])
        shutil.rmtree(self.into)
        self.pull(f"file://{source}".replace(" ", "%20"))
        self.assert_only("the source.gguf")
        self.pull(f"file:{self.dir}/absent", code=1)
        self.pull(f"file:{self.dir}", "--as", "x", code=1)
        self.assertIn("folder", self.said)
        self.pull("file://example.invalid/x", code=1)
        self.catalogue(f"file:{self.dir}/absent", f"file://{source}".replace(" ", "%20"))
        self.pull("one", "--offline")
        self.assertEqual(self.files(), ["a.gguf", "the source.gguf"])

    # ---- catalogue

    def test_default_folder_and_default_model(self):
        self.catalogue(self.serve(), more=" default\n")
        path = self.dir / "cache" / "stretto" / "models" / "a.gguf"
        self.assertEqual(self.pull(into=False), f"{path}\n")
        self.assertTrue(path.read_bytes() == DATA)

    def test_folder_of_files(self):
        parts = {"config.json": b"{}", "deep/er/x.json": b"[1]", "model.safetensors": DATA}
        text = "model f\n folder f-model\n"
        for name, data in parts.items():
            text += f" file {name} {len(data)} {hashlib.sha256(data).hexdigest()}\n"
            self.serve("/second/" + name, data)
        text += f" source {self.server.url('/first')}\n source {self.server.url('/second')}/\n"
        (self.dir / "config" / "stretto").mkdir(parents=True)
        (self.dir / "config" / "stretto" / "catalogue").write_text(text)
        out = json.loads(self.pull("f", "--json"))
        self.assertEqual(out[0]["path"], str(self.into / "f-model"))
        self.assertEqual(self.files(), sorted("f-model/" + n for n in parts))
        self.assertTrue(all((self.into / "f-model" / n).read_bytes() == d
                            for n, d in parts.items()))

    def test_bad_catalogue(self):
        (self.dir / "catalogue").write_text("model x\n file ../../x 1 -\n source hf:u/r\n")
        self.env["STRETTO_CATALOGUE"] = str(self.dir / "catalogue")
        self.pull("x", code=1)
        self.assertIn("line 2", self.said)
        self.assertFalse(self.into.exists())

    # ---- hf:

    def repo(self, files, revision="main", repo="user/repo"):
        tree = [{"type": "directory", "path": "deep", "size": 0}]
        for name, data in files.items():
            sha = hashlib.sha256(data).hexdigest()
            entry = {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
            if len(data) > 100:
                entry["lfs"] = {"oid": sha, "size": len(data)}
            tree.append(entry)
            self.routes[f"/cdn/{sha}"] = lambda r, nth, data=data: r.file(data)
            self.routes[f"/{repo}/resolve/{revision}/{name}"] = lambda r, nth, sha=sha, data=data: (
                r.reply(302, Location=f"/cdn/{sha}", X_Linked_Etag=f'"{sha}"',
                        X_Linked_Size=str(len(data))))
        self.routes[f"/api/models/{repo}/tree/{revision}"] = (
            lambda r, nth: r.reply(200, json.dumps(tree).encode()))

    def test_hf_file(self):
        self.repo({"sub/a.gguf": DATA}, revision="refs%2Fpr%2F1")
        out = json.loads(self.pull("hf:user/repo/sub/a.gguf@refs/pr/1", "--json"))
        self.assert_only()
        self.assertTrue(out[0]["files"][0]["verified"])          # by what the hub said of it
        self.routes[f"/cdn/{SHA}"] = lambda r, nth: r.file(OTHER)
        self.pull("hf:user/repo/sub/a.gguf@refs/pr/1", "--force", code=1)
        self.assert_only()

    def test_hf_repository(self):
        self.repo({"README.md": b"#", "x.gguf": DATA})
        out = json.loads(self.pull("hf:user/repo", "--json"))
        self.assertEqual(out[0]["path"], str(self.into / "x.gguf"))
        self.assert_only("x.gguf")
        self.repo({"x-Q4.gguf": DATA, "x-Q8.gguf": OTHER})
        self.pull("hf:user/repo", code=1)
        self.assertIn("x-Q4.gguf x-Q8.gguf", self.said)
        files = {"config.json": b"{}", "model.safetensors": OTHER, "tokenizer.json": b"[]" * 500,
                 "1_Pooling/config.json": b"{ }"}
        self.repo(files | {"README.md": b"#", "onnx/model.onnx": DATA, ".gitattributes": b"x",
                           "../evil.safetensors": b"x", "pytorch_model.bin": DATA})
        out = json.loads(self.pull("hf:user/repo", "--json"))
        self.assertEqual(out[0]["path"], str(self.into / "repo"))
        self.assertEqual(self.files(self.into / "repo"), sorted(files))
        self.assertTrue(all((self.into / "repo" / n).read_bytes() == d for n, d in files.items()))
        self.repo({"README.md": b"#"})
        self.pull("hf:user/repo", code=1)
        for bad in (b"", b"{}", b"[", b'[{"type":"file","path":7}]', b"[" * 100000, b'["\xff"]',
                    b"[]" * MB):
            self.routes["/api/models/user/repo/tree/main"] = (
                lambda r, nth, bad=bad: r.reply(200, bad))
            self.pull("hf:user/repo", code=1)

    def test_hf_split_file(self):
        parts = {f"m-{i:05}-of-00003.gguf": DATA[i * MB:(i + 1) * MB] for i in (1, 2, 3)}
        self.repo(parts)
        out = json.loads(self.pull("hf:user/repo/m-00001-of-00003.gguf", "--json"))
        self.assertEqual(out[0]["path"], str(self.into / "m-00001-of-00003.gguf"))
        self.assertEqual(self.files(), sorted(parts))
        self.assertTrue(all((self.into / n).read_bytes() == d for n, d in parts.items()))
        shutil.rmtree(self.into)
        self.repo(dict(reversed(parts.items())) | {"m-00001-of-00002.gguf.txt": b"x",
                                                   "-of-.txt": b"x"})
        out = json.loads(self.pull("hf:user/repo", "--json"))
        self.assertEqual(out[0]["path"], str(self.into / "m-00001-of-00003.gguf"))
        self.assertEqual(self.files(), sorted(parts))
        self.assertTrue(all((self.into / n).read_bytes() == d for n, d in parts.items()))
        shutil.rmtree(self.into)
        self.repo({"best-of-all.gguf": DATA})
        self.pull("hf:user/repo")
        self.assert_only("best-of-all.gguf")

    def test_hf_words(self):
        for bad in ("hf:", "hf:x", "hf:x/", "hf:x/y/../z", "hf:x/y@", "hf:x/y/z@a b", "hf:x/../z",
                    "hf:../y/z", "hf:x/y/.git/config", "hf:x/y@../../z"):
            self.pull(bad, code=1)
        self.assertEqual(self.server.asked, [])

    def test_gated_models_say_what_to_do(self):
        def route(r, nth):
            r.reply(401 if "Authorization" not in r.headers else 403, b"Access is restricted")
        self.routes["/user/repo/resolve/main/a.gguf"] = route
        self.routes["/api/models/user/repo/tree/main"] = route
        for spec in "hf:user/repo/a.gguf", "hf:user/repo":
            self.env.pop("HF_TOKEN", None)
            self.pull(spec, code=1)
            self.assertIn("HF_TOKEN", self.said)
            self.assertIn(self.server.url("/user/repo"), self.said)
            self.env["HF_TOKEN"] = "hf_secret"
            self.pull(spec, code=1)
            self.assertIn("accept its licence", self.said)
            self.assertNotIn("hf_secret", self.said)
        self.pull("hf:user/repo/absent.gguf", code=1)
        self.assertIn("404", self.said)

    def test_token_stays_at_home(self):
        other = Server()
        try:
            other.routes["/a.gguf"] = lambda r, nth: r.file(DATA)
            other.routes["/back"] = lambda r, nth: r.reply(302, Location=self.server.url("/end"))
            self.serve("/end")
            self.env["HF_TOKEN"] = "hf_secret\n"
            self.redirect("/u/r/resolve/main/near.gguf", "/end")
            self.redirect("/u/r/resolve/main/a.gguf", other.url("/a.gguf"))
            self.redirect("/u/r/resolve/main/name.gguf", self.server.url("/end", "localhost"))
            self.redirect("/u/r/resolve/main/circle.gguf", other.url("/back"))
            for name in "near", "a", "name", "circle":
                self.pull(f"hf:u/r/{name}.gguf")
            sent = {(p, h.get("Authorization")) for p, h in self.server.asked if p != "/end"}
            self.assertEqual({a for _, a in sent}, {"Bearer hf_secret"})
            self.assertEqual([h.get("Authorization") for p, h in self.server.asked if p == "/end"],
                             ["Bearer hf_secret", None, None])
            self.assertTrue(all("Authorization" not in h for _, h in other.asked))
            self.assertEqual(len(other.asked), 2)
            before = len(self.server.asked)
            self.pull(self.server.url("/end"))                     # a plain address gets no token
            self.assertNotIn("Authorization", self.server.asked[before][1])
        finally:
            other.close()

    def test_token_from_files(self):
        self.repo({"a.gguf": DATA})
        hub = self.dir / "hub"
        hub.mkdir()
        (hub / "token").write_text("hf_file\n")
        for name, value in (("HF_HOME", hub), ("HF_TOKEN_PATH", hub / "token")):
            self.env[name] = str(value)
            self.server.asked.clear()
            self.pull("hf:user/repo/a.gguf", "--force")
            self.assertEqual(self.server.asked[0][1].get("Authorization"), "Bearer hf_file")
            del self.env[name]
        self.env["HF_TOKEN"] = "two words\r\nX-Evil: 1"
        self.pull("hf:user/repo/a.gguf", "--force", code=1)
        self.env["HF_ENDPOINT"] = "http://example.invalid"
        self.pull("hf:user/repo/a.gguf", "--force", code=1)

    # ---- hostile answers

    def test_hostile_headers(self):
        rng = random.Random(3)
        junk = ['"', 'W/""', '"' + "e" * 3000 + '"', "bytes 0-1/0", "bytes 5-1/9", "bytes */*",
                "-1", "1e9",
                "18446744073709551615", "99999999999999999999999", "bytes 0-18446744073709551615/*",
                "\u00e9\u00ff", "", "bytes 1-2", "x" * 9000, '"' + "0" * 64 + '"', "0" * 64]
        names = ["ETag", "Content-Range", "Retry-After", "X-Linked-Etag", "X-Linked-Size",
                 "Last-Modified", "Location", "Content-Length"]

        def route(r, nth):
            status = rng.choice([200, 206, 302, 416, 503, 204, 304, 226, 299])
            r.send_response(status)
            for _ in range(4):
                r.send_header(rng.choice(names), rng.choice(junk))
            r.end_headers()
            r.wfile.write(DATA[:1000])
            r.cut()
        self.routes["/a.gguf"] = route
        self.into.mkdir()
        for i in range(40):
            if i % 2:
                (self.into / "a.gguf.part").write_bytes(OTHER[:500])
            args = ["--sha256", SHA] if i % 3 else []
            done = subprocess.run(self.command(self.server.url("/a.gguf"), "--retries", "1", *args),
                                  env=self.env, capture_output=True, text=True, timeout=60,
                                  errors="replace")
            self.assertNotIn("Sanitizer", done.stderr)
            self.assertIn(done.returncode, (0, 1), done.stderr)
            if done.returncode == 0:
                self.assertFalse(args)
                (self.into / "a.gguf").unlink()
            else:
                self.assertFalse((self.into / "a.gguf").exists())

    # ---- usage, progress

    def test_usage(self):
        url = self.serve()
        for args in (["--nonsense"], ["--retries", "-1", url], ["--retries"],
                     ["--sha256", "abc", url],
                     ["--sha256", SHA, url, url], ["--as", "x"], ["--stall", "0", url],
                     ["--as", "x", "one"]):
            self.pull(*args, code=2)
        self.pull("no-such-model", code=1)
        self.assertIn("stretto models", self.said)
        self.assertIn("--offline", self.pull("--help"))
        self.assertEqual(self.server.asked, [])

    def test_command_hands_on(self):
        """`stretto pull` and `stretto models`, where the command is built beside the program."""
        stretto = pathlib.Path(PROGRAM).parent / "stretto"
        if not stretto.exists():
            self.skipTest("no stretto beside stretto-pull")

        def run(*args, program=stretto, code=0):
            done = subprocess.run([program, *map(str, args)], env=self.env, capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual(done.returncode, code, done.stderr)
            self.said = done.stderr
            return done.stdout
        self.catalogue(self.serve(), more=" default\n title The one\n")
        self.assertFalse(json.loads(run("models", "--json"))[0]["present"])
        out = json.loads(run("pull", "--json", "--retry-wait", "0.01", "--stall=5"))
        path = self.dir / "cache" / "stretto" / "models" / "a.gguf"
        self.assertEqual(out[0]["path"], str(path))
        self.assertTrue(path.read_bytes() == DATA)
        listed = json.loads(run("models", "--json"))[0]
        self.assertEqual((listed["present"], listed["path"], listed["bytes"], listed["licence"]),
                         (True, str(path), len(DATA), "MIT"))
        self.assertIn("The one (the default)", run("models"))
        run("pull", "--into", self.into, "--as", "x y", "--", self.server.url("/a.gguf"))
        self.assert_only("x y")
        run("pull", "--quiet", self.server.url("/absent"), code=1)
        self.assertIn("404", self.said)
        run("pull", "--retries", "x", code=2)
        alone = self.dir / "stretto"
        shutil.copy(stretto, alone)
        self.env["PATH"] = str(self.dir)
        run("pull", program=alone, code=1)
        self.assertIn("libcurl", self.said)

    def test_progress_on_a_terminal(self):
        def slow(r, nth):
            r.file(DATA, pace=lambda sent: time.sleep(0.03))
        self.routes["/a.gguf"] = slow
        for no_color in False, True:
            env = self.env | {"TERM": "xterm"} | ({"NO_COLOR": "1"} if no_color else {})
            master, slave = pty.openpty()
            child = subprocess.Popen(self.command(self.server.url("/a.gguf"), "--force"), env=env,
                                     stdout=subprocess.DEVNULL, stderr=slave)
            os.close(slave)
            seen = b""
            while True:
                try:
                    block = os.read(master, 65536)
                except OSError:
                    break
                if not block:
                    break
                seen += block
            os.close(master)
            self.assertEqual(child.wait(), 0)
            self.assertIn(b"\ra.gguf  100%" if no_color else b"a.gguf", seen)
            self.assertIn(b"of 3.2 MB", seen)
            self.assertIn(b"/s", seen)
            self.assertEqual(b"\033[2m" in seen, not no_color)
            self.assert_only()


if __name__ == "__main__":
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        print("skip: stretto-pull is not built here (libcurl and libsodium are needed)")
        sys.exit(77)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
