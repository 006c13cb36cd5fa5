// The page's story: settings, a connection, stations, and a picture of them all at most ten times a second.

import { needs } from "./attention.js";
import { Card } from "./card.js";
import { Connection } from "./connection.js";
import { DefectView } from "./defect.js";
import { integer, moment, plural, span } from "./format.js";
import { Login } from "./login.js";
import { NotGiven, Orders } from "./orders.js";
import * as memory from "./settings.js";
import { Station } from "./station.js";
import { arrange, overflows } from "./wall.js";

const RENDER_MS = 100; // between two pictures: a browser without a GPU pays for each, however little has changed
const TIMELINES = 3; // in one of them
const MOST_STATIONS = 64; // a broker full of strangers must not fill the page
const SPEAK_MS = 10_000; // between two sentences to a screen reader
const MOST_NEEDS = 8; // stations that are named in the header
const systemIsDark = window.matchMedia("(prefers-color-scheme: dark)");
const find = (id) => document.getElementById(id);

const page = {
  settings: memory.load(),
  connection: null,
  orders: null,
  state: "lost",
  detail: "",
  since: performance.now(), // of the present state
  heard: null,
  received: 0,
  turnedAway: new Set(),
  cards: new Map(),
  changed: new Set(),
  rendered: -Infinity,
  isAwaited: false, // a picture
  areListsDue: false, // in the next one
};

// ---- messages

const listener = {
  state(word, detail) {
    if (page.state !== word) page.since = performance.now();
    page.state = word;
    page.detail = detail;
    renderPage();
    renderAll();
  },
  message(name, topic, bytes, retained) {
    const now = performance.now();
    page.received += 1;
    page.heard = now;
    const card = page.cards.get(name) ?? addCard(name);
    if (!card) return;
    card.station.take(topic, bytes, retained, now);
    touch(card);
  },
};

