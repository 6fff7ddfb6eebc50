// Plays: keyboard and mouse go to the server, pictures and the state of the game come back (mineonline/web/messages.py).

const DEGREES_PER_PIXEL = 0.15; // Minecraft's at the middle of its slider
const DEGREES_PER_FRAME = 1.5; // of an arrow key
const RETRY_MS = 1500;
const TAKEN = 4001; // player.TAKEN
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const $ = (id) => document.getElementById(id);
const canvas = $("picture");
const context = canvas.getContext("2d");

let socket = null;
let opened = null; // what is played
let situation = null; // how the game stands
let visible = true;
let inputs = 0; // numbers them
let waiting = []; // inputs that no picture shows yet: {number, at}
let delays = []; // from input to picture, newest last, in ms
let drawn = []; // when pictures were drawn, newest last
let newestPicture = 0;
let arrows = new Set();

export function startPlay() {
  connect();
  listen();
  setInterval(showSpeed, 500);
  return { shown };
}

// the view is shown, or another is
function shown(now) {
  visible = now;
  if (!now) pause();
}

function connect() {
  setState("connecting");
  const address = new URL("socket", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = "";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => (typeof event.data === "string" ? told(JSON.parse(event.data)) : see(event.data));
  socket.onclose = (event) => {
    if (document.body.dataset.state === "failed") return;
    situation = null;
    if (event.code === TAKEN) {
      veil("taken", "Someone is playing", "Another window has the controls. This one gets them when that is closed.");
    } else {
      veil("connecting", "No connection", "The server cannot be reached. Trying again …");
    }
    setTimeout(connect, RETRY_MS);
  };
}

function send(order) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(order));
}

function input(order) {
  inputs += 1;
  waiting.push({ number: inputs, at: performance.now() });
  send({ ...order, number: inputs });
}

// ---- what the server says

function told(news) {
  if (news.kind === "loading") {
    veil("loading", "Loading the world", news.text);
  } else if (news.kind === "failed") {
    veil("failed", "It cannot be played", news.reason);
  } else if (news.kind === "opened") {
    opened = news;
    newestPicture = 0;
    $("title").textContent = news.text || news.task;
    showKeys();
  } else if (news.kind === "situation") {
    situation = news;
    showSituation();
  }
}

async function see(data) {
  const view = new DataView(data);
  const [number, newest] = [view.getUint32(0), view.getUint32(4)];
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 8)], { type: "image/jpeg" }));
  send({ kind: "seen", picture: number });
  if (number < newestPicture) return; // a later one was decoded first
  newestPicture = number;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const now = performance.now();
  drawn = [...drawn.slice(-40), now];
  const answered = waiting.filter((each) => each.number <= newest);
  waiting = waiting.filter((each) => each.number > newest);
  delays = [...delays, ...answered.map((each) => now - each.at)].slice(-40);
  document.body.dataset.pictures = String(Number(document.body.dataset.pictures ?? 0) + 1);
}

// ---- what the page shows

function setState(state) {
  document.body.dataset.state = state;
}

function veil(state, title, text, button = "") {
  setState(state);
  $("veil").hidden = false;
  $("veil-title").textContent = title;
  $("veil-text").textContent = text;
  $("veil-button").textContent = button;
  $("veil-button").hidden = !button;
}

function showSituation() {
  const { who, agent, paused, over, scores, note } = situation;
  const byAgent = who === "agent";
  if (over && !byAgent) {
    veil("over", over === "time is up" ? "Time is up" : "You died", ending(), "Next episode");
  } else if (paused) {
    const fresh = scores.every((score) => score.now === 0) && situation.episode === 1;
    veil("paused", fresh ? capital(opened.text || opened.task) : "Paused", "Click, or press Enter. Esc pauses.", fresh ? "Play" : "Go on");
  } else {
    setState(byAgent ? "agent" : "playing");
    $("veil").hidden = true;
  }
  const goal = scores.find((score) => score.agent !== null);
  $("challenge").replaceChildren();
  if (goal) $("challenge").append("Beat your agent: ", bold(digits(goal.agent)), ` ${goal.name}`);
  $("who").textContent = byAgent ? "The agent plays" : "You play";
  $("who").classList.toggle("agent", byAgent);
  $("hand").textContent = byAgent ? "F: take over" : "F: let the agent play";
  $("hand").title = agent;
  $("note").hidden = !note;
  $("note").textContent = note;
  $("scores").replaceChildren(...scores.map(scoreRow));
  const facts = [`Episode ${situation.episode}`, `${Math.max(0, situation.left_s).toFixed(0)} s left`];
  if (situation.shared) facts.push("shared with the agent, so it does not count");
  if (situation.recorded) facts.push(`${situation.recorded.toLocaleString("en")} decisions recorded`);
  $("facts").textContent = facts.join(" · ");
}

function ending() {
  if (situation.shared) return "The agent has played a part of it, so it does not count.";
  return situation.scores
    .map((score) => {
      const agent = score.agent === null ? "" : `, your agent's mean is ${digits(score.agent)}`;
      return `${capital(score.name)}: ${digits(score.now)}${agent}`;
    })
    .join("\n");
}

function scoreRow(score) {
  const row = document.createElement("tr");
  for (const value of [score.name, score.now, score.best, score.mean, score.agent]) {
    const cell = document.createElement("td");
    cell.textContent = typeof value === "string" ? value : value === null ? "–" : digits(value);
    row.append(cell);
  }
  row.cells[1].classList.toggle("ahead", score.agent !== null && score.now > score.agent);
  return row;
}

