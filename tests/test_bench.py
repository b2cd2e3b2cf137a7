"""`jaxtrade bench`: its options, its results file and tables, and the products it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from agents.bench import cases, cli, learners, markets, pages, products
from agents.networks import count_parameters

MACHINE = {
    "name": "2 cores of some processor",
    "cores": 2,
    "processor": "some processor",
    "memory_gigabytes": 8.0,
    "system": "Linux",
    "platform": "cpu",
    "x64": False,
    "versions": {"python": "3.11", "jax": "0.10"},
}
ABOUT = {
    "date": "2030-01-02",
    "commit": "abc",
    "peak_megabytes": 100.0,
    "device_peak_megabytes": None,
    "repeats": 2,
}


def spread(median: float) -> dict[str, float]:
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median}


def steps(what: str, loop: str, rate: float, **fields: object) -> dict[str, object]:
    return {
        "what": what,
        "loop": loop,
        "lanes": 2048,
        "devices": 1,
        "steps_per_second": spread(rate),
        "compile_seconds": 1.0,
        "program_megabytes": None,
        **fields,
    }


ENVIRONMENTS = {
    **ABOUT,
    "minutes": 1000,
    "execution_bars": 200,
    "state_bytes": 48,
    "rows": [
        {"what": "memory fill", "devices": 1, "bytes_per_second": spread(8e9)},
        {"what": "memory fill", "devices": 2, "bytes_per_second": spread(16e9)},
        steps("cartpole", "random", 4e6),
        steps("index", "rollout", 20e6),
        steps("dict", "rollout", 2e6, observation_bytes=1000),
        steps("dict", "sharded", 6e6, observation_bytes=1000, devices=2),
        steps("dict", "sharded", 3e6, observation_bytes=1000, table="devices"),
        steps("dict", "sharded", 6e6, observation_bytes=1000, devices=2, table="devices"),
        {"what": "memory fill", "devices": 1, "bytes_per_second": spread(12e9)},
    ],
}


def cells(page: str, title: str) -> list[dict[str, str]]:
    """The rows of one Markdown table, by heading."""
    section = page.partition(f"### {title}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    headings, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(headings, row, strict=True)) for row in rows]


# Command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "everything"], "invalid choice"),
        (["--repeats", "0"], "must be a whole number >= 1, was '0'"),
        (["--lanes", "64", "many"], "must be a whole number >= 1, was 'many'"),
    ],
)
def test_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.bench(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_help_names_every_group_and_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.bench(["--help"])
    shown = capsys.readouterr().out
    assert "example: jaxtrade bench" in shown
    assert all(f"\n  {group} " in shown for group in cases.GROUPS)


def test_the_command_starts_without_jax(project_folder: Path) -> None:
    code = "import sys, agents.bench.cli; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=project_folder).returncode == 0


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Replaces measuring; the list of (group, options, case) asked for."""
    asked: list[tuple] = []

    def run(group: str, options: cases.Options, case: str | None = None) -> dict | None:
        asked.append((group, options, case))
        if group == "adapters":
            return None
        row = {"what": case, "steps_per_second": spread(1.0)}
        rows = ENVIRONMENTS if group == "environments" else {**ABOUT, "rows": [row]}
        return {"name": group, "machine": MACHINE, "group": rows}

    monkeypatch.setattr(cli, "_run", run)
    return asked


def test_options_reach_the_measuring_processes(measured: list[tuple]) -> None:
    assert cli.bench(["--only", "environments", "--lanes", "64", "128", "--repeats", "3"]) == 0
    assert cli.bench(["--quick"]) == 0
    (_, options, _), *quick = measured
    assert options == cases.Options(repeats=3, minutes=500_000, lanes=(64, 128))
    assert {group for group, _, _ in quick} == set(cases.QUICK_GROUPS)
    assert quick[0][1] == cases.Options(repeats=2, minutes=100_000, quick=True)


def test_every_learner_is_measured_in_its_own_process(measured: list[tuple]) -> None:
    cli.bench(["--only", "learner", "--lanes", "64", "--seeds", "1", "3"])
    names = [case for _, _, case in measured]
    assert len(set(names)) == len(names)
    assert {"PPO, window MLP", "PPO, light policy, 64 environments"} <= set(names)
    assert "PPO, window MLP, 3 seeds" in names


