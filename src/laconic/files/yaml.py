"""The one reader of YAML: plain values, of bounded size and depth, each key once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from laconic.files.text import decode, read_bytes, size

if TYPE_CHECKING:
    from laconic.errors import LaconicError

#: A file's bytes, its values with every alias written out, how deep they nest, a number's digits.
MOST_BYTES: Final = 2**20
MOST_VALUES: Final = 20_000
DEEPEST: Final = 50
MOST_DIGITS: Final = 100


def read_yaml_file(path: Path, what: str, error: type[LaconicError]) -> Any:
    """The plain values of a YAML file.

    Args:
        path: The file.
        what: How an error calls it.
        error: What to raise where `load_yaml` does, or the file cannot be read.
    """
    content = read_bytes(path, error, most=MOST_BYTES)
    return load_yaml(decode(content, what, error), what, error)


def read_yaml_documents(path: Path, what: str, error: type[LaconicError]) -> list[Any]:
    """The plain values of each document of a YAML file; arguments as for `read_yaml_file`."""
    content = read_bytes(path, error, most=MOST_BYTES)
    return load_documents(decode(content, what, error), what, error)


def read_yaml_mapping(path: str | Path, what: str, error: type[LaconicError]) -> dict[str, Any]:
    """The mapping that a YAML file of one document holds.

    Args:
        path: The file.
        what: What the file is, as the subject of an error message.
        error: What to raise.

    Raises:
        LaconicError: (of the type `error`) For a missing file, more documents than one, no mapping,
            or what `load_yaml` refuses.
    """
    documents = read_yaml_documents(Path(path), what, error)
    if len(documents) > 1:
        raise error(
            f"{what} holds {len(documents)} YAML documents; expected one. "
            "Write each to a file of its own."
        )
    if not documents or not isinstance(documents[0], dict):
        raise error(f"{what} holds no keys.")
    return documents[0]


def load_yaml(text: str, what: str, error: type[LaconicError]) -> Any:
    """The plain values of a YAML text of one document; None for an empty one.

    Args:
        text: The text.
        what: How an error calls it.
        error: What to raise for several documents, and where `load_documents` does.
    """
    documents = load_documents(text, what, error)
    if len(documents) > 1:
        raise error(f"{what} holds {len(documents)} YAML documents; one is expected.")
    return documents[0] if documents else None


def load_documents(text: str, what: str, error: type[LaconicError]) -> list[Any]:
    """The plain values of each document of a YAML text, empty ones left out.

    Args:
        text: The text.
        what: How an error calls it.
        error: What to raise, with line and column, for what is no YAML, a key written twice, more
            than 20,000 values (aliases written out), more than 50 levels, a number of more
            than 100 digits, or half a character.
    """
    if len(text) > MOST_BYTES:
        raise error(f"{what} cannot be read: it is larger than {size(MOST_BYTES)}.")
    try:
        documents = yaml.load_all(text, _Loader)  # a subclass of the safe loader
        return [document for document in documents if document is not None]
    except yaml.MarkedYAMLError as reason:
        mark = reason.problem_mark or reason.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        told = ", ".join(filter(None, (reason.context, reason.problem)))
        kind = "" if isinstance(reason, _RefusedError) else " is not YAML"
        raise error(f"{what}{place}{kind}: {told}.") from None
    except yaml.YAMLError as reason:
        raise error(f"{what} is not YAML: {' '.join(str(reason).split())}.") from None
    except (ValueError, RecursionError) as reason:  # the scanner's, before a value is composed
        raise error(f"{what} is not YAML ({reason}).") from None


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is beyond the limits here."""


class _Loader(yaml.SafeLoader):
    """Plain values; every limit is kept before the first value is made."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._composed = 0
        self._measures: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node, measured with its aliases written out."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML has no types
        self._depth += 1
        self._composed += 1
        if self._composed > MOST_VALUES:
            raise _problem(f"more than {MOST_VALUES:,} values", mark)
        if self._depth > DEEPEST:
            raise _problem(f"more than {DEEPEST} levels of brackets or indentation", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if id(node) not in self._measures:
            if node is not None and self._is_open(node):
                raise _problem("an alias within what it stands for", mark)
            self._measures[id(node)] = self._measure(node, mark)
        return node

    def _is_open(self, node: Any) -> bool:
        """Whether a collection is still being composed: an alias of it stands inside it."""
        return isinstance(node, yaml.CollectionNode) and node.end_mark is None

    def _measure(self, node: Any, mark: Any) -> tuple[int, int]:
        """How many values a node holds and how deep they nest, aliases written out."""
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        flat = [p for part in parts for p in (part if isinstance(part, tuple) else (part,))]
        held = [self._measures[id(part)] for part in flat]
        values = 1 + sum(count for count, _ in held)
        depth = 1 + max((deep for _, deep in held), default=0)
        if values > MOST_VALUES:
            raise _problem(f"more than {MOST_VALUES:,} values, aliases written out", mark)
        if depth > DEEPEST:
            raise _problem(f"more than {DEEPEST} levels, aliases written out", mark)
        return values, depth

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, in which a key written twice is an error instead of a silent choice."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key that is no text or number", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _problem(f"the key '{key}' is written twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value; what no such value can be is said with its place."""
        numeric = isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float"))
        if numeric and len(node.value) > MOST_DIGITS:
            raise _problem(f"a number of more than {MOST_DIGITS} digits", node.start_mark)
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):  # a pair of escapes, as JSON has them, is one character
                value = value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise _problem("half a character", node.start_mark) from None
        except (ValueError, OverflowError, TypeError, AttributeError) as reason:
            raise _problem(f"a value that cannot be read ({reason})", node.start_mark) from None
        return value


def _problem(words: str, mark: Any) -> _RefusedError:
    return _RefusedError(None, None, words, mark)
