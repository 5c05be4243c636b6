"""The sandbox: honest programs run, hostile ones are stopped, and nothing of them is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from laconic.errors import SandboxError
from laconic.scoring.sandbox.sandbox import ENDED, Limits, Sandbox

LIMITS = Limits(seconds=1, clock=2, output=100_000)


@pytest.fixture(scope="module", params=["bubblewrap", "our own", "limits only"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    spaces, wrapped = request.param != "limits only", request.param == "bubblewrap"
    with Sandbox(LIMITS, namespaces=spaces, bubblewrap=wrapped) as opened:
        if wrapped and "bubblewrap" not in opened.isolation:
            pytest.skip("bubblewrap is not installed or does not work here")
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


def test_a_bomb_of_forks_runs_out_of_processes(box: Sandbox) -> None:
    ending = box.run("import os\nwhile True: os.fork()")
    assert ending.state in {"ended", "clock"}
    assert "Resource temporarily unavailable" in ending.errors


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
    assert "Network is unreachable" in ending.errors or "not supported" in ending.errors


def test_files_are_out_of_reach_and_the_folder_is_small(box: Sandbox, tmp_path: Path) -> None:
    isolated(box, "files")
    victim = tmp_path / "victim"
    victim.write_text("whole")
    for act in ("open({!r}, 'w')", "__import__('os').unlink({!r})"):
        assert "No such file" in box.run(act.format(str(victim))).errors
    for place in ("/", "/usr", "/dev", sys.prefix):
        assert "Read-only file system" in box.run(f"open('{place}/new', 'w')").errors
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
    os.killpg(opened._process.pid, signal.SIGKILL)
    opened._process.wait()
    with pytest.raises(SandboxError, match="sandbox"):
        opened.run("print(1)")
    assert not Path(place).exists()


def test_a_sandbox_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "from laconic.scoring.sandbox.sandbox import *\n"
        "box = Sandbox(Limits(seconds=60, clock=60))\n"
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


def test_no_terminal_can_be_opened(box: Sandbox) -> None:
    isolated(box, "files")
    master, slave = os.openpty()
    paths = [
        os.ttyname(slave),
        "/dev/tty",
        "/dev/tty0",
        "/dev/console",
        "/dev/ptmx",
        "/dev/pts/ptmx",
    ]
    program = (
        f"import os, glob\nfor path in {paths!r} + glob.glob('/dev/pts/*'):\n    try:\n"
        "        os.open(path, os.O_RDWR | os.O_NONBLOCK)\n        print(path)\n"
        "    except OSError:\n        pass\n"
    )
    try:
        assert box.run(program).output == ""
    finally:
        os.close(master)
        os.close(slave)


def test_memory_that_belongs_to_no_process_is_refused(box: Sandbox) -> None:
    isolated(box, "calls")
    program = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.shmget(0, 9, 0o1600), libc.msgget(0, 0o1600), libc.semget(0, 1, 0o1600))\n"
        "try:\n    os.memfd_create('a')\nexcept OSError as error:\n    print(error.errno)"
    )
    assert box.run(program).output == "-1 -1 -1\n1\n"


@pytest.mark.parametrize(
    "take",
    [
        "x = b'x' * (60 << 20)",
        "x = mmap.mmap(-1, 60 << 20)\n    x.write(b'x' * (60 << 20))",
        "x = open(f'/dev/shm/{n}', 'wb', 0)\n    for _ in range(40): x.write(bytes(1 << 20))",
    ],
    ids=["own", "shared", "files"],
)
def test_memory_is_limited_for_all_processes_together(take: str, tmp_path: Path) -> None:
    with Sandbox(Limits(memory=200 << 20, file=60 << 20, folder=220 << 20, clock=20)) as small:
        isolated(small, "memory")
        isolated(small, "files")
        program = (
            "import mmap, os, time\ndef take(n):\n    global x\n    {}\n    time.sleep(60)\n"
            "for n in range(6):\n    if os.fork() == 0: take(n)\nos.wait()"
        ).format(take.replace("\n    ", "\n    "))
        assert small.run(program).state == "memory"
        harmless = (
            "import os, time\nx = b'x' * (60 << 20)\nfor n in range(8):\n    if os.fork() == 0:\n"
        )
        harmless += (
            "        time.sleep(0.3)\n        os._exit(0)\nfor n in range(8): os.wait()\nprint(1)"
        )
        assert small.run(harmless).output == "1\n"
        assert small.run("import os; print(os.listdir('/dev/shm'))").output == "[]\n"


def test_sockets_of_other_kinds_are_refused(box: Sandbox) -> None:
    isolated(box, "calls")
    program = (
        "import socket\nfor family in range(50):\n    for kind in (1, 2, 3, 5):\n        try:\n"
        "            socket.socket(family, kind).close()\n            print(family)\n"
        "        except OSError:\n            pass\nsocket.socketpair()\n"
    )
    opened = set(map(int, box.run(program).output.split()))
    assert opened <= ({1, 2, 10} if "processes" in box.isolation else set())


def test_dangerous_system_calls_are_refused(box: Sandbox) -> None:
    isolated(box, "calls")
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86-64")
    numbers = {
        "ptrace": 101,
        "unshare": 272,
        "keyctl": 250,
        "io_uring": 425,
        "bpf": 321,
        "mount": 165,
    }
    program = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"for n in {[*numbers.values()]}:\n"
        "    print(libc.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno())\n"
        "print(libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), libc.syscall(0x40000000 | 39))"
    )
    assert box.run(program).output == "-1 1\n" * len(numbers) + "-1 -1\n"


def test_services_of_the_host_cannot_be_reached(box: Sandbox, tmp_path: Path) -> None:
    isolated(box, "network")
    listening = [str(tmp_path / "service"), f"\0laconic-{os.getpid()}"]
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        for service, address in zip((one, two), listening, strict=True):
            service.bind(address)
            service.listen()
        program = (
            f"import socket\nfor address in {listening!r}:\n    try:\n"
            "        socket.socket(socket.AF_UNIX).connect(address)\n        print('open')\n"
            "    except OSError:\n        pass\n"
        )
        assert box.run(program).output == ""


def test_what_only_its_user_may_read_is_not_read(box: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("secret")
    secret.chmod(0o600)
    if not {"files", "user"} & set(box.isolation):
        pytest.skip(f"neither 'files' nor 'user' is in force: {box.isolation}")
    errors = box.run(f"print(open({str(secret)!r}).read())").errors
    assert "FileNotFoundError" in errors or "PermissionError" in errors
    assert "Error" in box.run("open('/etc/shadow')").errors


def test_homes_and_settings_are_not_seen(box: Sandbox) -> None:
    isolated(box, "files")
    seen = box.run("import os; print(*[p for p in os.listdir('/')])").output.split()
    assert not {"home", "run", "var", "sys", "mnt", "srv", "opt"} & set(seen)


def test_other_processes_are_not_seen(box: Sandbox) -> None:
    isolated(box, "files")
    program = (
        "import glob, os\nprint(len(glob.glob('/proc/[0-9]*')))\n"
        f"print({str(os.getpid())!r} in os.listdir('/proc'))"
    )
    assert box.run(program).output == "2\nFalse\n"


def test_programs_have_no_privileges(box: Sandbox) -> None:
    if sys.platform != "linux":
        pytest.skip("capabilities are Linux's")
    if not {"files", "user"} & set(box.isolation):
        pytest.skip(f"neither 'files' nor 'user' is in force: {box.isolation}")
    lines = box.run("print(open('/proc/self/status').read())").output.splitlines()
    state = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert (int(state["CapEff"], 16), int(state["CapPrm"], 16), state["NoNewPrivs"]) == (0, 0, "1")
    if "user" in box.isolation:
        assert int(state["Uid"].split()[0]) >= 60_000


def test_each_program_has_namespaces_of_its_own(box: Sandbox) -> None:
    isolated(box, "processes")
    kinds = ("ipc", "mnt", "net", "pid", "uts")
    program = f"import os\nprint(*[os.readlink('/proc/self/ns/' + kind) for kind in {kinds}])"
    first = box.run(program).output.split()
    assert len(first) == len(kinds)
    server = {str(Path(f"/proc/{box._process.pid}/ns/{kind}").readlink()) for kind in kinds}
    assert not set(first) & server
    assert box.run("import os; print(os.uname().nodename)").output == "sandbox\n"


def test_a_program_has_its_session_and_no_other_descriptors(box: Sandbox) -> None:
    program = (
        "import os\nprint(os.getsid(0) == os.getpid())\nfor n in range(3, 64):\n    try:\n"
        "        os.fstat(n)\n        print(n)\n    except OSError:\n        pass"
    )
    assert box.run(program).output == "True\n"


SECRET = "".join(map(chr, (120, 113, 122, 55, 107)))
SEARCH = (
    "import gc\ndef f():\n    want = bytes([120, 113, 122, 55, 107])\n    found = 0\n"
    "    for line in open('/proc/self/maps'):\n        if 'rw' not in line: continue\n"
    "        a, b = (int(x, 16) for x in line.split()[0].split('-'))\n"
    "        with open('/proc/self/mem', 'rb', 0) as m:\n"
    "            try: m.seek(a); t = m.read(b - a)\n"
    "            except (OSError, ValueError): continue\n"
    "        found += want + b'y' in (t or b'')\n"
    "    return found\n"
)


def test_a_programs_memory_never_holds_its_tests(box: Sandbox) -> None:
    if sys.platform != "linux":
        pytest.skip("memory is searched on Linux only")
    tests = f"hidden = '{SECRET}y'\nassert f() == 0, f()\n"
    for _ in range(3):  # a test that was read once would be found the next time
        assert box.examine(SEARCH, tests).passed
    marked = SEARCH.replace("import gc\n", f"import gc\nheld = '{SECRET}' + chr(121)\n")
    assert not box.examine(marked, tests).passed


def test_exams_and_programs_take_turns(box: Sandbox) -> None:
    assert box.examine("def f(n): return n", "assert f(2) == 2\n").passed
    failed = box.examine("def f(n): return n", "assert f(2) == 3, 'no'\n")
    assert (failed.passed, failed.tests.code) == (False, 1)
    assert failed.program.state in {"stopped", "ended"}
    assert box.run("print(__name__)").output == "__main__\n"
    gone = box.examine("import os\nos._exit(5)", "f()\n")
    assert (gone.tests.code, gone.program.state, gone.program.code) == (ENDED, "ended", 5)
    late = box.examine("def f():\n    while True: pass", "f()\n")
    assert not late.passed
    assert late.program.state in {"time", "clock"}


def test_without_bubblewrap_the_sandbox_is_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with Sandbox(LIMITS) as own:
        assert "bubblewrap" not in own.isolation
    if sys.platform == "linux":
        monkeypatch.setattr("laconic.scoring.sandbox.sandbox.shutil.which", lambda _: "/bin/false")
        with Sandbox(LIMITS) as own:
            assert "bubblewrap" not in own.isolation


def test_a_sandbox_outlives_the_thread_that_started_it() -> None:
    with ThreadPoolExecutor(1) as thread:
        sandbox = thread.submit(Sandbox).result()
    time.sleep(0.2)
    with sandbox:
        assert sandbox.run("print(1)").output == "1\n"
