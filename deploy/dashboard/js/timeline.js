// The scores against the threshold, drawn on a canvas. A verdict is told by its mark as well as by its colour.

import { VERDICTS } from "./payloads.js";

const MARGIN = { left: 0.2, right: 3.1, top: 0.5, bottom: 0.5 }; // in letters
const RELATIVE = { NG: 0.3, MARGINAL: 0.26, OK: 0.13, ERROR: 0.3 }; // half the size of a mark, in letters

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.drawn = 0;
    this.readStyle();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  // Colours and size of letters come from the style sheet, again when the theme changes.
  readStyle() {
    const style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = Object.fromEntries(VERDICTS.map((word) => [word, colour(`--mark-${word.toLowerCase()}`)]));
    this.grid = colour("--line");
    this.text = colour("--muted");
    this.letter = parseFloat(style.fontSize);
    this.font = `600 ${0.75 * this.letter}px ${style.fontFamily}`;
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(clientWidth * dense), Math.round(clientHeight * dense)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.dense = dense;
    this.readStyle();
    if (this.station) this.draw(this.station);
  }

  draw(station) {
    this.station = station;
    if (!this.canvas.width || !this.dense) return;
    const [width, height] = [this.canvas.width / this.dense, this.canvas.height / this.dense];
    const [left, top] = [MARGIN.left * this.letter, MARGIN.top * this.letter];
    const right = width - MARGIN.right * this.letter;
    const bottom = height - MARGIN.bottom * this.letter;
    const room = station.scores.values.length - 1;
    const first = room + 1 - station.scores.length; // the newest is always at the right edge
    const place = {
      x: (i) => left + ((first + i) / room) * (right - left),
      y: (score) => bottom - score * (bottom - top),
      left,
      right,
      bottom,
    };
    this.context.setTransform(this.dense, 0, 0, this.dense, 0, 0);
    this.context.clearRect(0, 0, width, height);
    this.#drawGrid(place);
    this.#drawMarks(station, place);
    this.#drawThreshold(station, place);
  }

  #drawGrid({ left, right, y }) {
    const pen = this.context;
    pen.strokeStyle = this.grid;
    pen.lineWidth = 1;
    pen.setLineDash([]);
    pen.beginPath();
    for (const score of [0, 0.5, 1]) {
      pen.moveTo(left, Math.round(y(score)) + 0.5);
      pen.lineTo(right, Math.round(y(score)) + 0.5);
    }
    pen.stroke();
  }

  #drawThreshold({ thresholds, model, scores }, { x, y, right }) {
    if (!thresholds.length) return;
    const pen = this.context;
    pen.strokeStyle = this.colours.NG;
    pen.lineWidth = Math.max(1, 0.1 * this.letter);
    pen.setLineDash([0.4 * this.letter, 0.3 * this.letter]);
    pen.beginPath();
    for (let i = 0; i < thresholds.length; i += 1) {
      if (Number.isNaN(thresholds.at(i))) continue;
      if (i > 0) pen.lineTo(x(i), y(thresholds.at(i - 1)));
      pen.lineTo(x(i), y(thresholds.at(i)));
    }
    pen.stroke();
    const last = thresholds.at(thresholds.length - 1);
    this.#label("NG", last, right, y, this.colours.NG);
    if (model?.marginal != null && model.marginal < last && scores.length) {
      pen.strokeStyle = this.colours.MARGINAL;
      pen.beginPath();
      pen.moveTo(x(0), y(model.marginal));
      pen.lineTo(right, y(model.marginal));
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  #label(word, score, right, y, colour) {
    const pen = this.context;
    pen.font = this.font;
    pen.fillStyle = colour;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    const height = Math.min(Math.max(y(score), y(1) + 0.3 * this.letter), y(0) - 0.3 * this.letter);
    pen.fillText(score.toFixed(2), right + 0.6 * this.letter, height);
  }

  // One path for each verdict: three strokes and fills, however many marks.
  #drawMarks({ scores, words }, { x, y, bottom }) {
    const pen = this.context;
    pen.lineWidth = Math.max(1.5, 0.13 * this.letter);
    for (let kind = 0; kind < VERDICTS.length; kind += 1) {
      const word = VERDICTS[kind];
      const half = RELATIVE[word] * this.letter;
      pen.fillStyle = this.colours[word];
      pen.strokeStyle = this.colours[word];
      pen.beginPath();
      for (let i = 0; i < words.length; i += 1) {
        if (words.at(i) !== kind) continue;
        const score = scores.at(i);
        MARKS[word](pen, x(i), Number.isNaN(score) ? bottom : y(score), half);
      }
      if (word === "OK" || word === "MARGINAL") pen.fill();
      else pen.stroke();
    }
  }
}

const MARKS = {
  OK: (pen, x, y, half) => pen.rect(x - half, y - half, 2 * half, 2 * half),
  NG: (pen, x, y, half) => {
    pen.moveTo(x - half, y - half);
    pen.lineTo(x + half, y + half);
    pen.moveTo(x - half, y + half);
    pen.lineTo(x + half, y - half);
  },
  MARGINAL: (pen, x, y, half) => {
    pen.moveTo(x, y - half);
    pen.lineTo(x + half, y + half);
    pen.lineTo(x - half, y + half);
    pen.closePath();
  },
  ERROR: (pen, x, y, half) => {
    pen.moveTo(x, y);
    pen.lineTo(x, y - 4 * half);
  },
};

// The same in words, for who cannot see it.
export function describe({ scores, words, last }) {
  if (!scores.length) return "No score yet";
  let defective = 0;
  let highest = 0;
  for (let i = 0; i < scores.length; i += 1) {
    if (words.at(i) === VERDICTS.indexOf("NG")) defective += 1;
    if (scores.at(i) > highest) highest = scores.at(i);
  }
  const threshold = last?.threshold == null ? "" : `, threshold ${last.threshold.toFixed(2)}`;
  return `Scores of the last ${scores.length} verdicts: ${defective} NG, highest ${highest.toFixed(2)}${threshold}`;
}
