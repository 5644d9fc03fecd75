# SPDX-License-Identifier: Apache-2.0
"""Checks that each cell of the tables of faults names a test that there is.

usage: check_fault_table.py ROOT
"""
import pathlib
import re
import sys

TEST = re.compile(r"\bTEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)")
NAME = re.compile(r"`([\w.]+)`")
HEADING = "## Faults and promises\n"
TRANSPORTS = ("verbs", "ucx")  # of the second table, whose cells run in the RDMA guest
CELLS = re.compile(r"foreach\(fault ([^)]*)\)")

problems = []


def rows_of(table):
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def check_promises(rows, tests):
    for fault, *cells in rows:
        before = None
        for promise, cell in zip(("P1", "P2", "P4"), cells, strict=True):
            name = NAME.fullmatch(cell)
            if name and name[1] not in tests:
                problems.append(f"{fault}, {promise}: there is no test {name[1]}")
            elif not name and cell != "-" and not (cell == "the same" and before):
                problems.append(f"{fault}, {promise}: '{cell}' is no test's name")
            before = name or (before if cell == "the same" else None)


def check_rdma(rows, tests, runs):
    """Each cell names a run of its transport, or a test; every run has its cell."""
    named = set()
    for fault, *cells in rows:
        for transport, cell in zip(TRANSPORTS, cells, strict=True):
            name = NAME.fullmatch(cell)
            if name and name[1] in runs and name[1].endswith("." + transport):
                named.add(name[1])
            elif cell != "-" and not (name and name[1] in tests):
                problems.append(f"{fault}, {transport}: there is no test {cell}")
    problems.extend(f"the tables of faults lack {name}" for name in sorted(runs - named))


def main():
    root = pathlib.Path(sys.argv[1])
    tests = {f"{suite}.{name}" for path in (root / "tests").rglob("*.cc")
             for suite, name in TEST.findall(path.read_text())}
    faults = " ".join(CELLS.findall((root / "tests/rdma/CMakeLists.txt").read_text())).split()
    runs = {f"rdma.fault.{fault}.{transport}" for fault in faults for transport in TRANSPORTS}
    section = (root / "docs/reliability.md").read_text().partition(HEADING)[2].partition("\n## ")[0]
    promises, rdma = (rows_of(table) for table in re.split(r"\n\n(?=\| fault of RDMA)", section))
    check_promises(promises, tests)
    check_rdma(rdma, tests, runs)
    if not promises or not rdma:
        problems.append(f"docs/reliability.md lacks a table under {HEADING.strip()}")
    print("\n".join(problems) or f"{len(promises)} faults and {len(rdma)} of RDMA have their tests")
    return 1 if problems else 0


sys.exit(main())
