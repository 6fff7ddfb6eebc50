// Draws a curve on a canvas: [x, y] pairs, the range of both axes, the newest point.

const MARGIN = { left: 44, right: 10, top: 8, bottom: 18 };
const COLOURS = { line: "#ffd040", grid: "#2b313b", text: "#98a1b0" };

export function draw(canvas, points) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !points?.length) return;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const x = axis(Math.min(...xs), Math.max(...xs), MARGIN.left, width - MARGIN.right);
  const ticks = ticksOf(Math.min(...ys), Math.max(...ys));
  const y = axis(ticks[0], ticks.at(-1), height - MARGIN.bottom, MARGIN.top);
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = COLOURS.text;
  context.strokeStyle = COLOURS.grid;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of ticks) {
    line(context, [[MARGIN.left, y(tick)], [width - MARGIN.right, y(tick)]]);
    context.fillText(label(tick), MARGIN.left - 6, y(tick));
  }
  context.textBaseline = "bottom";
  context.fillText(xs.at(-1).toLocaleString("en"), width - MARGIN.right, height);
  context.textAlign = "left";
  context.fillText(xs[0].toLocaleString("en"), MARGIN.left, height);
  context.strokeStyle = context.fillStyle = COLOURS.line;
  context.lineWidth = 1.5;
  context.lineJoin = "round";
  line(context, points.map((point) => [x(point[0]), y(point[1])]));
  context.beginPath();
  context.arc(x(xs.at(-1)), y(ys.at(-1)), 2.5, 0, 2 * Math.PI);
  context.fill();
}

// maps low..high to from..to
function axis(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

// three to five round numbers that enclose both
function ticksOf(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => span / each <= 4);
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function label(value) {
  const rounded = Number(value.toPrecision(6));
  return Math.abs(rounded) >= 10000 ? `${Number((rounded / 1000).toPrecision(4))}k` : String(rounded);
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.stroke();
}
