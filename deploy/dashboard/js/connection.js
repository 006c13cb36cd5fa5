// The way to the broker: one MQTT 3.1.1 connection over a WebSocket, a clean session, QoS 0. It only listens: what a
// person has the page publish goes another way (orders.js). 3.1.1 because every broker speaks it, and nothing here needs more.

import mqtt from "../vendor/mqtt.esm.js";

const TOPICS = ["status", "birth", "health", "inspection", "inspection/last", "stats", "model", "counters", "history", "image/+", "heat/+", "aim"];
const KEEPALIVE_S = 30;
const PAUSE_MS = 2000;
const REFUSALS = {
  1: "the broker does not speak MQTT 3.1.1",
  2: "the broker does not take this client id",
  3: "the broker is not available",
  4: "wrong user or password",
  5: "not authorized: user and password needed, or not allowed",
};

// `listener`: {state(word, detail), message(station, topic, bytes, retained)}; words: connecting, connected, lost.
export class Connection {
  constructor(settings, names, listener) {
    this.listener = listener;
    this.root = `${settings.prefix}/`;
    this.filters = filters(settings.prefix, names);
    this.client = mqtt.connect(settings.broker, {
      protocolVersion: 4,
      clean: true,
      clientId: `edgevision-page-${randomName()}`,
      keepalive: KEEPALIVE_S,
      username: settings.user || undefined,
      password: settings.user ? settings.password : undefined,
      reconnectPeriod: PAUSE_MS * (1 + Math.random()), // a hall full of screens does not come back all at once
      reconnectOnConnackError: true,
      connectTimeout: 10_000,
      resubscribe: false,
      queueQoSZero: false,
      timerVariant: "native", // no worker: the page's own policy allows none
    });
    this.reason = "";
    this.#listen();
  }

  close() {
    this.client.removeAllListeners();
    this.client.on("error", () => {});
    this.client.end(true);
  }

  #listen() {
    const { client, listener } = this;
    listener.state("connecting", "");
    client.on("connect", () => this.#subscribe());
    client.on("close", () => {
      listener.state("lost", this.reason);
    });
    client.on("error", (error) => {
      this.reason = REFUSALS[error.code] ?? "";
      listener.state("lost", this.reason);
    });
    client.on("message", (topic, bytes, packet) => this.#message(topic, bytes, packet.retain));
  }

  #subscribe() {
    this.reason = "";
    this.client.subscribe(this.filters, { qos: 0 }, (error, granted) => {
      const refused = error || !granted || granted.some(({ qos }) => qos > 2);
      this.listener.state("connected", refused ? "the broker refused some topics: see its access rules" : "");
    });
  }

  #message(topic, bytes, retained) {
    if (!topic.startsWith(this.root)) return;
    const rest = topic.slice(this.root.length);
    const at = rest.indexOf("/");
    if (at > 0) this.listener.message(rest.slice(0, at), rest.slice(at + 1), bytes, retained);
  }
}

function filters(prefix, names) {
  const stations = names.length ? names : ["+"];
  return stations.flatMap((name) => TOPICS.map((topic) => `${prefix}/${name}/${topic}`));
}

export function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
