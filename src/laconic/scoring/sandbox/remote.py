"""A program's functions, called from another process: its own end, and the judge's end.

The judge runs an exam's tests in a process that never ran the program. A name that the tests take
from the program is a `RemoteObject` there: a call sends the arguments and brings the result back,
plain values as data (`values.py`), anything else as another `RemoteObject`. A remote object equals
only itself, takes part in no arithmetic and is never asked to compare: what the program's classes
redefine decides nothing. It can be called, iterated, indexed, measured, asked for its truth and for
its attributes. Arguments that the program changed (lists, dicts, sets, ...) are changed at the
judge's end too. An exception comes as the nearest class of the interpreter's own.

Not covered: tests that pass functions or objects of their own (they end in a TypeError), and tests
that ask for the class of what the program returns, where the program defines that class.

Both ends run inside of the sandbox, so this imports nothing of the package.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.scoring.sandbox import values
else:
    import values

#: Bytes of one answer.
LONGEST = 16 << 20


class Channel:
    """A socket on which lines of ASCII pass both ways."""

    def __init__(self, descriptor: int) -> None:
        self._incoming = open(descriptor, "rb", closefd=False)  # noqa: SIM115
        self._outgoing = open(descriptor, "wb", closefd=False)  # noqa: SIM115

    def send(self, line: str) -> None:
        """Write a line."""
        self._outgoing.write(line.encode("ascii") + b"\n")
        self._outgoing.flush()

    def receive(self, most: int = -1) -> str:
        """The next line, as far as it has no more bytes than `most`; empty at the end."""
        return self._incoming.readline(most).decode("ascii")


class Judged:
    """The program's end: its objects by number, and what may be asked of them."""

    def __init__(self, module: ModuleType, stopped: BaseException | None) -> None:
        self._module = module
        self._stopped = stopped
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._asked: dict[str, Callable[..., Any]] = {
            "name": self._name,
            "call": lambda target, args, kwargs: target(*args, **kwargs),
            "get": getattr,
            "set": setattr,
            "item": lambda target, key: target[key],
            "len": len,
            "bool": bool,
            "str": str,
            "repr": repr,
            "iter": iter,
            "next": lambda target: [next(target)],
        }

    def serve(self, channel: Channel) -> None:
        """Answer the judge until it closes the channel."""
        while line := channel.receive():
            channel.send(self._answer(line))

    def _answer(self, line: str) -> str:
        verb, *rest = values.read(line, self._objects.__getitem__)
        before = values.write(rest[1:], self._keep) if verb == "call" else ""
        try:
            result = self._asked[verb](*rest)
            changed = None
            if verb == "call" and values.write(rest[1:], self._keep) != before:
                changed = rest[1:]
            return values.write(["value", result, changed], self._keep)
        except BaseException as error:  # noqa: BLE001  # whatever a program raises is its answer
            kinds = [kind.__name__ for kind in type(error).__mro__ if _is_builtin(kind)]
            return values.write(["raise", kinds, f"{error}"[:1000]], self._keep)

    def _name(self, name: str) -> Any:
        try:
            return vars(self._module)[name]
        except KeyError:
            raise self._stopped or NameError(f"name '{name}' is not defined") from None

    def _keep(self, value: object) -> int:
        number = self._numbers.setdefault(id(value), len(self._objects))
        if number == len(self._objects):
            self._objects.append(value)
        return number


class ProgramEnded(BaseException):
    """The program is gone, or its answer is none: no test may go on."""


