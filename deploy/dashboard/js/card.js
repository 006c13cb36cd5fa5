// One station on the page. render() writes only what has changed; text goes in as text, never as markup.

import * as format from "./format.js";
import { Picture } from "./picture.js";
import { describe, Timeline } from "./timeline.js";

const STATES = {
  online: "Online",
  offline: "Offline",
  stopped: "Stopped",
  old: "Data are old",
  unknown: "No status",
  unconnected: "Not connected",
};
const HEALTH = { init: "starting", ready: "ready", degraded: "degraded", alert: "alert" };
const DRAW_MS = 250; // between two pictures of the timeline
const SLOW_MS = 1000; // sorting latencies and describing the timeline need not be done ten times a second

export class Card {
  constructor(template, station) {
    this.station = station;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.parts = new Map();
    for (const part of this.element.querySelectorAll("[data-part]")) this.parts.set(part.dataset.part, part);
    this.timeline = new Timeline(this.part("timeline"));
    this.picture = new Picture(this.part("picture"));
    this.drawn = -Infinity;
    this.renderedSlow = -Infinity;
    this.#name();
  }

  part(name) {
    return this.parts.get(name);
  }

  #name() {
    this.#text("name", this.station.name);
    this.part("name").id = `station-${Card.next}`;
    Card.next += 1;
    this.element.setAttribute("aria-labelledby", this.part("name").id);
    this.part("defects").setAttribute("aria-label", `Recent defects of ${this.station.name}`);
  }

  // `view`: {now, connected, connectedSince, staleMs}
  render(view) {
    this.#state(view);
    this.#verdict(view);
    this.#counts();
    this.#health();
    this.#defects();
    this.picture.show(this.station.picture);
    if (view.now - this.renderedSlow >= SLOW_MS) this.#slow(view);
  }

  // The timeline, now and then.
  draw({ now }) {
    const { scores, model } = this.station;
    if (now - this.drawn < DRAW_MS || (this.drawnAt === scores.next && this.drawnModel === model)) return;
    [this.drawn, this.drawnAt, this.drawnModel] = [now, scores.next, model];
    this.timeline.draw(this.station);
  }

  restyle() {
    this.timeline.readStyle();
    this.timeline.draw(this.station);
  }

  #state(view) {
    const { station } = this;
    const state = view.connected ? station.state(view.now, view.connectedSince, view.staleMs) : "unconnected";
    this.#data("state", state);
    this.#data("health", station.health?.state ?? "none");
    this.#icon("state-icon", `#i-${state}`);
    this.#text("state", STATES[state]);
    const notice = state === "online" || state === "unknown" ? "" : this.#notice(state, view);
    this.#text("notice", notice);
    this.part("notice").hidden = notice === "";
  }

  #notice(state, { now }) {
    const heard = this.station.heard;
    const ago = heard === null ? "Nothing was heard since this page connected" : `Last heard ${format.span(now - heard)} ago`;
    const why = {
      offline: "The station is gone: fault, power or network.",
      stopped: "The station was stopped.",
      old: "The station does not report.",
      unconnected: "This page is not connected.",
    };
    return `${why[state]} ${ago}. What is shown is old.`;
  }

  #verdict({ now }) {
    const { last, lastHeard } = this.station;
    this.#data("verdict", last?.word ?? "none");
    this.#icon("verdict-icon", `#i-${last?.word ?? "none"}`);
    this.#text("word", last?.word ?? "No verdict");
    this.#text("score", last ? format.score(last.score) : format.NONE);
    this.#text("threshold", last ? format.score(last.threshold) : format.NONE);
    const when = !last ? "" : lastHeard === null ? `before this page · ${format.moment(last.at)}` : ago(now - lastHeard);
    this.#text("when", when);
    const about = last?.word === "ERROR" ? (last.reason ?? "the frame could not be judged") : (last?.part ?? "");
    this.#text("about", about);
  }

  #counts() {
    const counts = this.station.counts();
    const judged = counts.OK + counts.NG + counts.MARGINAL;
    this.#text("yield", format.percent(judged ? counts.OK / judged : null));
    for (const word of ["OK", "NG", "MARGINAL", "ERROR"]) this.#text(`count-${word}`, format.integer(counts[word]));
    const since = this.station.counters ? `since ${format.moment(counts.since)}` : "since this page was opened";
    this.#text("since", since);
  }

  #slow({ now }) {
    this.renderedSlow = now;
    const { station } = this;
    const { p50, p95 } = station.latencies();
    this.#text("p50", format.milliseconds(p50));
    this.#text("p95", format.milliseconds(p95));
    this.#text("rate", station.rate(now).toFixed(1));
    this.#text("queue", format.integer(station.stats?.queue ?? null));
    const temperature = station.stats?.temperature ?? null;
    const slowed = station.stats?.slowed ? ", slowed" : "";
    this.#text("temperature", temperature === null ? format.NONE : `${temperature.toFixed(0)} °C${slowed}`);
    this.#text("model", station.model?.version ?? station.modelVersion ?? format.NONE);
    this.#text("span", station.scores.length ? `Scores of the last ${format.plural(station.scores.length, "verdict")}` : "Scores");
    this.part("timeline").setAttribute("aria-label", describe(station));
    this.#text("notes", notes(station));
  }

  #health() {
    const { health, model } = this.station;
    if (health === this.shownHealth && model === this.shownModel) return;
    [this.shownHealth, this.shownModel] = [health, model];
    const roles = (health?.roles ?? []).filter(({ state }) => state !== "ok" && state !== "init");
    if (model?.state === "rejected") roles.push({ name: "model", state: "warn", reason: `rejected: ${model.reason ?? "?"}`, mend: null });
    const overall = health ? HEALTH[health.state] : "not reported";
    this.#text("health", overall);
    this.#icon("health-icon", `#i-health-${health?.state ?? "none"}`);
    this.part("roles").replaceChildren(...roles.map((role) => this.#role(role)));
  }

  #role({ name, state, reason, mend }) {
    const line = document.createElement("li");
    line.dataset.state = state;
    const word = document.createElement("strong");
    word.textContent = `${state === "alert" ? "Alert" : "Warning"}: ${name}`;
    line.append(word, ` ${[reason, mend].filter(Boolean).join(". ")}`);
    return line;
  }

  #defects() {
    const [newest] = this.station.defects;
    if (newest === this.shownDefect) return;
    this.shownDefect = newest;
    this.part("rows").replaceChildren(...this.station.defects.map(row));
    this.part("no-defects").hidden = true;
    this.part("table").hidden = false;
  }

  #text(name, text) {
    const part = this.part(name);
    if (part.textContent !== text) part.textContent = text;
  }

  #icon(name, reference) {
    const use = this.part(name);
    if (use.getAttribute("href") !== reference) use.setAttribute("href", reference);
  }

  #data(name, value) {
    if (this.element.dataset[name] !== value) this.element.dataset[name] = value;
  }
}
Card.next = 1;

function ago(ms) {
  return ms < 2000 ? "just now" : `${format.span(ms)} ago`;
}

function row(defect) {
  const line = document.createElement("tr");
  line.dataset.verdict = defect.word;
  const late = defect.historical ? `${defect.word}, late` : defect.word;
  for (const text of [format.moment(defect.at), late, format.score(defect.score), defect.part ?? format.NONE]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}

function notes({ missing, late, ignored }) {
  const said = [];
  if (missing) said.push(`${format.plural(missing, "verdict")} not received here`);
  if (late) said.push(`${format.plural(late, "verdict")} delivered late`);
  if (ignored) said.push(`${format.plural(ignored, "message")} not understood`);
  return said.join(" · ");
}
