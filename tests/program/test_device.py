#!/usr/bin/env python3
"""--device, -ngl and info --devices: every wrong word, what is missing, what is opened, and the same text on
whatever device there is.

    test_device.py STRETTO GOLDEN_FOLDER MOCK_CUDA"""
import json
import os
import re
import subprocess
import sys
import tempfile

stretto, golden, mock = sys.argv[1:4]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)
MODEL = os.path.join(golden, "llama", "model.gguf")
BERT = os.path.join(golden, "bert", "model.gguf")
TMP = tempfile.TemporaryDirectory()
RAW, TRACE, PROMPTS, SVG = (os.path.join(TMP.name, f) for f in ("raw", "trace", "prompts", "a.svg"))
with open(PROMPTS, "w") as file:
    file.write('{"ids": [1, 2, 3, 4]}\n')
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("STRETTO_DEVICE")}
# Every command that opens a model, with what it needs.
COMMANDS = (("run", "-m", MODEL, "-p", "ab", "-n", "3"),
            ("run", "-m", MODEL, "-p", "ab", "-n", "3", "--trace", SVG, "--force"),
            ("chat", "-m", MODEL, "-st", "ab"), ("info", "-m", MODEL),
            ("embed", "-m", BERT),
            ("eval", "logits", "-m", MODEL, "--ids", "1,5", "--raw", RAW, "--force"),
            ("bench", "-m", MODEL, "-p", "4", "-n", "2", "-r", "1"),
            ("trace", "jacobi", "-m", MODEL, "--prompts", PROMPTS, "-o", TRACE, "-n", "4", "--block", "2"))


def call(*args, code=0, feed=b"ab\n", **env):
    done = subprocess.run([stretto, *args], capture_output=True, env=CLEAN | env, input=feed, timeout=300)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == code, (args, env, done.returncode, out, err)
    return out if code == 0 else err


PLAIN = None


def check_words():
    for command in COMMANDS:
        for word, meant in (("gpx", "gpu"), ("opncl", "opencl"), ("gpu0", "gpu:0"), ("opencl:", None), ("cpu:1", "cpu"),
                            ("gpu:-1", "gpu:0"), ("auto:2", "auto"), ("", None),
                            ("Vulkan", None), ("gpu,cpu", None), ("gpu:0,", None), ("auto,gpu", None)):
            said = call(*command, "--device", word, code=2)
            assert "--device takes one of cpu, gpu[:N], " in said and f"not '{word}'" in said, (command, said)
            assert meant is None or f"did you mean '{meant}'" in said, (word, said)
        said = call(*command, code=2, STRETTO_DEVICE="xpu")
        assert "STRETTO_DEVICE takes one of cpu, " in said, said
        for layers in ("x", "", "1.5", "-2", "3x", "1234567890"):
            said = call(*command, "--device", "auto", "-ngl", layers, code=2)
            assert f"-ngl takes a number of layers, all or auto, not '{layers}'" in said, said
        for device in ((), ("--device", "cpu"), ("-dev", "none")):
            assert "goes with --device gpu" in call(*command, *device, "-ngl", "2", code=2), device
        assert "--device needs a value (DEVICE)" in call(*command, "--device", code=2)
        assert "'stretto info --devices' lists them" in call(*command, "--list-devices", code=2)
        # An empty variable says nothing, and an option says it better than the variable.
    for env in ({"STRETTO_DEVICE": ""}, {"STRETTO_DEVICE": "cpu"}):
        call(*COMMANDS[0], **env)
    call(*COMMANDS[0], "--device", "cpu", STRETTO_DEVICE="xpu")
    call(*COMMANDS[0], "--device", "auto", "-ngl", "0")


def listed(**env):
    devices = json.loads(call("info", "--devices", "--json", **env))
    table = call("info", "--devices", **env).split("\n")
    assert len(table) == len(devices) + 2 and table[0].startswith("--device"), table
    for line, device in zip(table[1:], devices):
        assert line.split()[0] == device["word"] and device["name"] in line, (line, device)
        assert device["usable"] or device["why"] in line
    assert devices[0]["word"] == "cpu" and devices[0]["usable"] and not devices[0]["gpu"]
    return devices


