"""Nothing that runs what it reads: no pickle, no eval.

But for compiled kernels, which are code whatever they are kept as: `common.guest.kernelstore` reads
only what this user or root has written, before anything of it is unpickled.
"""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
SOURCES = sorted(
    path
    for room in ("common", "source_agent", "dest_agent", "pageferry", "scripts")
    for path in (PROJECT / room).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "yaml"}
CALLS = {"eval", "exec"}
ALLOWED = {"common/guest/jit.py": ["pickle"]}


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


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_file_unpickles_anything(path: Path) -> None:
    assert bad(ast.parse(path.read_text(encoding="utf-8"))) == ALLOWED.get(name_of(path), [])


def test_it_would_be_found() -> None:
    text = "import pickle\nfrom dill import x\neval('1')\nnp.load(f, allow_pickle=True)"
    assert bad(ast.parse(text)) == ["pickle", "dill", "eval", "allow_pickle"]
