"""MineStudio's `.model` and `.weights` files: read without trust, and written so that MineStudio can read them."""

import os
import pickle
from contextlib import nullcontext

import pytest
import torch

from mineonline.envs.build import env_spec
from mineonline.envs.minestudio.package import import_vpt
from mineonline.errors import CheckpointError
from mineonline.policies.build import build_actor, build_policy, load_policy_weights, read_policy_files
from mineonline.policies.vpt import SIZES, VptPolicy
from mineonline.policies.vpt_files import load_weights, write_model, write_weights
from mineonline.run.learner import build_learner
from tests.helpers.settings import checkpoint_of, config_of
from tests.policies.test_vpt import SMALL_VPT, B, lively, minestudio_of, no_first, pictures, small

STATISTICS = {"cold": (0.0, 0.0, 0.0), "rich": (0.2, 0.2 * 7.0, 0.2 * (7.0**2 + 3.0**2)), "flat": (0.5, 1.0, 2.0)}
"""MineStudio's statistics of returns: none yet; mean 7 and deviation 3; a deviation below its lower limit."""


@pytest.fixture
def pair(tmp_path):
    """A small policy, and its two files in MineStudio's format."""
    policy = small("seed=4")
    write_model(tmp_path / "small.model", policy.arguments, policy.head.temperature)
    write_weights(tmp_path / "small.weights", policy)
    return policy, tmp_path / "small.model", tmp_path / "small.weights"


def of_files(model, weights, *overrides):
    """The policy that a trainer starts with."""
    config = config_of("policy=vpt", "env.image_size=[128,128]", f"policy.model={model}", *overrides)
    policy = build_policy(config, env_spec(config.env, config.task))
    load_weights(policy, weights, zero_value=config.policy.zero_initial_value)
    return policy


