"""The sandbox: honest programs run, hostile ones are stopped, and nothing of them is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from laconic.errors import SandboxError
from laconic.sandbox import Limits, Sandbox

LIMITS = Limits(seconds=1, clock=2, output=100_000)


@pytest.fixture(scope="module", params=[True, False], ids=["namespaces", "limits only"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox(LIMITS, namespaces=request.param) as opened:
        yield opened


def isolated(box: Sandbox, what: str) -> None:
    if what not in box.isolation:
        pytest.skip(f"'{what}' is not in force: {box.isolation}")


def test_a_program_reads_computes_and_writes(box: Sandbox) -> None:
    ending = box.run("print(input() * 2)\nopen('a', 'w').write('é')", stdin="ab\n")
    assert (ending.state, ending.code, ending.output, ending.errors) == ("ended", 0, "abab\n", "")
    assert 0 < ending.seconds < 1


def test_programs_do_not_see_one_another(box: Sandbox) -> None:
    box.run("import math, os\nmath.pi = 3\nos.makedirs('d/e')\nopen('d/e/f', 'w').write('x')")
    ending = box.run("import math, os\nprint(os.listdir('.'), math.pi > 3, __name__)")
    assert ending.output == "[] True __main__\n"


@pytest.mark.parametrize(
    ("program", "code", "errors"),
    [
        ("raise KeyError('no')", 1, "KeyError: 'no'"),
        ("import sys; sys.exit(7)", 7, ""),
        ("import os; os._exit(0)", 0, ""),
        ("x = ", 1, "SyntaxError"),
        ("x = bytearray(2 << 30)", 1, "MemoryError"),
        ("def f(n): return f(n + 1)\nf(0)", 1, "RecursionError"),
        ("f = open('f', 'wb')\nfor i in range(99): f.write(bytes(1 << 20))", 1, "File too large"),
        ("import os\nwhile True: os.fork()", 1, "Resource temporarily unavailable"),
    ],
)
def test_a_failing_program_says_why(box: Sandbox, program: str, code: int, errors: str) -> None:
    ending = box.run(program)
    assert (ending.state, ending.code) == ("ended", code)
    assert errors in ending.errors


@pytest.mark.parametrize(
    ("program", "state"),
    [
        ("while True: pass", "time"),
        ("import time; time.sleep(100)", "clock"),
        ("while True: print('x' * 1000)", "output"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal"),
        (
            "import signal\nfor n in set(signal.Signals) - {9, 19}:\n"
            "    signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
            "time",
        ),
        ("import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1)\nf(0)", "time"),
    ],
    ids=["loop", "sleep", "output", "crash", "deaf", "recursion"],
)
def test_a_program_that_passes_a_limit_is_stopped(box: Sandbox, program: str, state: str) -> None:
    began = time.monotonic()
    ending = box.run(program)
    assert ending.state in {state, "clock"} if state == "time" else ending.state == state
    assert len(ending.output) <= LIMITS.output
    assert time.monotonic() - began < 20
    assert box.run("print(1)").output == "1\n"


def test_orphans_die_with_their_program(box: Sandbox) -> None:
    if sys.platform != "linux":
        pytest.skip("orphans are found on Linux only")
    mark = f"orphan-{os.getpid()}"
    ending = box.run(
        "import ctypes, os, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        ctypes.CDLL(None).prctl(15, b'{mark[-15:]}')\n"
        "        os.close(1); os.close(2)\n        time.sleep(100)\n"
        "    os._exit(0)\nos.wait()\nprint('left')"
    )
    assert ending.output == "left\n"
    names = [path.read_text() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    assert f"{mark[-15:]}\n" not in names


def test_threads_may_finish(box: Sandbox) -> None:
    program = "import threading, time\ndef f():\n    time.sleep(0.1)\n    print('late')\n"
    assert box.run(f"{program}threading.Thread(target=f).start()").output == "late\n"


def test_there_is_no_network(box: Sandbox) -> None:
    isolated(box, "network")
    ending = box.run("import socket\nsocket.create_connection(('127.0.0.1', 9), 1)")
    assert "Network is unreachable" in ending.errors


def test_services_of_the_system_are_out_of_reach(box: Sandbox) -> None:
    isolated(box, "files")
    assert box.run("import os; print(os.listdir('/run'))").output == "[]\n"


def test_files_are_out_of_reach_and_the_folder_is_small(box: Sandbox, tmp_path: Path) -> None:
    isolated(box, "files")
    victim = tmp_path / "victim"
    victim.write_text("whole")
    for act in ("open({!r}, 'w')", "__import__('os').unlink({!r})"):
        assert "Read-only file system" in box.run(act.format(str(victim))).errors
    assert victim.read_text() == "whole"
    ending = box.run("for i in range(20):\n    open(f'{i}', 'wb').write(bytes(8 << 20))")
    assert "No space left on device" in ending.errors


def test_a_program_cannot_reach_its_keeper(box: Sandbox) -> None:
    isolated(box, "processes")
    box.run("import os\nos.kill(-1, 9)")
    box.run("import os\nos.kill(os.getppid(), 9)")
    ending = box.run(
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "print(libc.umount2(os.getcwd().encode(), 2), libc.mount(b'x', b'/', b'tmpfs', 0, None))\n"
        "for n in range(3, 64):\n    try:\n        os.fstat(n)\n        print(n)\n"
        "    except OSError:\n        pass"
    )
    assert ending.output == "-1 -1\n"


def test_the_environment_holds_no_secrets(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Sandbox(LIMITS) as other:
        assert "hf_secret" not in other.run("import os; print(dict(os.environ))").output


def test_a_sandbox_that_died_says_so_and_leaves_no_folder() -> None:
    opened = Sandbox(LIMITS)
    place = opened.run("import os; print(os.getcwd())").output.strip()
    assert Path(place).is_dir()
    opened._process.kill()
    opened._process.wait()
    with pytest.raises(SandboxError, match="sandbox"):
        opened.run("print(1)")
    assert not Path(place).exists()


def test_a_sandbox_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os\nfrom laconic.sandbox import *\nbox = Sandbox(Limits(seconds=60, clock=60))\n"
        "print(box._process.pid, flush=True)\nbox.run('import time; time.sleep(60)')"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed parent leaves its folder
    )
    assert parent.stdout
    sandbox = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.communicate()
    for _ in range(100):
        if not Path(f"/proc/{sandbox}").exists():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the sandbox outlived its parent")
