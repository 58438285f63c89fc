"""A digest of every definition that a run's numbers depend on.

The roots are the method, the networks and samplers that it names, and the harness's path from a plan to its numbers.
The digest covers each definition (function, class, assignment) that a root names, those that these name, and so on. It
is computed from syntax trees without docstrings, comments and positions. A new file, a new function that nothing calls,
a changed comment or a moved module leaves it as it is; any change of a function that is reached changes it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.data.samplers import SAMPLERS
from benchmark.errors import InputError
from benchmark.method import METHODS, Method, MethodConfig
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import clip_architectures
from benchmark.spec import Recipe, parse
from benchmark.store.records import Record

# The origins of a run's numbers, in the order of a run. Of a class all methods are reached, and what they name.
PATH = (
    "benchmark.data.dataset:DatasetFolder",
    "benchmark.data.images:cache_split",
    "benchmark.models.weights:resolve_weights",
    "benchmark.running.execute:execute",
)

# Rooms and modules that decide no number. Their results are part of the run's id (`spec`, `plan`), or they store and
# show results, or they start and stop the computation.
APART = (
    "benchmark.audit",
    "benchmark.base",
    "benchmark.data.archives",
    "benchmark.errors",
    "benchmark.registry",
    "benchmark.running.environment",
    "benchmark.running.plan",
    "benchmark.running.rerun",
    "benchmark.running.stop",
    "benchmark.spec",
    "benchmark.store",
    "benchmark.ui",
)

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = ("site-packages", "dist-packages")

# (module, name) of a definition at the top of a module.
Definition = tuple[str, str]


def code_digest(method: type[Method], recipe: Recipe, config: MethodConfig) -> str:
    """sha256 over the code that decides the numbers of a method with a configuration, on a recipe's network.

    A record whose digest differs is stale. Files are read once a process: later edits do not run. Raises InputError for
    a backbone or sampler that is not registered.
    """
    samplers = [SAMPLERS.get(name) for name in method.samplers(config)]
    networks = [BACKBONES.get(name) for name in sorted({recipe.backbone, *_other_networks(method, config)})]
    return digest_of(method, *networks, *samplers)


def code_digest_of(record: Record) -> str | None:
    """The digest that a record's run would have now; None where its method, settings or network do not exist."""
    try:
        method = METHODS.get(record.spec.method)
        config = parse(method.Config, record.spec.config, "config")
        return code_digest(method, record.spec.recipe, config)
    except InputError:
        return None


def _other_networks(method: type[Method], config: MethodConfig) -> set[str]:
    """Names of the other networks that a method may build: those that its code names, and those of the CLIP weights
    that its settings name."""
    texts = [value for value in config.model_dump().values() if isinstance(value, str)]
    found = {
        name
        for name, clip in clip_architectures().items()
        if any(text.startswith(f"{clip.published_name}:") for text in texts)
    }
    return found | _networks_named_by(method)


@functools.cache
def _networks_named_by(method: type[Method]) -> set[str]:
    """Names of networks in the code of a method, the harness's apart."""
    reached = [(module, name) for module, name in reach([_definition(method)]) if not module.startswith("benchmark.")]
    return {text for module, name in reached for text in _Module.of(module).texts(name) if text in BACKBONES}


@functools.cache
def digest_of(*roots: Callable[..., Any]) -> str:
    """sha256 over all that the given classes and functions, and the harness's path to a run's numbers, reach.

    Raises ValueError where a definition of `PATH` no longer exists.
    """
    reached = reach([*(_definition(root) for root in roots), *(_named(name) for name in PATH)])
    texts = sorted({f"{name} {_Module.of(module).text(name)}" for module, name in reached})
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def reach(roots: Iterable[Definition]) -> set[Definition]:
    """The given definitions and all that they lead to."""
    found: set[Definition] = set()
    unvisited = list(roots)
    while unvisited:
        definition = unvisited.pop()
        if definition in found:
            continue
        found.add(definition)
        module, name = definition
        unvisited += _Module.of(module).needs(name)
    return found


def _named(path: str) -> Definition:
    module, _, name = path.partition(":")
    if name not in _Module.of(module).statements:
        raise ValueError(f"{module} has no {name}: the path to a run's numbers has changed; correct PATH")
    return module, name


def _definition(root: Callable[..., Any]) -> Definition:
    """The definition at the top of a module that a class or function belongs to."""
    return root.__module__, root.__qualname__.partition(".")[0]


# Name of the statements that a module executes on import beside definitions: registering, settings of libraries.
_EFFECTS = "<import>"


