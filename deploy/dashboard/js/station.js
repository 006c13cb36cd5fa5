// All that the page knows of one station. No document here: take() swallows a message, card.js shows the outcome.
// Everything is bounded, whatever arrives and however long the page stays open.

import * as payloads from "./payloads.js";
import { quantile, Ring } from "./ring.js";

const TIMELINE = 300; // verdicts on the timeline and in the latency figures
const DEFECTS = 200; // recent defects
const PICTURES = 24; // of them, at most so many with their pictures
const PICTURE_BYTES = 4 * 1024 * 1024; // and never more than this, but for the newest
const RECENT = 50; // verdicts that are compared with the usual
const RATE_WINDOW_S = 10;

export class Station {
  constructor(name) {
    this.name = name;
    this.status = null; // online | offline | stopped
    this.heard = null; // when a live message came (page's clock, ms); what is retained may be of any age
    this.last = null; // the latest verdict
    this.lastHeard = null; // when it came live; null: it was retained
    this.health = null;
    this.model = null;
    this.stats = null;
    this.counters = null; // the station's own
    this.counted = { OK: 0, NG: 0, MARGINAL: 0, ERROR: 0 }; // ours, since the page is connected
    this.modelVersion = null;
    this.defects = []; // the newest first
    this.history = null; // what the station says of the time before this page
    this.birth = null; // what it can do
    this.aim = null; // where its camera is being aimed
    this.reviews = new Map(); // event id -> label, as the station has answered to this page
    this.pictures = new Map(); // event id -> {bytes, size}, the newest last
    this.heats = new Map(); // event id -> bytes of the layer over its picture, the newest last
    this.unnamed = null; // the picture that the broker keeps, without a word of what it shows
    this.streak = 0; // NG one after the other, up to now
    this.scores = new Ring(TIMELINE);
    this.thresholds = new Ring(TIMELINE);
    this.words = new Ring(TIMELINE); // index in VERDICTS
    this.heardAt = new Ring(TIMELINE);
    this.latency = new Ring(TIMELINE);
    this.stream = { session: null, seq: -1 };
    this.missing = 0; // verdicts that the numbering says we were not sent
    this.late = 0; // delivered after an outage
    this.ignored = 0; // messages that are not what they should be
  }

  // `topic`: what follows the station's name. `now`: the page's clock in ms. `retained`: it may be of any age.
  take(topic, bytes, retained, now) {
    const took = this.#takeAny(topic, bytes, retained, now);
    if (took === false) this.ignored += 1;
    else if (!retained && !lastWord(topic, this.status)) this.heard = now;
  }

