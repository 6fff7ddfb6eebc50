"""The tasks in conf/task, as a run composes them."""

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mineonline.envs.tasks import parse_task
from mineonline.settings.command_line import CONF_DIR


def shipped(name):
    with initialize_config_dir(str(CONF_DIR), version_base=None):
        config = compose("config", overrides=[f"task={name}"])
    return parse_task(OmegaConf.to_container(config.task))
