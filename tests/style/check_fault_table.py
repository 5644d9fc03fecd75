# SPDX-License-Identifier: Apache-2.0
"""Checks that each cell of the table of faults and promises names a test that there is.

usage: check_fault_table.py ROOT
"""
import pathlib
import re
import sys

TEST = re.compile(r"\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)")
NAME = re.compile(r"`(\w+\.\w+)`")
HEADING = "## Faults and promises\n"


def main():
    root = pathlib.Path(sys.argv[1])
    tests = {f"{suite}.{name}" for path in (root / "tests").rglob("*.cc")
             for suite, name in TEST.findall(path.read_text())}
    section = (root / "docs/reliability.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    problems = [] if rows else [f"docs/reliability.md has no table under {HEADING.strip()}"]
    for row in rows:
        fault, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        before = None
        for promise, cell in zip(("P1", "P2", "P4"), cells, strict=True):
            name = NAME.fullmatch(cell)
            if name and name[1] not in tests:
                problems.append(f"{fault}, {promise}: there is no test {name[1]}")
            elif not name and cell != "-" and not (cell == "the same" and before):
                problems.append(f"{fault}, {promise}: '{cell}' is no test's name")
            before = name or (before if cell == "the same" else None)
    print("\n".join(problems) or f"{len(rows)} faults have their tests")
    return 1 if problems else 0


sys.exit(main())