class Caller:
    """The judge's end of the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._remotes: dict[int, RemoteObject] = {}
        self.ended = False

    def ask(self, verb: str, *rest: Any) -> Any:
        """Have the program do something; gives the result or raises what it raised."""
        request = values.write([verb, *rest], _number)
        try:
            if self.ended:
                raise EOFError
            self._channel.send(request)
            line = self._channel.receive(LONGEST)
            if not line:
                raise EOFError
            answer = values.read(line, self._find)
            kind, first, second = answer
            if kind == "raise":
                raised = _rebuilt(first, str(second))
            elif second is not None:
                _change(rest[1:], second)
        except (EOFError, OSError):
            self.ended = True
            raise ProgramEnded("it ended before its tests did") from None
        except Exception as error:  # noqa: BLE001  # whatever a false answer breaks
            self.ended = True
            raise ProgramEnded(f"its answer cannot be read ({type(error).__name__})") from None
        if kind == "raise":
            raise raised
        return first

    def _find(self, number: int) -> RemoteObject:
        return self._remotes.setdefault(number, RemoteObject(self, number))


class RemoteObject:
    """An object of the program's; see this module for what it can do."""

    __slots__ = ("_caller", "_number")

    def __init__(self, caller: Caller, number: int) -> None:
        object.__setattr__(self, "_caller", caller)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the program's object gives for these arguments."""
        return self._caller.ask("call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._caller.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._caller.ask("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._caller.ask("item", self, key)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._caller.ask("iter", self)
        while True:
            try:
                (item,) = self._caller.ask("next", iterator)
            except StopIteration:
                return
            yield item

    def __len__(self) -> int:
        return int(self._caller.ask("len", self))

    def __bool__(self) -> bool:
        return self._caller.ask("bool", self) is True

    def __str__(self) -> str:
        return str(self._caller.ask("str", self))

    def __repr__(self) -> str:
        return str(self._caller.ask("repr", self))


class Names(dict[str, Any]):
    """The tests' global names; what they do not define themselves is looked for elsewhere.

    That is in the program for the names asked of it (one may hide a name of the interpreter's, such
    as ``sum``), then in the interpreter, in its library, and in the program.
    """

    def __init__(self, caller: Caller, asked: list[str]) -> None:
        super().__init__(__name__="tests")
        self._caller = caller
        self._asked = asked

    def __missing__(self, name: str) -> Any:
        if name not in self._asked:
            if hasattr(builtins, name):
                raise KeyError(name)
            if name in sys.stdlib_module_names:
                return importlib.import_module(name)
        self[name] = self._caller.ask("name", name)
        return self[name]


def serve(source: str, channel: Channel) -> None:
    """Load a program as a module, and answer the judge to the end of this process.

    A program that ends itself, or asks for input, has its functions called all the same.
    """
    module = ModuleType("program")
    sys.modules["program"] = module
    stopped: BaseException | None = None
    try:
        exec(compile(source, "program.py", "exec"), module.__dict__)
    except (SystemExit, EOFError) as error:
        stopped = error
    Judged(module, stopped).serve(channel)
    os._exit(0)


def examine(tests: str, asked: list[str], channel: Channel, ended: int) -> None:
    """Run an exam's tests to the end of this process; its exit status is the verdict.

    Args:
        tests: Python that raises where the program is wrong.
        asked: Names that it takes from the program though the interpreter has them too.
        channel: Leads to the program.
        ended: The status where the program ended before the tests did.
    """
    caller = Caller(channel)
    status = 1
    try:
        exec(compile(tests, "tests.py", "exec"), Names(caller, asked))
        status = ended if caller.ended else 0
    except ProgramEnded as error:
        status = ended
        os.write(2, f"{error}\n".encode())
    except BaseException as error:  # noqa: BLE001  # it is a verdict
        text = "".join(traceback.format_exception_only(error))
        os.write(2, text.encode(errors="replace")[-2000:])
    os._exit(status)


def _is_builtin(kind: type) -> bool:
    return getattr(builtins, kind.__name__, None) is kind


def _number(value: object) -> int:
    if isinstance(value, RemoteObject):
        return int(object.__getattribute__(value, "_number"))
    raise TypeError(f"The tests pass a {type(value).__name__}, which cannot leave their process.")


def _rebuilt(kinds: list[str], message: str) -> Exception:
    """The exception of the interpreter's own that is nearest to what the program raised."""
    for name in kinds:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message)
            except TypeError:  # such as UnicodeDecodeError, which takes five arguments
                continue
    return RuntimeError(f"{kinds[0]}: {message}")


def _change(sent: tuple[Any, ...], back: list[Any]) -> None:
    """Give the arguments that were sent the contents that came back."""
    (args, kwargs), (new_args, new_kwargs) = sent, back
    pairs = [
        *zip(args, new_args, strict=True),
        *((kwargs[name], new_kwargs[name]) for name in kwargs),
    ]
    for old, new in pairs:
        if type(old) is not type(new):
            continue
        if isinstance(old, list | bytearray):
            old[:] = new
        elif isinstance(old, dict | set):
            old.clear()
            old.update(new)
        elif isinstance(old, deque):
            old.clear()
            old.extend(new)
