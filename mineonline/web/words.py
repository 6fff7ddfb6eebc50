"""Statistics in words, for people."""

from __future__ import annotations

_PLURALS = {"cow": "cows", "pig": "pigs"}
_EVENTS = {
    "kill_entity": "{} killed", "mine_block": "{} mined", "damage_dealt": "damage to {}", "pickup": "{} picked up",
    "craft_item": "{} crafted", "use_item": "{} used", "break_item": "{} broken", "custom": "{}",
}  # fmt: skip


def in_words(statistic: str) -> str:
    """A statistic of an episode for people: `kill_entity/cow` is `cows killed`."""
    event, _, thing = statistic.partition("/")
    if event not in _EVENTS:
        return statistic.replace("_", " ")
    return _EVENTS[event].format(_PLURALS.get(thing, thing.replace("_", " ")))
