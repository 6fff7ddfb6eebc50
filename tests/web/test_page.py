"""The page itself, in headless Chromium."""

import shutil
import signal

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from mineonline.experience.fragment_files import RecordedFragments
from tests.helpers.player import address_of
from tests.helpers.programs import wait_until
from tests.web.test_server import a_run

pytestmark = [
    pytest.mark.program,
    pytest.mark.skipif(
        not shutil.which("chromium") or not shutil.which("chromedriver"),
        reason="Chromium is missing: apt-get install -y chromium chromium-driver",
    ),
]


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,720",
        f"user-data-dir={tmp_path / 'chromium'}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield found
    found.quit()


def state(browser):
    return browser.execute_script("return document.body.dataset.state")


def shown(browser, name):
    return browser.find_element(By.ID, name).text


def errors(browser):
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_person_plays_in_the_browser(start, tmp_path, browser):
    folder = a_run(tmp_path / "run", "task=hunt_cow", "fragment.length=8")
    (folder / "metrics.csv").write_text("iteration,episode/return,episode/kill_entity/cow\n3,6.5,5.7\n")
    play = start(f"checkpoint={folder}", "port=0", f"record={tmp_path / 'set'}", module="mineonline.play")
    browser.get(address_of(play))
    wait_until(lambda: state(browser) == "paused", lambda: shown(browser, "veil"))
    assert shown(browser, "title") == "hunt a cow"
    assert shown(browser, "challenge") == "Beat your agent: 5.7 cows killed"
    assert "Not in this task: use, hotbar, inventory." in shown(browser, "unavailable")
    browser.find_element(By.ID, "veil-button").click()
    wait_until(lambda: state(browser) == "playing", lambda: shown(browser, "veil"))
    before = picture(browser)
    ActionChains(browser).key_down("w").perform()
    ActionChains(browser).move_to_element_with_offset(canvas(browser), 40, 10).move_by_offset(60, 0).click().perform()
    wait_until(lambda: browser.execute_script("return Number(document.body.dataset.delayMs) > 0"))
    wait_until(lambda: "decisions recorded" in shown(browser, "facts"))
    assert picture(browser) != before
    ActionChains(browser).key_up("w").send_keys("f").perform()
    wait_until(lambda: state(browser) == "agent")
    assert shown(browser, "who") == "The agent plays"
    ActionChains(browser).send_keys("f").perform()
    wait_until(lambda: state(browser) == "playing")
    ActionChains(browser).send_keys("\ue00c").perform()  # Escape
    wait_until(lambda: state(browser) == "paused")
    assert not errors(browser)
    play.send(signal.SIGINT)
    assert play.wait() == 0, play.output
    fragments = RecordedFragments(tmp_path / "set")
    forward = [fragments[torch.tensor([i])].action["buttons"][0] for i in range(len(fragments))]
    assert int(torch.cat(forward).count_nonzero()) > 0


def test_a_run_is_shown_in_the_browser_and_follows_its_files(start, tmp_path, browser):
    folder = a_run(tmp_path / "run", "task=hunt_cow")
    play = start(f"run={folder}", "port=0", module="mineonline.play")
    browser.get(address_of(play))
    wait_until(lambda: "iteration" in shown(browser, "run-facts"))
    assert "Bottleneck: learner" in shown(browser, "run")
    assert "3 of 1,000" in shown(browser, "run-facts")
    assert len(browser.find_elements(By.TAG_NAME, "video")) == 3
    with (folder / "metrics.csv").open("a") as file:
        file.write("400,3.5,40,0.9,0.05\n")
    wait_until(lambda: "400 of 1,000" in shown(browser, "run-facts"))
    browser.find_element(By.ID, "show-play").click()
    wait_until(lambda: state(browser) == "paused", lambda: shown(browser, "veil"))
    browser.find_element(By.ID, "show-run").click()
    assert browser.find_element(By.ID, "run").is_displayed()


def canvas(browser):
    return browser.find_element(By.ID, "picture")


def picture(browser):
    return browser.execute_script("return document.getElementById('picture').toDataURL()")
