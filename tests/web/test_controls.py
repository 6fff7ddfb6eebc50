"""A person's keyboard and mouse as MineStudio's actions."""

import numpy as np
import pytest

from mineonline.envs.actions import (
    BUTTON_NAMES,
    BUTTON_TABLE,
    CAMERA_DEGREES,
    GROUP_NAMES,
    GROUPS,
    NO_CAMERA,
    legal_buttons,
)
from mineonline.envs.tasks import ActionMask
from mineonline.web.controls import KEYS, Controls, keys_of

HUNT = ActionMask(forbid=("hotbar", "use", "drop", "inventory"))


def pressed(buttons):
    """The names that a button class presses."""
    choice_G = BUTTON_TABLE[buttons]
    return {names[k] for names, k in zip(GROUPS.values(), choice_G, strict=True) if k}


def test_every_button_has_a_key_except_drop_which_is_never_sent():
    assert {button.partition(".")[0] for _, button in KEYS.values()} == {*BUTTON_NAMES} - {"drop", "camera"} - {
        f"hotbar.{slot}" for slot in range(1, 10)
    }


def test_keys_are_pressed_while_they_are_down():
    controls = Controls(ActionMask())
    controls.press("forward", True)
    controls.press("jump", True)
    assert pressed(controls.tick()[0]) == {"forward", "jump"}
    controls.press("jump", False)
    assert pressed(controls.tick()[0]) == {"forward"}
    controls.release()
    assert pressed(controls.tick()[0]) == set()


def test_a_tap_between_two_ticks_is_pressed_in_one():
    controls = Controls(ActionMask())
    controls.press("attack", True)
    controls.press("attack", False)
    assert pressed(controls.tick()[0]) == {"attack"}
    assert pressed(controls.tick()[0]) == set()


def test_of_two_keys_that_exclude_each_other_the_newer_counts():
    controls = Controls(ActionMask())
    controls.press("left", True)
    controls.press("right", True)
    assert pressed(controls.tick()[0]) == {"right"}
    controls.press("right", False)
    assert pressed(controls.tick()[0]) == {"left"}


def test_the_view_turns_as_far_as_the_mouse_moved_and_no_movement_is_lost():
    controls = Controls(ActionMask())
    controls.turn(-3.0, 27.5)
    turned = np.zeros(2)
    for _ in range(20):
        buttons, camera = controls.tick()
        assert ("camera" in pressed(buttons)) == (camera != NO_CAMERA)
        turned += CAMERA_DEGREES[camera]
    # what is left is less than half of the smallest bin
    np.testing.assert_allclose(turned, [-3.0, 27.5], atol=0.31)


def test_what_the_task_forbids_or_holds_is_not_the_persons():
    controls = Controls(ActionMask(forbid=("hotbar", "use", "camera"), hold=("attack",)))
    assert not controls.turns
    for button in ("hotbar.3", "use", "attack"):
        controls.press(button, True)
    controls.turn(5.0, 5.0)
    assert controls.tick() == (0, NO_CAMERA)
    states = {key.button: key.state for key in keys_of(ActionMask(forbid=("hotbar", "use"), hold=("attack",)))}
    assert states["hotbar.3"] == states["use"] == "forbidden"
    assert states["attack"] == "held"
    assert states["forward"] == "works"


def test_a_button_that_no_key_has_is_ignored():
    controls = Controls(ActionMask())
    controls.press("drop", True)
    controls.press("__class__", True)
    assert controls.tick() == (0, NO_CAMERA)


def test_a_decision_of_one_tick_is_that_tick():
    controls = Controls(ActionMask())
    controls.press("back", True)
    controls.turn(0.0, 3.0)
    buttons, camera = controls.tick()
    assert controls.decision() == {"buttons": buttons, "camera": camera}


def test_a_decision_of_several_ticks_has_clicks_long_presses_and_the_whole_turn():
    controls = Controls(HUNT)
    controls.press("forward", True)
    controls.press("attack", True)
    controls.press("attack", False)
    controls.turn(0.0, 5.8)
    for tick in range(4):
        if tick == 1:
            controls.press("left", True)
        if tick == 2:
            controls.press("left", False)
        controls.tick()
    decision = controls.decision()
    # left was down in one of four ticks: too short for a decision
    assert pressed(decision["buttons"]) == {"forward", "attack", "camera"}
    assert CAMERA_DEGREES[decision["camera"]].tolist() == pytest.approx([0.0, 5.8], abs=0.1)


@pytest.mark.parametrize(
    "mask",
    [ActionMask(), HUNT, ActionMask(forbid=("camera",), hold=("attack", "forward"))],
    ids=["none", "hunt", "held"],
)
def test_decisions_are_always_legal_for_the_task(mask):
    legal = legal_buttons(mask.forbid, mask.hold)
    dice = np.random.default_rng(0)
    controls = Controls(mask)
    buttons = sorted({button for _, button in KEYS.values()})
    for _ in range(300):
        for _ in range(dice.integers(1, 5)):
            controls.press(str(dice.choice(buttons)), bool(dice.integers(2)))
            controls.turn(*dice.normal(0, 5, 2))
            controls.tick()
        decision = controls.decision()
        assert legal[decision["buttons"]]
        moves = BUTTON_TABLE[decision["buttons"], GROUP_NAMES.index("camera")]
        assert moves or decision["camera"] == NO_CAMERA
