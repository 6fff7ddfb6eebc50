"""MineStudio's action codec: which class means what, in both directions."""

import numpy as np
import pytest

from mineonline.envs.actions import (
    BUTTON_TABLE,
    CAMERA_DEGREES,
    GROUPS,
    INVENTORY,
    NO_BUTTONS,
    NO_CAMERA,
    encode_buttons,
    encode_camera,
    legal_buttons,
    masked_buttons,
)


def pressed(button_class):
    """The buttons of a class, by name."""
    choices = BUTTON_TABLE[button_class]
    return [names[choice] for names, choice in zip(GROUPS.values(), choices, strict=True) if choice]


@pytest.mark.parametrize(
    ("button_class", "buttons"),
    [
        # read off MineStudio 1.1.6's CameraHierarchicalMapping.BUTTONS_IDX_TO_COMBINATION
        (0, []),
        (1, ["camera"]),
        (37, ["sprint", "attack", "camera"]),
        (4321, ["hotbar.5", "camera"]),
        (5000, ["hotbar.5", "back", "left", "drop"]),
        (8639, ["hotbar.9", "back", "right", "sneak", "use", "drop", "attack", "jump", "camera"]),
        (8640, ["inventory"]),
    ],
)
def test_a_class_presses_the_buttons_that_minestudio_presses(button_class, buttons):
    assert pressed(button_class) == buttons


def test_every_class_is_the_code_of_its_own_choices():
    np.testing.assert_array_equal(encode_buttons(BUTTON_TABLE), np.arange(8641))


def test_half_of_the_product_classes_leave_the_camera_alone():
    camera = list(GROUPS).index("camera")
    assert (BUTTON_TABLE[:INVENTORY, camera] == 0).sum() == 4320


def test_inventory_excludes_all_other_buttons():
    assert encode_buttons([9, 2, 2, 2, 1, 1, 1, 1, 1, 1]) == INVENTORY


def test_choices_outside_their_group_are_refused():
    with pytest.raises(ValueError, match="outside its group"):
        encode_buttons([10, 0, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="outside its group"):
        encode_buttons([0, -1, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("camera_class", "pitch_yaw"),
    [
        # read off MineStudio 1.1.6's CameraQuantizer (mu-law, mu 10, largest 10, bins of 2)
        (0, (-10.0, -10.0)),
        (60, (0.0, 0.0)),
        (61, (0.0, 0.61539427)),
        (72, (0.61539427, 0.61539427)),
        (27, (-3.21536913, 0.0)),
        (57, (0.0, -3.21536913)),
        (118, (10.0, 3.21536913)),
    ],
)
def test_a_camera_class_is_a_pitch_bin_times_eleven_and_a_yaw_bin(camera_class, pitch_yaw):
    np.testing.assert_allclose(CAMERA_DEGREES[camera_class], pitch_yaw, atol=1e-8)


def test_no_operation_presses_nothing_and_stands_still():
    assert pressed(NO_BUTTONS) == []
    assert encode_camera(5, 5) == NO_CAMERA
    assert CAMERA_DEGREES[NO_CAMERA].tolist() == [0.0, 0.0]


def test_legal_classes_press_nothing_that_is_forbidden_and_everything_that_is_held():
    legal = np.flatnonzero(legal_buttons(["hotbar", "use", "drop", "inventory"], ["attack"]))
    assert len(legal) == 3 * 3 * 3 * 2 * 2
    for button_class in legal:
        assert "attack" in pressed(button_class)
        assert not {"use", "drop", "inventory"} & set(pressed(button_class))


def test_a_mask_forbids_one_choice_of_a_group_and_leaves_the_others():
    legal = set(np.flatnonzero(legal_buttons(["back", "hotbar.3"])))
    forward, back = (encode_buttons([0, choice, 0, 0, 0, 0, 0, 0, 0]).item() for choice in (1, 2))
    assert forward in legal
    assert back not in legal
    assert encode_buttons([2, 0, 0, 0, 0, 0, 0, 0, 0]).item() in legal
    assert encode_buttons([3, 0, 0, 0, 0, 0, 0, 0, 0]).item() not in legal


def test_a_masked_class_acts_like_a_legal_one():
    masked = encode_buttons(masked_buttons(["back", "use", "inventory"], ["jump"]))
    assert legal_buttons(["back", "use", "inventory"], ["jump"])[masked].all()


def test_an_unknown_button_is_refused():
    with pytest.raises(KeyError, match="atack"):
        legal_buttons(["atack"])
