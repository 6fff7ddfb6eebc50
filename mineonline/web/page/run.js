// Shows a run: asks the server every two seconds what the files of its folder say (mineonline/web/run_view.py).

import { draw } from "./curve.js";

const EVERY_MS = 2000;
const SILENT_S = 120; // a run that has written no metrics for so long probably does not run
const STATUS_SILENT_S = 10; // the same for its status
const SHARES = {
  "time/environments": "environments",
  "time/inference": "policy decides",
  "time/sending": "sending, or waiting for room",
  "time/learner": "learner learns",
  "time/learner_waits": "learner waits",
};

const $ = (id) => document.getElementById(id);
let visible = true;
let newest = null;
let chosenMetric = "";

export function startRun() {
  $("metric").addEventListener("change", (event) => {
    chosenMetric = event.target.value;
    show(newest);
  });
  addEventListener("resize", () => newest && show(newest));
  ask();
  setInterval(ask, EVERY_MS);
  return {
    shown(now) {
      visible = now;
      if (now) ask();
    },
  };
}

async function ask() {
  if (!visible || document.hidden) return;
  try {
    newest = await (await fetch("run.json")).json();
  } catch {
    $("run-state").textContent = "The server cannot be reached.";
    return;
  }
  show(newest);
}

function show(run) {
  if (document.getElementById("play").hidden) $("title").textContent = run.name;
  document.body.dataset.iterations = String(run.iterations);
  const { latest, status } = run;
  const iterations = Math.max(run.iterations, status?.iteration ?? 0);
  $("run-state").textContent = state(run);
  $("run-words").textContent = status?.headline || (bottleneck(latest) && `Bottleneck: ${bottleneck(latest)}`);
  $("run-bar").firstElementChild.style.width = run.total ? `${(100 * iterations) / run.total}%` : "0";
  fill($("run-facts"), [
    ["iteration", run.total ? `${count(iterations)} of ${count(run.total)}` : count(iterations)],
    ["decisions", count(status?.env_steps ?? latest.env_steps)],
    ["decisions/s", count(status?.env_steps_per_s ?? latest.env_steps_per_s)],
    ["episodes", count(status?.episodes ?? latest.episodes)],
    ["collectors", count(status?.collectors.length ?? latest.collectors)],
    ["lag", latest.lag_versions === undefined ? "–" : `${latest.lag_versions.toFixed(2)} versions`],
    ...(status?.ends_at ? [["time left", minutes(status.ends_at - Date.now() / 1000)]] : []),
  ]);
  showShares(run);
  showCollectors(status);
  showCurves(run);
  showVideos(run.videos);
  $("run-folder").textContent = run.folder;
}

function state(run) {
  const phase = run.status?.phase;
  if (run.done || phase === "finished") return "The run is complete";
  if (phase === "stopped") return "Stopped";
  if (phase === "failed") return "Failed";
  const silent_s = run.status ? Date.now() / 1000 - run.status.written_at : run.age_s;
  if (silent_s > (run.status ? STATUS_SILENT_S : SILENT_S)) return `Not running: nothing new for ${minutes(silent_s)}`;
  if (phase === "waiting") return "Waiting for the first fragments";
  return run.iterations ? "Running" : "No iteration has ended yet";
}

// for runs without a status; as callbacks/headline.py names it
function bottleneck(shares) {
  if (shares["time/learner_waits"] === undefined) return "";
  if (shares["time/learner_waits"] < 0.1) return "learner";
  const names = ["environments", "inference", "sending"];
  return names.reduce((a, b) => (shares[`time/${b}`] > shares[`time/${a}`] ? b : a));
}

function showShares({ latest, status }) {
  const newest = Object.fromEntries((status?.links ?? []).map((link) => [`time/${link.name}`, link.share]));
  if (status?.links.length) newest["time/learner_waits"] = status.learner_waits;
  const shares = { ...latest, ...newest };
  const known = Object.entries(SHARES).filter(([name]) => shares[name] !== undefined);
  const slowest = `time/${bottleneck(shares)}`;
  $("shares").replaceChildren(
    ...known.flatMap(([name, text]) => {
      const line = [document.createElement("dt"), document.createElement("dd")];
      line[0].textContent = text;
      const bar = document.createElement("div");
      bar.style.width = `${Math.min(100, 100 * shares[name])}%`;
      const percent = `${(100 * shares[name]).toFixed(0)} %`;
      line[1].append(bar, Object.assign(document.createElement("span"), { textContent: percent }));
      line[1].classList.toggle("slowest", name === slowest);
      return line;
    }),
  );
}

