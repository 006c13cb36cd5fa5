// One station on the page. render() writes only what has changed; text goes in as text, never as markup.

import * as format from "./format.js";
import { Picture } from "./picture.js";
import { describe, Timeline } from "./timeline.js";
import { describe as describeTrend, Trend } from "./trend.js";

const STATES = {
  online: "Online",
  offline: "Offline",
  stopped: "Stopped",
  old: "Data are old",
  unknown: "No status",
  unconnected: "Not connected",
};
const ROWS = 20; // of recent defects; the large view steps through all that are known
const HEALTH = { init: "starting", ready: "ready", degraded: "degraded", alert: "alert" };
const DRAW_MS = 250; // between two pictures of the timeline

export class Card {
  constructor(template, station) {
    this.station = station;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.parts = new Map();
    for (const part of this.element.querySelectorAll("[data-part]")) this.parts.set(part.dataset.part, part);
    this.timeline = new Timeline(this.part("timeline"));
    this.trend = new Trend(this.part("trend"));
    this.picture = new Picture(this.part("picture"));
    this.drawn = 0;
    this.isNew = true;
    this.shownDefects = []; // the newest first
    this.#name();
  }

  part(name) {
    return this.parts.get(name);
  }

  #name() {
    this.#text("name", this.station.name);
    this.part("name").id = `station-${Card.next}`;
    Card.next += 1;
    this.part("body").id = `${this.part("name").id}-body`;
    this.part("fold").setAttribute("aria-controls", this.part("body").id);
    this.part("fold").setAttribute("aria-label", `Show all of ${this.station.name}`);
    this.part("fold").addEventListener("click", () => this.#fold());
    this.element.setAttribute("aria-labelledby", this.part("name").id);
    this.part("defects").setAttribute("aria-label", `Recent defects of ${this.station.name}`);
  }

