// What the page was told: in the address (?broker=ws://...&prefix=...), in its form, or the last time (localStorage).
// User and password are never taken from the address, and are used only with the broker they were given for.

const KEY = "edgevision-dashboard";
const DEFAULTS = { broker: "", prefix: "edgevision", stations: "", staleS: 75, theme: "auto", fit: false };
const THEMES = ["auto", "light", "dark"];

export function load(search = window.location.search) {
  const stored = read();
  const settings = { ...DEFAULTS, broker: usualBroker() };
  for (const name of Object.keys(DEFAULTS)) {
    if (name in stored) settings[name] = stored[name];
  }
  const query = new URLSearchParams(search);
  for (const [asked, name] of [["broker", "broker"], ["prefix", "prefix"], ["stations", "stations"], ["theme", "theme"]]) {
    if (query.has(asked)) settings[name] = query.get(asked);
  }
  if (query.has("stale_s")) settings.staleS = Number(query.get("stale_s"));
  if (query.has("fit")) settings.fit = query.get("fit") !== "0";
  const login = stored.login?.broker === settings.broker ? stored.login : {};
  return repaired({ ...settings, user: login.user ?? "", password: login.password ?? "", remember: "user" in login });
}

// The first thing that is wrong with them, in words; null: nothing.
export function fault({ broker, prefix, staleS }) {
  let url;
  try {
    url = new URL(broker);
  } catch {
    return `The broker's address must look like ws://host:9001, not “${broker}”`;
  }
  if (url.protocol !== "ws:" && url.protocol !== "wss:") return "The broker's address must begin with ws:// or wss://";
  if (url.username || url.password) return "User and password have fields of their own; leave them out of the address";
  if (window.location.protocol === "https:" && url.protocol === "ws:") return "A page from https:// can only use wss://";
  if (!prefix || /[+#\0]/.test(prefix)) return "The prefix must be the first levels of the topics, without + or #";
  if (!(staleS >= 2 && staleS <= 86400)) return "Old after: 2 to 86400 seconds";
  return null;
}

export function save(settings) {
  const { broker, prefix, stations, staleS, theme, fit, user, password, remember } = settings;
  const kept = { broker, prefix, stations, staleS, theme, fit };
  if (remember) kept.login = { broker, user, password };
  try {
    window.localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // A browser that keeps nothing still shows everything.
  }
}

export function stationNames({ stations }) {
  return stations.split(",").map((name) => name.trim()).filter((name) => name && !/[+#/]/.test(name));
}

function repaired(settings) {
  if (!THEMES.includes(settings.theme)) settings.theme = "auto";
  if (!(settings.staleS >= 2 && settings.staleS <= 86400)) settings.staleS = DEFAULTS.staleS;
  settings.prefix = String(settings.prefix).replace(/\/+$/, "");
  settings.stations = String(settings.stations);
  return settings;
}

function read() {
  try {
    const kept = JSON.parse(window.localStorage.getItem(KEY) ?? "{}");
    return typeof kept === "object" && kept !== null ? kept : {};
  } catch {
    return {};
  }
}

// Mosquitto's usual WebSocket port, on the machine that served the page.
function usualBroker() {
  const { protocol, hostname } = window.location;
  return `${protocol === "https:" ? "wss" : "ws"}://${hostname || "localhost"}:9001`;
}