@dataclass
class _Module:
    """One module as the digest sees it.

    statements: name -> the statements that define it; statements that define nothing are under `_EFFECTS`. imported:
    name -> its possible origins: (module, name in it), "" for the module itself.
    """

    name: str
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    stars: set[str] = field(default_factory=set)
    _needs: dict[str, set[Definition]] = field(default_factory=dict)
    _texts: dict[str, str] = field(default_factory=dict)

    @classmethod
    @functools.cache
    def of(cls, name: str) -> _Module:
        """A module by its name. Without a file, as in a notebook, it has the definitions whose source Python knows."""
        module = cls(name)
        path = _file(name)
        if path is not None:
            module._read(ast.parse(path.read_bytes()))
        return module

    def _read(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            self._note_import(node)
        for statement in tree.body:
            for name in _names(statement):
                self.statements.setdefault(name, []).append(statement)

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds a; `import a.b as c` binds a.b.
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                self.imported.setdefault(alias.asname or module, set()).add((module, ""))
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), self._package)
            for alias in node.names:
                if alias.name == "*":
                    self.stars.add(source)
                    continue
                whole = f"{source}.{alias.name}"
                target = (whole, "") if _file(whole) is not None else (source, alias.name)
                self.imported.setdefault(alias.asname or alias.name, set()).add(target)

    @property
    def _package(self) -> str:
        path = _file(self.name)
        is_package = path is not None and path.name == "__init__.py"
        return self.name if is_package else self.name.rpartition(".")[0]

    def find(self, name: str) -> Iterator[Definition]:
        """The definitions that a name refers to in this module; none for a builtin or a name of another project."""
        if name in self.statements:
            yield self.name, name
        elif name in self.imported:
            for module, inner in self.imported[name]:
                if _follows(module, self.name):
                    yield from _Module.of(module).find(inner) if inner else ()
        elif _file(self.name) is None and (source := _source(self.name, name)) is not None:
            self.statements[name] = ast.parse(source).body
            yield self.name, name
        else:
            for module in self.stars:
                if _follows(module, self.name):
                    yield from _Module.of(module).find(name)

    def needs(self, name: str) -> set[Definition]:
        """The definitions that a definition names, and the effects of importing its module."""
        if name not in self._needs:
            self._needs[name] = set(self._find_needs(name))
        return self._needs[name]

    def _find_needs(self, name: str) -> Iterator[Definition]:
        if name not in self.statements:
            yield from self.find(name)
        if name != _EFFECTS and _EFFECTS in self.statements:
            yield self.name, _EFFECTS
        for statement in self.statements.get(name, ()):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name):
                    yield from self.find(node.id)
                elif isinstance(node, ast.Attribute):
                    yield from self._attribute(node)

    def _attribute(self, node: ast.Attribute) -> Iterator[Definition]:
        """`module.name`, where the module was imported as such."""
        dotted = _dotted(node)
        if dotted is None:
            return
        first, *rest = dotted.split(".")
        for module in (module for module, inner in self.imported.get(first, ()) if not inner):
            names = list(rest)
            while names and _file(f"{module}.{names[0]}") is not None:
                module = f"{module}.{names.pop(0)}"
            if names and _follows(module, self.name):
                yield from _Module.of(module).find(names[0])

    def texts(self, name: str) -> set[str]:
        """The constants of a definition that are text."""
        nodes = [node for statement in self.statements.get(name, ()) for node in ast.walk(statement)]
        return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    def text(self, name: str) -> str:
        """A definition as text: the same for the same syntax, in every version of Python."""
        if name not in self._texts:
            # Empty for a definition that was typed at a prompt: it has no source.
            self._texts[name] = " ".join(map(_text, self.statements.get(name, ())))
        return self._texts[name]


def _names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for target in targets for node in _stored(target)]
        yield from names or [_EFFECTS]
    elif not any(ignored(statement) for ignored in (_is_import, _is_empty, _is_never_run)):
        yield _EFFECTS


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _stored(target: ast.expr) -> Iterator[ast.Name]:
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node


def _is_never_run(statement: ast.stmt) -> bool:
    """Whether a block is for type checkers only, or for a module that is run as a program."""
    if not isinstance(statement, ast.If):
        return False
    names = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
    return bool(names & {"TYPE_CHECKING", "__name__"})


def _is_empty(node: ast.AST) -> bool:
    """Whether a statement is a docstring, or `pass`."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return is_text or isinstance(node, ast.Pass)


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def _text(node: object) -> str:
    """A syntax tree as text, without docstrings and imports: the imported definitions count, not their modules.

    Empty fields are left out, so that it does not change with Python's version, as `ast.dump` does.
    """
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, list):
        kept = [item for item in node if not (_is_empty(item) or _is_import(item))]
        return " ".join(map(_text, kept))
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    inner = " ".join(f"{name}={_text(value)}" for name, value in fields if name not in ("ctx", "type_comment"))
    return f"({type(node).__name__} {inner})"


@functools.cache
def _file(module: str) -> Path | None:
    """The source file of a module: by its name in the harness, by the imported module elsewhere."""
    first, *rest = module.split(".")
    if first == "benchmark":
        base = _PACKAGE.joinpath(*rest)
        paths = [base.with_suffix(".py"), base / "__init__.py"]
        return next((path for path in paths if path.is_file()), None)
    name = getattr(sys.modules.get(module), "__file__", None)
    path = Path(name).resolve() if name else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _follows(module: str, user: str) -> bool:
    """Whether an imported module is part of the digest.

    So are modules of the harness outside of `APART`, of the methods, and elsewhere those of the user's own package or
    folder.
    """
    package = module.partition(".")[0]
    if package == "benchmark":
        return not any(module == room or module.startswith(f"{room}.") for room in APART)
    path, own = _file(module), _file(user)
    if path is None:
        return False
    if package == user.partition(".")[0]:
        return True
    return set(_LIBRARIES).isdisjoint(path.parts) and (own is None or path.parent == own.parent)


def _source(module: str, name: str) -> str | None:
    """The source of a definition in a module without a file; None where Python does not know it."""
    value = getattr(sys.modules.get(module), name, None)
    if value is None or getattr(value, "__module__", None) != module:
        return None
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        return None
