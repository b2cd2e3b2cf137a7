"""The rewards: golden values, wipe-outs, carries, dtypes, names and messages."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtrade import rewards
from jaxtrade.rewards import Reward, RewardInput

EQUITY = [10000, 10100, 10050, 10200, 9900, 9950]
FILLS = [1, 0, 0, 1, 0]
HOURS_PER_YEAR = 8760
RUIN = -10.0


def parameters(dtype: Any, weights: Any = (1.0,)) -> SimpleNamespace:
    """What rewards read of the environment's parameters."""
    return SimpleNamespace(
        cash_low=jnp.asarray(10000, dtype),
        ruin_reward=jnp.asarray(RUIN, dtype),
        reward_weights=jnp.asarray(weights, dtype),
    )


def inputs(equity: Any, dtype: Any, **columns: Any) -> RewardInput:
    """Reward inputs [T] of an equity curve [T + 1]; the other fields may be given as columns."""
    equity = np.asarray(equity)
    steps = equity.shape[-1] - 1
    blank: dict[str, Any] = {
        "price_before": np.full(steps, 100.0),
        "price_after": np.full(steps, 100.0),
        "quantity": np.zeros(steps),
        "filled": np.zeros(steps, bool),
        "action_changed": np.zeros(steps, bool),
        "wiped": np.zeros(steps, bool),
    }
    blank |= columns
    return RewardInput(
        equity_before=jnp.asarray(equity[..., :-1], dtype),
        equity_after=jnp.asarray(equity[..., 1:], dtype),
        initial_equity=jnp.full(steps, equity[..., 0], dtype),
        price_before=jnp.asarray(blank["price_before"], dtype),
        price_after=jnp.asarray(blank["price_after"], dtype),
        quantity=jnp.asarray(blank["quantity"], dtype),
        filled=jnp.asarray(blank["filled"], bool),
        action_changed=jnp.asarray(blank["action_changed"], bool),
        wiped=jnp.asarray(blank["wiped"], bool),
    )


def episode(reward: Reward, x: RewardInput, params: Any) -> tuple[Any, Any]:
    """Rewards [T] of one episode and the final carry, by ``lax.scan``."""

    def step(carry: Any, row: RewardInput) -> tuple[Any, Any]:
        value, carry = reward.update(carry, row, params)
        return carry, value

    carry, values = jax.jit(lambda c, rows: jax.lax.scan(step, c, rows))(reward.init(params), x)
    return values, carry


def values64(reward: Any, equity: Any, **columns: Any) -> np.ndarray:
    """Rewards of one episode in float64."""
    with jax.enable_x64(True):
        pair, weights = rewards.resolve(reward, HOURS_PER_YEAR)
        found, _ = episode(
            pair, inputs(equity, jnp.float64, **columns), parameters(jnp.float64, weights)
        )
        assert found.dtype == jnp.float64
        return np.asarray(found)


def values32(reward: Any, equity: Any, **columns: Any) -> np.ndarray:
    """Rewards of one episode in float32."""
    pair, weights = rewards.resolve(reward, HOURS_PER_YEAR)
    found, _ = episode(
        pair, inputs(equity, jnp.float32, **columns), parameters(jnp.float32, weights)
    )
    assert found.dtype == jnp.float32
    return np.asarray(found)


