"""MineStudio's VPT as a policy: the same numbers as MineStudio's own, with memory, resets, chunks and precision.

Axes: B sequences, T rows.
"""

from dataclasses import replace

import pytest
import torch

from mineonline.envs.build import env_spec
from mineonline.envs.contract import EnvSpec, TensorSpec
from mineonline.envs.minestudio.package import import_vpt
from mineonline.errors import ConfigError
from mineonline.fragment import Fragments
from mineonline.learning.module import PPO
from mineonline.learning.sequences import first_pass
from mineonline.policies.build import build_policy
from mineonline.policies.vpt import SIZES, TEMPERATURE
from mineonline.policies.vpt_files import minestudio_state
from mineonline.settings.command_line import merge_overrides
from tests.helpers.fit import fit, fresh
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import config_of

SMALL_VPT = [
    "policy=vpt", "policy.size=mini", "env.image_size=[128,128]", "+policy.kwargs.attention_memory_size=24",
    "+policy.kwargs.timesteps=8", "+policy.kwargs.hidsize=32",
]  # fmt: skip
B, T = 3, 24


def small(*overrides):
    config = config_of(*merge_overrides(SMALL_VPT, list(overrides)))
    return lively(build_policy(config, env_spec(config.env, config.task)))


@torch.no_grad()
def lively(policy):
    """Make the heads look trained: untrained ones are nearly uniform and would hide what the network does."""
    g = torch.Generator().manual_seed(5)
    for linear in (policy.head.buttons, policy.head.camera):
        linear.weight.add_(torch.randn(linear.weight.shape, generator=g) / linear.in_features**0.5)
    return policy


def minestudio_of(policy):
    """MineStudio's own policy with the weights of ours."""
    theirs = import_vpt().VPTPolicy(policy_kwargs=policy.arguments, temperature=policy.head.temperature)
    theirs.load_state_dict(minestudio_state(policy), strict=True)
    return theirs.eval()


@pytest.fixture(scope="module")
def policy():
    return small()


@pytest.fixture(scope="module")
def image():
    return pictures(1, T)


def pictures(seed, rows):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (B, rows, 128, 128, 3), generator=g, dtype=torch.uint8)


def no_first(rows=T):
    return torch.zeros(B, rows, dtype=torch.bool)


@torch.no_grad()
def in_chunks(policy, image, first, memory, rows):
    """Logits, values and memory of an evaluation in chunks of `rows` rows."""
    logits, values = [], []
    for start in range(0, image.shape[1], rows):
        chunk = slice(start, start + rows)
        output = policy({"image": image[:, chunk]}, first[:, chunk], memory)
        memory = output.memory
        logits.append(output.logits)
        values.append(output.value_BT)
    return torch.cat(logits, 1), torch.cat(values, 1), memory


@torch.no_grad()
def test_without_resets_it_is_minestudios_own_forward(policy, image):
    theirs = minestudio_of(policy)
    state, memory = None, policy.initial_memory(B)
    for start in (0, 12):
        latents, state = theirs({"image": image[:, start : start + 12]}, state)
        ours = policy({"image": image[:, start : start + 12]}, no_first(12), memory)
        memory = ours.memory
        logits = torch.cat([latents["pi_logits"][name][:, :, 0] for name in ("buttons", "camera")], -1)
        torch.testing.assert_close(ours.logits, logits, rtol=0, atol=1e-6)
        values = theirs.value_head.denormalize(latents["vpred"])[..., 0]
        torch.testing.assert_close(ours.value_BT, values, rtol=0, atol=1e-6)
    for index, tensor in enumerate(state):
        layer, which = divmod(index, 3)
        own = memory["mask"].unsqueeze(1) if which == 0 else memory[f"{('', 'keys', 'values')[which]}_{layer}"]
        torch.testing.assert_close(own, tensor, rtol=0, atol=1e-6)


def test_the_memory_of_a_sequence_that_has_not_begun_is_minestudios_initial_state(policy):
    memory = policy.initial_memory(B)
    state = minestudio_of(policy).initial_state(B)
    assert len(state) == 3 * policy.layers
    for layer in range(policy.layers):
        assert torch.equal(memory["mask"].unsqueeze(1), state[3 * layer])
        assert torch.equal(memory[f"keys_{layer}"], state[3 * layer + 1])
        assert torch.equal(memory[f"values_{layer}"], state[3 * layer + 2])


