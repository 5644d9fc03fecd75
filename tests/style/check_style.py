# SPDX-License-Identifier: Apache-2.0
"""Checks what a compiler does not: the rules of names, sizes and includes.

usage: check_style.py ROOT
"""
import collections
import pathlib
import re
import sys

LIBRARIES = {  # folder -> what it may include
    "include": {"mempool"},
    "core": {"mempool", "core"},
    "transport": {"mempool", "core", "transport"},
    "index": {"mempool", "core", "index"},
    "agent": {"mempool", "core", "transport", "index", "agent"},
}
BANNED_NAMES = {"util", "utils", "helper", "helpers", "manager", "common", "base", "misc"}
BANNED_WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
LINES_MOST = {".h": 300, ".cc": 600, ".c": 600}
CHECKED = (*LINES_MOST, ".py", ".sh")
PYTHONS_OWN_NAMES = {"__init__.py", "__main__.py", "conftest.py"}
OUTPUTS = ("build", "install")
OTHER_CPP = (".cpp", ".cxx", ".c++", ".C", ".hh", ".hpp", ".hxx", ".inl", ".ipp", ".tcc")
FUNCTION_LINES_MOST = 70
COLUMNS_MOST = 100
ASIO_FILES_MOST = 18  # a header and its source count once
INCLUDE = re.compile(r'^\s*#include\s+["<]([^">]+)[">]')
NOT_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"
                          |(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""", re.DOTALL | re.VERBOSE)
SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b(?!.*\))", re.DOTALL)
CLASS = re.compile(r"( *)(?:class|struct) (\w+)(?! *;)")
HAS_RULES = re.compile(r" *private:|.*\b(virtual|override)\b")

problems = []


def report(path, line, words):
    problems.append(f"{path}:{line}: {words}")


def check_opening(path, lines):
    mark = "//" if path.suffix in LINES_MOST else "#"
    opening = [line for line in lines[:4] if not line.startswith("#!")]
    if not opening or opening[0] != f"{mark} SPDX-License-Identifier: Apache-2.0":
        report(path, 1, "does not start with the licence line")
    elif len(opening) < 2 or not re.match(rf'({mark} |""")[A-Z].*\w', opening[1]):
        report(path, 2, "does not say what the file owns, in a sentence after the licence line")


def check_lines(path, lines):
    if len(lines) > LINES_MOST.get(path.suffix, 600):
        report(path, len(lines), f"has more than {LINES_MOST.get(path.suffix, 600)} lines")
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MOST:
            report(path, number, f"has {len(line)} columns, of {COLUMNS_MOST}")
        if BANNED_WORDS.search(line) and path.name != pathlib.Path(__file__).name:
            report(path, number, "leaves work in a comment; do it, or write an issue")
        if line != line.rstrip() or "\t" in line:
            report(path, number, "has a tab or trailing blanks")


def check_includes(path, lines, ours):
    folder, backend = path.parts[0], path.parts[1:-1] if path.parts[0] == "transport" else ()
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = pathlib.PurePosixPath(match[1])
        top = target.parts[0]
        if '"' in line and top not in ours and not match[1].endswith("_generated.h"):
            report(path, number, f"includes {target}; includes start at the root")
        if folder in LIBRARIES and top in ours - LIBRARIES[folder]:
            report(path, number, f"includes {target}; {folder} may include {LIBRARIES[folder]}")
        if backend and top == "transport" and target.parts[1:-1] not in ((), backend):
            report(path, number, f"includes {target}; backends do not know each other")
    if path.suffix == ".h" and "#pragma once" not in lines:
        report(path, 1, "has no #pragma once")


def check_threads(path, lines):
    for first, line in enumerate(lines):
        match = CLASS.match(line)
        if not match or line.endswith((";", "}")):
            continue
        end = next((at for at in range(first, len(lines)) if lines[at] == match[1] + "};"), first)
        comment = first
        while lines[comment - 1].lstrip().startswith(("//", "template")):
            comment -= 1
        told = any("Thread:" in words for words in lines[comment:first])
        if not told and any(HAS_RULES.match(inside) for inside in lines[first:end]):
            report(path, first + 1, f"does not say `Thread:` in the comment of {match[2]}")


def functions(code):
    """Yield (first line, lines) of each body outside classes, namespaces and initializers."""
    scopes, start, line, body_line = [], 0, 1, 0
    for position, character in enumerate(code):
        if character == "\n":
            line += 1
        elif character == "{":
            head = code[start:position].strip()
            inside = "body" in scopes
            if inside or SCOPE.search(head) or head.endswith("="):
                scopes.append("inner" if inside else "scope")
            else:
                scopes.append("body")
                body_line = line
        elif character == "}" and scopes:
            if scopes.pop() == "body":
                yield body_line, line - body_line + 1
        if character in "{};":
            start = position + 1


def check_functions(path, text):
    code = NOT_CODE.sub(lambda match: "\n" * match[0].count("\n"), text)
    code = re.sub(r"^\s*#(?:.*\\\n)*.*$", lambda match: "\n" * match[0].count("\n"), code,
                  flags=re.MULTILINE)
    for line, length in functions(code):
        if length > FUNCTION_LINES_MOST:
            report(path, line, f"begins a function of {length} lines, of {FUNCTION_LINES_MOST}")


def check_names(paths):
    seen = collections.defaultdict(list)
    for path in paths:
        if path.name not in PYTHONS_OWN_NAMES:
            seen[path.name].append(path)
        if BANNED_NAMES & set(re.split(r"[_.]", path.name) + list(path.parts[:-1])):
            report(path, 1, "is named for no one thing")
    for same in seen.values():
        for path in same[1:]:
            report(path, 1, f"has the name of {same[0]}")


def find_files(root):
    """Give every file of the tree but what is hidden or was built."""
    tops = [top for top in root.iterdir() if top.name not in OUTPUTS and top.name[0] != "."
            and not (top / "CMakeCache.txt").exists()]
    found = sorted(path for top in tops for path in (top, *top.rglob("*")) if path.is_file())
    return [path.relative_to(root) for path in found]


def main():
    root = pathlib.Path(sys.argv[1])
    found = find_files(root)
    for path in found:
        if path.suffix in OTHER_CPP:
            report(path, 1, f"ends in {path.suffix}; C++ files end in .h and .cc")
    paths = [path for path in found if path.suffix in CHECKED]
    ours = {path.parts[0] for path in found} | {"mempool"}
    asio = set()
    for path in paths:
        text = (root / path).read_text()
        lines = text.splitlines()
        check_opening(path, lines)
        check_lines(path, lines)
        if path.suffix == ".h":
            check_threads(path, lines)
        if path.suffix in LINES_MOST:
            check_includes(path, lines, ours)
            check_functions(path, text)
            if re.search(r"#include <boost/(asio|beast)", text):
                asio.add(str(path.with_suffix("")))
    if len(asio) > ASIO_FILES_MOST:
        names = " ".join(sorted(asio))
        report(".", 0, f"{len(asio)} files include Asio, of {ASIO_FILES_MOST}: {names}")
    check_names(paths)
    print("\n".join(problems) or f"{len(paths)} files are as they should be")
    return 1 if problems else 0


sys.exit(main())