function addCard(name) {
  if (page.cards.size >= MOST_STATIONS || name.length > 128) {
    if (page.turnedAway.size < 1000) page.turnedAway.add(name);
    return null;
  }
  const card = new Card(find("card"), new Station(name));
  page.cards.set(name, card);
  const names = [...page.cards.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const after = page.cards.get(names[names.indexOf(name) + 1])?.element ?? null;
  find("stations").insertBefore(card.element, after);
  find("stations").dataset.count = Math.min(page.cards.size, 3);
  find("empty").hidden = true;
  fit();
  return card;
}

// ---- pictures

function touch(card) {
  page.changed.add(card);
  if (page.isAwaited) return;
  page.isAwaited = true;
  const wait = page.rendered + RENDER_MS - performance.now();
  setTimeout(() => requestAnimationFrame(render), Math.max(0, wait));
}

// Timelines first: a canvas that draws text has the browser lay out at once what was changed before it. A few of them in
// each picture, those that have waited longest; the lists of all cards in the same one, once a second: a row that comes or
// goes has the browser paint all anew, for one card as for ten.
function render() {
  page.isAwaited = false;
  const view = { ...viewNow(), withLists: page.areListsDue };
  page.rendered = view.now;
  page.areListsDue = false;
  const cards = [...page.changed];
  page.changed.clear();
  const undrawn = cards.filter((card) => card.isDueDrawn(view)).sort((a, b) => a.drawn - b.drawn);
  for (const card of undrawn.slice(0, TIMELINES)) card.draw(view);
  for (const card of cards) card.render(view);
  for (const card of undrawn.slice(TIMELINES)) touch(card);
  if (cards.some(({ station }) => station === defectView.station)) defectView.refresh();
}

function viewNow() {
  const connected = page.state === "connected";
  return { now: performance.now(), connected, connectedSince: page.since, staleMs: page.settings.staleS * 1000 };
}

function renderAll() {
  for (const card of page.cards.values()) touch(card);
}

function renderPage() {
  const { state, detail, settings } = page;
  document.documentElement.dataset.connection = state;
  setText("connection-word", { connected: "Connected", connecting: "Connecting", lost: "Not connected" }[state]);
  find("connection-icon").setAttribute("href", state === "connected" ? "#i-online" : "#i-unconnected");
  setText("banner", state === "connected" ? detail : unconnected(detail, settings.broker));
  find("banner").hidden = find("banner").textContent === "";
  setText("summary", summary());
  setText("broker", settings.broker);
  setText("received", plural(page.received, "message"));
  const empty = page.cards.size === 0;
  find("empty").hidden = !empty;
  if (empty) setText("empty", emptySentence());
}

function unconnected(detail, broker) {
  const why = detail ? ` (${detail})` : "";
  const last = page.heard === null ? "" : ` The last message came ${span(performance.now() - page.heard)} ago; what is shown is old.`;
  const trying = page.state === "connecting" ? "Connecting to" : "Not connected to";
  return `${trying} ${broker}${why}.${last}${page.connection ? " Trying on." : ""}`;
}

function emptySentence() {
  if (page.state !== "connected") return "No station yet.";
  return `Connected. No station has said anything under ${page.settings.prefix}/ so far.`;
}

function summary() {
  if (!page.cards.size) return "";
  const view = viewNow();
  const states = [...page.cards.values()].map((card) => card.station.state(view.now, view.connectedSince, view.staleMs));
  const down = states.filter((state) => state === "offline" || state === "old").length;
  const online = view.connected ? states.filter((state) => state === "online").length : 0;
  const away = page.turnedAway.size ? ` · ${integer(page.turnedAway.size)} more not shown` : "";
  return `${online} of ${plural(page.cards.size, "station")} online${view.connected && down ? ` · ${integer(down)} down` : ""}${away}`;
}

// ---- who needs somebody

function renderAttention() {
  const view = viewNow();
  const worst = [];
  for (const [name, { station }] of view.connected ? page.cards : []) {
    const reasons = needs(station, station.state(view.now, view.connectedSince, view.staleMs));
    if (reasons.length) worst.push({ name, level: Math.max(...reasons.map(({ level }) => level)), text: reasons.map(({ text }) => text).join(", ") });
  }
  worst.sort((a, b) => b.level - a.level);
  const told = JSON.stringify(worst);
  if (told === page.told) return;
  page.told = told;
  const lines = worst.slice(0, MOST_NEEDS).map(attentionLine);
  if (worst.length > MOST_NEEDS) lines.push(document.createElement("li"));
  if (worst.length > MOST_NEEDS) lines.at(-1).textContent = `and ${worst.length - MOST_NEEDS} more`;
  const held = document.activeElement?.dataset?.station; // the keyboard stays where it was
  find("attention").hidden = lines.length === 0;
  find("attention").firstElementChild.replaceChildren(...lines);
  if (page.settings.fit) fit();
  if (held) [...find("attention").querySelectorAll("button")].find(({ dataset }) => dataset.station === held)?.focus();
}

function attentionLine({ name, level, text }) {
  const line = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  Object.assign(button.dataset, { station: name, level });
  const strong = document.createElement("strong");
  strong.textContent = name;
  button.append(strong, ` ${text}`);
  line.append(button);
  return line;
}

function goTo(event) {
  const name = event.target.closest("button")?.dataset.station;
  const card = page.cards.get(name);
  if (!card) return;
  card.element.scrollIntoView({ block: "nearest" });
  card.unfold();
  card.element.focus();
}

// ---- what a person does

function stationOf(element) {
  const article = element.closest("article");
  return [...page.cards.values()].find((card) => card.element === article)?.station ?? null;
}

function clicked(event) {
  const { target } = event;
  const acknowledged = target.closest("button[data-reason]");
  if (acknowledged) acknowledge(stationOf(target), acknowledged);
  const defect = target.closest("[data-event]");
  if (defect) defectView.open(stationOf(target), defect.dataset.event);
}

async function acknowledge(station, button) {
  const { role, reason } = button.dataset;
  button.disabled = true;
  try {
    const { ok, reason: why } = await login.giving(() => page.orders.give(station.name, "acknowledge", { role, reason }));
    if (!ok) button.textContent = `refused: ${why ?? "no reason given"}`;
  } catch (problem) {
    if (!(problem instanceof NotGiven)) throw problem;
    button.textContent = problem.message;
  } finally {
    button.disabled = false;
  }
}

const login = new Login(find("login"), () => page.orders);
const defectView = new DefectView(find("defect"), login, () => page.orders);

function renderLogin() {
  const user = page.orders?.user ?? null;
  find("logout").hidden = user === null;
  setText("logout", `Log out ${user ?? ""}`);
}

function setText(id, text) {
  if (find(id).textContent !== text) find(id).textContent = text;
}

// ---- words for a screen reader: what changed, and seldom

const spoken = new Map();

function speak() {
  const view = viewNow();
  const news = [];
  for (const [name, { station }] of page.cards) {
    const state = view.connected ? station.state(view.now, view.connectedSince, view.staleMs) : "unconnected";
    const before = spoken.get(name) ?? { state, defect: null };
    const [newest] = station.defects;
    if (state !== before.state) news.push(`${name}: ${state === "old" ? "data are old" : state}`);
    if (newest && newest !== before.defect && spoken.has(name)) news.push(`${name}: ${newest.word} at ${moment(newest.at)}`);
    spoken.set(name, { state, defect: newest ?? null });
  }
  if (news.length) setText("spoken", `${news.slice(0, 4).join(". ")}${news.length > 4 ? `, and ${news.length - 4} more` : ""}.`);
}

// ---- settings and theme

function connect() {
  page.connection?.close();
  page.orders?.close();
  page.orders = new Orders(page.settings, renderLogin);
  renderLogin();
  find("defect").close();
  page.connection = null;
  find("stations").replaceChildren();
  page.cards.clear();
  page.changed.clear();
  page.turnedAway.clear();
  spoken.clear();
  Object.assign(page, { heard: null, received: 0 });
  const wrong = memory.fault(page.settings);
  if (wrong) listener.state("lost", wrong);
  else page.connection = new Connection(page.settings, memory.stationNames(page.settings), listener);
}

function openSettings() {
  const form = find("settings-form");
  const { settings } = page;
  for (const name of ["broker", "prefix", "stations", "staleS", "user", "password"]) form.elements[name].value = settings[name];
  form.elements.remember.checked = settings.remember;
  setText("settings-fault", "");
  find("settings").showModal();
}

function takeSettings(event) {
  event.preventDefault();
  const { elements } = event.target;
  const asked = { ...page.settings, remember: elements.remember.checked, staleS: Number(elements.staleS.value) };
  for (const name of ["broker", "prefix", "stations", "user"]) asked[name] = elements[name].value.trim();
  asked.password = elements.password.value;
  asked.prefix = asked.prefix.replace(/\/+$/, "");
  const wrong = memory.fault(asked);
  setText("settings-fault", wrong ?? "");
  if (wrong) return;
  page.settings = asked;
  memory.save(asked);
  window.history.replaceState(null, "", window.location.pathname); // the form overrules the address
  find("settings").close();
  connect();
}

function applyTheme() {
  const { theme } = page.settings;
  document.documentElement.dataset.theme = theme;
  document.documentElement.dataset.scheme = theme === "auto" ? (systemIsDark.matches ? "dark" : "light") : theme;
  setText("theme-word", { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme]);
  for (const card of page.cards.values()) card.restyle();
}

function changeTheme() {
  page.settings.theme = { auto: "light", light: "dark", dark: "auto" }[page.settings.theme];
  memory.save(page.settings);
  applyTheme();
}

function fit() {
  arrange(find("stations"), page.cards.size, page.settings.fit);
}

function applyFit() {
  find("fit").setAttribute("aria-pressed", page.settings.fit);
  fit();
}

function changeFit() {
  page.settings.fit = !page.settings.fit;
  memory.save(page.settings);
  applyFit();
}

function start() {
  find("fit").addEventListener("click", changeFit);
  window.addEventListener("resize", fit);
  find("stations").addEventListener("click", clicked);
  find("attention").addEventListener("click", goTo);
  find("logout").addEventListener("click", () => page.orders.logout());
  find("theme").addEventListener("click", changeTheme);
  find("open-settings").addEventListener("click", openSettings);
  find("cancel").addEventListener("click", () => find("settings").close());
  find("settings-form").addEventListener("submit", takeSettings);
  systemIsDark.addEventListener("change", applyTheme);
  applyTheme();
  applyFit();
  connect();
  setInterval(() => {
    renderPage();
    page.areListsDue = true;
    renderAll();
    renderAttention();
    if (page.settings.fit && overflows()) fit();
  }, 1000);
  setInterval(speak, SPEAK_MS);
}

start();
