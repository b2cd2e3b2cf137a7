"""How a learner sees the market, while it collects and while it learns: by steps or by stretches.

Both give the same numbers for the same bars. `Steps` works with every environment and network.
`Segments` encodes the stretch of bars that a lane runs through once, which convolutions can share.

Axes: S rollout steps, N environments, M samples, A actions.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents import rollout, segments
from agents.gradients import by_parts
from agents.networks import ACCOUNT_STATE, BAR

Array = jax.Array

# Observations that are learnt from at once on a CPU: the layers' outputs stay in its cache.
_SAMPLES_AT_ONCE = 4_096
# No time limit: an int32 that no episode reaches.
_UNLIMITED = 2**30


class Experience(NamedTuple):
    """One rollout as a learner needs it.

    Attributes:
      lanes: after the rollout. batch: its transitions, [S, N, ...].
      inputs: what `outputs` needs to look at the same observations again, [S or 1, N, ...].
      last_value: [N], of the observation after the rollout. final_value: [S, N], where cut.
      truncated: bool [S, N], where an episode was cut inside the rollout. metrics: of the rollout.
    """

    lanes: rollout.Lanes
    batch: rollout.Transitions
    inputs: Any
    last_value: Array
    final_value: Array
    truncated: Array
    metrics: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Steps:
    """Every observation is encoded on its own; episodes begin and end anywhere in a rollout."""

    def collect(
        self,
        learner: Any,
        network_params: Any,
        lanes: rollout.Lanes,
        draws: rollout.Draws,
        params: Any,
        update: Array,
    ) -> Experience:
        """Run the policy for S steps in every lane.

        Args:
          network_params: of ``learner.network``. draws: [S + 1, N]; the first row is not needed.
          params: of the environment, market normalised. update: int32 (), updates before this one.
        """
        del update
        draws = jax.tree.map(lambda x: x[1:], draws)
        steps, count = draws.action.shape
        act = learner.actor(network_params, params, steps * count)
        lanes, batch, metrics = rollout.collect(learner.env, lanes, draws, params, act)
        _, last_value = act(rollout.observe(learner.env, lanes.state, params))
        final_value = rollout.final_values(lambda seen: act(seen)[1], batch, count)
        return Experience(
            lanes, batch, batch.observation, last_value, final_value, batch.truncated, metrics
        )

    def outputs(
        self, learner: Any, network_params: Any, inputs: Any, params: Any
    ) -> tuple[Array, Array]:
        """Logits [M, A] and value [M] of collected observations, step by step and lane by lane."""
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), inputs)
        return learner.apply(network_params, flat, params)

    def parts(self, steps: int, lanes: int) -> int:
        """In how many parts of ``lanes`` `outputs` of their ``steps`` is best asked for."""
        return segments.parts(lanes, steps, _SAMPLES_AT_ONCE)


@dataclasses.dataclass(frozen=True)
class Segments:
    """Every lane's market clock runs on through a rollout, and its stretch of bars is encoded once.

    An account that is ruined restarts at the same bar. Lanes move to a new random start only
    between rollouts, in turn; that cuts an episode, whose value is bootstrapped.

    Attributes:
      plan: of the stretches. restart_updates: updates a lane stays before it moves.
    """

    plan: segments.Plan
    restart_updates: int

    def collect(
        self,
        learner: Any,
        network_params: Any,
        lanes: rollout.Lanes,
        draws: rollout.Draws,
        params: Any,
        update: Array,
    ) -> Experience:
        """Run the policy for S steps in every lane; see `Steps.collect`."""
        params = params.replace(max_steps_in_episode=jnp.asarray(_UNLIMITED, jnp.int32))
        first_row = jax.tree.map(lambda x: x[0], draws)
        lanes, moved = self._moved(learner.env, lanes, first_row, params, update)
        first = lanes.state.bar
        embedding = by_parts(
            lambda part: self._embed(learner, network_params, part[0], params),
            first[None],
            self.plan.parts(first.shape[0]),
        )
        embedding = jnp.moveaxis(embedding.reshape(-1, *embedding.shape[2:]), 1, 0)

        def act(observation: Any, embedded: Array) -> tuple[Array, Array]:
            account = observation[ACCOUNT_STATE]
            return learner.outputs(network_params, embedded, account, method="decide")

        lanes, batch, metrics = rollout.collect(
            learner.env,
            lanes,
            jax.tree.map(lambda x: x[1:], draws),
            params,
            act,
            along=embedding[:-1],
        )
        metrics = {name: value + moved.get(name, 0) for name, value in metrics.items()}
        final_account = batch.final_observation[ACCOUNT_STATE][-1]
        _, last_value = learner.outputs(
            network_params, embedding[-1], final_account, method="decide"
        )
        never = jnp.zeros_like(batch.truncated)
        inputs = {BAR: first[None], ACCOUNT_STATE: batch.observation[ACCOUNT_STATE]}
        return Experience(
            lanes, batch, inputs, last_value, jnp.zeros_like(batch.value), never, metrics
        )

    def outputs(
        self, learner: Any, network_params: Any, inputs: Any, params: Any
    ) -> tuple[Array, Array]:
        """Logits [M, A] and value [M] of collected observations, step by step and lane by lane."""
        embedding = self._embed(learner, network_params, inputs[BAR][0], params)[:, :-1]
        embedding = jnp.moveaxis(embedding, 1, 0).reshape(-1, embedding.shape[-1])
        account = inputs[ACCOUNT_STATE]
        account = account.reshape(-1, account.shape[-1])
        return learner.outputs(network_params, embedding, account, method="decide")

    def parts(self, steps: int, lanes: int) -> int:
        """In how many parts of ``lanes`` `outputs` of their ``steps`` is best asked for."""
        del steps  # those of the plan
        return self.plan.parts(lanes)

    def _embed(self, learner: Any, network_params: Any, first: Array, params: Any) -> Array:
        """[N, S + 1, H] of the stretches that begin at bars ``first`` [N]."""
        segment = segments.cut(params.market, first, self.plan)
        return learner.outputs(network_params, segment.rows, segment.places, method="embed")

    def _moved(
        self, env: Any, lanes: rollout.Lanes, draws: rollout.Draws, params: Any, update: Array
    ) -> tuple[rollout.Lanes, dict[str, Array]]:
        """The lanes with those elsewhere whose time has come or whose data would run out."""
        market, steps = params.market, self.plan.steps
        turn = (update + jnp.arange(draws.cash.shape[0])) % self.restart_updates == 0
        due = turn | (lanes.state.bar > market.last - steps)
        # Starts that have the steps of one rollout before them.
        room = dataclasses.replace(market, last=market.last - steps)
        some = params.replace(market=room, max_steps_in_episode=jnp.zeros((), jnp.int32))
        fresh = jax.vmap(env.fresh_state, in_axes=(0, 0, None))(draws.start, draws.cash, some)
        ended = due & (lanes.state.time > 0)
        total = jnp.where(ended, lanes.episode_return, 0)
        state = jax.tree.map(
            lambda new, old: jnp.where(due.reshape(-1, *[1] * (new.ndim - 1)), new, old),
            fresh,
            lanes.state,
        )
        ratio = jax.vmap(env.equity, in_axes=(0, None))(lanes.state, params)
        ratio = jnp.where(ended, ratio / lanes.state.initial_equity, 0)
        return rollout.Lanes(
            state=state,
            episode_return=jnp.where(due, 0, lanes.episode_return),
            peak=jnp.where(due, 0, lanes.peak),
        ), {
            "episodes": ended.sum(dtype=jnp.int32),
            "truncations": ended.sum(dtype=jnp.int32),
            "return_sum": total.sum(),
            "return_square_sum": jnp.square(total).sum(),
            "equity_ratio_sum": ratio.sum(),
        }
