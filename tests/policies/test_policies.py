"""One contract suite for every policy, and the heads against their definitions."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from mineonline.envs.actions import BUTTON_TABLE, GROUP_NAMES, INVENTORY, legal_buttons
from mineonline.envs.contract import ContinuousAction, EnvSpec, TensorSpec
from mineonline.envs.tasks import ActionMask
from mineonline.errors import ConfigError
from mineonline.policies.actor import Actor
from mineonline.policies.build import build_policy
from mineonline.policies.heads import CategoricalHead, GaussianHead
from mineonline.policies.minecraft_heads import FactoredHead, JointHead
from tests.helpers.settings import CARTPOLE, config_of
from tests.policies.test_vpt import SMALL_VPT

MINECRAFT = EnvSpec(observation={"image": TensorSpec((48, 64, 3), "uint8")}, action={"buttons": 8641, "camera": 121})
VECTOR = EnvSpec(observation={"state": TensorSpec((4,), "float32")}, action={"action": 2})
VPT_WORLD = EnvSpec(observation={"image": TensorSpec((128, 128, 3), "uint8")}, action=MINECRAFT.action)
MINEPOLICY_WORLD = EnvSpec(observation={"image": TensorSpec((64, 64, 3), "uint8")}, action=MINECRAFT.action)
ROCKET_WORLD = EnvSpec(
    observation={
        "image": TensorSpec((48, 64, 3), "uint8"),
        "mask": TensorSpec((48, 64), "bool"),
        "previous": TensorSpec((11,), "float32"),
    },
    action=MINECRAFT.action,
)
ALL_KINDS = EnvSpec(
    observation={
        "inner.speed": TensorSpec((2, 3), "float32"), "camera": TensorSpec((40, 36, 4), "uint8"),
        "level": TensorSpec((1,), "float32"),
    },
    action={
        "arm": ContinuousAction((2, 1), (-1.0, 2.0), (1.0, 12.0)), "grip": 3,
        "wheel": ContinuousAction((), (0.0,), (None,)), "keys.0": 2,
    },
)  # fmt: skip
TWO_TASKS = ["tasks={hunt_cow: 1, chop_tree: 1}", "policy.task_embedding=5"]
TOLD = EnvSpec(
    observation={
        **MINECRAFT.observation, "task": TensorSpec((), "int64"), "task_vector": TensorSpec((3,), "float32"),
    },
    action=MINECRAFT.action, tasks={"chop_tree": (), "hunt_cow": ()},
)  # fmt: skip
SPACES = ["env=gym", "env.id=Any-v0"]
POLICIES = {
    "tiny": (["policy=tiny"], MINECRAFT),
    "tiny with a GRU": (["policy=tiny", "policy.memory=gru"], MINECRAFT),
    "tiny with the joint head": (["policy=tiny", "policy.head=joint"], MINECRAFT),
    "tiny with vectors": (["policy=tiny", "policy.memory=gru", *SPACES], ALL_KINDS),
    "tiny with two tasks": (["policy=tiny", "policy.memory=gru", *TWO_TASKS], TOLD),
    "tiny with two tasks and the joint head": (["policy=tiny", "policy.head=joint", *TWO_TASKS], TOLD),
    "mlp": (CARTPOLE, VECTOR),
    "mlp with two tasks": (
        CARTPOLE,
        EnvSpec({**VECTOR.observation, "task": TensorSpec((), "int64")}, VECTOR.action, tasks={"a": (), "b": ()}),
    ),
    "mlp with continuous actions": (CARTPOLE, EnvSpec(VECTOR.observation, ALL_KINDS.action)),
    "vpt": (SMALL_VPT, VPT_WORLD),
    "a MinePolicy": (
        [
            "policy=own",
            "policy._target_=mineonline.MinePolicyAdapter",
            "+policy.kwargs.network={_target_: examples.minepolicy.MyPolicy, hiddim: 32}",
        ],
        MINEPOLICY_WORLD,
    ),
    "the ROCKET example": (["policy=own", "policy._target_=examples.rocket_policy.RocketPolicy"], ROCKET_WORLD),
}
B, T = 3, 12


@pytest.fixture(params=list(POLICIES))
def case(request):
    overrides, spec = POLICIES[request.param]
    policy = build_policy(config_of(*overrides), spec)
    g = torch.Generator().manual_seed(1)
    observation = {
        name: (torch.randint(0, 256, (B, T, *s.shape), generator=g, dtype=torch.uint8) if s.dtype == "uint8"
               else torch.rand(B, T, *s.shape, generator=g) < 0.5 if s.dtype == "bool"
               else torch.randint(0, 2, (B, T), generator=g) if s.dtype == "int64"
               else torch.randn(B, T, *s.shape, generator=g))
        for name, s in spec.observation.items()
    }  # fmt: skip
    first_BT = torch.rand(B, T, generator=g) < 0.2
    memory = {
        name: torch.randn(B, *s.shape, generator=g) if s.dtype == "float32"
        else torch.rand(B, *s.shape, generator=g) < 0.7
        for name, s in policy.memory_spec.items()
    }  # fmt: skip
    return policy, observation, first_BT, memory


@torch.no_grad()
def test_stepwise_and_chunked_evaluation_agree_with_resets_inside(case):
    policy, observation, first_BT, memory = case
    whole = policy(observation, first_BT, memory)
    state, logits, values = memory, [], []
    for t in range(T):
        step = policy({k: v[:, t : t + 1] for k, v in observation.items()}, first_BT[:, t : t + 1], state)
        logits.append(step.logits)
        values.append(step.value_BT)
        state = step.memory
    torch.testing.assert_close(torch.cat(logits, 1), whole.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(values, 1), whole.value_BT, rtol=0, atol=1e-5)
    for name, after in whole.memory.items():
        torch.testing.assert_close(state[name], after, rtol=0, atol=1e-5)


@torch.no_grad()
def test_nothing_before_the_first_row_of_an_episode_has_an_influence(case):
    policy, observation, first_BT, memory = case
    first_BT = first_BT.clone()
    first_BT[:, 5] = True
    other = {name: tensor.clone() for name, tensor in observation.items()}
    for tensor in other.values():
        tensor[:, :5] = tensor[:, :5].flip(0)
    fresh = policy.initial_memory(B)
    a = policy(observation, first_BT, memory)
    b = policy(other, first_BT, fresh)
    torch.testing.assert_close(a.logits[:, 5:], b.logits[:, 5:], rtol=0, atol=1e-5)
    torch.testing.assert_close(a.value_BT[:, 5:], b.value_BT[:, 5:], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("case", ["tiny with a GRU", "vpt", "a MinePolicy", "the ROCKET example"], indirect=True)
def test_memory_matters_where_there_is_one(case):
    policy, observation, first_BT, memory = case
    first_BT = torch.zeros_like(first_BT)
    carried = policy(observation, first_BT, memory).value_BT
    forgotten = policy(observation, first_BT, policy.initial_memory(B)).value_BT
    assert (carried - forgotten).abs().max() > 1e-3


def test_every_parameter_gets_a_gradient(case):
    policy, observation, first_BT, memory = case
    output = policy(observation, first_BT, memory)
    action = policy.head.sample(output.logits.detach())
    loss = policy.head.log_prob(output.logits, action).sum() + output.value_BT.square().sum()
    (loss + policy.head.entropy(output.logits).sum()).backward()
    without = [name for name, parameter in policy.named_parameters() if parameter.grad is None]
    assert not without


@torch.no_grad()
@pytest.mark.parametrize(("name", "pictures"), [("tiny", MINECRAFT.observation), ("mlp", {})])
def test_bytes_are_a_picture_only_with_three_axes(name, pictures):
    flags = {"flags": TensorSpec((6,), "uint8"), "grey": TensorSpec((4, 5), "uint8")}
    policy = build_policy(config_of(*CARTPOLE, f"policy={name}"), EnvSpec({**pictures, **flags}, VECTOR.action))
    seen = {key: torch.zeros(B, T, *s.shape, dtype=torch.uint8) for key, s in {**pictures, **flags}.items()}
    first_BT = torch.zeros(B, T, dtype=torch.bool)
    unset, set_ = (policy({**seen, "flags": seen["flags"] + n}, first_BT, {}).logits for n in (0, 1))
    assert not torch.equal(unset, set_)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    one, same, other = (build_policy(config_of(*CARTPOLE, f"seed={seed}"), VECTOR) for seed in (1, 1, 2))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert not torch.equal(one.actor[0].weight, other.actor[0].weight)


def test_an_environment_of_ones_own_with_minecrafts_actions_gets_their_head():
    own = ["env=own", "env._target_=my_package.MyEnv"]
    assert isinstance(build_policy(config_of(*own), MINECRAFT).head, FactoredHead)
    assert isinstance(build_policy(config_of(*own, "policy.head=joint"), MINECRAFT).head, JointHead)
    other = EnvSpec(MINECRAFT.observation, {"buttons": 3})
    assert isinstance(build_policy(config_of(*own), other).head, CategoricalHead)


MASKS = [
    ActionMask(),
    ActionMask(forbid=("hotbar", "use", "drop", "inventory")),
    ActionMask(forbid=("inventory",), hold=("attack", "forward")),
]


def make_head(kind, mask):
    torch.manual_seed(0)
    head = kind(8, mask)
    torch.nn.init.normal_(head.linear.weight, std=0.7)
    return head, torch.randn(1000, 8)


@pytest.mark.parametrize("kind", [FactoredHead, JointHead])
@pytest.mark.parametrize("mask", MASKS)
def test_only_legal_actions_are_sampled_and_their_log_prob_is_finite(kind, mask):
    head, features = make_head(kind, mask)
    logits = head(features)
    action = head.sample(logits)
    legal = legal_buttons(mask.forbid, mask.hold)
    buttons = action["buttons"].numpy()
    # a held button is pressed even where a class says otherwise; the inventory excludes all groups in MineStudio
    assert legal[buttons[buttons != INVENTORY]].all()
    if "inventory" in mask.forbid:
        assert (buttons != INVENTORY).all()
    assert ((action["camera"] >= 0) & (action["camera"] < 121)).all()
    assert head.log_prob(logits, action).isfinite().all()
    assert (head.log_prob(logits, action) > -50).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", [FactoredHead, JointHead])
@pytest.mark.parametrize("mask", MASKS[:2])
def test_the_probabilities_of_all_actions_sum_to_one(kind, mask):
    head, features = make_head(kind, mask)
    logits = head(features[:1]).expand(8641, *head(features[:1]).shape[1:])
    buttons = torch.arange(8641)
    moves = torch.from_numpy(BUTTON_TABLE[:, GROUP_NAMES.index("camera")] == 1)
    total = 0.0
    for camera in range(121):
        each = head.log_prob(logits, {"buttons": buttons, "camera": torch.full((8641,), camera)}).exp()
        # where the camera stands still its class means nothing: count those actions once
        total += float(each[moves].sum()) + (float(each[~moves].sum()) if camera == 0 else 0.0)
    assert total == pytest.approx(1.0, abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("head", ["factored", "joint"])
def test_each_rows_actions_are_those_that_its_task_allows(head):
    config = config_of("tasks=[hunt_cow,chop_tree]", f"policy.head={head}")
    policy = build_policy(config, TOLD)
    tasks = config.all_tasks
    legal_KC = np.stack([legal_buttons(task.actions.forbid, task.actions.hold) for task in tasks])
    assert (legal_KC[0] != legal_KC[1]).any()
    task_BT = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]]).repeat(50, 1)
    observation = {"image": torch.zeros(100, 4, 48, 64, 3, dtype=torch.uint8), "task": task_BT}
    observation["task_vector"] = torch.zeros(100, 4, 3)
    logits = policy(observation, torch.zeros(100, 4, dtype=torch.bool), {}).logits
    action = policy.head.sample(logits)
    assert legal_KC[task_BT.numpy(), action["buttons"].numpy()].all()
    assert policy.head.log_prob(logits, action).isfinite().all()
    # each row is as if its task were the only one
    for index, task in enumerate(tasks):
        alone = build_policy(config_of(f"task={task.name}", f"policy.head={head}"), MINECRAFT)
        features = torch.randn(7, 256)
        alone.head.load_state_dict(policy.head.state_dict())
        one = policy.head(features, torch.full((7,), index))
        assert torch.equal(one, alone.head(features))
        assert torch.equal(policy.head.entropy(one), alone.head.entropy(one))


def test_tasks_with_one_mask_need_no_mask_for_each():
    policy = build_policy(config_of("tasks=[hunt_cow,chop_tree]", "++task.actions={forbid: [use], hold: []}"), TOLD)
    assert not policy.head.by_task
    assert policy.head.possible_GK.dim() == 2


def test_numbers_for_each_task_need_several_tasks():
    with pytest.raises(ConfigError, match=r"policy.task_embedding=5: this run has one task\. Give several"):
        build_policy(config_of("policy.task_embedding=5"), MINECRAFT)


@torch.no_grad()
def test_only_a_policy_that_is_told_its_task_acts_by_it():
    same_mask = "++task.actions={forbid: [use], hold: []}"
    image = torch.randint(0, 256, (1, 1, 48, 64, 3), dtype=torch.uint8)
    first = torch.zeros(1, 1, dtype=torch.bool)
    for size, differs in ((0, False), (5, True)):
        config = config_of("tasks=[hunt_cow,chop_tree]", same_mask, f"policy.task_embedding={size}")
        policy = build_policy(config, EnvSpec({**MINECRAFT.observation, "task": TOLD.observation["task"]},
                                              MINECRAFT.action, tasks=TOLD.tasks))  # fmt: skip
        values = [policy({"image": image, "task": torch.tensor([[k]])}, first, {}).value_BT.item() for k in (0, 1)]
        assert (values[0] != values[1]) == differs


@torch.no_grad()
@pytest.mark.parametrize("kind", [FactoredHead, JointHead])
def test_entropy_is_the_mean_of_minus_log_prob_over_samples(kind):
    head, features = make_head(kind, MASKS[1])
    one = head(features[:1])
    logits = one.expand(60_000 if kind is FactoredHead else 4000, *one.shape[1:])
    sampled = -head.log_prob(logits, head.sample(logits))
    error = 5 * sampled.std() / np.sqrt(len(sampled))
    assert float(head.entropy(logits[:1])) == pytest.approx(float(sampled.mean()), abs=float(error))


@torch.no_grad()
@pytest.mark.parametrize("kind", [FactoredHead, JointHead])
def test_divergence_is_the_mean_of_the_difference_of_log_probs_over_samples(kind):
    head, features = make_head(kind, MASKS[1])
    one, other = head(features[:1]), head(features[1:2])
    logits = one.expand(60_000 if kind is FactoredHead else 4000, *one.shape[1:])
    action = head.sample(logits)
    sampled = head.log_prob(logits, action) - head.log_prob(other.expand_as(logits), action)
    error = 5 * sampled.std() / np.sqrt(len(sampled))
    assert float(head.kl(one, other)) == pytest.approx(float(sampled.mean()), abs=float(error))
    assert float(head.kl(one, one)) == 0


@torch.no_grad()
def test_sampling_follows_the_probabilities():
    torch.manual_seed(0)
    head = CategoricalHead(4, {"a": 3, "b": 2})
    torch.nn.init.normal_(head.linear.weight, std=1.0)
    logits = head(torch.randn(1, 4)).expand(50_000, -1, -1)
    action = head.sample(logits)
    for group, (name, classes) in enumerate({"a": 3, "b": 2}.items()):
        counted = torch.bincount(action[name], minlength=classes) / 50_000
        torch.testing.assert_close(counted, logits[0, group, :classes].exp(), rtol=0, atol=0.01)


@torch.no_grad()
def test_the_best_action_is_the_most_probable_choice_of_every_component():
    head = CategoricalHead(4, {"a": 3, "b": 2})
    torch.nn.init.normal_(head.linear.weight, std=1.0)
    logits = head(torch.randn(100, 4))
    best = head.best(logits)
    for group, (name, classes) in enumerate({"a": 3, "b": 2}.items()):
        assert torch.equal(best[name], logits[:, group, :classes].argmax(-1))


def gaussian_head():
    torch.manual_seed(0)
    head = GaussianHead(4, ALL_KINDS.action, gain=0.5)
    torch.nn.init.normal_(head.log_deviation, std=0.5)
    torch.nn.init.normal_(head.categorical.linear.weight, std=0.7)
    return head


@torch.no_grad()
def test_a_mixed_head_gives_the_log_probability_entropy_and_divergence_of_torchs_distributions():
    head = gaussian_head()
    one, other = (head(torch.randn(3, 7, 4)) for _ in range(2))
    action = head.sample(one)
    assert {name: (tuple(part.shape), part.dtype) for name, part in action.items()} == {
        "arm": ((3, 7, 2, 1), torch.float32), "wheel": ((3, 7), torch.float32),
        "grip": ((3, 7), torch.int64), "keys.0": ((3, 7), torch.int64),
    }  # fmt: skip

    def parts(logits):
        classes, numbers = logits[..., :6].unflatten(-1, (2, 3)), logits[..., 6:]
        return Normal(numbers[..., :3], numbers[..., 3:].exp()), Categorical(logits=classes)

    chosen = torch.cat([action["arm"].flatten(-2), action["wheel"].unsqueeze(-1)], -1)
    classes = torch.stack([action["grip"], action["keys.0"]], -1)
    (normal, categorical), (normal_2, categorical_2) = parts(one), parts(other)
    for found, expected in {
        head.log_prob(one, action): normal.log_prob(chosen).sum(-1) + categorical.log_prob(classes).sum(-1),
        head.entropy(one): normal.entropy().sum(-1) + categorical.entropy().sum(-1),
        head.kl(one, other): kl_divergence(normal, normal_2).sum(-1)
        + kl_divergence(categorical, categorical_2).sum(-1),
    }.items():
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    best = head.best(one)
    assert torch.equal(best["arm"].flatten(-2), normal.mean[..., :2])
    assert torch.equal(best["grip"], categorical.probs[..., 0, :].argmax(-1))


@torch.no_grad()
def test_continuous_actions_are_sampled_around_the_mean_and_start_in_the_middle_of_their_bounds():
    head = gaussian_head()
    logits = head(torch.randn(1, 4)).expand(50_000, -1)
    wheel = head.sample(logits)["wheel"]
    assert float(wheel.mean()) == pytest.approx(float(logits[0, 8]), abs=0.03)
    assert float(wheel.std()) == pytest.approx(float(logits[0, 11].exp()), rel=0.03)
    fresh = GaussianHead(4, ALL_KINDS.action)(torch.randn(1, 4))[0]
    assert fresh[6:9].tolist() == pytest.approx([0.0, 7.0, 0.0], abs=0.2)
    assert fresh[9:].exp().tolist() == pytest.approx([1.0, 5.0, 1.0])


@torch.no_grad()
def test_bounds_that_say_nothing_are_none():
    largest = float(np.finfo(np.float32).max)
    head = GaussianHead(4, {"action": ContinuousAction((3,), (5.0, -largest, -largest), (5.0, largest, 1.0))})
    logits = head(torch.randn(100, 4))
    action = head.sample(logits)
    assert torch.isfinite(action["action"]).all()
    assert torch.isfinite(head.log_prob(logits, action)).all()
    assert head.centre.tolist() == [5.0, 0.0, 0.0]
    assert head.log_scale.tolist() == [0.0, 0.0, 0.0]


def test_the_log_probability_of_continuous_actions_is_taken_in_full_precision():
    head = gaussian_head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(torch.randn(5, 4))
        assert logits.dtype == head.log_prob(logits, head.sample(logits)).dtype == torch.float32


def test_parameters_may_be_sent_rounded_but_statistics_and_a_reference_are_not():
    config = config_of("policy=tiny", "policy.memory=gru")
    learner, worker = (Actor(build_policy(config, MINECRAFT), build_policy(config, MINECRAFT)) for _ in range(2))
    whole, rounded = learner.parts(), learner.parts(torch.bfloat16)
    parameters = {f"policy.{name}" for name, _ in learner.policy.named_parameters()}
    assert {name for name, tensor in rounded.policy.items() if tensor.dtype == torch.bfloat16} == parameters
    for name, tensor in (*rounded.policy.items(), *rounded.reference.items()):
        before = {**whole.policy, **whole.reference}[name]
        assert torch.equal(tensor, before.bfloat16() if name in parameters else before)
    worker.load_state_dict({**rounded.policy, **rounded.reference})
    for name, tensor in worker.parts().policy.items():
        assert torch.equal(tensor, rounded.policy[name].to(tensor.dtype))