@torch.no_grad()
def test_the_distribution_over_actions_is_minestudios(policy, image):
    theirs = minestudio_of(policy).pi_head
    ours = policy.head
    one, other = (
        policy({"image": each}, no_first(4), policy.initial_memory(B)).logits for each in (image[:, :4], image[:, 4:8])
    )
    split = [{"buttons": logits[..., None, :8641], "camera": logits[..., None, 8641:]} for logits in (one, other)]
    action = ours.sample(one)
    assert {name: tensor.dtype for name, tensor in action.items()} == {"buttons": torch.int64, "camera": torch.int64}
    with_axis = {name: tensor.unsqueeze(-1) for name, tensor in action.items()}
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(ours.log_prob(one, action), theirs.logprob(with_axis, split[0]), **near)
    torch.testing.assert_close(ours.entropy(one), theirs.entropy(split[0]), **near)
    torch.testing.assert_close(ours.kl(one, other), theirs.kl_divergence(*split).squeeze(-1), **near)
    best = theirs.sample(split[0], deterministic=True)
    assert all(torch.equal(tensor, best[name].squeeze(-1)) for name, tensor in ours.best(one).items())


@torch.no_grad()
def test_sampling_follows_the_probabilities(policy, image):
    logits = policy({"image": image[:1, :1]}, no_first(1)[:1], policy.initial_memory(1)).logits[0]
    torch.manual_seed(0)
    camera = policy.head.sample(logits.expand(4000, -1))["camera"]
    counted = torch.bincount(camera, minlength=121) / 4000
    torch.testing.assert_close(counted, logits[0, 8641:].exp(), rtol=0, atol=0.03)


@pytest.mark.parametrize("rows", [6, 8, 12, 24])
def test_one_row_at_a_time_and_chunks_agree(policy, image, rows):
    first = no_first()
    first[1, 9] = True
    step_logits, step_values, step_memory = in_chunks(policy, image, first, policy.initial_memory(B), 1)
    logits, values, memory = in_chunks(policy, image, first, policy.initial_memory(B), rows)
    torch.testing.assert_close(logits, step_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(values, step_values, rtol=0, atol=1e-5)
    for name, tensor in memory.items():
        torch.testing.assert_close(tensor, step_memory[name], rtol=0, atol=1e-5, msg=name)


def played(policy, rows=T):
    """One fragment from each of three sequences, played one row at a time, from mid-episode."""
    torch.manual_seed(2)
    _, _, before = in_chunks(policy, pictures(8, 10), no_first(10), policy.initial_memory(B), 10)
    image = pictures(9, rows + 1)
    logits, values, _ = in_chunks(policy, image, no_first(rows + 1), before, 1)
    action = policy.head.sample(logits[:, :rows])
    none = no_first(rows)
    return Fragments(
        observation={"image": image}, first_BU=no_first(rows + 1), action=action,
        log_prob_BT=policy.head.log_prob(logits[:, :rows], action), value_BT=values[:, :rows],
        reward_BT=torch.randn(B, rows), terminated_BT=none, truncated_BT=none, idle_BT=none, memory=before,
        reference_memory=before, version_B=torch.zeros(B, dtype=torch.int64), env_B=torch.arange(B),
        sequence_B=torch.zeros(B, dtype=torch.int64),
    )  # fmt: skip


@pytest.mark.parametrize("context", [6, 8, 12, 24])
def test_with_the_carried_memory_the_ratio_of_the_same_weights_is_1(policy, context):
    fragments = played(policy)
    found = first_pass(policy, fragments, context)
    assert float(((found.log_prob_BT - fragments.log_prob_BT).exp() - 1).abs().max()) < 5e-6  # a few roundings
    torch.testing.assert_close(found.value_BU[:, :-1], fragments.value_BT, rtol=0, atol=1e-5)


def test_an_empty_memory_in_place_of_the_carried_one_is_another_policy(policy):
    fragments = played(policy)
    found = first_pass(policy, replace(fragments, memory=policy.initial_memory(B)), 12)
    assert float((found.log_prob_BT - fragments.log_prob_BT).abs().max()) > 0.01


@torch.no_grad()
@pytest.mark.parametrize("row", [0, 5, 19])
def test_the_first_row_of_an_episode_inside_a_chunk_equals_a_fresh_reset_exactly(policy, image, row):
    """No matter what came before. The shapes are the same, as another order of sums would round differently."""
    _, _, before = in_chunks(policy, pictures(8, 10), no_first(10), policy.initial_memory(B), 10)
    first = no_first()
    first[:, row] = True
    other = image.clone()
    other[:, :row] = other[:, :row].flip(0)
    cut = policy({"image": image}, first, before)
    clean = policy({"image": other}, first, policy.initial_memory(B))
    assert torch.equal(cut.logits[:, row:], clean.logits[:, row:])
    assert torch.equal(cut.value_BT[:, row:], clean.value_BT[:, row:])
    fresh = policy({"image": image[:, row:]}, no_first(T - row), policy.initial_memory(B))
    torch.testing.assert_close(cut.logits[:, row:], fresh.logits, rtol=0, atol=1e-5)
    assert torch.equal(cut.memory["mask"], fresh.memory["mask"])


def test_what_was_evaluated_in_inference_mode_can_be_learnt_from_afterwards(policy, image):
    """MineStudio caches attention masks by shape: one made in inference mode is used again later."""
    arguments = ({"image": image[:, :5]}, no_first(5), policy.initial_memory(B))
    with torch.inference_mode():
        value = policy(*arguments).value_BT
    again = policy(*arguments).value_BT
    again.sum().backward()
    assert torch.equal(value, again)
    policy.zero_grad()


@torch.no_grad()
def test_a_pickled_policy_is_the_same_one_and_its_shared_weights_stay_shared():
    policy = small()
    policy.net.requires_grad_(False)
    policy.share_memory().eval()
    context = torch.multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=play_and_change, args=(policy, answers))
    process.start()
    logits, frozen, training = answers.get()
    process.join(LIMIT_S)
    ours = policy({"image": pictures(1, 2)}, no_first(2), policy.initial_memory(B)).logits
    torch.testing.assert_close(torch.from_numpy(logits), ours, rtol=0, atol=1e-5)
    assert frozen == [not tensor.requires_grad for tensor in policy.parameters()]
    assert not training
    assert policy.version == 7


