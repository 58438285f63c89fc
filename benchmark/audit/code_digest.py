"""Which code made a run: a digest of every definition that its numbers depend on.

The digest covers the definitions (functions, classes, assignments) that the method, the networks and samplers that it
names, and the harness's way from a plan to its numbers reach: each definition, those that it names, those that these
name, and so on. It is made of syntax trees without docstrings, comments and places. So a new file, a new function that
nothing calls, another comment or a module that moves changes nothing; any change of a function that is reached does.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.data.samplers import SAMPLERS
from benchmark.errors import InputError
from benchmark.method import METHODS, Method, MethodConfig
from benchmark.models.backbones import BACKBONES
from benchmark.models.clip import clip_architectures
from benchmark.spec import Recipe, parse
from benchmark.store.records import Record

# Where a run's numbers come from, in the order of a run. A definition that only these objects' methods lead to is
# reached because the whole class is.
PATH = (
    "benchmark.data.dataset:DatasetFolder",
    "benchmark.data.images:cache_split",
    "benchmark.models.weights:resolve_weights",
    "benchmark.running.execute:execute",
)

# Rooms and modules that decide no number: what they make is part of the run's id (`spec`, `plan`), or they store and
# show what came out, or they start and stop what the rest computes.
APART = (
    "benchmark.audit",
    "benchmark.base",
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
_CHECKOUT = _PACKAGE.parent
_LIBRARIES = ("site-packages", "dist-packages")

# (module, name) of a definition at the top of a module.
Definition = tuple[str, str]


def code_digest(method: type[Method], recipe: Recipe, config: MethodConfig) -> str:
    """sha256 over the code that decides the numbers of a method with a configuration, on a recipe's network. A record
    whose digest differs is stale.

    Read once a process: what is edited later is not what runs. Raises InputError for a backbone or sampler that is not
    registered.
    """
    samplers = [SAMPLERS.get(name) for name in method.samplers(config)]
    networks = [BACKBONES.get(name) for name in sorted({recipe.backbone, *_other_networks(method, config)})]
    return digest_of(method, *networks, *samplers)


def code_digest_of(record: Record) -> str | None:
    """The digest that a record's run would have now; None where its method, settings or network are not there."""
    try:
        method = METHODS.get(record.spec.method)
        config = parse(method.Config, record.spec.config, "config")
        return code_digest(method, record.spec.recipe, config)
    except InputError:
        return None


def _other_networks(method: type[Method], config: MethodConfig) -> set[str]:
    """Names of networks beside the recipe's that a method may ask for: those that its code names, and those of the CLIP
    weights that its settings name."""
    texts = [value for value in config.model_dump().values() if isinstance(value, str)]
    found = {
        name
        for name, clip in clip_architectures().items()
        if any(text.startswith(f"{clip.published_name}:") for text in texts)
    }
    for module, name in reach([_definition(method)]):
        if module.partition(".")[0] != "benchmark":
            found |= {text for text in _Module.of(module).texts(name) if text in BACKBONES}
    return found


@functools.cache
def digest_of(*roots: type | object) -> str:
    """sha256 over what the classes and functions given, and the harness's path to a run's numbers, reach.

    Raises ValueError where a definition of `PATH` is gone.
    """
    reached = reach([*(_definition(root) for root in roots), *(_named(name) for name in PATH)])
    texts = sorted({f"{name} {_Module.of(module).text(name)}" for module, name in reached})
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def reach(roots: Iterable[Definition]) -> set[Definition]:
    """The definitions given and all that they lead to, themselves included."""
    found: set[Definition] = set()
    open_ends = list(roots)
    while open_ends:
        definition = open_ends.pop()
        if definition in found:
            continue
        found.add(definition)
        module, name = definition
        open_ends += _Module.of(module).needs(name)
    return found


def _named(path: str) -> Definition:
    module, _, name = path.partition(":")
    if name not in _Module.of(module).statements:
        raise ValueError(f"{module} has no {name}: the path to a run's numbers has changed; correct PATH")
    return module, name


def _definition(root: type | object) -> Definition:
    """Where a class or function is defined: the name at the top of its module."""
    return root.__module__, root.__qualname__.partition(".")[0]


