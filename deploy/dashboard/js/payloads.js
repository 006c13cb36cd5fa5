// What stations say, checked before anything is believed. Every function here takes what a stranger may have sent and
// returns a plain object of known shape, or null. docs/reference/mqtt.md of the project describes the payloads.

const LARGEST_JSON_BYTES = 256 * 1024;
const LARGEST_PICTURE_BYTES = 4 * 1024 * 1024;
const LARGEST_PICTURE_PX = 50e6;
const LARGEST_HEAT_BYTES = 128 * 1024;
const LARGEST_HEAT_PX = 1024; // of a side
const MOST_REGIONS = 64;
const MOST_ROLES = 32;
const MOST_DEFECTS = 200;
const MOST_POINTS = 200;

export const VERDICTS = ["OK", "NG", "MARGINAL", "ERROR"];
export const LABELS = ["ok", "ng", "unsure"];
const STATUSES = ["online", "offline", "stopped"];
const ROLE_STATES = ["ok", "warn", "alert", "init"];
const HEALTH_STATES = ["init", "ready", "degraded", "alert"];

const decoder = new TextDecoder("utf-8", { fatal: true });

// Text to be shown: without control characters and direction overrides, cut to a length.
export function cleanText(value, length = 80) {
  if (typeof value !== "string" || value === "") return null;
  const visible = value.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, " ").trim();
  const letters = [...visible.slice(0, 4 * length)];
  if (letters.length === 0) return null;
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : visible;
}

export function number(value, least = -Number.MAX_VALUE, most = Number.MAX_VALUE) {
  return typeof value === "number" && value >= least && value <= most ? value : null;
}

function count(value) {
  return Number.isSafeInteger(value) && value >= 0 ? value : null;
}

function record(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
}

function oneOf(value, words) {
  return words.includes(value) ? value : null;
}

export function json(bytes) {
  if (bytes.length > LARGEST_JSON_BYTES) return null;
  try {
    return record(JSON.parse(decoder.decode(bytes)));
  } catch {
    return null;
  }
}

export function status(bytes) {
  if (bytes.length > 16) return null;
  return oneOf(new TextDecoder().decode(bytes), STATUSES);
}

export function verdict(bytes) {
  const said = json(bytes);
  const word = oneOf(said?.verdict, VERDICTS);
  const eventId = cleanText(said?.event_id, 200);
  const seq = count(said?.seq);
  const score = said?.score === null ? null : number(said?.score, 0, 1);
  if (word === null || eventId === null || seq === null) return null;
  if (score === null && word !== "ERROR") return null;
  return { ...part(said), word, eventId, seq, session: cleanText(said.session_id, 200) ?? "", score };
}

// What a verdict and an entry of the history have in common.
function part(said) {
  const image = record(said.image) ?? {};
  const checks = record(said.checks) ?? {};
  return {
    historical: said.historical === true,
    at: time(said.ts),
    part: cleanText(said.part_id, 60),
    threshold: number(said.threshold, 0, 1),
    model: cleanText(record(said.model)?.version, 60),
    reason: cleanText(said.reason, 160),
    width: count(image.w),
    height: count(image.h),
    regions: regions(said.regions),
    brightness: number(checks.brightness_ratio, 0, 1),
    focus: number(checks.focus, 0),
    totalMs: number(record(said.timing_ms)?.total, 0, 1e7),
    review: oneOf(said.review, LABELS),
  };
}

function regions(list) {
  if (!Array.isArray(list)) return [];
  return list.slice(0, MOST_REGIONS).map(region).filter((found) => found !== null);
}

// A box as shares of the frame, so that a picture of another size can carry it.
function region(said) {
  const box = record(said)?.bbox_norm;
  if (!Array.isArray(box) || box.length !== 4 || box.some((share) => number(share, 0, 1) === null)) return null;
  return { box, score: number(said.score, 0, 1) };
}

function time(text) {
  const ms = typeof text === "string" && text.length < 40 ? Date.parse(text) : NaN;
  return Number.isNaN(ms) ? null : ms;
}

export function health(bytes) {
  const said = json(bytes);
  const state = oneOf(said?.state, HEALTH_STATES);
  if (state === null) return null;
  const roles = Object.entries(record(said.roles) ?? {}).slice(0, MOST_ROLES);
  return { state, roles: roles.map(([name, role]) => roleOf(name, role)) };
}

function roleOf(name, role) {
  return {
    name: cleanText(name, 24) ?? "?",
    state: oneOf(record(role)?.state, ROLE_STATES) ?? "warn",
    reason: cleanText(record(role)?.text, 200) ?? cleanText(record(role)?.reason, 200),
    mend: cleanText(record(role)?.mend, 200),
    code: cleanText(record(role)?.reason, 40),
    acknowledged: acknowledgement(record(role)?.acknowledged),
  };
}