@torch.no_grad()
def assert_same_outputs(ours, theirs, *, atol=1e-6):
    image = pictures(3, 6)
    mine = ours({"image": image}, no_first(6), ours.initial_memory(B))
    latents, _ = theirs.eval()({"image": image}, None)
    logits = torch.cat([latents["pi_logits"][name][:, :, 0] for name in ("buttons", "camera")], -1)
    torch.testing.assert_close(mine.logits, logits, rtol=0, atol=1e-6)
    values = theirs.value_head.denormalize(latents["vpred"])[..., 0]
    torch.testing.assert_close(mine.value_BT, values, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("statistics", list(STATISTICS))
def test_files_of_minestudio_give_its_logits_and_its_values_in_units_of_reward(tmp_path, pair, statistics):
    theirs = minestudio_of(pair[0])
    normalizer = theirs.value_head.normalizer
    sums = (normalizer.debiasing_term, normalizer.running_mean, normalizer.running_mean_sq)
    with torch.no_grad():
        for tensor, number in zip(sums, STATISTICS[statistics], strict=True):
            tensor.fill_(number)
    torch.save(theirs.state_dict(), tmp_path / "theirs.weights")
    ours = of_files(pair[1], tmp_path / "theirs.weights")
    assert_same_outputs(ours, theirs)
    # an update continues from these statistics, and changes no value
    before = ours.value(torch.ones(1, 1, 32))
    mean_square = torch.tensor(4.0, dtype=torch.float64)
    ours.value.update(torch.zeros((), dtype=torch.float64), mean_square, decay=0.9)
    torch.testing.assert_close(ours.value(torch.ones(1, 1, 32)), before, rtol=1e-5, atol=1e-5)
    weight, mean, _ = STATISTICS[statistics]
    assert float(ours.value.mean) == pytest.approx(0.9 * mean / (0.9 * weight + 0.1), rel=1e-5)


@pytest.mark.parametrize("scale", [None, (0.0, 2.0), (1000.0, 1000.0**2 + 0.0001), (-3.0, 25.0)])
def test_a_trained_policy_goes_back_to_minestudio_and_comes_again(tmp_path, scale):
    policy = small()
    if scale is not None:
        mean, mean_square = (torch.tensor(number, dtype=torch.float64) for number in scale)
        policy.value.update(mean, mean_square, decay=0.5)
    write_model(tmp_path / "a.model", policy.arguments, policy.head.temperature)
    write_weights(tmp_path / "a.weights", policy)
    theirs = import_vpt().load_vpt_policy(str(tmp_path / "a.model"), str(tmp_path / "a.weights"))
    atol = 1e-6 if scale is None else 1e-6 * max(1.0, abs(scale[0]))
    assert_same_outputs(policy, theirs, atol=atol)
    assert_same_outputs(of_files(tmp_path / "a.model", tmp_path / "a.weights"), theirs, atol=atol)


def test_a_checkpoint_is_exported_by_the_program(start, tmp_path):
    file = checkpoint_of(tmp_path / "run", *SMALL_VPT, "policy.temperature=3", "seed=6")
    out = [f"model={tmp_path / 'new' / 'a.model'}", f"weights={tmp_path / 'new' / 'a.weights'}"]
    run = start(f"checkpoint={tmp_path / 'run'}", *out, module="mineonline.export")
    assert run.wait() == 0, run.output
    theirs = import_vpt().load_vpt_policy(tmp_path / "new" / "a.model", tmp_path / "new" / "a.weights")
    assert theirs.pi_head["buttons"].temperature == 3
    config = config_of(*SMALL_VPT, "policy.temperature=3", "seed=6")
    assert_same_outputs(build_policy(config, env_spec(config.env, config.task)), theirs)
    assert sorted(os.listdir(tmp_path / "new")) == ["a.model", "a.weights"]
    checkpoint_of(tmp_path / "other", "policy=tiny")
    refused = start(f"checkpoint={tmp_path / 'other'}", *out, module="mineonline.export")
    unclear = start(f"checkpoint={file}", module="mineonline.export")
    assert refused.wait() == 1
    assert "trained with policy=tiny: MineStudio has no such network" in refused.output
    assert unclear.wait() == 1
    assert "model: a value is missing. Give model=<value>" in unclear.output


def test_checkpoints_of_minestudios_trainers_are_weights_too(tmp_path, pair):
    state = {f"mine_policy.{name}": tensor for name, tensor in minestudio_of(pair[0]).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "theirs.ckpt")
    assert_same_outputs(of_files(pair[1], tmp_path / "theirs.ckpt"), minestudio_of(pair[0]))


def test_a_learner_begins_with_the_weights_and_so_does_its_reference(tmp_path, pair):
    settings = [
        "policy=vpt", "env.image_size=[128,128]", f"policy.model={pair[1]}", f"policy.weights={pair[2]}",
        "policy.any_pace=true", "reference.kl_coef=0.1",
    ]  # fmt: skip
    config = config_of(*settings)
    learner = build_learner(config, env_spec(config.env, config.task), bad_batch_file=tmp_path / "bad.pt")
    assert_same_outputs(learner.policy, minestudio_of(pair[0]))
    assert_same_outputs(learner.reference, minestudio_of(pair[0]))
    # a collector on another machine has neither file: its settings need none, and it is sent the weights
    told = read_policy_files(config)
    for file in pair[1:]:
        file.unlink()
    actor = build_actor(told, env_spec(told.env, told.task))
    state = learner.published()
    actor.load_state_dict({**state.policy, **state.reference})
    assert_same_outputs(actor.reference, minestudio_of(pair[0]))
    assert actor.reference.memory_spec.keys() == learner.reference.memory_spec.keys()


def test_a_run_that_goes_on_needs_no_weights_file(tmp_path, pair):
    pair[2].unlink()
    settings = [
        "policy=vpt", "env.image_size=[128,128]", f"policy.model={pair[1]}", f"policy.weights={pair[2]}",
        "policy.any_pace=true",
    ]  # fmt: skip
    for more in ([], [f"checkpoint={checkpoint_of(tmp_path / 'run', *SMALL_VPT)}"]):
        config = config_of(*settings, *more)
        with nullcontext() if more else pytest.raises(CheckpointError, match="there is no such file"):
            build_learner(config, env_spec(config.env, config.task), bad_batch_file=tmp_path / "bad.pt")


def test_a_value_that_begins_at_zero_forgets_that_of_the_file(pair):
    policy = of_files(*pair[1:], "policy.zero_initial_value=true")
    with torch.no_grad():
        output = policy({"image": pictures(1, 2)}, no_first(2), policy.initial_memory(B))
    assert not output.value_BT.any()
    assert torch.equal(policy.head.buttons.weight, pair[0].head.buttons.weight)


class Malice:
    """Runs a command when unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_a_model_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path):
    good = {"model": {"args": {"net": {"args": SIZES["mini"]}, "pi_head_opts": {"temperature": 2.0}}}}
    for number, content in enumerate((Malice(tmp_path / "ran"), {**good, "more": Malice(tmp_path / "ran")})):
        file = tmp_path / f"{number}.model"
        file.write_bytes(pickle.dumps(content))
        with pytest.raises(CheckpointError, match=r"policy.model=.*refused .*it wants to run posix.system"):
            of_files(file, file)
    assert not (tmp_path / "ran").exists()


def write(file, content):
    file.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "cannot be read; it is truncated"),
        (b"\x80\x04 nonsense", "cannot be read; it is truncated|refused as it is not a pickle of plain data"),
        (b"\0" * (1 << 21), "is too large for a .model file"),
        ({"model": {"args": {}}}, "is not a .model file of MineStudio .*missing required field"),
        ([1, 2], "is not a .model file of MineStudio"),
    ],
)
def test_what_is_wrong_with_a_model_file_is_said(tmp_path, content, message):
    file = tmp_path / "a.model"
    if content is not None:
        write(file, content)
    with pytest.raises(CheckpointError, match=rf"policy.model={file}: .*({message})"):
        of_files(file, file)


def test_a_model_file_may_name_arguments_that_minestudio_does_not_use(tmp_path, pair):
    arguments = {**pair[0].arguments, "something_of_openai": 3, "img_shape": (128, 128, 3)}
    content = {"model": {"args": {"net": {"args": arguments}, "pi_head_opts": {"temperature": "2.0"}}}}
    policy = of_files(write(tmp_path / "b.model", content), pair[2])
    assert_same_outputs(policy, minestudio_of(pair[0]))


def changed(weights, tmp_path, change):
    state = torch.load(weights, weights_only=True)
    change(state)
    file = tmp_path / "changed.weights"
    torch.save(state, file)
    return file


def test_weights_with_tensors_missing_or_too_many_are_refused_by_name(tmp_path, pair, caplog):
    model, weights = pair[1:]
    missing = changed(weights, tmp_path, lambda state: state.pop("net.final_ln.bias"))
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, the first is net.final_ln.bias. Give"):
        of_files(model, missing)
    extra = changed(weights, tmp_path, lambda state: state.update({"net.more.weight": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"1 tensors are not in the policy, the first is net.more.weight"):
        of_files(model, extra)
    reshaped = changed(weights, tmp_path, lambda state: state.update({"net.final_ln.bias": torch.zeros(7)}))
    with pytest.raises(CheckpointError, match=r"net.final_ln.bias is \(7,\) in the file, but \(32,\) in the policy"):
        of_files(model, reshaped)
    foreign = changed(weights, tmp_path, lambda state: state.update({"auxiliary.weight": torch.zeros(2)}))
    of_files(model, foreign)
    assert "these tensors are not used: auxiliary.weight" in caplog.text


def test_weights_of_another_width_say_which_size_they_are(tmp_path, pair):
    model, weights = pair[1:]
    wide = changed(weights, tmp_path, lambda s: s.update({"net.lastlayer.layer.weight": torch.zeros(2048, 2048)}))
    with pytest.raises(CheckpointError, match=r"have width 2048 \(2x\), the policy 32. Set policy.size=2x, or give"):
        of_files(model, wide)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"nothing", "cannot be read; it is truncated, or holds more than tensors"),
        ({"net.x": 3}, "holds no state dict"),
        ([1], "holds no state dict"),
    ],
)
def test_what_is_wrong_with_a_weights_file_is_said(tmp_path, pair, content, message):
    file = tmp_path / "a.weights"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=rf"policy.weights={file}: .*{message}"):
        of_files(pair[1], file)


def test_weights_that_would_run_something_are_refused_and_run_nothing(tmp_path, pair):
    torch.save({"net": Malice(tmp_path / "ran")}, tmp_path / "a.weights")
    with pytest.raises(CheckpointError, match="holds more than tensors, which is refused"):
        of_files(pair[1], tmp_path / "a.weights")
    assert not (tmp_path / "ran").exists()


def test_half_precision_weights_are_taken_over_in_full_precision(tmp_path, pair):
    def halve(state):
        state.update({name: tensor.half() for name, tensor in state.items()})

    policy = of_files(pair[1], changed(pair[2], tmp_path, halve))
    assert {tensor.dtype for tensor in policy.parameters()} == {torch.float32}
    torch.testing.assert_close(policy.net.final_ln.weight, pair[0].net.final_ln.weight)


def test_other_policies_and_random_ones_need_no_file():
    for overrides in (["policy=tiny"], SMALL_VPT):
        config = config_of(*overrides)
        policy = build_policy(config, env_spec(config.env, config.task))
        before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        load_policy_weights(policy, config)
        assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())


@pytest.mark.slow
def test_the_1x_network_goes_to_minestudio_and_comes_again(tmp_path):
    config = config_of("policy=vpt", "env.image_size=[128,128]")
    policy = lively(build_policy(config, env_spec(config.env, config.task)))
    assert isinstance(policy, VptPolicy)
    write_model(tmp_path / "1x.model", policy.arguments, policy.head.temperature)
    write_weights(tmp_path / "1x.weights", policy)
    theirs = import_vpt().load_vpt_policy(tmp_path / "1x.model", tmp_path / "1x.weights")
    assert_same_outputs(of_files(tmp_path / "1x.model", tmp_path / "1x.weights"), theirs, atol=1e-5)
