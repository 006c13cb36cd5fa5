// All that the page knows of one station. No document here: take() swallows a message, card.js shows the outcome.
// Everything is bounded, whatever arrives and however long the page stays open.

import * as payloads from "./payloads.js";
import { quantile, Ring } from "./ring.js";

const TIMELINE = 300; // verdicts on the timeline and in the latency figures
const DEFECTS = 20; // rows of recent defects
const PICTURES = 4; // pictures whose verdict is still to come
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
    this.picture = null; // {bytes, size, verdict}: the last NG or MARGINAL that came with a picture
    this.scores = new Ring(TIMELINE);
    this.thresholds = new Ring(TIMELINE);
    this.words = new Ring(TIMELINE); // index in VERDICTS
    this.heardAt = new Ring(TIMELINE);
    this.latency = new Ring(TIMELINE);
    this.stream = { session: null, seq: -1 };
    this.missing = 0; // verdicts that the numbering says we were not sent
    this.late = 0; // delivered after an outage
    this.ignored = 0; // messages that are not what they should be
    this.waiting = new Map(); // event id -> picture that came before its verdict
  }

  // `topic`: what follows the station's name. `now`: the page's clock in ms. `retained`: it may be of any age.
  take(topic, bytes, retained, now) {
    const [kind, rest] = split(topic);
    const took = kind === "image" ? this.#takePicture(rest, bytes) : this.#takeText(topic, bytes, retained, now);
    if (took === false) this.ignored += 1;
    else if (!retained && !lastWord(topic, this.status)) this.heard = now;
  }

  #takeText(topic, bytes, retained, now) {
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
      case "birth":
        return this.#takeBirth(payloads.birth(bytes));
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
    const early = this.waiting.get(verdict.eventId);
    if (early) this.#showPicture(early, verdict);
  }

  #takePicture(eventId, bytes) {
    const size = payloads.jpegSize(bytes);
    if (size === null || eventId === "") return false;
    const picture = { bytes, size };
    if (eventId === "last") return this.#keepUnnamed(picture);
    const verdict = this.defects.find((known) => known.eventId === eventId);
    if (verdict) this.#showPicture(picture, verdict);
    else this.#setAside(eventId, picture);
    return true;
  }

  // The one that the broker keeps, without a word of what it shows: better than none.
  #keepUnnamed(picture) {
    if (this.picture === null || this.picture.verdict === null) this.picture = { ...picture, verdict: null };
    return true;
  }

  #setAside(eventId, picture) {
    this.waiting.set(eventId, picture);
    if (this.waiting.size > PICTURES) this.waiting.delete(this.waiting.keys().next().value);
  }

  // The newest verdict wins, in whatever order the pictures come.
  #showPicture(picture, verdict) {
    this.waiting.delete(verdict.eventId);
    const rank = (eventId) => this.defects.findIndex((known) => known.eventId === eventId);
    const shown = rank(this.picture?.verdict?.eventId);
    if (shown === -1 || rank(verdict.eventId) <= shown) this.picture = { ...picture, verdict };
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
