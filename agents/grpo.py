"""Group relative policy optimisation: actions on the same start are judged by each other.

There is no critic and so nothing to bootstrap: the return of an episode stands for all its steps,
and an action is as good as its episode was better than those of the other members of its group.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import PartitionSpec

from agents import gradients, groups, losses
from agents.devices import ALIKE, LANES, averaged, mean_over, merged
from agents.grpo_config import GRPOConfig
from agents.learner import Learner, index_twin, normalised, require_discrete
from agents.networks import ACCOUNT_STATE, Normalizer
from agents.outcomes import OutcomeTable
from jaxtrade.envs import OneStepTradingEnv

Array = jax.Array


@struct.dataclass
class GRPOState:
    """The whole truth of a run; saved and resumed as it is. Episodes do not outlive an update.

    Attributes:
      params: of the network. reference: of the reference policy. optimizer: optax state.
      normalizer: of the market features, fixed. key: typed. update: int32.
    """

    params: Any
    reference: Any
    optimizer: Any
    normalizer: Normalizer
    key: Array
    update: Array


@dataclasses.dataclass(frozen=True)
class GRPO(Learner):
    """The learner; see `Learner`. The value that its network has is not learnt.

    Members of a group must see the same besides their accounts, as in every trading environment:
    it is encoded once per group.

    Attributes:
      axis: of the devices that share the groups (`agents.devices`); None = alone.
    """

    axis: str | None = None

    @classmethod
    def create(cls, env: Any, config: GRPOConfig) -> GRPO:
        """The learner for an environment.

        Raises:
          ValueError: the settings are out of range or do not fit the environment, or its actions
            are not discrete.
        """
        config.check()
        require_discrete(env, "GRPO")
        if isinstance(env, OneStepTradingEnv) and config.rollout_steps > 1:
            raise ValueError(
                f"rollout_steps: must be 1, was {config.rollout_steps}: an episode of "
                "OneStepTradingEnv is one decision; its own rollout_steps limits the bars"
            )
        if config.sampling == "enumerate" and config.group_size != env.num_actions:
            raise ValueError(
                f"group_size: must be the number of actions ({env.num_actions}) with sampling "
                f'"enumerate", was {config.group_size}'
            )
        twin = index_twin(env)
        acting = OutcomeTable(twin) if config.outcomes == "table" else twin
        return cls(acting, config.network(env.num_actions))

    def init(
        self, key: Array, config: GRPOConfig, params: Any, normalizer: Normalizer | None = None
    ) -> GRPOState:
        """The state before the first update; see `Learner.init`."""
        key_network, key_start, key = jax.random.split(key, 3)
        bits = jax.random.bits(key_start, (), jnp.uint32)
        first = self.env.fresh_state(bits, jnp.zeros(()), params)
        seen = jax.tree.map(lambda x: x[None], self.env.observe(None, first, None, params))
        network = self.network.init(key_network, self.expand(seen, params))["params"]
        return GRPOState(
            params=network,
            reference=network,
            optimizer=gradients.start_optimizers({"policy": network}, config),
            normalizer=jax.tree.map(jnp.asarray, normalizer or Normalizer.none()),
            key=key,
            update=jnp.zeros((), jnp.int32),
        )

    def draws(self, state: GRPOState, config: GRPOConfig) -> groups.Draws:
        """What the groups draw in the next update."""
        key = jax.random.split(state.key, 3)[1]
        return groups.Draws.of(key, config.rollout_steps, config.groups, config.group_size)

    def shards(self) -> tuple[Any, Any]:
        """How states and `draws` lie on devices that share the groups: as prefix trees."""
        steps: Any = PartitionSpec(None, *LANES)
        groups_only: Any = LANES
        return ALIKE, groups.Draws(groups_only, groups_only, steps, steps)

    def update(
        self, state: GRPOState, config: GRPOConfig, params: Any, draws: groups.Draws | None = None
    ) -> tuple[GRPOState, dict[str, Array]]:
        """Collect one episode of every member and learn from all of them.

        Args:
          draws: those of `draws`, for this device's groups; None = drawn here.

        Returns: the next state and metrics, sums and counts (see `groups.collect`) plus ``loss_*``
          sums over ``minibatches`` gradient steps, ``groups`` and ``groups_alike`` (those whose
          members all got the same return; they teach nothing).
        """
        key, _, key_shuffle = jax.random.split(state.key, 3)
        params = normalised(state.normalizer, params, config.precision)
        reference = _reference(state, config)
        draws = self.draws(state, config) if draws is None else draws

        def act(market: Any, account: Array) -> tuple[Array, Array]:
            policy = self.log_probabilities(state.params, market, account, params)
            return policy, self.log_probabilities(reference, market, account, params)

        batch, metrics = groups.collect(
            self.env,
            draws,
            params,
            act,
            config.gamma,
            enumerate_actions=config.sampling == "enumerate",
        )
        advantage, differs = losses.group_advantage(
            batch.returns, batch.share, config.baseline, config.scale, self.axis
        )
        network, optimizer, learned = self._learn(
            state, config, params, batch, advantage, key_shuffle
        )
        metrics |= {
            "groups": jnp.asarray(config.groups, jnp.int32),
            "groups_alike": (~differs).sum(dtype=jnp.int32),
        }
        metrics = merged(self.axis, metrics) | learned
        following = GRPOState(
            params=network,
            reference=reference,
            optimizer=optimizer,
            normalizer=state.normalizer,
            key=key,
            update=state.update + 1,
        )
        return following, metrics

    def log_probabilities(
        self, network_params: Any, market: Any, account: Array, params: Any
    ) -> Array:
        """Logs of the actions' chances, [..., M, A]; the market is encoded once per group.

        Args:
          market: what each group sees alike, in index form, [...]. account: [..., M, P].
        """
        seen = self.expand({**market, ACCOUNT_STATE: account[..., 0, :]}, params)
        embedding = self.outputs(network_params, seen, method="embed")
        logits, _ = self.outputs(network_params, embedding[..., None, :], account, method="decide")
        return jax.nn.log_softmax(logits)

    def _learn(
        self,
        state: GRPOState,
        config: GRPOConfig,
        params: Any,
        batch: groups.Batch,
        advantage: Array,
        key: Array,
    ) -> tuple[Any, Any, dict[str, Array]]:
        """Epochs over minibatches of whole groups."""
        samples = (
            batch.market,
            batch.account,
            batch.action,
            batch.log_probability,
            batch.reference,
            advantage[None],
            batch.weight,
        )

        def step(carry: Any, places: Array) -> tuple[Any, Any]:
            parts, optimizers = carry
            market, account, *rest = jax.tree.map(lambda x: jnp.take(x, places, axis=1), samples)

            def loss(parts: gradients.Parts) -> tuple[Array, losses.GroupTerms]:
                policy = averaged(self.axis, parts["policy"])
                logs = self.log_probabilities(policy, market, account, params)
                terms = losses.group_loss(
                    logs,
                    *rest,
                    clip_range=config.clip_range,
                    kl_coefficient=config.kl_coefficient,
                    entropy_coefficient=config.entropy_coefficient,
                    axis=self.axis,
                )
                return terms.loss, terms

            parts, optimizers, learned = gradients.descend(loss, parts, optimizers, config)
            return (parts, optimizers), learned

        keys = jax.random.split(key, config.epochs)
        orders = jax.vmap(lambda key: jax.random.permutation(key, config.groups))(keys)
        places = orders.reshape(config.epochs * config.minibatches, -1)
        carry = ({"policy": state.params}, state.optimizer)
        (parts, optimizer), (loss, norm, terms) = jax.lax.scan(step, carry, places)
        named = terms._asdict()
        del named["loss"]
        # Of the very first minibatch: anything but rounding is an error of layout.
        first = {"first_ratio_deviation_max": named.pop("ratio_deviation")[0]}
        loss, named = mean_over(self.axis, (loss, named))
        metrics = losses.learning_metrics(loss, norm, named)
        return parts["policy"], optimizer, metrics | merged(self.axis, first)


def _reference(state: GRPOState, config: GRPOConfig) -> Any:
    """The reference policy of this update: that of the start, or the newest one due."""
    period = config.reference_updates
    due = (state.update == 0) | ((period > 0) & (state.update % jnp.maximum(period, 1) == 0))
    return jax.tree.map(
        lambda kept, policy: jnp.where(due, policy, kept), state.reference, state.params
    )
