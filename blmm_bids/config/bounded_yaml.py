"""YAML of config files: plain types only, no key twice, aliases within bounds."""

from __future__ import annotations

import yaml

# A config file expands to some hundred values; an alias bomb to more than memory holds.
MAX_NODES = 200_000
MAX_DEPTH = 30


def load_bounded_yaml(text: str) -> object:
    """Parse YAML into plain types.

    Aliases are followed, since the reference implementation's own dumps have them.

    Parameters
    ----------
    text : str
        One document.

    Raises
    ------
    yaml.YAMLError
        Not YAML, a tag that is not of a plain type, a key twice in one mapping, an expansion beyond
        `MAX_NODES` or `MAX_DEPTH`. Its text has the line.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _check_nodes(root)
        return loader.construct_document(root)
    except RecursionError:
        msg = "nested too deeply"
        raise yaml.YAMLError(msg) from None
    except (ValueError, OverflowError) as error:
        # A date such as 2001-99-99, an integer of thousands of digits.
        msg = f"a value cannot be read: {error}"
        raise yaml.YAMLError(msg) from error
    finally:
        loader.dispose()


def _check_nodes(root: yaml.Node) -> None:
    """Walk the tree as its aliases expand it, within bounds."""
    n_nodes = 0
    waiting = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        n_nodes += 1
        if n_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) expand without bound; write the values out", node.start_mark
            )
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            waiting += [(child, depth + 1) for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(child, depth + 1) for child in node.value]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
        line = key.start_mark.line + 1
        if key.value in seen:
            text = f"'{key.value}' is given twice, on lines {seen[key.value]} and {line}; remove one"
            raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
        seen[key.value] = line
