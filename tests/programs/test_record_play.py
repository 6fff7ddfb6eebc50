"""`python -m mineonline.collect checkpoint=... record=...`, with the real program and real files."""

import signal
import tempfile
from pathlib import Path

import psutil
import pytest
import torch

from mineonline.collect import parse_arguments
from mineonline.envs.build import env_spec
from mineonline.errors import ConfigError
from mineonline.experience.fragment_files import RecordedFragments
from mineonline.policies.build import build_policy
from mineonline.processes.supervisor import CONFIG_EXIT_CODE
from mineonline.run.checkpoint import read_policy_state
from tests.helpers.programs import wait_until
from tests.helpers.settings import QUICK, checkpoint_of, config_of


def test_what_a_checkpoint_does_is_recorded_without_a_trainer(start, tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    checkpoint = checkpoint_of(tmp_path / "run", *QUICK, "seed=3", version=7)
    words = [f"checkpoint={checkpoint}", "record=sets/one", "fragments=20"]
    run = start(*words, module="mineonline.collect")
    assert run.wait() == 0, run.output
    found = RecordedFragments(tmp_path / "sets" / "one")
    assert len(found) == 24  # 8 environments: the first multiple of 8 that is enough
    config = config_of(*QUICK)
    found.check_fits(env_spec(config.env, config.task))
    assert found.envs == ("CartPole-v1",)
    fragments = found[torch.arange(24)]
    assert fragments.version_B.tolist() == [7] * 24
    assert fragments.sequence_B.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert len(set(fragments.env_B.tolist())) == 8
    policy = build_policy(config, env_spec(config.env, config.task))
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    with torch.no_grad():
        output = policy(fragments.observation, fragments.first_BU, fragments.memory)
        log_prob_BT = policy.head.log_prob(output.logits[:, :-1], fragments.action)
    torch.testing.assert_close(log_prob_BT, fragments.log_prob_BT, rtol=0, atol=1e-5)
    size_mb = sum(file.stat().st_size for file in (tmp_path / "sets" / "one").iterdir()) / 1e6
    summary = run.output.splitlines()[-1]
    decisions = int((~fragments.idle_BT).sum())
    assert summary.startswith(f"sets/one: 24 fragments, {decisions} decisions, ")
    assert "complete episodes, mean return " in summary
    assert summary.endswith(f"{size_mb:.1f} MB")
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before
    again = start(*words, module="mineonline.collect")
    assert again.wait() != 0
    assert "record=sets/one is not empty. Give a new folder" in again.output


def test_an_interrupted_recording_is_a_usable_set_and_leaves_no_process(start, tmp_path):
    checkpoint = checkpoint_of(tmp_path / "run", *QUICK)
    folder = tmp_path / "set"
    words = [f"checkpoint={checkpoint}", f"record={folder}", "fragments=1000000"]
    run = start(*words, module="mineonline.collect")
    run.wait_for(lambda: (folder / "000003.safetensors").exists())
    workers = psutil.Process(run.process.pid).children(recursive=True)
    run.send(signal.SIGINT)
    assert run.wait() == 130, run.output
    wait_until(lambda: not any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers))
    found = RecordedFragments(folder)
    assert len(found) == 8 * len(list(folder.iterdir()))
    assert f"{folder}: {len(found)} fragments" in run.output
    assert "Traceback" not in run.output


def test_a_recording_that_cannot_begin_says_why_and_leaves_no_folder(start, tmp_path):
    overrides = [
        "env.id=tests.helpers.odd_envs:FailsInTheSecondWorker-v0", "collector.workers=2", "env.max_failures=2",
    ]  # fmt: skip
    checkpoint = checkpoint_of(tmp_path / "run", *QUICK, *overrides)
    run = start(f"checkpoint={checkpoint}", "record=set", "fragments=8", module="mineonline.collect")
    assert run.wait() == CONFIG_EXIT_CODE, run.output
    assert "no sword left for the second worker" in run.output
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "usage: "),
        (["checkpoint=a.ckpt"], "record: a value is missing. Give record=<value>"),
        (["checkpoint=a.ckpt", "record=b"], "fragments: a value is missing. Give fragments=<value>"),
        (["checkpoint=a.ckpt", "record=b", "fragments=many"], "fragments=many: must be a whole number."),
        (["checkpoint=a.ckpt", "record=b", "fragments=0"], "fragments=0: must be at least 1."),
        (["checkpoint=a.ckpt", "record=b", "fragments=1", "sed=1"], "sed: there is no such key."),
        (["run=a", "record=b"], "record: there is no such key."),
    ],
)
def test_the_collector_says_what_may_be_typed(words, expected):
    with pytest.raises(ConfigError) as error:
        parse_arguments(words)
    assert expected in str(error.value)
