"""The Python side of the demo: one class reads source files, the other ranks what was found."""

from __future__ import annotations

import ast
import heapq
import os
import sysconfig
import warnings

from snakepit_port.adapter import command

#: How many functions a ranking has. A file reports as many of its own: any of them may be in it.
TOP = 5

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

#: What adds a path through a function, after McCabe, "A Complexity Measure" (1976).
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert)


class Parse:
    """Commands of the pools "parse" and "parse_alone"."""

    @command
    def library(self, limit):
        """Every file of this interpreter's standard library, or the first `limit` if not 0."""
        paths = []
        for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
            folders[:] = sorted(
                name for name in folders if name not in ("site-packages", "dist-packages")
            )
            paths += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".py")]
        return paths[:limit] if limit else paths

    @command
    def parse(self, path):
        """What is in a file. Raises as `open` and `ast.parse`, `SyntaxError` most of all."""
        with open(path, "rb") as file:
            source = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own, such as invalid escapes
            tree = ast.parse(source, path)
        nodes = list(ast.walk(tree))
        functions = [
            {
                "name": node.name,
                "path": path,
                "line": node.lineno,
                "lines": node.end_lineno - node.lineno + 1,
                "complexity": complexity(node),
            }
            for node in nodes
            if isinstance(node, FUNCTIONS)
        ]
        return {
            "files": 1,
            "lines": source.count(b"\n"),
            "functions": len(functions),
            "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
            "longest": top(functions, "lines"),
            "most_complex": top(functions, "complexity"),
        }


class Rank:
    """Commands of the pool "rank"."""

    @command
    def merge(self, reports):
        """One report out of many: of files, or of what this returned before."""
        merged = {
            key: sum(report[key] for report in reports)
            for key in ("files", "lines", "functions", "classes")
        }
        for key, measure in (("longest", "lines"), ("most_complex", "complexity")):
            merged[key] = top([one for report in reports for one in report[key]], measure)
        return merged

    @command
    def table(self, report, failures, workers, seconds):
        """The result as text. `failures`: [class, count, of these with a traceback];
        `workers`: [pool, worker, calls]."""
        failed = sum(count for _, count, _ in failures)
        rate = (report["files"] + failed) / seconds
        rows = [
            ("files", f"{report['files'] + failed:,}, of which {failed:,} failed"),
            ("lines", f"{report['lines']:,}"),
            ("functions", f"{report['functions']:,}"),
            ("classes", f"{report['classes']:,}"),
            ("speed", f"{rate:,.0f} files/s, {seconds:.1f} s in all"),
        ]
        for title, key, measure in (
            ("longest functions", "longest", "lines"),
            ("most complex functions", "most_complex", "complexity"),
        ):
            rows += [("", ""), (title, measure)]
            rows += [(place(one), f"{one[measure]:,}") for one in report[key]]
        rows += [("", ""), ("calls", "")]
        for pool in sorted({pool for pool, _, _ in workers}):
            rows.append((f"  {pool}", f"{sum(n for name, _, n in workers if name == pool):,}"))
            rows += [(f"    {who}", f"{n:,}") for name, who, n in sorted(workers) if name == pool]
        if failures:
            rows += [("", ""), ("failures", "")]
        for name, count, traced in sorted(failures, key=lambda row: (-row[1], row[0])):
            rows.append((f"  {name}", f"{count:,}, {traced:,} with a traceback"))
        width = max(len(left) for left, _ in rows)
        return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in rows)


def complexity(function):
    """Paths through a function; functions and classes within it count for themselves."""
    paths, waiting = 1, list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(node, BRANCHES) or type(node).__name__ == "match_case":
            paths += 1
        elif isinstance(node, ast.BoolOp):
            paths += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            paths += 1 + len(node.ifs)
        waiting += ast.iter_child_nodes(node)
    return paths


def top(functions, measure):
    return heapq.nsmallest(
        TOP, functions, key=lambda one: (-one[measure], one["path"], one["line"])
    )


def place(function):
    path = os.path.relpath(function["path"], sysconfig.get_path("stdlib"))
    return f"  {function['name']}  {path}:{function['line']}"