# What a module does when it is imported, other than define: registering, settings of libraries.
_EFFECTS = "<import>"


@dataclass
class _Module:
    """One module as the digest sees it.

    statements: name -> the statements that define it; those that define nothing under `_EFFECTS`. imported: name ->
    what it may stand for: (module, name in it), "" for the module itself.
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
        """A module by its name. One without a file, such as a notebook's, has the definitions that Python knows the
        source of."""
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
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                self.imported.setdefault(alias.asname or target, set()).add((target, ""))
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
        """The definitions that a name stands for in this module; none for a builtin or another project's."""
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
        """What a definition names, and what importing its module does."""
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
        for module, inner in self.imported.get(first, ()):
            if inner:
                continue
            while rest and _file(f"{module}.{rest[0]}") is not None:
                module = f"{module}.{rest.pop(0)}"
            if rest and _follows(module, self.name):
                yield from _Module.of(module).find(rest[0])

    def texts(self, name: str) -> set[str]:
        """The constants of a definition that are text."""
        nodes = [node for statement in self.statements.get(name, ()) for node in ast.walk(statement)]
        return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}

    def text(self, name: str) -> str:
        """A definition as text: the same for the same syntax, whatever version of Python reads it."""
        if name not in self._texts:
            # Nothing for what was typed at a prompt: there is no source to tell apart.
            self._texts[name] = " ".join(map(_text, self.statements.get(name, ())))
        return self._texts[name]


def _names(statement: ast.stmt) -> Iterator[str]:
    """What a statement at the top of a module defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for target in targets for node in ast.walk(target) if _is_stored(node)]
        yield from names or [_EFFECTS]
    elif not any(unseen(statement) for unseen in (_is_import, _says_nothing, _is_never_run)):
        yield _EFFECTS


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _is_never_run(statement: ast.stmt) -> bool:
    """Whether a block is for type checkers alone, or for a module that is called as a program."""
    if not isinstance(statement, ast.If):
        return False
    names = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
    return bool(names & {"TYPE_CHECKING", "__name__"})


def _says_nothing(node: ast.AST) -> bool:
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
    """A syntax tree in a form that does not change with Python's version, as `ast.dump` does: empty fields are left
    out. Without docstrings, and without imports: what they lead to counts, not where it is."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, list):
        kept = [item for item in node if not (_says_nothing(item) or _is_import(item))]
        return " ".join(map(_text, kept))
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    inner = " ".join(f"{name}={_text(value)}" for name, value in fields if name not in ("ctx", "type_comment"))
    return f"({type(node).__name__} {inner})"


@functools.cache
def _file(module: str) -> Path | None:
    """The source file of a module: of the checkout by its place, of another by what was imported."""
    first, *rest = module.split(".")
    loaded = sys.modules.get(module)
    if first == "benchmark":
        base = _PACKAGE.joinpath(*rest)
        paths = [base.with_suffix(".py"), base / "__init__.py"]
        return next((path for path in paths if path.is_file()), None)
    name = getattr(loaded, "__file__", None)
    path = Path(name).resolve() if name else None
    return path if path is not None and path.suffix == ".py" and path.is_file() else None


def _follows(module: str, user: str) -> bool:
    """Whether a module that another one imports counts: those of the harness but the rooms apart, the methods', and
    outside of the checkout those of the same package or folder."""
    if module.partition(".")[0] == "benchmark":
        return not any(module == room or module.startswith(f"{room}.") for room in APART)
    path, own = _file(module), _file(user)
    if path is None:
        return False
    if module.partition(".")[0] == user.partition(".")[0] or own is None:
        return not set(_LIBRARIES) & set(path.parts) or module.partition(".")[0] == user.partition(".")[0]
    return path.parent == own.parent and not set(_LIBRARIES) & set(path.parts)


def _source(module: str, name: str) -> str | None:
    """The source of a definition in a module without a file, where Python knows it."""
    value = getattr(sys.modules.get(module), name, None)
    if getattr(value, "__module__", None) != module:
        return None
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):
        return None