  #takeAny(topic, bytes, retained, now) {
    const [kind, rest] = split(topic);
    if (kind === "image") return this.#takePicture(rest, bytes);
    if (kind === "heat") return this.#takeHeat(rest, bytes);
    switch (topic) {
      case "status":
        return this.#keep("status", payloads.status(bytes));
      case "inspection":
        return this.#takeVerdict(payloads.verdict(bytes), retained, now);
      case "inspection/last":
        return this.#takeLast(payloads.verdict(bytes));
      case "health":
        return this.#keep("health", payloads.health(bytes));
      case "counters":
        return this.#keep("counters", payloads.counters(bytes));
      case "stats":
        return this.#keep("stats", payloads.stats(bytes));
      case "model":
        return this.#keep("model", payloads.model(bytes));
      case "aim":
        return this.#keep("aim", payloads.aim(bytes));
      case "birth":
        return this.#takeBirth(payloads.birth(bytes));
      case "history":
        return this.#takeHistory(payloads.history(bytes));
      default:
        return true; // another topic of the station: a sign of life, and none of our business
    }
  }

  #keep(field, value) {
    if (value === null) return false;
    this[field] = value;
    return true;
  }

  #takeBirth(birth) {
    if (birth === null) return false;
    this.birth = birth;
    this.modelVersion = birth.model ?? this.modelVersion;
    return true;
  }

  #takeVerdict(verdict, retained, now) {
    if (verdict === null) return false;
    if (!this.#isNew(verdict)) return true;
    if (verdict.word === "NG" || verdict.word === "MARGINAL") this.#takeDefect(verdict);
    if (verdict.historical) {
      this.late += 1;
      return true;
    }
    this.counted[verdict.word] += 1;
    this.streak = verdict.word === "NG" ? this.streak + 1 : 0;
    this.#show(verdict, retained ? null : now);
    this.scores.push(verdict.score ?? NaN);
    this.thresholds.push(verdict.threshold ?? NaN);
    this.words.push(payloads.VERDICTS.indexOf(verdict.word));
    this.heardAt.push(now);
    if (verdict.totalMs !== null) this.latency.push(verdict.totalMs);
    return true;
  }

  // Retained: the only verdict there is until the next one comes.
  #takeLast(verdict) {
    if (verdict === null) return false;
    if (this.lastHeard !== null) return true;
    this.#show(verdict, null);
    if (verdict.word === "NG" || verdict.word === "MARGINAL") this.#takeDefect(verdict);
    return true;
  }

  #show(verdict, now) {
    this.last = verdict;
    this.lastHeard = now;
    this.modelVersion = verdict.model ?? this.modelVersion;
  }

  // QoS 1 may deliver twice, and the numbers of a session have no holes.
  #isNew({ session, seq }) {
    const before = this.stream;
    if (session === before.session && seq <= before.seq) return false;
    if (session === before.session) this.missing += seq - before.seq - 1;
    this.stream = { session, seq };
    return true;
  }

  #takeDefect(verdict) {
    if (this.defects.some((known) => known.eventId === verdict.eventId)) return;
    this.defects.unshift(verdict);
    this.defects.length = Math.min(this.defects.length, DEFECTS);
  }

  // What it lists and this page has not seen goes where its time puts it.
  #takeHistory(history) {
    if (history === null) return false;
    this.history = history;
    const known = new Set(this.defects.map(({ eventId }) => eventId));
    for (const defect of history.defects) if (defect.review) this.#keepReview(defect.eventId, defect.review);
    const unknown = history.defects.filter(({ eventId }) => !known.has(eventId));
    if (!unknown.length) return true;
    const all = [...this.defects, ...unknown].sort((a, b) => (b.at ?? 0) - (a.at ?? 0));
    this.defects = all.slice(0, DEFECTS);
    return true;
  }

  reviewed(eventId, label) {
    this.#keepReview(eventId, label);
  }

  #keepReview(eventId, label) {
    this.reviews.delete(eventId);
    this.reviews.set(eventId, label);
    if (this.reviews.size > DEFECTS) this.reviews.delete(this.reviews.keys().next().value);
  }

  #takePicture(eventId, bytes) {
    if (eventId === "last" && bytes.length === 0) {
      this.unnamed = null; // the station publishes none any more
      return true;
    }
    const size = payloads.jpegSize(bytes);
    if (size === null || eventId === "" || eventId.length > 200) return false;
    if (eventId === "last") this.unnamed = { bytes, size, heat: null, verdict: null };
    else this.#keepPicture(eventId, { bytes, size });
    return true;
  }

  #takeHeat(eventId, bytes) {
    if (!payloads.isHeat(bytes) || eventId === "" || eventId.length > 200) return false;
    this.heats.delete(eventId);
    this.heats.set(eventId, bytes);
    if (this.heats.size > PICTURES) this.heats.delete(this.heats.keys().next().value);
    return true;
  }

  #keepPicture(eventId, picture) {
    this.pictures.delete(eventId);
    this.pictures.set(eventId, picture);
    let held = 0;
    for (const { bytes } of this.pictures.values()) held += bytes.length;
    for (const [oldest, { bytes }] of this.pictures) {
      if (this.pictures.size === 1 || (this.pictures.size <= PICTURES && held <= PICTURE_BYTES)) break;
      this.pictures.delete(oldest);
      held -= bytes.length;
    }
  }

  // {bytes, size, heat, verdict} of the newest defect that has one; verdict null: nobody knows what it shows; null: none.
  get picture() {
    const verdict = this.defects.find(({ eventId }) => this.pictures.has(eventId));
    return verdict ? this.pictureOf(verdict) : this.unnamed;
  }

  pictureOf(verdict) {
    const picture = this.pictures.get(verdict.eventId);
    return picture ? { ...picture, heat: this.heats.get(verdict.eventId) ?? null, verdict } : null;
  }

  // Why there is none to be seen.
  noPicture() {
    if (this.birth?.capabilities.includes("history") && !this.birth.capabilities.includes("image")) {
      return "This station publishes no pictures: [archive] publish_image_max_bytes is 0 in its configuration";
    }
    return this.defects.length ? "No picture of this came to this page" : "No defect yet";
  }

  // Whether it takes this command, as far as is known.
  takes(command) {
    return this.birth?.commands.includes(command) ?? false;
  }

  // {share, usual}: of what was judged, the defective, lately and over the hours before; null: not enough is known.
  defectShare() {
    const judged = { of: 0, defective: 0 };
    for (let i = Math.max(0, this.words.length - RECENT); i < this.words.length; i += 1) {
      const word = payloads.VERDICTS[this.words.at(i)];
      if (word === "ERROR") continue;
      judged.of += 1;
      judged.defective += word === "OK" ? 0 : 1;
    }
    const before = { of: 0, defective: 0 };
    for (const point of this.history?.trend.slice(0, -1) ?? []) {
      before.of += point.OK + point.NG + point.MARGINAL;
      before.defective += point.NG + point.MARGINAL;
    }
    if (judged.of < RECENT / 2 || before.of < 4 * RECENT) return null;
    return { of: judged.of, share: judged.defective / judged.of, usual: before.defective / before.of };
  }

  // Verdicts a second in the usual step of the hours before; null: not known.
  usualRate() {
    const points = (this.history?.trend ?? []).slice(0, -1);
    const busy = points.map(total).filter((n) => n > 0).sort((a, b) => a - b);
    return busy.length < 3 ? null : busy[Math.floor(busy.length / 2)] / (this.history.stepMs / 1000);
  }

  // online | offline | stopped | old | quiet | unknown: what is true of the station for the one who looks.
  state(now, connectedSince, staleMs) {
    if (this.status === "offline" || this.status === "stopped") return this.status;
    const silent = now - (this.heard ?? connectedSince) > staleMs;
    if (silent) return "old";
    if (this.status === null) return "unknown";
    return "online";
  }

  counts() {
    return this.counters ?? { ...this.counted, since: null };
  }

  // Verdicts a second over the last seconds, by arrival.
  rate(now) {
    let first = this.heardAt.length;
    while (first > 0 && now - this.heardAt.at(first - 1) <= RATE_WINDOW_S * 1000) first -= 1;
    const recent = this.heardAt.length - first;
    if (first > 0 || recent < 2) return recent / RATE_WINDOW_S;
    const spanS = (now - this.heardAt.at(0)) / 1000; // the buffer holds less than the window
    return recent / Math.max(1, spanS);
  }

  latencies() {
    const sorted = this.latency.sorted();
    return { p50: quantile(sorted, 0.5), p95: quantile(sorted, 0.95) };
  }
}

function split(topic) {
  const at = topic.indexOf("/");
  return at < 0 ? [topic, ""] : [topic.slice(0, at), topic.slice(at + 1)];
}

// The broker's word that a station is gone is no sign of its life.
function lastWord(topic, status) {
  return topic === "status" && status !== "online";
}

function total({ OK, NG, MARGINAL, ERROR }) {
  return OK + NG + MARGINAL + ERROR;
}
