"""Nothing that runs what it reads: no pickle, no eval."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
SOURCES = sorted(
    path
    for room in ("common", "source_agent", "dest_agent", "lab", "scripts")
    for path in (PROJECT / room).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml"}
CALLS = {"eval", "exec"}


def bad(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] if node.module.partition(".")[0] in MODULES else []
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                found.append(node.func.id)
            found += [k.arg for k in node.keywords if k.arg == "allow_pickle" and _true(k.value)]
    return found


def _true(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and value.value is False)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_pickle(path: Path) -> None:
    assert bad(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_it_would_be_found() -> None:
    text = "import pickle\nfrom dill import x\neval('1')\nnp.load(f, allow_pickle=True)"
    assert bad(ast.parse(text)) == ["pickle", "dill", "eval", "allow_pickle"]
