"""Notes which lines of advdl/ and experiments/ run in this process, for `coverage report`.

coverage.py itself traces every call of every library on Python 3.11, which makes programs that JAX
traces take up to twice the time. Here each statement of ours notes itself, which costs nothing that
one could measure. Imported at the start of every process of CI's environment; does nothing unless
COVERAGE_FILE says where the data go.
"""

import ast
import atexit
import builtins
import os
import pathlib
from importlib.machinery import SourceFileLoader

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SEEN: set[tuple[str, int]] = set()  # file and line


class Noting(ast.NodeTransformer):
    """Puts a call that notes the line before each statement."""

    def __init__(self, path):
        self.path = path

    def generic_visit(self, node):
        super().generic_visit(node)
        docstring = isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, field, None), list):
                first = int(docstring and field == "body")
                noted = [new for old in statements[first:] for new in self.noted(old)]
                setattr(node, field, statements[:first] + noted)
        if isinstance(node, ast.ExceptHandler | ast.match_case):
            line = node.lineno if isinstance(node, ast.ExceptHandler) else node.pattern.lineno
            node.body.insert(0, self.note(line, node.body[0]))
        return node

    def noted(self, statement):
        decorators = [name.lineno for name in getattr(statement, "decorator_list", ())]
        notes = [self.note(n, statement) for n in [statement.lineno, *decorators]]
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            return [statement, *notes]  # which must be the first
        return [*notes, statement]

    def note(self, line, beside):
        where = ast.Constant((self.path, line))
        call = ast.Call(ast.Name("__executed__", ast.Load()), [where], [])
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), beside))


def start(data_file):
    folders = [str(data_file.parent / name) + os.sep for name in ("advdl", "experiments")]
    replaced = ("source_to_code", "get_data", "set_data")
    plain = {name: getattr(SourceFileLoader, name) for name in replaced}

    def ours(path):
        return any(str(path).startswith(folder) for folder in folders)

    def own_cache(path):  # the compiled file that other processes use does not call us
        return path.replace(".pyc", ".noting.pyc") if ours(path) else path

    def source_to_code(self, data, path, **options):
        tree = Noting(path).visit(ast.parse(data)) if ours(path) else data
        return plain["source_to_code"](self, tree, path, **options)

    def get_data(self, path):
        return plain["get_data"](self, own_cache(path))

    def set_data(self, path, data, **options):
        plain["set_data"](self, own_cache(path), data, **options)

    def write():
        from coverage import CoverageData

        lines: dict[str, set[int]] = {}
        for path, line in SEEN:
            lines.setdefault(path, set()).add(line)
        data = CoverageData(str(data_file), suffix=True)
        data.add_lines(lines)
        data.write()

    for function in (source_to_code, get_data, set_data):
        setattr(SourceFileLoader, function.__name__, function)
    builtins.__executed__ = SEEN.add
    atexit.register(write)


if "COVERAGE_FILE" in os.environ:
    start(pathlib.Path(os.environ["COVERAGE_FILE"]).resolve())
