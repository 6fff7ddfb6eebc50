"""Classes that users bring along: what cannot be used is named with its reason."""

import lightning
import pytest

from mineonline import PPO
from mineonline.errors import ConfigError
from mineonline.settings.targets import user_class, user_objects


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"every": 1}, "callbacks: {'every': 1} names no class. Add _target_: my_package.MyClass."),
        ({"_target_": "absent.Callback"}, "No module named 'absent'"),
        ({"_target_": "examples.own_learner.PrintAdvantages"}, "missing 1 required positional argument: 'every'"),
        (
            {"_target_": "lightning.pytorch.callbacks.Timer", "duration": "soon"},
            "Timer: cannot be made (MisconfigurationException: ",
        ),
        (
            {"_target_": "examples.own_learner.PrintAdvantages", "every": {"_target_": "absent.Number"}},
            "callbacks.every._target_=absent.Number: cannot be imported",
        ),
        ({"_target_": "pathlib.Path"}, "callbacks: pathlib.Path is no lightning.Callback."),
    ],
)
def test_a_callback_that_cannot_be_made_is_named(setting, expected):
    with pytest.raises(ConfigError) as error:
        user_objects("callbacks", [setting], lightning.Callback)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"_target_": "pathlib.Path"}, "learner._target_=pathlib.Path: must be a subclass of mineonline.PPO."),
        ({"_target_": "mineonline.PPO", "foo": 1}, "learner.foo: mineonline.PPO takes no such argument."),
        (
            {"_target_": "examples.own_learner.Absent"},
            "cannot be imported (module 'examples.own_learner' has no attribute 'Absent')",
        ),
        ({"_target_": "absent.PPO"}, "cannot be imported (No module named 'absent'). Is its folder in PYTHONPATH?"),
    ],
)
def test_a_learner_that_cannot_be_made_is_named(setting, expected):
    assert user_class("learner", {"_target_": "mineonline.PPO"}, PPO).func is PPO
    with pytest.raises(ConfigError) as error:
        user_class("learner", setting, PPO)
    assert expected in str(error.value)