def check_missing(devices):
    """Numbers that are not there, and drivers that are not there."""
    for command in COMMANDS:
        for backend in {d["word"].split(":")[0] for d in devices[1:]} - {"integer"}:     # which has no number
            said = call(*command, "--device", f"{backend}:77", code=1)
            mine = [d for d in devices if d["word"].startswith(backend + ":")]
            if mine:
                be = "is" if len(mine) == 1 else "are"
                assert f"there is no {backend}:77; there {be} {len(mine)}: {mine[0]['word']} (" in said, said
            else:
                assert len(said) > 40, said
        cards = [d for d in devices if "number" in d]
        said = call(*command, "--device", "gpu:77", code=1)
        assert not any(map(os.path.exists, (RAW, TRACE, SVG))), "something was written"
        assert f"there are {len(cards)}" in said or "there is 1:" in said or not cards and "no gpu: " in said, said
    # A loader that is not there: what is missing and from where it comes, in every place.
    lost = {"STRETTO_OPENCL": "/nowhere/libOpenCL.so.1", "STRETTO_CUDA": "/nowhere/libcuda.so.1"}
    without = listed(**lost)
    assert not any(d["usable"] for d in without[1:] if d["word"] != "integer"), without
    opencl = next(d for d in without if d["word"] == "opencl")
    said = call(*COMMANDS[0], "--device", "opencl", code=1, **lost)
    assert opencl["why"][:100] in said and "/nowhere" in said, said
    assert "no gpu: " in call(*COMMANDS[0], "--device", "gpu", code=1, **lost)
    # Nothing is fetched for a card that is not there.
    said = call("run", "-m", "hf:nobody/nothing", "-y", "-p", "ab", "--device", "gpu", code=1, **lost)
    assert said.startswith("stretto run: there is no gpu: ") and "nobody" not in said, said
    # A file that is no library is told with the loader's reason.
    said = call(*COMMANDS[0], "--device", "cuda", code=1, STRETTO_CUDA=PROMPTS)
    assert "STRETTO_CUDA names a file" in said and PROMPTS in said, said
    # auto never fails for want of a driver.
    assert call(*COMMANDS[0], "--temp", "0", "--device", "auto", **lost) == call(*COMMANDS[0], "--temp", "0")
    _, err = both(*COMMANDS[0], "--device", "auto", "-v", **lost)
    assert "runs on the CPU; 'stretto info --devices' says what else there is" in err, err
    info = json.loads(call("info", "-m", MODEL, "--json", "--device", "auto", **lost))["model"]
    assert info["device"] == "cpu" and "plan" not in info


def libraries(*args, **env):
    """Names of shared libraries that were opened while the program ran, as glibc's loader tells."""
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run([stretto, *args], env=CLEAN | env | {"LD_DEBUG": "files",
                       "LD_DEBUG_OUTPUT": os.path.join(tmp, "ld")}, stdin=subprocess.DEVNULL, check=False,
                       capture_output=True, timeout=300)
        told = "".join(open(os.path.join(tmp, f), errors="replace").read() for f in os.listdir(tmp))
    return set(re.findall(r"file=(?:\S*/)?(lib[\w-]+)\.so", told))


def driver_libraries(names):
    return {n for n in names if re.match(r"lib(cuda|OpenCL|nv|pocl|amdocl|igdrcl|MesaOpenCL)", n)}


def check_nothing_opened(devices):
    """Who asks for no card pays for none."""
    if not any(name == "libc" or name == "libm" for name in libraries(*COMMANDS[0])):
        print("skip: this machine's loader does not tell what it opens (LD_DEBUG), so that was not looked at")
        return
    for command in COMMANDS:
        assert not driver_libraries(libraries(*command)), command
        assert not driver_libraries(libraries(*command, "--device", "cpu")), command
    assert not driver_libraries(libraries(*COMMANDS[0], STRETTO_DEVICE="auto")) or a_card_is_likely()
    assert not driver_libraries(libraries(*COMMANDS[0], "--device", "auto", "-ngl", "0"))
    # The look itself sees what there is to see.
    if any(d["word"].startswith("opencl:") for d in devices):
        assert "libOpenCL" in libraries("info", "--devices")
        assert "libOpenCL" in libraries(*COMMANDS[0], "--device", "opencl:77")


