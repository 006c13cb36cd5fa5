// Numbers, times and spans as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const NONE = "–";

export function integer(value) {
  if (value === null) return NONE;
  return value < 1e5 ? whole.format(value) : compact.format(value);
}

export function score(value) {
  return value === null || Number.isNaN(value) ? NONE : value.toFixed(3);
}

export function percent(share) {
  if (share === null) return NONE;
  // 99.96 % is not 100 %: a yield is never rounded up to perfect.
  return `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
}

export function milliseconds(value) {
  if (value === null) return NONE;
  return value < 100 ? value.toFixed(1) : integer(value);
}

// A span of milliseconds: "just now", "12 s", "5 min", "3 h", "2 d".
export function span(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 90) return `${Math.floor(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

// A moment on the clock of this machine; with its day when it is not recent.
export function moment(ms) {
  if (ms === null) return NONE;
  return Math.abs(Date.now() - ms) < 72e6 ? clock.format(ms) : date.format(ms);
}

// The same with the day and the thousandths, for one event.
export function precise(ms) {
  return ms === null ? NONE : `${date.format(ms)}${new Date(ms).toISOString().slice(16, 23)}`;
}

export function plural(n, one, many = `${one}s`) {
  return `${integer(n)} ${n === 1 ? one : many}`;
}
