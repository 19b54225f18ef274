"""YAML files whose values mean one thing, whatever version of YAML a reader follows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import RegistryError
from pipeline.text import shortened

MAX_BYTES = 1 << 18
"""Of a YAML file; the longest have some thousand."""
MOST_DIGITS = 18
"""Of a number: whole ones fit into 64 bits."""
_NUMBER = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)"
DOUBTFUL = (
    ("yes|no|on|off", "true or false in YAML 1.1 and text in 1.2", "write true or false"),
    (
        "[-+]?0([0-9_]+|[ob][0-7_]+|x[0-9a-f_]+)",
        "a number whose base depends on the reader",
        "write its digits without a 0 before them",
    ),
    (
        r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?",
        "a number of base 60 in YAML 1.1 and text in 1.2",
        "write one number, of seconds if it is a time",
    ),
    (
        rf"{_NUMBER}e[0-9]+|[-+]?[0-9]+e[-+][0-9]+|{_NUMBER}e[-+][0-9]{{3,}}",
        "a number or text, depending on the reader",
        "write it without an exponent",
    ),
    (r"[-+]?\.?[0-9][0-9.]*_[0-9_.]*", "a number in YAML 1.1 and text in 1.2", "leave out the _"),
    (r"[-+]\.[0-9]+", "text in YAML 1.1 and a number in 1.2", "write a 0 before the dot"),
    (r"[-+]?\.inf|\.nan", "not a finite number", "write one"),
    (
        "[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(t| +)[0-9].*",
        "a date in YAML 1.1 and text in 1.2",
        "",
    ),
    ("=|<<", "a sign with a meaning of its own in YAML 1.1", ""),
    (rf"[-+]?[0-9]{{{MOST_DIGITS + 1},}}", f"a number of over {MOST_DIGITS} digits", "write fewer"),
)
"""Plain words, in any case, that readers of YAML take for different values -> what they are and
how to write what was meant, if it is no text."""
_DOUBTFUL = [(re.compile(word, re.IGNORECASE), what, how) for word, what, how in DOUBTFUL]
_UNWANTED = re.compile("[\0\ud800-\udfff]")
"""Letters that no file name and no table holds."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses what YAML lets pass in silence: repeated keys, keys that are no text, aliases, tags,
    and words that mean something else to another reader.

    A few aliases of aliases stand for more values than any memory holds.
    """

    def value(self) -> Any:
        """What the text says. Raises RegistryError with every fault."""
        self.faults: list[str] = []
        node = self.get_single_node()
        if self.faults:
            raise RegistryError(self.faults)
        return None if node is None else self.construct_document(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        peek: Callable[[], Any] = self.peek_event
        event = peek()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise RegistryError([f"line {line}: got an alias (*name), expected the value itself"])
        if getattr(event, "tag", None) is not None:
            self.faults.append(f"line {line}: got the tag {event.tag}, expected a value alone")
        if isinstance(event, yaml.ScalarEvent) and (fault := _fault(event)):
            self.faults.append(f"line {line}: {fault}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise RegistryError([f"line {line}: got the key {key!r}, expected text: quote it"])
            if key in seen:
                raise RegistryError([f"line {line}: got {key} twice, expected it once"])
            seen.add(key)
        return super().construct_mapping(node, deep)


def _fault(scalar: yaml.ScalarEvent) -> str:
    """Why a word may mean something else than it says; "" where it may not."""
    value = scalar.value
    if found := _UNWANTED.search(value):
        return f"got the letter {found[0]!a}, expected text"
    for pattern, meaning, remedy in _DOUBTFUL if scalar.implicit[0] else ():
        if pattern.fullmatch(value):
            got = shortened(value, 40)
            quoted = f'quote it, "{got}"'
            remedies = f"{remedy}, or {quoted}, if it is text" if remedy else quoted
            return f"got {got}, {meaning}: {remedies}"
    return ""


def read_yaml(file: Path | str) -> dict[str, Any]:
    """A YAML file of fields.

    RegistryError where there is no such file, for wrong YAML, repeated keys, keys that are no text,
    and values that YAML's versions read differently.
    """
    file = Path(file)
    data = yaml_value(_content(file), str(file))
    if not isinstance(data, dict):
        kind = "an empty file" if data is None else f"a {type(data).__name__}"
        raise RegistryError([f"{file}: file: got {kind}, expected fields and values"])
    return data


def _content(file: Path) -> bytes:
    try:
        if not file.is_file():
            there = file.exists()
            fault = "is no file; name a YAML file" if there else "no such file; correct the path"
            raise RegistryError([f"{file}: {fault}"])
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RegistryError([f"{file}: {error.strerror}; correct the path"]) from error
    if len(content) > MAX_BYTES:
        size = f"more than {MAX_BYTES} bytes"
        raise RegistryError([f"{file}: file: got {size}, expected a YAML file of fewer"])
    return content


def yaml_value(text: bytes | str, owner: str) -> Any:
    """What a text in YAML says, as strictly as `read_yaml`; faults begin with `owner`."""
    try:
        return _StrictLoader(text.decode("utf-8") if isinstance(text, bytes) else text).value()
    except RegistryError as error:
        raise RegistryError([f"{owner}: {fault}" for fault in error.faults]) from error
    except RecursionError:
        raise RegistryError([f"{owner}: YAML: got too many levels of nesting"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = shortened(" ".join(str(error).split()))
        raise RegistryError([f"{owner}: YAML: got {problem}, expected valid YAML"]) from error