  // On a phone a station is a line that unfolds.
  #fold() {
    const folded = this.element.dataset.folded !== "true";
    this.element.dataset.folded = String(folded);
    this.part("fold").setAttribute("aria-expanded", String(!folded));
  }

  unfold() {
    if (this.element.dataset.folded === "true") this.#fold();
  }

  // `view`: {now, connected, connectedSince, staleMs, withLists}
  render(view) {
    this.#state(view);
    this.#verdict(view);
    this.#counts();
    this.#health();
    this.#aim();
    this.#picture();
    if (view.withLists || this.isNew) this.#lists(view);
    this.isNew = false;
  }

  // Whether there is something to draw(); it has waited since `drawn`.
  isDueDrawn({ now }) {
    const { scores, model } = this.station;
    return now - this.drawn >= DRAW_MS && (this.drawnAt !== scores.next || this.drawnModel !== model);
  }

  draw({ now }) {
    const { scores, model } = this.station;
    [this.drawn, this.drawnAt, this.drawnModel] = [now, scores.next, model];
    this.timeline.draw(this.station);
  }

  restyle() {
    this.trend.draw(this.station.history);
    this.timeline.readStyle();
    this.timeline.draw(this.station);
  }

  #state(view) {
    const { station } = this;
    const state = view.connected ? station.state(view.now, view.connectedSince, view.staleMs) : "unconnected";
    this.#data("state", state);
    const known = state === "online" || state === "unknown";
    this.#data("health", (known ? station.health?.state : null) ?? "none");
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
    this.#text("compact", last ? `${last.word} ${format.score(last.score)}` : "No verdict");
  }

  #aim() {
    const address = this.station.aim?.address ?? null;
    this.part("aim").hidden = address === null;
    if (address === null || this.part("aim-link").href === address) return;
    this.part("aim-link").href = address;
    this.#text("aim-link", `Aim its camera: ${address}`);
  }

  #picture() {
    const { picture } = this.station;
    if (picture) this.picture.show(picture);
    else this.picture.none(this.station.noPicture());
    const shown = picture?.verdict ?? this.station.defects[0] ?? null;
    const open = this.part("open-picture");
    open.hidden = shown === null;
    if (shown !== null && open.dataset.event !== shown.eventId) open.dataset.event = shown.eventId;
  }

  #counts() {
    const counts = this.station.counts();
    const judged = counts.OK + counts.NG + counts.MARGINAL;
    this.#text("yield", format.percent(judged ? counts.OK / judged : null));
    for (const word of ["OK", "NG", "MARGINAL", "ERROR"]) this.#text(`count-${word}`, format.integer(counts[word]));
    this.#text("compact-yield", format.percent(judged ? counts.OK / judged : null));
    const since = this.station.counters ? `since ${format.moment(counts.since)}` : "since this page was opened";
    this.#text("since", since);
  }

  // What need not be new ten times a second.
  #lists({ now }) {
    const { station } = this;
    this.#defects();
    const { p50, p95 } = station.latencies();
    this.#text("p50", format.milliseconds(p50));
    this.#text("p95", format.milliseconds(p95));
    const usual = station.usualRate();
    this.#text("rate", station.rate(now).toFixed(1) + (usual === null ? "" : ` / ${usual.toFixed(1)}`));
    if (this.shownHistory !== station.history) this.#trend(station.history);
    this.#text("queue", format.integer(station.stats?.queue ?? null));
    const temperature = station.stats?.temperature ?? null;
    const slowed = station.stats?.slowed ? ", slowed" : "";
    this.#text("temperature", temperature === null ? format.NONE : `${temperature.toFixed(0)} °C${slowed}`);
    this.#text("model", station.model?.version ?? station.modelVersion ?? format.NONE);
    this.#text("span", station.scores.length ? `Scores of the last ${format.plural(station.scores.length, "verdict")}` : "Scores");
    this.part("timeline").setAttribute("aria-label", describe(station));
    this.#text("notes", notes(station));
  }

  #trend(history) {
    this.shownHistory = history;
    this.trend.draw(history);
    this.#text("trend-words", describeTrend(history));
    this.part("trend").setAttribute("aria-label", describeTrend(history));
  }

  #health() {
    const { health, model, birth } = this.station;
    const known = this.element.dataset.health !== "none" || health === null;
    if (health === this.shownHealth && model === this.shownModel && birth === this.shownBirth && known === this.shownKnown) return;
    [this.shownHealth, this.shownModel, this.shownBirth, this.shownKnown] = [health, model, birth, known];
    const roles = (health?.roles ?? []).filter(({ state }) => state !== "ok" && state !== "init");
    if (model?.state === "rejected") roles.push({ name: "model", state: "warn", reason: `rejected: ${model.reason ?? "?"}`, mend: null, code: null, acknowledged: null });
    const overall = health ? `${known ? "" : "was "}${HEALTH[health.state]}` : "not reported";
    this.#text("health", overall);
    this.#icon("health-icon", `#i-health-${known && health ? health.state : "none"}`);
    this.part("roles").replaceChildren(...roles.map((role) => this.#role(role)));
  }

  #role({ name, state, reason, mend, code, acknowledged }) {
    const line = document.createElement("li");
    line.dataset.state = state;
    const word = document.createElement("strong");
    word.textContent = `${state === "alert" ? "Alert" : "Warning"}: ${name}`;
    line.append(word, ` ${[reason, mend].filter(Boolean).join(". ")}`);
    if (acknowledged !== null) {
      line.dataset.acknowledged = "true";
      line.append(` (seen${acknowledged.by ? ` by ${acknowledged.by}` : ""}, ${format.moment(acknowledged.at)})`);
    } else if (code !== null && this.station.takes("acknowledge")) {
      line.append(" ", acknowledge(name, code));
    }
    return line;
  }

  #defects() {
    const { defects } = this.station;
    const before = this.shownDefects;
    if (defects[0] === before[0] && defects.length === before.length) return;
    this.shownDefects = defects.slice();
    const fresh = defects.indexOf(before[0]); // those above it are new
    const rows = this.part("rows");
    if (fresh > 0 && fresh < ROWS && defects.length - fresh <= before.length) {
      rows.prepend(...defects.slice(0, fresh).map(row));
      while (rows.children.length > ROWS) rows.lastElementChild.remove();
    } else {
      rows.replaceChildren(...defects.slice(0, ROWS).map(row));
    }
    this.#text("all", defects.length > ROWS ? `${defects.length} in all` : "");
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
  const open = document.createElement("button");
  open.type = "button";
  open.className = "link";
  line.dataset.event = defect.eventId;
  for (const text of [format.moment(defect.at), late, format.score(defect.score), defect.part ?? format.NONE]) {
    const cell = document.createElement("td");
    if (line.children.length) cell.textContent = text;
    else {
      open.textContent = text;
      cell.append(open);
    }
    line.append(cell);
  }
  return line;
}

function acknowledge(role, reason) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "I have seen it";
  Object.assign(button.dataset, { role, reason });
  button.setAttribute("aria-label", `I have seen it: ${role}`);
  return button;
}

function notes({ missing, late, ignored }) {
  const said = [];
  if (missing) said.push(`${format.plural(missing, "verdict")} not received here`);
  if (late) said.push(`${format.plural(late, "verdict")} delivered late`);
  if (ignored) said.push(`${format.plural(ignored, "message")} not understood`);
  return said.join(" · ");
}
