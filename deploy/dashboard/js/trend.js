// Yield and score over the hours, from the station's own history: one step, one column.

import { percent, plural } from "./format.js";

const MARGIN_LETTERS = 3.1;
const LEAST_SHARE = 0.05; // of defects, at the upper edge

export class Trend {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.draw(this.history ?? null)).observe(canvas);
  }

  draw(history) {
    this.history = history;
    const { canvas, context: pen } = this;
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    const points = history?.trend ?? [];
    if (!points.length) return;
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const letter = parseFloat(style.fontSize);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const right = width - MARGIN_LETTERS * letter;
    const last = points[points.length - 1].from;
    const steps = Math.max(24, (last - points[0].from) / history.stepMs + 1);
    const column = right / steps;
    const x = (point) => right - ((last - point.from) / history.stepMs + 1) * column;
    const inside = height - 0.5 * letter;
    const y = (share) => inside - share * (inside - 0.4 * letter);
    const most = Math.max(LEAST_SHARE, ...points.map(defective));
    pen.fillStyle = colour("--mark-ng");
    for (const point of points) {
      const share = defective(point) / most;
      if (share > 0) pen.fillRect(x(point), y(share), Math.max(1, column - 1), inside - y(share));
    }
    pen.fillStyle = colour("--text");
    for (const point of points) if (point.median !== null) pen.fillRect(x(point), y(point.median) - 1, Math.max(1, column - 1), 2);
    pen.fillStyle = colour("--muted");
    pen.font = `600 ${0.75 * letter}px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    pen.fillText(`${Math.round(100 * most)} %`, right + 0.3 * letter, y(1) + 0.2 * letter);
    pen.fillText("0", right + 0.3 * letter, y(0));
  }
}

function defective(point) {
  const judged = point.OK + point.NG + point.MARGINAL;
  return judged ? (point.NG + point.MARGINAL) / judged : 0;
}

// The same in words.
export function describe(history) {
  const points = history?.trend ?? [];
  if (!points.length) return "No hours yet";
  const sum = (word) => points.reduce((n, point) => n + point[word], 0);
  const judged = sum("OK") + sum("NG") + sum("MARGINAL");
  const hours = (points[points.length - 1].from - points[0].from + history.stepMs) / 3_600_000;
  const span = hours < 1.5 ? plural(Math.round(60 * hours), "minute") : plural(Math.round(hours), "hour");
  return `Over ${span}: yield ${percent(judged ? sum("OK") / judged : null)} of ${plural(judged, "part")}`;
}
