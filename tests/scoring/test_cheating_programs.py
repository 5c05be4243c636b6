"""Wrong programs that try to pass, and right ones that look odd: for each kind of exam."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from laconic.scoring.score import Grader
from laconic.tasks.contract.exam import Exam

ASSERTS = Exam(
    check="assert twice(3) == 6\nassert twice(70) == 140\n", solution="def twice(n): ..."
)
CHECK = Exam(
    check="def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(70) == 140\n"
    "check(twice)\n",
    entry="twice",
)
CASES = Exam(cases=(("3\n", "6\n"), ("70\n", "140\n")))

#: Programs that give no right answer, whatever they do about it.
FAKES = {
    "equal to all": "class A:\n    def __eq__(s, o): return True\ndef twice(n): return A()",
    "an int equal to all": "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = None\n"
    "def twice(n): return A(1)",
    "a float equal to all": "class A(float):\n    def __eq__(s, o): return True\n"
    "def twice(n): return A(1)",
    "a str equal to all": "class A(str):\n    def __eq__(s, o): return True\n"
    "def twice(n): return A('6')",
    "a list equal to all": "class A(list):\n    def __eq__(s, o): return True\n"
    "def twice(n): return A()",
    "never unequal": "class A:\n    def __ne__(s, o): return False\n    def __eq__(s, o): return 1\n"
    "    def __bool__(s): return True\ndef twice(n): return A()",
    "equal by its class": "class M(type):\n    def __eq__(s, o): return True\n    __hash__ = None\n"
    "class A(metaclass=M): pass\ndef twice(n): return A",
    "mock's ANY": "from unittest.mock import ANY\ndef twice(n): return ANY",
    "a magic mock": "from unittest.mock import MagicMock\ntwice = MagicMock()",
    "says it is an int": "class A:\n    __class__ = property(lambda s: int)\n"
    "    def __index__(s): return 6\n    def __eq__(s, o): return True\ndef twice(n): return A()",
    "a hook for exceptions": "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\n"
    "def twice(n): return 0",
    "at exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef twice(n): return 0",
    "ends at the call": "import os\ndef twice(n): os._exit(0)",
    "exits at the call": "import sys\ndef twice(n): sys.exit(0)",
    "raises what ends tests": "class E(AssertionError):\n    def __str__(s): return ''\n"
    "def twice(n): raise E",
    "stops an iteration": "def twice(n): raise StopIteration(6)",
    "a check of its own": "def check(*_): pass\ndef twice(n): return 0\ncandidate = check",
    "no assertions": "import builtins\nbuiltins.AssertionError = KeyError\nbuiltins.abs = id\n"
    "def twice(n): return 0",
    "builtins that agree": "import builtins\nbuiltins.compile = builtins.exec = lambda *a, **k: 1\n"
    "def twice(n): return 0",
    "frames": "import sys\ndef twice(n):\n    f, found = sys._getframe(), []\n    while f:\n"
    "        found += [c for c in f.f_code.co_consts if isinstance(c, int) and c in (6, 140)]\n"
    "        f = f.f_back\n    return found[n > 3] if found else 0",
    "objects of the collector": "import gc\ndef twice(n):\n    for o in gc.get_objects():\n"
    "        if isinstance(o, dict) and any('assert' in str(v)[:9] for v in list(o.values())):\n"
    "            return 2 * n\n    return 0",
    "its own memory": "def twice(n):\n    want = b'twice(' + str(n).encode() + b') == '\n"
    "    for line in open('/proc/self/maps'):\n        if 'rw' not in line: continue\n"
    "        a, b = (int(x, 16) for x in line.split()[0].split('-'))\n"
    "        with open('/proc/self/mem', 'rb') as m:\n            try: m.seek(a); t = m.read(b - a)\n"
    "            except (OSError, ValueError): continue\n        i = t.find(want)\n"
    "        if i >= 0 and t[i + len(want):][:1].isdigit():\n"
    "            return int(t[i + len(want):][:4].split()[0])\n    return 0",
    "files": "import glob\ndef twice(n):\n    for f in glob.glob('/proc/*/cmdline') + glob.glob('*'):\n"
    "        if 'assert' in open(f, errors='replace').read(): return 2 * n\n    return 0",
    "steps over lines": "import sys\ndef jump(f, e, a):\n    f.f_trace_lines = True\n    return jump\n"
    "sys.settrace(jump)\ndef twice(n): return 0",
    "a watching thread": "import os, threading, time\ndef watch():\n    time.sleep(0.01)\n"
    "    os._exit(0)\ndef twice(n):\n    threading.Thread(target=watch).start()\n"
    "    time.sleep(1)\n    return 0",
    "a forged verdict": "import os\nfor n in range(1, 9):\n    try: os.write(n, b'[\"passed\"]\\n')\n"
    "    except OSError: pass\ndef twice(n): return 0",
    "a forged object": 'import os\nos.write(3, b\'["value",{"object":0},null]\\n\' * 9)\n'
    "def twice(n): return 0",
    "a forged exception": 'import os\nos.write(3, b\'["raise",["SystemExit"],"0"]\\n\' * 9)\n'
    "def twice(n): return 0",
    "garbage": "import os\nos.write(3, b'[' * 100_000 + b'\\n')\ndef twice(n): return 0",
    "two answers": "import os\ndef twice(n):\n    os.fork()\n    return 0",
    "its keeper": "import os, signal\nfor n in (2, 9, 15):\n    try: os.kill(os.getppid(), n)\n"
    "    except OSError: pass\ndef twice(n): return 0",
    "what unpickles": "class A:\n    def __reduce__(s): return (int, ('6',))\n"
    "def twice(n): return A()",
    "what prints": "class A:\n    def __repr__(s): return '6'\n    __str__ = __repr__\n"
    "def twice(n):\n    print(6)\n    return A()",
    "a number of NumPy's": "import sys, types\nclass A:\n    def item(s): return B(0)\n"
    "class B(int):\n    def __eq__(s, o): return True\n"
    "sys.modules['numpy'] = types.SimpleNamespace(generic=A)\ndef twice(n): return A()",
    "iterates for ever": "import itertools\ndef twice(n): return itertools.repeat(6)",
    "a set that holds all": "class A(set):\n    def __contains__(s, o): return True\n"
    "    def __eq__(s, o): return True\ndef twice(n): return A()",
    "text": "def twice(n): return str(2 * n)",
    "a list": "def twice(n): return [2 * n]",
    "a type": "def twice(n): return object",
    "nothing": "def twice(n): pass",
    "no function": "def thrice(n): return 3 * n",
    "wrong once": "def twice(n): return 6",
}

#: Programs for standard input that give no right answer.
FALSE_PRINTS = {
    "nothing": "",
    "one answer for all": "print(6)",
    "both answers": "print(6)\nprint(140)",
    "both in a line": "print(6, 140)",
    "an answer and more": "n = int(input())\nprint(2 * n)\nprint('passed')",
    "more in the line": "n = int(input())\nprint(2 * n, end=' ok')",
    "the right end of a failure": "n = int(input())\nprint(2 * n)\nraise SystemExit(1)",
    "an exception after it": "n = int(input())\nprint(2 * n, flush=True)\n1 / 0",
    "killed after it": "import os\nprint(2 * int(input()), flush=True)\nos.kill(os.getpid(), 9)",
    "aborted after it": "import os\nprint(2 * int(input()), flush=True)\nos.abort()",
    "to the other stream": "import sys\nprint(2 * int(input()), file=sys.stderr)",
    "to its input": "import os\nn = int(input())\ntry: os.write(0, b'%d' % (2 * n))\nexcept OSError: 0",
    "to a file": "open('output', 'w').write(str(2 * int(input())))",
    "a file of the case before": "import os\nprint(140 if os.path.exists('a') else 6)\nopen('a', 'w')",
    "shared memory of it": "import os\nprint(140 if os.path.exists('/dev/shm/a') else 6)\n"
    "try: open('/dev/shm/a', 'w')\nexcept OSError: pass",
    "a process of it": "import os, time\nif os.fork() == 0:\n    time.sleep(0.2)\n    print(140)\n"
    "else:\n    print(6)",
    "not a number": "print('nan')",
    "infinite": "print('inf')",
    "underscores": "n = int(input())\nprint('_'.join(str(2 * n)) if n > 3 else 6)",
    "digits of another script": "print(str(2 * int(input())).translate({48 + n: 0x660 + n"
    " for n in range(10)}))",
    "in base sixteen": "print(hex(2 * int(input())))",
    "in quotes": "print(repr(str(2 * int(input()))))",
    "a zero byte": "print(2 * int(input()), end='\\0')",
    "too much": "print('6\\n' * 1_000_000)",
    "its parent's memory": "import glob\nfor f in glob.glob('/proc/[0-9]*/cmdline'):\n"
    "    if '140' in open(f).read(): print(2 * int(input()))",
    "frames": "import gc\nprint([o for o in gc.get_objects() if o == '140'])",
    "an empty line first": "print()\nprint('x')",
    "half an answer": "print(str(2 * int(input()))[:1])",
}

MAIN = "def twice(n):\n    return 2 * n\n"
#: Right programs, whatever else they do.
HONEST = {
    "a guarded test": MAIN + "import unittest\nclass T(unittest.TestCase):\n    def test(s):\n"
    "        s.assertEqual(twice(2), 5)\nif __name__ == '__main__':\n    unittest.main()",
    "a guarded exit": MAIN + "import sys\nif __name__ == '__main__':\n    sys.exit(twice(2))",
    "guarded input": MAIN + "if __name__ == '__main__':\n    print(twice(int(input())))",
    "an exit": MAIN + "import sys\nprint(twice(2))\nsys.exit(0)",
    "an exit that says no": MAIN + "raise SystemExit('done')",
    "input": MAIN + "print(twice(int(input('n? '))))",
    "guarded arguments": MAIN + "import argparse\nif __name__ == '__main__':\n"
    "    argparse.ArgumentParser().parse_args(['--none'])",
    "a doctest": MAIN + "import doctest\ndoctest.testmod()",
    "its own equality": "class N:\n    def __init__(s, n): s.n = n\n    def __eq__(s, o):"
    " return s.n == o.n\n    __hash__ = None\ndef twice(n):\n    assert N(n) == N(n)\n    return 2 * n",
    "a subclass": "class N(int):\n    def __eq__(s, o): return False\n    __hash__ = None\n"
    "def twice(n): return N(2 * n)",
    "a dataclass": "from dataclasses import dataclass\n@dataclass\nclass N:\n    n: int\n"
    "def twice(n): return N(2 * n).n",
    "threads": "import threading\ndef twice(n):\n    out = []\n"
    "    t = threading.Thread(target=lambda: out.append(2 * n))\n    t.start(); t.join()\n"
    "    return out[0]",
    "a thread that never ends": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(100,)).start()\n" + MAIN,
    "a pool": "from concurrent.futures import ThreadPoolExecutor\ndef twice(n):\n"
    "    with ThreadPoolExecutor(2) as p: return sum(p.map(int, [n, n]))",
    "another process": "import multiprocessing as m\ndef put(q, n): q.put(2 * n)\ndef twice(n):\n"
    "    c = m.get_context('fork')\n    q = c.SimpleQueue()\n"
    "    p = c.Process(target=put, args=(q, n))\n    p.start()\n    r = q.get()\n    p.join()\n"
    "    return r",
    "printing": "print('hello')\ndef twice(n):\n    print('n', n)\n    return 2 * n",
    "other streams": "import sys, io\nsys.stdout = io.StringIO()\nsys.stderr.close()\n" + MAIN,
    "names of the interpreter": "list = print = type = id = None\ndef len(x): return 0\n" + MAIN,
    "a cache": "from functools import lru_cache\n@lru_cache\ndef twice(n): return 2 * n",
    "a float": "def twice(n): return 2.0 * n",
    "a lambda": "twice = lambda n: 2 * n",
    "an object": "class T:\n    def __call__(s, n): return 2 * n\ntwice = T()",
    "asyncio": "import asyncio\nasync def go(n): return 2 * n\ndef twice(n): return asyncio.run(go(n))",
    "deep recursion": "import sys\nsys.setrecursionlimit(9000)\n"
    "def up(n): return 2 + up(n - 1) if n else 0\ndef twice(n):\n    up(3000)\n    return up(n)",
    "modules named as ours": "import sys\nassert 'remote' not in sys.modules\n" + MAIN,
}
BOTH = pytest.mark.parametrize("exam", [ASSERTS, CHECK], ids=["asserts", "check"])


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(allow_code=True) as opened:
        yield opened


@BOTH
@pytest.mark.parametrize("program", FAKES.values(), ids=FAKES)
def test_a_function_that_fakes_is_wrong(grader: Grader, exam: Exam, program: str) -> None:
    assert grader.judge(exam, program).state == "unequal"


@BOTH
@pytest.mark.parametrize("program", HONEST.values(), ids=HONEST)
def test_an_honest_function_is_right(grader: Grader, exam: Exam, program: str) -> None:
    verdict = grader.judge(exam, program)
    assert (verdict.state, verdict.reason) == ("equal", "")


@pytest.mark.parametrize("program", FALSE_PRINTS.values(), ids=FALSE_PRINTS)
def test_a_false_output_is_wrong(grader: Grader, program: str) -> None:
    assert grader.judge(CASES, program).state == "unequal"


@pytest.mark.parametrize(
    "program",
    [
        "print(2 * int(input()))",
        "import sys\nn = int(sys.stdin.read())\nprint(float(2 * n))\nsys.exit()",
        "def main():\n    print(2 * int(input()))\nif __name__ == '__main__':\n    main()",
        "import sys\nfor line in sys.stdin: sys.stdout.write(f'{2 * int(line)}')",
        "import os\nos.write(1, b'%d' % (2 * int(os.read(0, 9))))\nos._exit(0)",
        "import threading\nthreading.Thread(target=lambda: print(2 * int(input()))).start()",
        "import sys\nprint('working', file=sys.stderr)\nprint(2 * int(next(sys.stdin)))",
        "import subprocess, sys\nn = input()\nsubprocess.run([sys.executable, '-c',"
        " f'print(2 * {n})'], check=True)",
        "n = int(input())\nprint(f'  {2 * n}  ')\nprint()",
        "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 2 + f(n - 1)\n"
        "print(f(int(input())))",
        "import atexit\natexit.register(lambda: print(2 * n))\nn = int(input())",
        "class N(int):\n    def __eq__(s, o): return False\nprint(N(2 * int(input())))",
    ],
)
def test_an_honest_output_is_right(grader: Grader, program: str) -> None:
    verdict = grader.judge(CASES, program)
    assert (verdict.state, verdict.reason) == ("equal", "")


@pytest.mark.parametrize(
    ("body", "tests"),
    [
        ("return (n for n in range(3))", "assert list(f()) == [0, 1, 2]"),
        ("return {1: 2}.keys()", "assert f() == {1} and list(f()) == [1]"),
        ("from collections import Counter\n    return Counter('aab')", "assert f() == {'a': 2, 'b': 1}"),
        ("from collections import namedtuple\n    return namedtuple('P', 'x')(1)", "assert f() == (1,)"),
        ("return [(1, {2.5, None}), b'x', 10**5000]", "assert f() == [(1, {2.5, None}), b'x', 10**5000]"),
        ("from fractions import Fraction\n    return Fraction(1, 3)", "assert abs(f() * 3 - 1) == 0"),
        ("return 0.1 + 0.2", "assert abs(f() - 0.3) < 1e-6\nassert math.isclose(f(), 0.3)"),
        ("import re\n    return re.match('a', 'a')", "assert f()\nassert f().span() == (0, 1)"),
        ("import re\n    return re.match('a', 'b')", "assert not f()\nassert f() is None"),
        ("return lambda n: n + 1", "assert f()(1) == 2"),
        ("return range(3)", "assert f() == range(3) and len(f()) == 3"),
        ("raise ZeroDivisionError('no')", "try: f()\nexcept ZeroDivisionError as e: assert str(e) == 'no'\nelse: assert 0"),
        ("class E(ValueError): pass\n    raise E", "try: f()\nexcept ValueError: pass\nelse: assert 0"),
    ],
)  # fmt: skip
def test_values_come_out_as_the_tests_need_them(grader: Grader, body: str, tests: str) -> None:
    exam = Exam(check=f"{tests}\n")
    verdict = grader.judge(exam, f"def f():\n    {body}")
    assert (verdict.state, verdict.reason) == ("equal", "")


def test_arguments_changed_in_place_are_changed_for_the_tests(grader: Grader) -> None:
    exam = Exam(
        check="a, b = [3, 1], {1: 2}\nassert f(a, b=b) is None\nassert a == [1, 3] and not b\n"
    )
    assert grader.judge(exam, "def f(a, b):\n    a.sort()\n    b.clear()").state == "equal"
    assert grader.judge(exam, "def f(a, b): pass").state == "unequal"


def test_tests_may_build_objects_of_the_programs(grader: Grader) -> None:
    exam = Exam(check="root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2\n")
    program = (
        "class Node:\n    def __init__(s, n): s.n, s.left = n, None\n"
        "def depth(t): return 1 + depth(t.left) if t else 0"
    )
    assert grader.judge(exam, program).state == "equal"


def test_a_function_may_have_the_name_of_an_interpreters(grader: Grader) -> None:
    exam = Exam(check="assert sum(2, 3) == 5 and abs(-1) == 1\n", solution="def sum(a, b): ...")
    assert grader.judge(exam, "def sum(a, b): return a + b").state == "equal"
    tolerant = Exam(check="assert abs(f() - 3) < 1e-6\n", solution="def f(): ...")
    assert grader.judge(tolerant, "def abs(x): return 0\ndef f(): return 9").state == "unequal"


def test_tests_that_pass_functions_say_so(grader: Grader) -> None:
    verdict = grader.judge(Exam(check="assert f(lambda: 1) == 1\n"), "def f(g): return g()")
    assert verdict.state == "unequal"
    assert "cannot leave their process" in verdict.reason


@pytest.mark.skipif(not importlib.util.find_spec("numpy"), reason="NumPy is not installed")
def test_numbers_of_numpys_are_numbers(grader: Grader) -> None:
    program = "import numpy as np\ndef twice(n): return np.int64(2 * n)"
    assert grader.judge(CHECK, program).state == "equal"
