"""Rules are pure functions of an observation and a draw."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import baselines

LEVELS = (-1.0, 0.0, 0.5, 1.0)


def observation(*batch: int) -> dict[str, jax.Array]:
    return {"account_state": jnp.zeros((*batch, 6))}


def test_constant_rules_pick_their_level() -> None:
    draw = jnp.float32(0.3)
    assert int(baselines.always_flat(LEVELS)(observation(), draw)) == 1
    assert int(baselines.always_long(LEVELS)(observation(), draw)) == 3
    assert int(baselines.always_long((0.5, -1.0, 0.0))(observation(), draw)) == 0
    batch = baselines.always_long(LEVELS)(observation(4), jnp.zeros(4))
    assert batch.tolist() == [3] * 4
    assert batch.dtype == jnp.int32


def test_flat_needs_a_level_of_zero() -> None:
    with pytest.raises(ValueError, match="no level is 0"):
        baselines.always_flat((-1.0, 1.0))


def test_random_is_uniform_and_never_out_of_range() -> None:
    rule = jax.jit(baselines.random(4))
    draws = jnp.linspace(0, 1, 400, endpoint=False)
    assert np.bincount(rule(observation(400), draws)).tolist() == [100] * 4
    almost_one = jnp.float32(np.nextafter(np.float32(1), np.float32(0)))
    assert int(rule(observation(), almost_one)) == 3


def test_rules_map_over_a_batch() -> None:
    rule = baselines.random(3)
    draws = jnp.array([0.0, 0.4, 0.9])
    mapped = jax.vmap(rule)(observation(3), draws)
    assert mapped.tolist() == rule(observation(3), draws).tolist() == [0, 1, 2]


def test_buy_and_hold_follows_the_price_and_stays_ruined() -> None:
    close = [100, 110, 90, 120]
    np.testing.assert_allclose(baselines.buy_and_hold(close, 1000), [1000, 1100, 900, 1200])
    levered = baselines.buy_and_hold([100, 110, 79, 120], 1000, leverage=5)
    np.testing.assert_allclose(levered, [1000, 1500, 0, 0])
