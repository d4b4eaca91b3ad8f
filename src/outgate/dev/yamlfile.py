"""Read a YAML file as plain data, within limits that no document can talk its way around.

PyYAML parses; what is made of the nodes is made here, because a safe loader is still willing to repeat one alias a
thousand million times, to read a date where text was meant, and to take the second of two equal keys in silence.
"""

from __future__ import annotations

from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from outgate.errors import ConfigError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "parse", "read"]

#: The largest file that is read; App Engine's own limit for all configuration of an app was less.
MAX_BYTES: Final = 128 * 1024
#: The most values a document may come to, each use of an alias counted with all that it stands for.
MAX_NODES: Final = 20_000
#: How deep lists and mappings may lie in one another.
MAX_DEPTH: Final = 32

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"


def read(path: str) -> dict[str, Any]:
    """Return the mapping in a file.

    :raises ConfigError: it cannot be read, is too large, is not YAML, or holds something else than a mapping.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name a file, or the folder it is in") from None
    return parse(raw, path)


def parse(raw: bytes, path: str) -> dict[str, Any]:
    """Return the mapping in a document; an empty one is an empty mapping.

    :param path: what complaints begin with.
    :raises ConfigError: as :func:`read`.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES // 1024} KiB; this is not the app.yaml that was meant")
    loader = None
    try:
        loader = _Loader(raw)
        node = loader.get_single_node()
        data = None if node is None else _Making(path, loader).make(node, 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {where}{error.problem or 'is not YAML'}; check quotes and indentation") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}; save it as UTF-8 text") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text; save it as UTF-8") from None
    finally:
        if loader is not None:
            loader.dispose()
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: holds no keys; begin with: runtime: python311")
    return data


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's, giving up on depth while it reads: its scanner takes a second for each ten thousand open brackets."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"is nested deeper than {MAX_DEPTH} levels", problem_mark=self.peek_event().start_mark
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Making:
    """Make plain data of nodes, and count."""

    def __init__(self, path: str, loader: _Loader) -> None:
        self._path = path
        self._loader = loader
        self._count = 0

    def make(self, node: yaml.Node, depth: int) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise self._error(node, f"comes to more than {MAX_NODES} values", "aliases are counted each time")
        if depth > MAX_DEPTH:
            raise self._error(node, f"is nested deeper than {MAX_DEPTH} levels", "does an alias stand within itself?")
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.make(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, depth)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        raise self._error(node, f"has the tag {node.tag!r}", "leave the tag out")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged.update(self._merged(value_node, depth))
                continue
            key = self.make(key_node, depth + 1)
            if isinstance(key, (int, float)) and not isinstance(key, bool):
                key = key_node.value  # a name made of digits is meant as it was written
            if not isinstance(key, str):
                raise self._error(key_node, f"{key!r} is not a name for a key", "put it in quotes")
            if key in made:
                raise self._error(key_node, f"{key!r} stands here a second time", "keep one of the two")
            made[key] = self.make(value_node, depth + 1)
        return {**merged, **made}

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        """Return what ``<<`` brings in: of several mappings the earlier ones win (YAML's merge key, 1.1)."""
        if isinstance(node, yaml.MappingNode):
            brought: Any = self.make(node, depth + 1)
            return dict(brought)
        if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.MappingNode) for item in node.value):
            together: dict[str, Any] = {}
            for item in reversed(node.value):
                together.update(self.make(item, depth + 1))
            return together
        raise self._error(node, "<< stands before something else than a mapping", "name an alias of one")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind = node.tag.removeprefix(_TAG)
        try:
            if kind == "int":
                return self._loader.construct_yaml_int(node)
            if kind == "float":
                return self._loader.construct_yaml_float(node)
            if kind == "bool":
                return self._loader.construct_yaml_bool(node)
        except (ValueError, KeyError, IndexError):
            raise self._error(node, f"{node.value[:40]!r} is no {kind}", "put it in quotes if it is text") from None
        if kind == "null":
            return None
        if kind in ("str", "timestamp", "value", "merge"):
            return node.value
        raise self._error(node, f"has the tag {node.tag!r}", "leave the tag out")

    def _error(self, node: yaml.Node, text: str, hint: str) -> ConfigError:
        mark = node.start_mark
        return ConfigError(f"{self._path}: line {mark.line + 1}, column {mark.column + 1}: {text}; {hint}")
