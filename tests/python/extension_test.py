# SPDX-License-Identifier: Apache-2.0
"""Tests the extension's file, the modules beside it and its stub."""
import ast
import pathlib
import subprocess
import sys

import mempool
import pytest

SPEC = mempool.ContentSpec(model="tiny", layers=2, kv_heads=4, head_size=8)
EXTENSION = pathlib.Path(mempool._mempool.__file__)
STUB = EXTENSION.parent / "_mempool.pyi"


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_entry_point_alone_is_seen_from_outside():
    symbols = subprocess.run(["nm", "-D", "--defined-only", str(EXTENSION)], capture_output=True,
                             text=True, check=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["PyInit__mempool"]


def test_import_needs_no_library_of_a_module_and_nothing_beside_python():
    loaded = run("""
import sys
before = set(sys.modules)
import mempool
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - set(sys.stdlib_module_names) - {"mempool"}))
print(open("/proc/self/maps").read())
""")
    assert loaded.splitlines()[0] == ""
    for library in ("libibverbs", "libucp", "libuct", "librdmacm", "mempool_transport_"):
        assert library not in loaded


@pytest.mark.parametrize("name", ["ucx", "verbs"])
def test_a_module_is_found_beside_the_extension(start, name):
    if not (EXTENSION.parent / f"mempool_transport_{name}.so").exists():
        pytest.skip(f"this build has no {name}: its library is not installed here")
    agent = start(transports=[name, "tcp"])
    state = {each["name"]: each["closed"] for each in agent.status()["transports"]}
    assert "no mempool_transport" not in state[name] and "cannot be loaded" not in state[name]
    assert state["tcp"] == ""


def test_data_goes_over_the_module(start):
    if not (EXTENSION.parent / "mempool_transport_ucx.so").exists():
        pytest.skip("this build has no ucx: its library is not installed here")
    fields = {"transports": ["ucx"],
              "transport_options": {"ucx.tls": "tcp", "ucx.devices": "lo",
                                    "ucx.trust_peers": "1"}}
    target = start(name="target", **fields)
    closed = target.status()["transports"][0]["closed"]
    if closed:
        pytest.skip(f"ucx is closed on this machine: {closed}")
    source = start(name="source", peers={"target": target.listen}, **fields)
    transfer = source.transfer_with_insert(
        "target", source.content(SPEC), [1] * 16, source.alloc(1)
    )
    transfer.wait(30)
    assert transfer.report().transport == "ucx"


def test_the_stub_has_the_names_that_the_extension_has():
    stub = ast.parse(STUB.read_text(encoding="utf-8"))
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            told = {name for each in node.body for name in names_of(each)}
            real = getattr(mempool._mempool, node.name)
            missing = {name for name in told if not hasattr(real, name)}
            assert not missing, f"{node.name} has no {missing}"
            shown = {name for name in vars(real) if not name.startswith("_")}
            assert shown <= told | {"name", "value"}, f"the stub's {node.name} lacks some"
        elif isinstance(node, ast.FunctionDef):
            assert hasattr(mempool._mempool, node.name)
    told = {name for each in stub.body for name in names_of(each)}
    shown = {name for name in vars(mempool._mempool) if not name.startswith("__")}
    assert shown <= told | {"_BlocksIterator"}


def names_of(node):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets]
    return []


def test_the_package_shows_what_it_has():
    for name in mempool.__all__:
        assert getattr(mempool, name) is not None
    assert mempool.__version__ == mempool.version()


def test_each_public_call_says_what_it_does():
    for kind in (mempool.Pool, mempool.Agent, mempool.Transfer):
        for name, call in vars(kind).items():
            if not name.startswith("_") and callable(call) and name not in ("pin", "done"):
                text = (call.__doc__ or "").partition("\n")[2]
                assert text.strip(), f"{kind.__name__}.{name} has no docstring"


def test_the_example_of_the_readme_runs():
    readme = pathlib.Path(__file__).parents[2] / "README.md"
    run(readme.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0])


def test_the_log_level_is_one_of_four():
    mempool.set_log_level("error")
    with pytest.raises(mempool.InvalidArgument):
        mempool.set_log_level("loud")
