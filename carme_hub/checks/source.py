"""What only the text of a configuration shows: keys that are there twice, secrets that others can read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from carme_hub.checks.files import secret
from carme_hub.spawner.mistakes import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traitlets.config import Config

_LARGEST = 4096  # bytes of a file with a password
_SHORTEST = 4  # letters of a password that is looked for


def lines(file: Path, config: Config) -> Iterator[str]:
    """Look at a configuration's text."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return  # whoever read it has said so
    yield from _twice(tree)
    yield from _secrets(file, tree, config)


def _twice(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Dict):
            continue
        seen: set[object] = set()
        for key in node.keys:
            if isinstance(key, ast.Constant) and key.value in seen:
                what = f"the name {shown(key.value)} stands twice in one dictionary"
                yield f"line {key.lineno}: {what}, and only the last counts. Give one of them another name"
            elif isinstance(key, ast.Constant):
                seen.add(key.value)


def _secrets(file: Path, tree: ast.AST, config: Config) -> Iterator[str]:
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for setting, word in _words(config):
        if any(word in text for text in texts):
            yield from secret(setting, file)
            continue
        for text in sorted(texts):
            if text.startswith("/") and _holds(Path(text), word):
                yield from secret(setting, Path(text))


def _words(config: Config) -> Iterator[tuple[str, str]]:
    """Return the passwords of a configuration and where they are set."""
    for section in ("CarmeAuthenticator", "LDAPAuthenticator"):
        word = config.get(section, {}).get("lookup_dn_search_password")
        if isinstance(word, str) and len(word) >= _SHORTEST:
            yield f"{section}.lookup_dn_search_password", word
    for section, name in (("JupyterHub", "db_url"), ("CarmeAuthenticator", "database_url")):
        url = config.get(section, {}).get(name)
        try:
            word = sa.make_url(url).password if isinstance(url, str) else None
        except sa.exc.ArgumentError:
            continue
        if word and len(word) >= _SHORTEST:
            yield f"{section}.{name}", word


def _holds(file: Path, word: str) -> bool:
    try:
        return file.is_file() and file.stat().st_size <= _LARGEST and word in file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
