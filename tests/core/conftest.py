import jax
import pytest


@pytest.fixture(autouse=True)
def float64():
    """Core rules are pinned in float64; float32 cases cast explicitly."""
    with jax.enable_x64(True):
        yield
