"""The house rules of docs/architecture.md, read from the source by `ast`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay

SRC = Path(__file__).parents[2] / "src" / "assay"
MAY: dict[str, set[str]] = {
    "core": set(),
    "stats": set(),
    "runtime": {"core"},
    "tuning": {"core", "stats"},
    "evolving": {"core", "stats"},
    "gates": {"core", "stats", "tuning"},
    "readers": {"core", "track"},
    "ledger": {"core", "runtime"},
    "engine": {"core", "runtime"},
    "adapters": {"core", "readers", "runtime", "load", "track", "tuning", "evolving"},
    "workers": set(),
    "track": set(),
    "live": {"core", "readers", "runtime", "stats", "track"},
    "load": {"core", "runtime", "stats"},
    "flows": {"core", "gates", "engine"},
    "registry": {"core", "runtime", "gates", "adapters"},
    "report": {
        "core",
        "flows",
        "gates",
        "ledger",
        "live",
        "readers",
        "registry",
        "stats",
        "runtime",
        "tuning",
    },
    "testing": {"core", "runtime", "engine", "adapters", "load", "registry"},
    "cli": {
        "core",
        "flows",
        "report",
        "ledger",
        "live",
        "load",
        "registry",
        "gates",
        "readers",
        "runtime",
        "engine",
        "stats",
        "track",
        "tuning",
        "evolving",
    },
    "__main__": {"cli"},
    "__init__": {"track"},
}
"""Floor → floors that it may import. Nobody imports `cli` or `testing`."""

PURE = {"core", "stats", "gates", "tuning", "evolving"}
IMPURE_MODULES = {
    "os",
    "pathlib",
    "subprocess",
    "socket",
    "time",
    "random",
    "shutil",
    "httpx",
    "sqlite3",
    "io",
}


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(name: str) -> str:
    """The first part of a module's name below `assay`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path, *, top_only: bool = False) -> Iterator[tuple[str, int]]:
    """Names that a module imports, with their lines; relative imports made absolute."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_only_floors_below(path: Path) -> None:
    """A module imports its own floor and those that the table allows."""
    floor = floor_of(name_of(path))
    for name, line in imports(path):
        if not name.startswith("assay."):
            continue
        other = floor_of(name)
        if other.startswith("__version__") or (
            not (SRC / other).exists() and not (SRC / f"{other}.py").exists()
        ):
            continue
        assert other == floor or other in MAY[floor], f"{path.relative_to(SRC)}:{line} imports {name}"


@pytest.mark.parametrize("path", sorted((SRC / "adapters").rglob("*.py")), ids=lambda p: p.stem)
def test_adapters_do_not_import_each_other(path: Path) -> None:
    """An adapter stands alone: what two of them need lies in `runtime` or `readers`."""
    own = name_of(path)
    for name, line in imports(path):
        assert not name.startswith("assay.adapters.") or name.startswith(own), f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", [p for p in modules() if floor_of(name_of(p)) in PURE], ids=name_of)
def test_the_judges_are_pure(path: Path) -> None:
    """Core, statistics and gates have no I/O, clock or randomness."""
    for name, line in imports(path):
        if name_of(path) == "assay.core.ports" and name.startswith("pathlib"):
            continue  # the ports name paths in their signatures; they have no code
        assert name.split(".")[0] not in IMPURE_MODULES, f"{path.relative_to(SRC)}:{line} imports {name}"


def test_no_import_cycle() -> None:
    """Modules import each other in one direction only."""
    known = {name_of(p): p for p in modules()}
    graph = {
        name: {n for n, _ in imports(path, top_only=True) if n in known and n != name}
        for name, path in known.items()
    }
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "cycle: " + " → ".join([*way[way.index(name) :], name])
        if name in done:
            return
        for other in sorted(graph[name]):
            walk(other, (*way, name))
        done.add(name)

    for name in sorted(graph):
        walk(name, ())


@pytest.mark.parametrize("arguments", [["--help"], ["ls"]])
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """`assay --help` and `assay ls` load neither numpy nor a vendor."""
    code = (
        "import sys; sys.argv = ['assay', *sys.argv[1:]]\n"
        "from assay.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'scipy', 'torch', 'transformers', 'lm_eval', 'gguf', 'httpx', 'ruamel'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_public_names_are_few_and_sorted() -> None:
    """The package exports at most 40 names, in order, and each of them exists."""
    assert list(assay.__all__) == sorted(assay.__all__)
    assert len(assay.__all__) <= 40
    assert all(getattr(assay, name) is not None for name in assay.__all__)