function showCollectors(status) {
  const lines = (status?.collectors ?? []).map((collector) => {
    const age_s = collector.last_fragment_at ? Date.now() / 1000 - collector.last_fragment_at : null;
    const parts = [collector.name, collector.state];
    if (age_s !== null) parts.push(`last fragment ${Math.max(0, age_s).toFixed(0)} s ago`);
    if (collector.detail) parts.push(collector.detail);
    return parts.join(" · ");
  });
  for (const failure of status?.failures ?? []) lines.push(`${failure.times} × ${failure.reason}`);
  if (status && !status.collectors.length && status.add_collector) lines.push(`No collector: ${status.add_collector}`);
  $("collectors").replaceChildren(
    ...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })),
  );
}

function showCurves(run) {
  const names = Object.keys(run.curves);
  const chosen = [
    "episode/return",
    ...names.filter((name) => name.startsWith("episode/") && !["episode/return", "episode/length"].includes(name)),
    "episode/length",
    "env_steps_per_s",
    "lag_versions",
    "loss/entropy",
    "loss/value",
  ].filter((name) => run.curves[name]?.length);
  for (const name of chosen) {
    const card = curveCard(name, run.words[name]);
    card.querySelector("b").textContent = short(run.latest[name]);
    draw(card.querySelector("canvas"), run.curves[name]);
  }
  for (const card of [...$("curves").children]) if (!chosen.includes(card.dataset.name)) card.remove();
  const others = names.filter((name) => run.curves[name].length);
  const listed = [...$("metric").options].map((option) => option.value);
  if (others.join() !== listed.join()) {
    $("metric").replaceChildren(...others.map((name) => new Option(name)));
    chosenMetric = others.includes(chosenMetric) ? chosenMetric : others[0];
    $("metric").value = chosenMetric;
  }
  $("any-curve").hidden = !others.length;
  if (!$("any-curve").querySelector("canvas")) $("any-curve").append(document.createElement("canvas"));
  if (chosenMetric) draw($("any-curve").querySelector("canvas"), run.curves[chosenMetric]);
}

function curveCard(name, words) {
  const found = [...$("curves").children].find((card) => card.dataset.name === name);
  if (found) return found;
  const card = Object.assign(document.createElement("section"), { className: "card curve" });
  card.dataset.name = name;
  const title = document.createElement("h2");
  title.append(words, document.createElement("b"));
  card.append(title, document.createElement("canvas"));
  $("curves").append(card);
  return card;
}

function showVideos(videos) {
  const shown = [...$("videos").children].map((figure) => figure.dataset.name);
  if (videos.map((video) => video.name).join() === shown.join()) return;
  $("videos").replaceChildren(
    ...videos.map((video) => {
      const figure = document.createElement("figure");
      figure.dataset.name = video.name;
      const film = Object.assign(document.createElement("video"), {
        src: `videos/${video.name}`, controls: true, muted: true, loop: true, preload: "metadata",
      });
      const caption = document.createElement("figcaption");
      caption.textContent = [`iteration ${count(video.iteration)}`, video.task].filter(Boolean).join(", ");
      figure.append(film, caption);
      return figure;
    }),
  );
}

function fill(list, lines) {
  list.replaceChildren(
    ...lines.flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]),
  );
}

function count(value) {
  return value === undefined || value === null ? "–" : Math.round(value).toLocaleString("en");
}

function short(value) {
  if (value === undefined) return "–";
  return Math.abs(value) >= 1000 ? count(value) : String(Number(value.toPrecision(3)));
}

function minutes(seconds) {
  if (seconds < 90) return `${Math.max(0, seconds).toFixed(0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} minutes` : `${Math.round(seconds / 3600)} hours`;
}