WRITE = ("run", "-m", MODEL, "-p", "ab ab", "-n", "20", "--temp", "0", "--ignore-eos", "--decode", "plain")
MOCK = {"STRETTO_CUDA": mock, "STRETTO_NVRTC": mock, "STRETTO_NVML": mock, "STRETTO_KERNELS": ""}


def both(*args, code=0, **env):
    """Standard output and standard error, with a card that is none."""
    done = subprocess.run([stretto, *args], capture_output=True, env=CLEAN | MOCK | env, stdin=subprocess.DEVNULL,
                          timeout=300)
    assert done.returncode == code, (args, env, done.returncode, done.stderr)
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def check_card():
    """A card of NVIDIA's that is none (tests/gpu/mock.h): found, refused, lost, in the program."""
    device = next(d for d in listed(**MOCK) if d["word"] == "cuda:0")
    assert device["gpu"] and device["usable"] and device["number"] == 0, device
    assert "\x1b" not in both("info", "--devices")[0]
    three = listed(**MOCK, MOCK_CUDA="devices=3,arch=50")
    assert sum(d["word"].startswith("cuda:") and "5.0" in d.get("why", "") for d in three) == 3, three
    for orders, word, said in (("devices=3", "cuda:3", "there are 3: cuda:0 ("),
                               ("devices=0", "cuda", "finds no device"),
                               ("version=11000", "cuda", "CUDA 11.0, and stretto needs one for CUDA 11.4"),
                               ("arch=50", "cuda", "capability is 5.0"), ("prohibited=1", "cuda", "prohibited"),
                               ("init=999", "cuda", "CUDA"), ("devices=2", "gpu:2", "there are 2: gpu:0 (")):
        _, err = both(*WRITE, "--device", word, code=1, MOCK_CUDA=orders)
        assert said in err and err.count("\n") == 1, (orders, err)
        assert both(*WRITE, "--device", "auto", MOCK_CUDA=orders + ",lose=1")[0] == PLAIN, orders
    # Every launch takes two joules (tests/gpu/mock_nvrtc.c); without NVML's library there are none.
    bench = ("bench", "-m", MODEL, "-p", "8", "-n", "2", "-r", "1", "--device", "cuda")
    nothing = {"STRETTO_POWERCAP": TMP.name}
    for row in json.loads(both(*bench, "-o", "json", **nothing)[0]):
        assert row["joules_of"] == "card" and row["joules_per_token"] > 0, row
        launches = row["joules_per_token"] * (row["n_prompt"] + row["n_gen"]) / 2
        assert launches == int(launches) and launches >= 4, row
    out = both(*bench, **(nothing | {"STRETTO_NVML": "/nowhere/libnvidia-ml.so.1"}))[0]
    assert "no joules: the card's driver" in out and "J/token" not in out, out
    # What has no room is said by info too; figures that nobody measured are left out.
    out = both("info", "-m", MODEL, "--device", "cuda", "-ngl", "1", "-c", "1000000",
               MOCK_CUDA="memory=9000000")[0]
    assert re.search(r"(?m)^engine +a context of 1000000 tokens .* are free, .* -ngl$", out), out
    bench = ("bench", "-m", MODEL, "-p", "4", "-n", "2", "-r", "1", "--device", "cuda", "-ngl", "1")
    out = both(*bench)[0]
    assert "cuda:0+cpu: load " in out and "is not measured" in out and "0.0 GB/s" not in out, out
    assert all(r["roof_gb_s"] is None for r in json.loads(both(*bench, "-o", "json")[0]))
    # The compiler's words go to a file that is named.
    _, err = both(*WRITE, "--device", "cuda", code=1, MOCK_CUDA="bad_source=1", TMPDIR=TMP.name)
    log = re.search(r"is in (\S+\.log)", err)
    assert log and os.path.getsize(log.group(1)) > 0, err
    out, err = both(*WRITE, "--device", "auto", MOCK_CUDA="bad_source=1", TMPDIR=TMP.name)
    assert out == PLAIN and "do not compile" in err and "cpu" in err, err


