"""What encoders compute, and that they see a bounded number of rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.encoders import CausalConvolution, LinearRecurrence, orthogonal

ENCODERS = [CausalConvolution((4, 2), 3, 3, jnp.tanh), LinearRecurrence((4, 2), 4, jnp.tanh)]


@pytest.mark.parametrize("rows", [1, 4, 9, 20])
def test_the_convolution_is_a_padded_dilated_convolution(rows: int) -> None:
    x = jax.random.normal(jax.random.key(1), (5, rows, 3))
    layer = CausalConvolution((4, 2), 3, 3, jnp.tanh)
    params = jax.jit(layer.init)(jax.random.key(0), x)
    out = jax.jit(layer.apply)(params, x)
    values = np.asarray(x, np.float64)
    for i, dilation in enumerate((1, 3)):
        kernel = np.asarray(params["params"][f"kernel_{i}"], np.float64)
        taps = kernel.reshape(3, values.shape[-1], -1)
        padded = np.concatenate([np.zeros((5, 2 * dilation, values.shape[-1])), values], axis=1)
        shifted = [padded[:, j * dilation : j * dilation + rows] @ taps[j] for j in range(3)]
        values = np.tanh(sum(shifted))
        if i == 0:  # rows before the window stay zero through the layers
            first = values
    assert first.shape == (5, rows, 4)
    np.testing.assert_allclose(out[:, 0], values[:, -1], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 6, 30])
def test_the_recurrence_is_a_sum_of_decayed_rows(rows: int) -> None:
    x = jax.random.normal(jax.random.key(1), (5, rows, 3))
    layer = LinearRecurrence((6,), 8, jnp.tanh)
    params = jax.jit(layer.init)(jax.random.key(0), x)
    named = {name: np.asarray(p, np.float64) for name, p in params["params"].items()}
    decay = np.exp(-np.exp(named["rate_0"]))
    np.testing.assert_allclose(-1 / np.log(decay), np.geomspace(1, 8, 6), rtol=1e-5)
    newest = np.asarray(x, np.float64)[:, ::-1][:, :8]
    terms = decay ** np.arange(newest.shape[1])[:, None] * (newest @ named["into_0"])
    spread = np.sqrt(1 - decay**2) * terms.sum(1)
    expected = np.tanh(spread @ named["out_0"] + newest[:, 0] @ named["beside_0"])
    np.testing.assert_allclose(jax.jit(layer.apply)(params, x)[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_looks_as_far_as_it_says(encoder: CausalConvolution | LinearRecurrence) -> None:
    rows, newer = encoder.reach + 6, 3
    x = jax.random.normal(jax.random.key(1), (1, rows, 3))
    params = jax.jit(encoder.init)(jax.random.key(0), x)

    def out(x: jax.Array) -> jax.Array:
        return encoder.apply(params, x, newer)[0].sum(-1)

    sensitivity = jnp.abs(jax.jit(jax.jacobian(out))(x)).max(-1)[:, 0]  # [newer, rows]
    for i in range(newer):
        newest = rows - newer + i
        assert float(sensitivity[i, newest - encoder.reach]) > 0
        assert float(sensitivity[i, newest]) > 0
        assert (sensitivity[i, : newest - encoder.reach] == 0).all()
        assert (sensitivity[i, newest + 1 :] == 0).all()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_windows_and_stretches_agree(encoder: CausalConvolution | LinearRecurrence) -> None:
    window, bars = encoder.reach + 4, 9
    x = jax.random.normal(jax.random.key(1), (2, window + bars - 1, 3))
    params = jax.jit(encoder.init)(jax.random.key(0), x)
    together = jax.jit(encoder.apply, static_argnums=2)(params, x, bars)
    apply = jax.jit(encoder.apply)
    alone = [apply(params, x[:, i : i + window])[:, 0] for i in range(bars)]
    np.testing.assert_allclose(together, np.stack(alone, axis=1), atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 40), (3, 50), (50, 3), (1, 4)])
def test_the_initializer_is_orthogonal_also_for_many_seeds_at_once(shape: tuple[int, int]) -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    made = jax.jit(jax.vmap(lambda key: orthogonal(2.0)(key, shape)))(keys)
    for matrix in np.asarray(made):
        small = matrix.T @ matrix if shape[0] >= shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(small, 4 * np.eye(min(shape)), atol=1e-4)
