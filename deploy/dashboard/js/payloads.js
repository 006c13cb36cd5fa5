// What stations say, checked before anything is believed. Every function here takes what a stranger may have sent and
// returns a plain object of known shape, or null. docs/mqtt.md of the project describes the payloads.

const LARGEST_JSON_BYTES = 256 * 1024;
const LARGEST_PICTURE_BYTES = 4 * 1024 * 1024;
const LARGEST_PICTURE_PX = 50e6;
const MOST_REGIONS = 64;
const MOST_ROLES = 32;

export const VERDICTS = ["OK", "NG", "MARGINAL", "ERROR"];
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
  const image = record(said.image) ?? {};
  return {
    word,
    eventId,
    seq,
    session: cleanText(said.session_id, 200) ?? "",
    historical: said.historical === true,
    at: time(said.ts),
    part: cleanText(said.part_id, 60),
    score,
    threshold: number(said.threshold, 0, 1),
    model: cleanText(record(said.model)?.version, 60),
    reason: cleanText(said.reason, 160),
    width: count(image.w),
    height: count(image.h),
    regions: regions(said.regions),
    totalMs: number(record(said.timing_ms)?.total, 0, 1e7),
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
  };
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
  return { model: cleanText(record(said.model)?.version, 60), session: cleanText(said.session_id, 200) };
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
