// The page: which of its two views there are, and which is shown.

import { startPlay } from "./play.js";
import { startRun } from "./run.js";

const views = { play: document.getElementById("play"), run: document.getElementById("run") };
const starters = { play: startPlay, run: startRun };
const started = {};

function show(name) {
  for (const [each, view] of Object.entries(views)) {
    view.hidden = each !== name;
    document.getElementById(`show-${each}`).classList.toggle("chosen", each === name);
    started[each]?.shown(each === name);
  }
  started[name] ??= starters[name]();
  location.hash = name;
}

const about = await (await fetch("about.json")).json();
document.querySelector("nav").hidden = !(about.play && about.run);
for (const name of Object.keys(views)) {
  document.getElementById(`show-${name}`).addEventListener("click", (event) => {
    event.target.blur(); // the keys are for the game
    show(name);
  });
}
const asked = location.hash.slice(1);
show(about[asked] ? asked : about.run ? "run" : "play");