def test_results_of_other_groups_and_machines_are_kept(
    measured: list[tuple], tmp_path: Path
) -> None:
    results, page = tmp_path / "results.json", tmp_path / "page.md"
    other = {"machine": MACHINE, "startup": {**ABOUT, "rows": []}}
    results.write_text(json.dumps({"another": other}), encoding="utf-8")
    page.write_text(f"# Mine\n\n{pages.BEGIN}\nold", encoding="utf-8")
    words = ["--json", str(results), "--table", str(page), "--only"]
    assert cli.bench([*words, "environments"]) == 0
    assert cli.bench([*words, "startup"]) == 0
    found = json.loads(results.read_text(encoding="utf-8"))
    assert found["another"] == other
    assert {"environments", "startup", "machine"} <= found[MACHINE["name"]].keys()
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Mine\n\n{pages.BEGIN}\n\n## 2 cores of some processor")
    assert "old" not in text


def test_a_group_that_fails_is_said_and_the_rest_kept(
    measured: list[tuple], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    code = cli.bench(["--json", str(results), "--only", "adapters", "environments"])
    assert code == 1
    assert "not measured: adapters" in capsys.readouterr().err
    assert "environments" in json.loads(results.read_text(encoding="utf-8"))[MACHINE["name"]]


def test_a_foreign_results_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    path.write_text("[1, 2", encoding="utf-8")
    with pytest.raises(ValueError, match=r"notes\.json: must hold results of jaxtrade bench"):
        cli.bench(["--json", str(path)])


# Tables -----------------------------------------------------------------------------------------


def test_steps_table_names_its_denominators() -> None:
    page = pages.markdown({"a": {"machine": MACHINE, "environments": ENVIRONMENTS}})
    cartpole, index, plain, both = cells(page, "Environment steps")
    assert cartpole["x CartPole"] == "1.00"
    assert (index["x CartPole"], index["GB/s"], index["of fill"]) == ("5.00", "", "")
    # The mean of both fills of one device, and the one of two devices.
    assert (plain["GB/s"], plain["of fill"]) == ("2.0", "20%")
    assert (both["GB/s"], both["of fill"]) == ("6.0", "38%")
    assert "State of one environment: 48 bytes" in page
    one, two = cells(page, "Environment steps by number of devices")
    assert (one["x one device"], two["x one device"]) == ("1.00", "2.00")


def test_learner_tables() -> None:
    row = {
        "what": "PPO",
        "steps_per_second": spread(1000.0),
        "seconds_per_update": 0.3,
        "products_seconds": 0.2,
        "update_over_products": spread(1.5),
        "buffer_bytes_per_step": 78.4,
    }
    seeds = [{**row, "table": "seeds", "seeds": 8, "steps_per_second": spread(3000.0)}]
    seeds.insert(0, {**row, "table": "seeds", "seeds": 1})
    learner = {**ABOUT, "rows": [{**row, "table": "learners"}, *seeds]}
    page = pages.markdown({"a": {"machine": MACHINE, "learner": learner}})
    (shown,) = cells(page, "Learners, end to end")
    assert (shown["decisions/s (median)"], shown["buffer B/step"]) == ("1 k", "78")
    assert "device peak MB" not in shown  # nobody knows it
    (shown,) = cells(page, "Learners beside their matrix products")
    assert shown["update / products"] == "1.50"
    assert [row["x one seed"] for row in cells(page, "Learners by number of seeds")] == [
        "1.00",
        "3.00",
    ]


def test_results_of_an_older_version_are_shown() -> None:
    old_rows = [steps("cartpole", "random", 1e6), steps("dict", "rollout", 1e6)]
    for row in old_rows:
        del row["devices"]
    about = {name: value for name, value in ABOUT.items() if name != "repeats"}
    environments = {
        **about,
        "minutes": 1000,
        "execution_bars": 200,
        "observation_bytes": 1064,
        "memory_fill_gigabytes_per_second": 12.5,
        "rows": old_rows,
    }
    learner = {**about, "rows": [{"what": "PPO", "steps_per_second": spread(5.0)}]}
    page = pages.markdown(
        {"a": {"machine": MACHINE, "environments": environments, "learner": learner}}
    )
    assert cells(page, "Environment steps")[1]["x CartPole"] == "1.00"
    assert "dict 1,064" in page
    assert "12.5" in page
    assert cells(page, "Learners, end to end") == [
        {"learner": "PPO", "decisions/s (median)": "5", "range": "4.5 - 5.5"}
    ]


def test_the_published_results_can_be_shown(
    project_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project_folder / "docs" / "benchmarks.json").read_text(encoding="utf-8")
    published = json.loads(text)
    pages.show(published)
    shown, page = capsys.readouterr().out, pages.markdown(published)
    for name in published:
        assert name in shown
        assert f"## {name}" in page
    for line in page.splitlines():
        assert not line.startswith("|") or line.endswith("|")


# Matrix products --------------------------------------------------------------------------------


def shapes(found: dict) -> Counter:
    return Counter({(one.left, one.right): times for one, times in found.items()})


def test_products_are_counted_through_loops_calls_and_derivatives() -> None:
    @jax.custom_vjp
    def doubled(x: jax.Array) -> jax.Array:
        return x @ jnp.ones((4, 4))

    doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (g @ jnp.ones((4, 4)),))

    def program(x: jax.Array, w: jax.Array) -> jax.Array:
        def turn(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            inner = jax.lax.map(lambda row: row @ w, carry)  # 3 rows
            return jax.jit(lambda y: jax.checkpoint(doubled)(y @ w))(inner), None

        return jax.lax.scan(turn, x, length=5)[0]

    counts = products.count(program, jnp.ones((3, 4)), jnp.ones((4, 4)))
    assert shapes(counts.certain) == {((4,), (4, 4)): 15, ((3, 4), (4, 4)): 10}
    assert counts.flops == 15 * 2 * 4 * 4 + 10 * 2 * 3 * 4 * 4
    assert not counts.uncertain


def test_what_nobody_reads_is_not_counted() -> None:
    def gradient(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.grad(lambda x: ((x @ w) @ w).sum())(x)

    counts = products.count(gradient, jnp.ones((3, 4)), jnp.ones((4, 4)))
    assert sum(counts.certain.values()) == 2  # backwards alone: the loss is linear in x


def test_products_that_run_an_unknown_number_of_times_are_kept_apart() -> None:
    def program(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        looped = jax.lax.while_loop(lambda y: y.sum() < 100, lambda y: y @ w, x)
        chosen = jax.lax.cond(x.sum() > 0, lambda: x @ w, lambda: x @ w @ w + x[:, :1] @ w[:1])
        return looped, chosen

    counts = products.count(program, jnp.ones((3, 4)), jnp.ones((4, 4)))
    assert shapes(counts.certain) == {((3, 4), (4, 4)): 1}
    assert shapes(counts.uncertain) == {((3, 4), (4, 4)): 2, ((3, 1), (1, 4)): 1}


def test_flops_with_batch_dimensions() -> None:
    def program(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.einsum("bij,bkj->bik", x, y)

    counts = products.count(program, jnp.ones((7, 3, 4)), jnp.ones((7, 5, 4)))
    assert counts.flops == 2 * 7 * 3 * 5 * 4


class Noted(products.Product):
    """A product that notes when it is carried out."""

    def apply(self, left: jax.Array, right: jax.Array) -> jax.Array:
        carried_out.append((left.shape, right.shape))
        return super().apply(left, right)


carried_out: list = []


@pytest.mark.parametrize("times", [2, 5])
def test_a_product_runs_as_often_as_counted(times: int) -> None:
    carried_out.clear()
    product = Noted((3, 4), (4, 2), "float32", "float32", ((1,), (0,)), ((), ()))
    left, right = jnp.ones((3, 4)), jnp.full((4, 2), 2.0)
    with jax.disable_jit():
        seen = products._repeat(product, times, left, right, jnp.float32(-3), jnp.int32(0))
    assert len(carried_out) == times
    # The first number of the smaller operand is the sign of what was seen before: first -3, then 5.
    assert seen == 3 * 2 + 1


def test_the_runner_takes_every_type() -> None:
    def program(x: jax.Array, y: jax.Array, z: jax.Array) -> tuple[jax.Array, ...]:
        half = jax.lax.dot(x.astype(jnp.bfloat16), y.astype(jnp.bfloat16))
        return half, jnp.dot(z, z), jnp.vdot(x, x), jnp.einsum("bij,bjk->bik", x[None], y[None])

    counts = products.count(
        program, jnp.ones((3, 4)), jnp.ones((4, 2)), jnp.ones((2, 2), jnp.int32)
    )
    assert len(counts.certain) == 4
    products.runner(counts.certain, jax.random.key(0))()


# Learners ---------------------------------------------------------------------------------------

MINUTES = 12_000
SMALL = {"num_envs": 8, "rollout_steps": 4, "minibatches": 2, "epochs": 3}


@pytest.fixture(scope="module")
def window_mlp() -> learners.Prepared:
    case = cases.Case("small", "ppo", "four frames", {**SMALL, "hidden_sizes": (16, 8)})
    return learners.prepare(case, MINUTES)


def test_products_of_an_update_agree_with_a_count_by_hand(window_mlp: learners.Prepared) -> None:
    counts = products.count(
        window_mlp.learner.update, window_mlp.state, window_mlp.traced, window_mlp.params
    )
    market, account, actions = (12 + 8 + 8 + 24) * 5, 6, 5
    first, second = (market + account) * 16, 16 * 8
    # Rollout: 4 steps of 8 environments, and their last values, which need no logits.
    collected = 8 * (4 * (first + second + 8 * (actions + 1)) + first + second + 8)
    # Learning: forwards, weights and, above the first layer, inputs; 3 epochs of all samples.
    later = second + 8 * (actions + 1)
    learned = 3 * 8 * 4 * (2 * first + 3 * later)
    # The squared norm of the gradient of each of 3 x 2 minibatches.
    norms = 3 * 2 * count_parameters(window_mlp.state.params)
    assert counts.flops == 2 * (collected + learned + norms)
    # Values of observations at which episodes were cut: how many is known when they are.
    assert products.flops(counts.uncertain) == 2 * 8 * (first + second + 8)


def test_bytes_per_environment_and_per_step(window_mlp: learners.Prepared) -> None:
    kept = learners.buffer_bytes_per_step(window_mlp)
    assert kept is not None
    # Two observations in index form (28 bytes each), action, probability, value, reward, two flags.
    assert 2 * 28 + 4 * 4 + 2 <= kept < 100
    state = jax.tree.leaves(window_mlp.state.lanes.state)
    assert sum(leaf.nbytes for leaf in state) / 8 < 100


def test_segments_keep_no_more(window_mlp: learners.Prepared) -> None:
    config = {
        **SMALL,
        "encoder": "conv",
        "rollout": "segments",
        "channels": (4, 4),
        "hidden_sizes": (8,),
    }
    ready = learners.prepare(cases.Case("segments", "ppo", "four frames, 64 rows", config), MINUTES)
    kept = learners.buffer_bytes_per_step(ready)
    assert kept is not None
    assert kept < 100


def test_every_case_has_valid_settings() -> None:
    for case in cases.learner_cases(cases.Options()):
        learners.settings(case).check()
    light = cases.SETTINGS["1x16"]
    market = markets.market("1x16", 2_000)
    assert market.features[0].shape[1] == 16
    assert light.window_sizes == (1,)


def test_lanes_of_learners_keep_the_steps_of_an_update() -> None:
    found: dict[str, set[int]] = {}
    for case in cases.learner_cases(cases.Options()):
        if case.table == "lanes":
            found.setdefault(case.what, set()).add(learners.settings(case).steps_per_update)
    assert found == {what: {size} for what, size in cases.STEPS_PER_UPDATE.items()}


@pytest.mark.slow
def test_a_learner_is_measured_beside_its_products() -> None:
    config = {**SMALL, "hidden_sizes": (16, 8)}
    case = cases.Case("small", "ppo", "four frames", config, updates=2, products=True)
    row = learners.row(case, MINUTES, repeats=2)
    assert row["steps_per_update"] == 32
    assert row["products_seconds"] > 0
    assert row["update_over_products"]["low"] > 0
    assert row["steps_per_second"]["low"] <= row["steps_per_second"]["high"]
    assert row["compile_seconds"] > 0


@pytest.mark.slow
def test_the_command_measures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    words = ["--minutes", str(MINUTES), "--repeats", "1", "--lanes", "64", "--quick"]
    code = cli.bench([*words, "--only", "environments", "startup", "--json", str(results)])
    assert code == 0
    (found,) = json.loads(results.read_text(encoding="utf-8")).values()
    assert found["environments"]["state_bytes"] < 100
    loops = {(row["what"], row.get("loop")) for row in found["environments"]["rows"]}
    assert {("cartpole", "random"), ("index", "rollout"), ("dict", "call")} <= loops
    assert "Environment steps" in capfd.readouterr().out