function showKeys() {
  const names = { forward: "forward", back: "back", left: "left", right: "right", inventory: "inventory" };
  const works = opened.keys.filter((key) => key.state === "works");
  const slots = works.filter((key) => key.button.startsWith("hotbar."));
  const lines = works.filter((key) => !slots.includes(key)).map((key) => [key.label, names[key.button] ?? key.button]);
  if (slots.length) lines.push([`${slots[0].label} – ${slots.at(-1).label}`, "hotbar"]);
  if (opened.turns) lines.push(["mouse", "look"], ["arrows", "look"]);
  lines.push(["F", "hand over"], ["N", "new episode"], ["Esc", "pause"]);
  $("keys").replaceChildren(
    ...lines.flatMap(([label, text]) => {
      const key = document.createElement("dt");
      const meaning = document.createElement("dd");
      key.append(Object.assign(document.createElement("kbd"), { textContent: label }));
      meaning.textContent = text;
      return [key, meaning];
    }),
  );
  const named = (state) => [
    ...new Set(opened.keys.filter((key) => key.state === state).map((key) => key.button.split(".")[0])),
  ];
  const sentences = [];
  if (named("held").length) sentences.push(`The task always presses ${named("held").join(", ")}.`);
  if (named("forbidden").length) sentences.push(`Not in this task: ${named("forbidden").join(", ")}.`);
  $("unavailable").textContent = sentences.join(" ");
}

function showSpeed() {
  const now = performance.now();
  const running = playing() && !situation.over;
  const rate = drawn.filter((at) => now - at < 2000).length / 2;
  const sorted = [...delays].sort((a, b) => a - b);
  const delay = sorted[Math.floor(sorted.length / 2)];
  document.body.dataset.delayMs = delay === undefined ? "" : delay.toFixed(0);
  const parts = running && rate ? [`${rate.toFixed(0)} pictures/s`] : [];
  if (parts.length && delay !== undefined) parts.push(`${delay.toFixed(0)} ms from key to picture`);
  $("speed").textContent = parts.join(" · ");
}

function digits(value) {
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 100 ? 1 : 0);
}

function bold(text) {
  return Object.assign(document.createElement("b"), { textContent: text });
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// ---- keyboard and mouse

const playing = () => situation !== null && !situation.paused && visible;
const locked = () => document.pointerLockElement === canvas;

function listen() {
  $("veil").addEventListener("click", goOn);
  $("hand").addEventListener("click", (event) => {
    event.target.blur();
    hand();
  });
  addEventListener("keydown", keyDown);
  addEventListener("keyup", (event) => {
    arrows.delete(event.code);
    press(event.code, false);
  });
  canvas.addEventListener("mousedown", (event) => {
    if (playing() && !locked()) lock();
    press(`Mouse${event.button}`, true);
    event.preventDefault();
  });
  addEventListener("mouseup", (event) => press(`Mouse${event.button}`, false));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  // without a lock (it may be refused) the view follows the mouse over the picture
  canvas.addEventListener("mousemove", (event) => turn(event.movementY, event.movementX));
  document.addEventListener("pointerlockchange", () => {
    if (!locked()) pause();
  });
  addEventListener("blur", pause);
  document.addEventListener("visibilitychange", () => document.hidden && pause());
}

function goOn() {
  if (situation === null) return;
  if (situation.over && situation.who === "person") send({ kind: "restart" });
  waiting = [];
  send({ kind: "pause", paused: false });
  lock();
}

async function lock() {
  try {
    await canvas.requestPointerLock();
  } catch {
    // refused, as right after Esc: the next click asks again
  }
}

function pause() {
  arrows.clear();
  waiting = [];
  if (playing()) send({ kind: "pause", paused: true });
}

function hand() {
  if (situation === null) return;
  send({ kind: "hand", to: situation.who === "agent" ? "person" : "agent" });
}

function keyDown(event) {
  if (!visible || event.ctrlKey || event.altKey || event.metaKey) return;
  if (situation === null || event.target.tagName === "SELECT") return;
  const held = event.repeat;
  if (event.code in ARROWS) {
    if (!arrows.size && playing()) requestAnimationFrame(turnByArrows);
    arrows.add(event.code);
  } else if (event.code === "KeyF" && !held) {
    hand();
  } else if (event.code === "KeyN" && !held) {
    send({ kind: "restart" });
  } else if (event.code === "Escape") {
    pause();
  } else if (event.code === "Enter" && !held && document.body.dataset.state !== "playing") {
    goOn();
  } else if (!press(event.code, true, held)) {
    return;
  }
  event.preventDefault();
}

// whether the task lets this key do something
function press(code, down, held = false) {
  const key = opened?.keys.find((each) => each.code === code && each.state === "works");
  if (!key || situation === null) return false;
  if (!held && (playing() || !down)) input({ kind: "press", button: key.button, down });
  return true;
}

function turn(downPixels, rightPixels) {
  if (!playing() || situation.who === "agent" || !opened.turns || (!downPixels && !rightPixels)) return;
  input({ kind: "turn", down: downPixels * DEGREES_PER_PIXEL, right: rightPixels * DEGREES_PER_PIXEL });
}

function turnByArrows() {
  if (!arrows.size || !playing()) return;
  let [down, right] = [0, 0];
  for (const code of arrows) {
    down += ARROWS[code][0] * DEGREES_PER_FRAME;
    right += ARROWS[code][1] * DEGREES_PER_FRAME;
  }
  if (down || right) input({ kind: "turn", down, right });
  requestAnimationFrame(turnByArrows);
}