function acknowledgement(said) {
  return record(said) === null ? null : { by: cleanText(said.by, 60), at: time(said.ts) };
}

export function counters(bytes) {
  const said = json(bytes);
  const counted = { OK: count(said?.ok), NG: count(said?.ng), MARGINAL: count(said?.marginal) };
  counted.ERROR = count(said?.error);
  if (VERDICTS.some((word) => counted[word] === null)) return null;
  return { ...counted, since: time(said.since) };
}

export function model(bytes) {
  const said = json(bytes);
  const version = cleanText(said?.version, 60);
  if (version === null) return null;
  const thresholds = record(said.thresholds) ?? {};
  return {
    version,
    id: cleanText(said.id, 60),
    state: cleanText(said.state, 24),
    reason: cleanText(said.reason, 160),
    marginal: number(thresholds.marginal, 0, 1),
  };
}

export function birth(bytes) {
  const said = json(bytes);
  if (said === null) return null;
  return {
    model: cleanText(record(said.model)?.version, 60),
    session: cleanText(said.session_id, 200),
    capabilities: words(said.capabilities),
    commands: words(said.commands),
  };
}

function words(list) {
  return Array.isArray(list) ? list.slice(0, 64).filter((word) => typeof word === "string" && word.length < 64) : [];
}

// What a page that has just been opened needs to know of the time before it: defects, the newest first, and the trend.
export function history(bytes) {
  const said = json(bytes);
  if (said === null || !Array.isArray(said.defects) || !Array.isArray(said.trend)) return null;
  const stepMs = 1000 * (number(said.step_s, 1, 86400) ?? 0);
  if (!stepMs) return null;
  return {
    stepMs,
    trend: said.trend.slice(-MOST_POINTS).map(point).filter((found) => found !== null),
    defects: said.defects.slice(0, MOST_DEFECTS).map(defect).filter((found) => found !== null),
  };
}

function point(said) {
  const counted = record(said) === null ? null : { from: time(said.from), OK: count(said.ok), NG: count(said.ng) };
  if (counted === null) return null;
  Object.assign(counted, { MARGINAL: count(said.marginal), ERROR: count(said.error) });
  if (counted.from === null || VERDICTS.some((word) => counted[word] === null)) return null;
  return { ...counted, median: number(said.score_median, 0, 1) };
}

function defect(said) {
  const word = oneOf(record(said)?.verdict, ["NG", "MARGINAL"]);
  const eventId = cleanText(said?.event_id, 200);
  const score = number(said?.score, 0, 1);
  return word === null || eventId === null || score === null ? null : { ...part(said), word, eventId, score };
}

// What a station answers to a command.
export function answer(bytes) {
  const said = json(bytes);
  if (typeof said?.ok !== "boolean") return null;
  const change = record(said.change);
  return {
    ok: said.ok,
    id: cleanText(said.request_id, 128),
    reason: cleanText(said.reason, 300),
    before: change === null ? null : cleanText(change.old, 24),
  };
}

// {address} of the page on which its camera is being aimed; null in place of the address: of none.
export function aim(bytes) {
  if (bytes.length === 0) return { address: null };
  const said = json(bytes)?.address;
  if (typeof said !== "string" || said.length > 200 || !URL.canParse(said)) return null;
  const url = new URL(said);
  return ["http:", "https:"].includes(url.protocol) ? { address: `${url.origin}/` } : null;
}

export function stats(bytes) {
  const said = json(bytes);
  if (said === null) return null;
  return {
    queue: count(said.events_waiting),
    temperature: number(said.temperature_c, -100, 300),
    slowed: said.slowed === true,
  };
}

// Whether it is a PNG with opacity, by its header, and small enough to be laid over a picture.
export function isHeat(bytes) {
  if (bytes.length < 33 || bytes.length > LARGEST_HEAT_BYTES) return false;
  const [signature, chunk] = [bytes.subarray(0, 8), bytes.subarray(12, 16)].map((part) => String.fromCharCode(...part));
  if (signature !== "\x89PNG\r\n\x1a\n" || chunk !== "IHDR" || bytes[25] !== 6) return false;
  const side = (at) => bytes.subarray(at, at + 4).reduce((value, byte) => 256 * value + byte, 0);
  return [16, 20].every((at) => side(at) > 0 && side(at) <= LARGEST_HEAT_PX);
}

// {width, height} in pixels of a JPEG, from its frame header; null: not a JPEG, or one that is too large to show.
export function jpegSize(bytes) {
  if (bytes.length > LARGEST_PICTURE_BYTES || bytes[0] !== 0xff || bytes[1] !== 0xd8) return null;
  let at = 2;
  while (at + 9 < bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const height = bytes[at + 5] * 256 + bytes[at + 6];
      const width = bytes[at + 7] * 256 + bytes[at + 8];
      return width * height > 0 && width * height <= LARGEST_PICTURE_PX ? { width, height } : null;
    }
    at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
  }
  return null;
}