@torch.no_grad()
def play_and_change(policy, answers):
    """Runs in a separate process, which has imported nothing."""
    logits = policy({"image": pictures(1, 2)}, no_first(2), policy.initial_memory(B)).logits
    policy.version.fill_(7)
    answers.put((logits.numpy(), [not tensor.requires_grad for tensor in policy.parameters()], policy.training))


def learn(policy, folder, *overrides, **trainer_settings):
    """Two iterations on what the policy played."""
    config = config_of(
        *SMALL_VPT, "fragment.length=12", "optimizer.minibatches=1", "optimizer.epochs=1", "optimizer.context_length=6",
        *overrides,
    )  # fmt: skip
    fragments = played(policy, 12)
    reference = small() if config.reference.kl_coef else None
    learner = PPO(
        policy, reference, objective=config.objective, optimizer=config.optimizer, auxiliary=config.auxiliary,
        reference_settings=config.reference,
        cloning=None, iterations=2, seed=0, bad_batch_file=folder / "bad.pt",
    )  # fmt: skip
    return fit(learner, lambda: fresh(fragments), 2, folder, **trainer_settings)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_weight_learns_and_stays_in_full_precision(tmp_path, precision):
    policy = small()
    before = {name: tensor.clone() for name, tensor in policy.named_parameters()}
    learn(policy, tmp_path, "reference.kl_coef=0.1", precision=precision)
    for name, tensor in policy.named_parameters():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, before[name]), name


