"""Importing the library is cheap and leaves the choice of a JAX platform open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jaxtrade

_NO_BACKEND = """
import sys
import {module}
bridge = sys.modules.get("jax._src.xla_bridge")
started = sorted(bridge._backends) if bridge else []
assert started == [], f"importing {module} started {{started}}"
print(sorted(name for name in ("gymnax", "flax", "agents") if name in sys.modules))
"""


def run_python(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter from the project folder and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["jaxtrade", "jaxtrade.core", "jaxtrade.market", "live"])
def test_import_starts_no_backend(module: str, project_folder: Path) -> None:
    assert run_python(_NO_BACKEND.format(module=module), project_folder) == "[]"


def test_the_backend_check_can_fail(project_folder: Path) -> None:
    code = "import jax.numpy; jax.numpy.zeros(())\n" + _NO_BACKEND.format(module="jaxtrade")
    with pytest.raises(AssertionError, match="started"):
        run_python(code, project_folder)


def test_import_of_the_package_loads_no_jax(project_folder: Path) -> None:
    code = (
        "import sys, jaxtrade, jaxtrade.cli; print('jax' in sys.modules, 'pandas' in sys.modules)"
    )
    assert run_python(code, project_folder) == "False False"


@pytest.mark.parametrize("name", jaxtrade.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(jaxtrade, name) is not None
    assert name in dir(jaxtrade)


def test_trace_is_the_function_after_its_module_was_imported() -> None:
    import jaxtrade.tracing

    assert jaxtrade.trace is jaxtrade.tracing.trace
    assert callable(jaxtrade.trace)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sequential'"):
        jaxtrade.Sequential  # noqa: B018 - the look-up is the test


def test_type_checkers_and_run_time_see_the_same_names(project_folder: Path) -> None:
    import ast

    tree = ast.parse((project_folder / "jaxtrade" / "__init__.py").read_text())
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imported = {
        alias.asname for node in block.body if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }  # fmt: skip
    assert imported == set(jaxtrade.__all__) - {"__version__"}
