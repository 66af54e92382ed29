"""Members that nothing uses, found by their names.

A member is a function, a class, a constant of a module, or a method. It is used when its name is read anywhere in the
code that is given, outside of its own definition: as a name, as an attribute, or under another name by an import. So a
member that shares its name with one that is used is not found; what is found is not used.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Member:
    """`owner` is the class of a method, and empty for what stands in the module itself."""

    module: str
    owner: str
    name: str
    decorators: tuple[str, ...]
    reads_itself: int

    def __str__(self) -> str:
        return ".".join(part for part in (self.module, self.owner, self.name) if part)


def unused(defining: Mapping[str, str], using: Mapping[str, str]) -> list[Member]:
    """Members of `defining` that neither it nor `using` reads. Both are sources of Python by module name."""
    trees = {module: ast.parse(source) for module, source in (dict(using) | dict(defining)).items()}
    reads = Counter(name for tree in trees.values() for name in names_read(tree))
    return [
        member
        for module in defining
        for member in members(module, trees[module])
        if reads[member.name] == member.reads_itself
    ]


def names_read(tree: ast.AST) -> Iterator[str]:
    """Every name that is read, as often as it is."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (alias.name for alias in aliases if alias.asname not in (None, alias.name))
            case ast.MatchClass(kwd_attrs=names):
                yield from names
            case ast.Constant(value=str(text)) if text.isidentifier():
                yield text  # `getattr`, `__slots__`, an annotation in quotes; never a sentence


def members(module: str, tree: ast.Module) -> Iterator[Member]:
    """What the module defines, names with two underscores in front aside: Python reads those."""
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield _member(module, "", node)
                if isinstance(node, ast.ClassDef):
                    yield from (
                        _member(module, node.name, method)
                        for method in node.body
                        if isinstance(method, FUNCTIONS) and not method.name.startswith("__")
                    )
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if not name.startswith("__"):
                    yield Member(module, "", name, (), 0)
            case _:
                continue


def _member(module: str, owner: str, node: Definition) -> Member:
    decorators = tuple(name for decorator in node.decorator_list for name in names_read(decorator))
    return Member(module, owner, node.name, decorators, Counter(names_read(node))[node.name])