def test_checkpointing_keeps_fewer_activations_and_gives_the_same_gradient(image):
    found = {}
    for rows in (0, 5):
        policy, kept = small(f"policy.checkpointing={rows}"), []

        def keep(tensor, kept=kept):
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = policy({"image": image}, no_first(), policy.initial_memory(B))
        (output.logits.square().mean() + output.value_BT.square().mean()).backward()
        found[rows] = sum(kept), {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    (all_bytes, expected), (few_bytes, gradient) = found[0], found[5]
    assert few_bytes < 0.4 * all_bytes
    assert gradient.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(gradient[name], tensor, rtol=1e-3, atol=1e-5 * float(tensor.abs().max()), msg=name)


def test_during_value_warmup_only_the_value_learns(tmp_path):
    policy = small()
    before = {name: tensor.clone() for name, tensor in policy.named_parameters()}
    learn(policy, tmp_path, "objective.value_warmup=2", "optimizer.weight_decay=0.1")
    moved = {name for name, tensor in policy.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved == {"value.linear.weight", "value.linear.bias"}


def test_in_mixed_precision_probabilities_values_and_memory_are_float32(policy, image):
    with torch.autocast("cpu", torch.bfloat16):
        output = policy({"image": image}, no_first(), policy.initial_memory(B))
        log_prob = policy.head.log_prob(output.logits, policy.head.best(output.logits))
    assert {output.logits.dtype, output.value_BT.dtype, log_prob.dtype} == {torch.float32}
    for name, tensor in output.memory.items():
        assert str(tensor.dtype) == f"torch.{policy.memory_spec[name].dtype}", name
    torch.testing.assert_close(output.logits.exp().sum(-1), torch.full((B, T), 2.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["env.image_size=[64,48]"], r"but the environment's are 64x48. Set env.image_size=\[128,128\]"),
        (["+policy.kwargs.hid_size=8"], r"policy.kwargs.hid_size: .* no such argument. Did you mean hidsize\?"),
        (["+policy.kwargs.recurrence_type=none"], "policy.kwargs.recurrence_type=none: only transformer works"),
        (["+policy.kwargs.single_output=true"], "single_output=True: only False works"),
        (["policy.size=null"], "attention_heads, img_shape, n_recurrence_layers must be given. Or give policy.size"),
        (["+policy.kwargs.attention_heads=5"], "hidsize=32 is not a multiple of attention_heads=5"),
        (["+policy.kwargs.timesteps=24"], "attention_memory_size=24 must be more than timesteps=24"),
        (["+policy.kwargs.attention_heads=two"], "attention_heads=two: must be a whole number of at least 1"),
        (["+policy.kwargs.init_norm_kwargs=[]"], "policy.kwargs: MineStudio's MinecraftPolicy refuses them"),
        (["policy.temperature=0"], "policy.temperature=0: must be more than 0"),
        (["policy.weights=a.weights", "init_from=b.ckpt"], "policy.weights and init_from both say"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_cure(overrides, message):
    with pytest.raises(ConfigError, match=message):
        small(*overrides)


def test_an_argument_that_is_not_set_yet_says_how_to_type_it():
    with pytest.raises(ConfigError, match=r"Write \+policy.kwargs.hidsize=... to add it"):
        config_of("policy=vpt", "policy.kwargs.hidsize=8")


def test_an_environment_that_is_not_minecraft_is_refused():
    spec = EnvSpec(observation={"image": TensorSpec((128, 128, 3), "uint8")}, action={"action": 17})
    with pytest.raises(ConfigError, match="policy=vpt plays Minecraft"):
        build_policy(config_of("policy=vpt", "policy.size=mini", "env=crafter"), spec)


@pytest.mark.parametrize(("size", "millions"), [("1x", 71.0), ("2x", 248.5), ("3x", 532.5)])
def test_the_sizes_have_the_parameters_and_the_memory_of_the_published_networks(size, millions):
    with torch.device("meta"):
        theirs = import_vpt().VPTPolicy(policy_kwargs=SIZES[size], temperature=TEMPERATURE)
    assert sum(tensor.numel() for tensor in theirs.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    remembered = SIZES[size]["attention_memory_size"] - SIZES[size]["timesteps"]
    bytes_an_env = 4 * 2 * SIZES[size]["n_recurrence_layers"] * remembered * SIZES[size]["hidsize"]
    assert bytes_an_env == int(size[0]) * 4 * 2**20


@pytest.mark.slow
@torch.no_grad()
def test_the_1x_network_agrees_with_minestudios_and_with_itself_in_chunks(image):
    config = config_of("policy=vpt", "env.image_size=[128,128]")
    policy = lively(build_policy(config, env_spec(config.env, config.task)))
    latents, _ = minestudio_of(policy)({"image": image[:, :12]}, None)
    ours = policy({"image": image[:, :12]}, no_first(12), policy.initial_memory(B))
    torch.testing.assert_close(ours.logits[..., :8641], latents["pi_logits"]["buttons"][:, :, 0], rtol=0, atol=1e-5)
    logits, values, _ = in_chunks(policy, image[:, :12], no_first(12), policy.initial_memory(B), 1)
    torch.testing.assert_close(logits, ours.logits, rtol=0, atol=2e-5)
    torch.testing.assert_close(values, ours.value_BT, rtol=0, atol=2e-5)