def check_lost():
    """Whenever the card is lost: auto goes on, others end, nothing is half-written."""
    whole, early, late, name = both(*WRITE, "--device", "cuda")[0], 0, 0, "cuda:0 ("
    assert whole == PLAIN, "the card writes another text"
    for call_ in (1, 3, 20, 60, 120, 300, 500, 700, 900, 1200, 1600, 2000):
        orders = f"lose={call_}"
        if os.path.exists(SVG):
            os.unlink(SVG)
        out, err = both(*WRITE, "--device", "auto", MOCK_CUDA=orders)
        assert out == PLAIN, (call_, out)
        notes = [line for line in err.split("\n") if line.startswith("stretto: ")]
        assert len(notes) <= 1 and all("cpu" in line for line in notes), err
        done = subprocess.run([stretto, *WRITE, "--device", "cuda", "--trace", SVG], capture_output=True, timeout=300,
                              env=CLEAN | MOCK | {"MOCK_CUDA": orders}, stdin=subprocess.DEVNULL)
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode == 0:
            assert out == PLAIN
            late += 1
            continue
        assert done.returncode == 1 and not os.path.exists(SVG) and err.count("stretto run: ") == 1, (call_, err)
        assert name in err or "mock" in err, err
        assert PLAIN.startswith(out.rstrip("\n\ufffd")), (call_, out)
        early += bool(out)
        if call_ in (120, 300):        # figures are of one device: no going on elsewhere
            both("bench", "-m", MODEL, "-p", "0", "-n", "40", "-r", "1", "--device", "auto", code=1, MOCK_CUDA=orders)
    assert early, "no card was lost in the middle of a text"
    # What the card has no room for the cpu has.
    out, err = both(*WRITE, "--device", "cuda", MOCK_CUDA="memory=200000")
    assert out == PLAIN and "no room" in err, err
    plan = json.loads(both("info", "-m", MODEL, "--device", "cuda", "-ngl", "1", "--json")[0])["model"]
    assert plan["device"] == "cuda:0+cpu" and [p["layers"] for p in plan["plan"]] == [1, 2], plan
    assert not plan["plan"][0]["head"] and plan["plan"][1]["head"] and plan["plan"][0]["weight_bytes"] > 0
    out, err = both(*WRITE, "--device", "gpu", "-ngl", "2", "-v")
    assert out == PLAIN and "has layers 0 to 1:" in err and "has layer 2 and the head" in err, err
    # Two cards, neither of which has room for all of it.
    orders, words = {"MOCK_CUDA": "devices=2,memory=5700000"}, "gpu:0,gpu:1"
    out, err = both(*WRITE, "--device", words, "-v", **orders)
    assert out == PLAIN and all(f"stretto run: cuda:{i} (" in err for i in (0, 1)) and "cpu (" not in err, err
    _, err = both(*WRITE, "--device", words, code=1, MOCK_CUDA=orders["MOCK_CUDA"] + ",lose=400")
    assert "mock" in err, err
    assert "named twice" in both(*WRITE, "--device", "gpu,cuda:0", code=2, **orders)[1]
    assert "with one card" in both(*WRITE, "--device", words, "-ngl", "2", code=2, **orders)[1]
    assert "there is 1: cuda:0" in both(*WRITE, "--device", "cuda:0,cuda:1", code=1)[1]
    return early, late


def a_card_is_likely():
    nodes = os.path.exists("/dev/dri") and any(n.startswith("renderD") for n in os.listdir("/dev/dri"))
    return nodes or any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/mali0"))) or any(
        os.path.exists(folder) and any(n.endswith(".icd") and not n.startswith("pocl") for n in os.listdir(folder))
        for folder in ("/etc/OpenCL/vendors", os.environ.get("OCL_ICD_VENDORS", "")) if folder)


def main():
    global PLAIN
    PLAIN = both(*WRITE)[0]
    check_words()
    devices = listed()
    check_missing(devices)
    check_nothing_opened(devices)
    if not any(d["word"] == "opencl:0" for d in devices):
        print("skip: there is no OpenCL device, on which the mock of a card runs (./dev test installs PoCL)")
        sys.exit(77)
    check_card()
    early, late = check_lost()
    print(f"{len(devices)} devices; a card was lost within a text {early} times, behind it {late} times")


main()