GOLDEN: dict[str, tuple[Any, list[float]]] = {
    "log_return": (
        "log_return",
        [0.0099503309, -0.0049627893, 0.0148150858, -0.0298529631, 0.0050377940],
    ),
    "pnl": ("pnl", [100, -50, 150, -300, 50]),
    "pnl relative": (rewards.pnl(relative=True), [0.01, -0.005, 0.015, -0.03, 0.005]),
    "simple_return 1": (
        "simple_return",
        [0.01, -0.0049504950, 0.0149253731, -0.0294117647, 0.0050505051],
    ),
    "simple_return 3": (
        rewards.simple_return(3),
        [0.01, 0.005, 0.02, -0.0198019802, -0.0099502488],
    ),
    "sharpe": ("sharpe", [0, 0.3344397937, 0.7844661330, -0.1445188283, -0.0632858622]),
    "risk_adjusted sharpe 3": (
        rewards.risk_adjusted("sharpe", 3),
        [0, 0.3377482992, 0.7878383535, -0.3573062162, -0.1654923866],
    ),
    "risk_adjusted sortino 3": (
        rewards.risk_adjusted("sortino", 3),
        [0, 0.7212487108, 2.3295644353, -0.3762518080, -0.1852255843],
    ),
    "risk_adjusted sharpe 30": (
        "risk_adjusted",
        [0, 0.3377482992, 0.7878383535, -0.1367772465, -0.0558426903],
    ),
    "sortino 3": (
        rewards.sortino(3, periods_per_year=HOURS_PER_YEAR),
        [0, 0, 2.3276921344, -0.3763512022, -0.1853456481],
    ),
    "sharpe_change 50": (
        "sharpe_change",
        [0, 0.3377483444, 0.4500901024, -0.9246157012, 0.0809345607],
    ),
    "sharpe_change 3": (
        rewards.sharpe_change(3),
        [0, 0.3377483444, 0.4500901024, -1.1451446827, 0.1918138406],
    ),
    "sortino_change 50": (
        "sortino_change",
        [0, 0.7212489168, 1.6083163335, -2.4877670022, 0.0924308264],
    ),
    "sortino_change 3": (
        rewards.sortino_change(3),
        [0, 0.7212489168, 1.6083163335, -2.7058170802, 0.1910262347],
    ),
    "differential_sharpe .01": (
        rewards.differential_sharpe(clip=None),
        [0, -6.3204342116, 9.4193730708, -29.7737586911, 1.4995788537],
    ),
    "differential_sharpe .1": (
        rewards.differential_sharpe(eta=0.1, clip=None),
        [0, -2.4725426338, 3.2565267133, -11.3941011860, 0.5527645906],
    ),
    "differential_sortino .01": (
        rewards.differential_sortino(clip=None),
        [0, 0, 30.0992637313, -777.4340707747, 1.7102244585],
    ),
    "drawdown_penalty": (
        rewards.drawdown_penalty(threshold=0.02),
        [0.0099503309, -0.0049627893, 0.0148150858, -0.1769117867, -0.1175112256],
    ),
    "drawdown_penalty pnl 1": (
        rewards.drawdown_penalty("pnl", 1, 0),
        [100, -50.0049505, 150, -300.0294118, 49.9754902],
    ),
    "drawdown_penalty pnl 100": (
        rewards.drawdown_penalty("pnl", 100, 0),
        [100, -50.4950495, 150, -302.9411765, 47.5490196],
    ),
    "activity": ("activity", [1, -0.02, -0.04, 1, -0.02]),
    "drawdown": ("drawdown", [0, -0.0049504950, 0, -0.0294117647, -0.0245098039]),
    "composite": (
        "composite",
        [0.2030000000, 0.2825045172, 0.6398265334, -0.8070479773, 0.0320213502],
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_values(case: str) -> None:
    reward, expected = GOLDEN[case]
    np.testing.assert_allclose(values64(reward, EQUITY, filled=FILLS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", GOLDEN)
def test_float32_agrees_with_the_golden_values(case: str) -> None:
    # Differential forms divide by a variance to the power 1.5, which multiplies rounding errors.
    reward, expected = GOLDEN[case]
    found = values32(reward, EQUITY, filled=FILLS)
    np.testing.assert_allclose(found, expected, rtol=1e-3 if "diff" in case else 2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("reward", "equity", "expected"),
    [
        ("log_return", [1000, 1010, 1005, 900], -0.1103480572),
        ("sharpe", [1000, 1010, 1005, 900], -0.6559438985),
        ("drawdown_penalty", [1000, 1010, 1005, 900], -0.6549025126),
        ("drawdown_penalty", [100, 90], -0.1053605157),  # 10 % exactly is not penalised
        ("drawdown_penalty", [100, 89], -0.6665338163),
        ("sharpe", [100, 101, 102.01], 10),  # clipped
    ],
)
def test_golden_last_value(reward: str, equity: list[float], expected: float) -> None:
    assert values64(reward, equity)[-1] == pytest.approx(expected, abs=1e-6)
    assert values32(reward, equity)[-1] == pytest.approx(expected, abs=1e-5)


CLOSES = np.array([100, 101, 100.5, 102, 99, 99.5])
POSITION = {
    "price_before": CLOSES[:-1],
    "price_after": CLOSES[1:],
    "quantity": [2.0, 0.5, 0, -1, -3],
    "action_changed": [1, 0, 1, 1, 0],
}


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("position_return", [0.01, -0.0049504950, 0, 0.0294117647, -0.0050505051]),
        (rewards.position_return(flat=-1, relative=False), [1, -0.5, -1.5, 3, -0.5]),
        (
            rewards.position_return(trade_penalty=0.001, hold_bonus=0.0001, hold_threshold=0.006),
            [0.009, -0.0048504950, -0.001, 0.0284117647, -0.0049505051],
        ),
    ],
)
def test_position_return(reward: Any, expected: list[float]) -> None:
    found = values64(reward, EQUITY, **POSITION)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_windowed_sharpe_counts_the_last_log_returns_only() -> None:
    logs = np.diff(np.log(EQUITY))[-3:]
    found = values64(rewards.sharpe(window=3), EQUITY)
    assert found[-1] == pytest.approx(logs.mean() / (logs.std() + 1e-9), abs=1e-9)
    np.testing.assert_allclose(found[:3], values64("sharpe", EQUITY)[:3], atol=1e-9)


@pytest.mark.parametrize("name", rewards.NAMES)
def test_constant_equity_gives_zero(name: str) -> None:
    found = values64(name, [1000.0] * 34)
    if name == "sortino":  # its risk-free rate is missed in every step once the window is full
        np.testing.assert_array_equal(found[:29], 0)
        np.testing.assert_allclose(found[29:], -0.9995621918, atol=1e-6)
    elif name == "activity":
        np.testing.assert_allclose(found, -np.arange(1, 34) / 50)
    elif name == "composite":
        np.testing.assert_allclose(found, -0.2 * np.arange(1, 34) / 50)
    else:
        np.testing.assert_array_equal(found, 0)


RUIN_NAMES = (
    "log_return",
    "sharpe",
    "risk_adjusted",
    "sortino",
    "sharpe_change",
    "sortino_change",
    "differential_sharpe",
    "differential_sortino",
    "drawdown_penalty",
)
VALUE_WHEN_WIPED: dict[str, Callable[[float], float]] = {
    "pnl": lambda left: left - 1010,
    "simple_return": lambda left: left / 1010 - 1,
    "drawdown": lambda left: left / 1010 - 1,
    "position_return": lambda left: 0.0,
    "activity": lambda left: -0.04,
    "composite": lambda left: (
        0.4 * RUIN + 0.3 * (left - 1010) / 1000 - 0.2 * 0.04 + 0.1 * (left / 1010 - 1)
    ),
}


@pytest.mark.parametrize("residue", [0.0, 1e-7, -3.0])
@pytest.mark.parametrize("name", rewards.NAMES)
def test_wiped_out_account(name: str, residue: float) -> None:
    # A rounding residue is left, or a debt of funding: the flag decides, not the equity.
    for values in (values64, values32):
        found = values(name, [1000, 1010, residue], wiped=[False, True])
        if name in RUIN_NAMES:
            assert found[-1] == RUIN
        else:
            assert found[-1] == pytest.approx(VALUE_WHEN_WIPED[name](residue), rel=1e-6)


def test_every_name_is_covered_by_the_wiped_cases() -> None:
    assert {*RUIN_NAMES, *VALUE_WHEN_WIPED} == set(rewards.NAMES)


def test_money_form_of_the_drawdown_penalty_is_not_replaced_by_ruin() -> None:
    found = values64(rewards.drawdown_penalty("pnl", 1, 0), [1000, 0], wiped=[True])
    np.testing.assert_allclose(found, [-1001])


EVERY = [
    *rewards.NAMES,
    rewards.simple_return(7),
    rewards.sharpe(5),
    rewards.drawdown_penalty("pnl"),
]


@pytest.mark.parametrize("reward", EVERY, ids=range(len(EVERY)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_gradient_is_nan(reward: Any, dtype: str) -> None:
    """Constant equity, a loss of everything, and zeros everywhere give finite gradients."""
    with jax.enable_x64(dtype == "float64"):
        pair, weights = rewards.resolve(reward, HOURS_PER_YEAR)
        params = parameters(dtype, weights)

        def total(equity: Any, price: Any) -> Any:
            x = inputs(np.ones(5), dtype, quantity=np.ones(4))
            x = RewardInput(
                **{
                    **vars(x),
                    "equity_before": equity[:-1],
                    "equity_after": equity[1:],
                    "price_before": price[:-1],
                    "price_after": price[1:],
                    "wiped": equity[1:] <= 1e-6,
                }
            )
            carry, value = pair.init(params), 0.0
            for k in range(4):
                reward_k, carry = pair.update(carry, jax.tree.map(lambda v, k=k: v[k], x), params)
                value = value + reward_k
            return value

        gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
        for equity in ([100.0] * 5, [100, 101, 102, 1e-7, 1e-7], [100, 90, 0, 0, 0], [0.0] * 5):
            value, slopes = gradient(jnp.asarray(equity, dtype), jnp.zeros(5, dtype))
            assert np.isfinite(value)
            assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("reward", EVERY, ids=range(len(EVERY)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_carries_keep_structure_and_dtype(reward: Any, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        pair, weights = rewards.resolve(reward, HOURS_PER_YEAR)
        params = parameters(dtype, weights)
        before = jax.eval_shape(lambda: pair.init(params))
        x = jax.tree.map(lambda leaf: leaf[0], inputs(EQUITY, dtype))
        value, after = jax.eval_shape(lambda c: pair.update(c, x, params), pair.init(params))
        assert jax.tree.structure(before) == jax.tree.structure(after)
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            assert (old.shape, old.dtype, new.weak_type) == (new.shape, new.dtype, False)
            assert old.dtype in (jnp.dtype(dtype), jnp.int32)
            assert not old.weak_type
        assert (value.shape, value.dtype) == ((), jnp.dtype(dtype))


@pytest.mark.parametrize("name", rewards.NAMES)
def test_vmapped_equals_looped(name: str) -> None:
    draws = np.random.default_rng(3).normal(0, 0.01, (4, 60))
    curves = 1e4 * np.exp(np.cumsum(np.pad(draws, ((0, 0), (1, 0))), axis=1))
    with jax.enable_x64(True):
        pair, weights = rewards.resolve(name, HOURS_PER_YEAR)
        params = parameters(jnp.float64, weights)
        lanes = [inputs(curve, jnp.float64, filled=draws[0] > 0) for curve in curves]
        together = jax.tree.map(lambda *rows: jnp.stack(rows), *lanes)
        found = jax.vmap(lambda x: episode(pair, x, params)[0])(together)
        alone = jax.jit(lambda x: episode(pair, x, params)[0])
        for lane, values in zip(lanes, found, strict=True):
            np.testing.assert_allclose(values, alone(lane), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", rewards.NAMES)
def test_carry_restarts_at_init(name: str) -> None:
    """A second episode does not remember the first."""
    first = values64(name, EQUITY)
    with jax.enable_x64(True):
        pair, weights = rewards.resolve(name, HOURS_PER_YEAR)
        params = parameters(jnp.float64, weights)
        _, used = episode(pair, inputs(EQUITY, jnp.float64), params)
        again, _ = episode(pair, inputs(EQUITY, jnp.float64), params)
        fresh = pair.init(params)
        np.testing.assert_array_equal(again, first)
        assert jax.tree.structure(used) == jax.tree.structure(fresh)


def test_composite_is_the_weighted_sum_of_its_parts_run_alone() -> None:
    parts = {"sharpe": 0.5, "drawdown": -2.0, rewards.pnl(relative=True): 3.0, "activity": 0.25}
    together = values64(parts, EQUITY, filled=FILLS)
    alone = sum(w * values64(part, EQUITY, filled=FILLS) for part, w in parts.items())
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-12)


def test_weights_are_traced() -> None:
    pair, weights = rewards.resolve({"pnl": 1.0, "drawdown": 0.0}, HOURS_PER_YEAR)
    assert weights == (1.0, 0.0)
    x = inputs(EQUITY, jnp.float32)

    def total(w: Any) -> Any:
        return episode(pair, x, parameters(jnp.float32, w))[0].sum()

    found = jax.vmap(total)(jnp.asarray([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]))
    np.testing.assert_allclose(found, [-50, -0.0588720636, -100.0588720636], rtol=1e-5)


def test_composite_within_a_dict_stands_for_its_parts() -> None:
    pair, weights = rewards.resolve({"composite": 2.0, "pnl": 1.0}, HOURS_PER_YEAR)
    assert weights == (0.8, 0.6, 0.4, 0.2, 1.0)
    assert len(pair.init(parameters(jnp.float32, weights))) == 5


def test_users_own_pair_may_use_python_numbers() -> None:
    def init(params: Any) -> Any:
        return {"best": 0.0, "steps": 0}

    def update(carry: Any, x: RewardInput, params: Any) -> Any:
        best = jnp.maximum(carry["best"], x.equity_after)
        return best - x.equity_before, {"best": best, "steps": carry["steps"] + 1}

    for values in (values32, values64):
        np.testing.assert_allclose(values((init, update), EQUITY), [100, 0, 150, 0, 300])
    np.testing.assert_allclose(values64({(init, update): 2.0}, EQUITY), [200, 0, 300, 0, 600])


def test_update_runs_once_per_compilation() -> None:
    traces = []

    def update(carry: Any, x: RewardInput, params: Any) -> Any:
        traces.append(1)
        return x.equity_after, carry

    pair, _ = rewards.resolve((lambda params: 1.0, update), HOURS_PER_YEAR)
    params, x = parameters(jnp.float32), inputs(EQUITY, jnp.float32)
    step = jax.jit(lambda carry, row: pair.update(carry, row, params))
    carry = pair.init(params)
    for k in range(4):
        _, carry = step(carry, jax.tree.map(lambda leaf, k=k: leaf[k], x))
    assert len(traces) == 1


KNOWN = (
    "log_return, pnl, simple_return, sharpe, risk_adjusted, sortino, sharpe_change, "
    "sortino_change, differential_sharpe, differential_sortino, drawdown_penalty, drawdown, "
    "position_return, activity, composite"
)
NOT_A_REWARD = "reward: expected a name, a dict of weights or a pair (init, update); got {!r}."
BAD_WEIGHTS = "reward: weights must be finite numbers, at least one of them not 0; got {}."


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("logreturn", f"reward: unknown 'logreturn'; did you mean 'log_return'? Known: {KNOWN}."),
        ("PnL", f"reward: unknown 'PnL'; did you mean 'pnl'? Known: {KNOWN}."),
        (
            {"log_return": 1.0, "drawdwn": 1.0},
            f"reward: unknown 'drawdwn'; did you mean 'drawdown'? Known: {KNOWN}.",
        ),
        (3, NOT_A_REWARD.format(3)),
        (None, NOT_A_REWARD.format(None)),
        (("log_return", 1.0), NOT_A_REWARD.format(("log_return", 1.0))),
        ([len], NOT_A_REWARD.format([len])),
        ({"pnl": 0.0, "drawdown": 0}, BAD_WEIGHTS.format({"pnl": 0.0, "drawdown": 0})),
        ({"pnl": float("nan")}, BAD_WEIGHTS.format({"pnl": float("nan")})),
        ({"pnl": float("inf")}, BAD_WEIGHTS.format({"pnl": float("inf")})),
        ({"pnl": "1"}, BAD_WEIGHTS.format({"pnl": "1"})),
        ({}, BAD_WEIGHTS.format({})),
    ],
)
def test_refused_rewards(reward: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        rewards.resolve(reward, HOURS_PER_YEAR)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: rewards.risk_adjusted(window=1), "window: must be a whole number >= 2; got 1."),
        (lambda: rewards.sharpe(window=2.5), "window: must be a whole number >= 2; got 2.5."),
        (lambda: rewards.activity(window=0), "window: must be a whole number >= 1; got 0."),
        (
            lambda: rewards.risk_adjusted("calmar"),
            "ratio: must be one of ('sharpe', 'sortino'); got 'calmar'.",
        ),
        (
            lambda: rewards.drawdown_penalty("sharpe"),
            "base: must be one of ('log_return', 'pnl'); got 'sharpe'.",
        ),
    ],
)
def test_refused_parameters(build: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build()
    assert str(caught.value) == message
