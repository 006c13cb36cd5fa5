// What a person has the page publish: commands to a station, under an account that may give them, on a connection of its
// own. User and password are held here alone, in memory, and are forgotten after IDLE_MS and with the page.
//
// MQTT 5, because it is what says that a command was denied, and lets one expire that would come too late.

import mqtt from "../vendor/mqtt.esm.js";
import { randomName } from "./connection.js";
import { answer } from "./payloads.js";

const IDLE_MS = 15 * 60_000;
const CONNECT_MS = 8000;
const ANSWER_MS = 8000;
const DENIED = [4, 5, 134, 135]; // user or password wrong; not authorized

// Why a command was not given. `needsLogin`: another account might.
export class NotGiven extends Error {
  constructor(message, needsLogin = false) {
    super(message);
    this.needsLogin = needsLogin;
  }
}

export class Orders {
  constructor(settings, changed) {
    this.settings = settings;
    this.changed = changed; // called when the account is another one
    this.account = { user: settings.user, password: settings.password };
    this.client = null;
    this.waiting = new Map(); // request id -> what its answer ends
    this.idle = 0;
  }

  // The account that a person has logged in with; null: the page's own.
  get user() {
    return this.account.user === this.settings.user ? null : this.account.user;
  }

  login(user, password) {
    this.close();
    this.account = { user, password };
    this.changed();
  }

  logout() {
    this.login(this.settings.user, this.settings.password);
  }

  close() {
    clearTimeout(this.idle);
    const { client } = this;
    this.client = null;
    if (!client) return;
    client.removeAllListeners();
    client.on("error", () => {});
    client.end(true);
  }

  // Give a station a command; its answer {ok, reason, before}. Raises NotGiven.
  async give(station, command, content) {
    clearTimeout(this.idle);
    this.idle = setTimeout(() => this.logout(), IDLE_MS);
    const client = await this.#connected();
    const root = `${this.settings.prefix}/${station}`;
    const id = randomName();
    const reply = `${root}/response/${client.options.clientId}`;
    await subscribed(client, reply);
    const answered = this.#answer(id);
    const by = this.account.user ? { by: this.account.user } : {};
    const payload = JSON.stringify({ ...content, ...by, request_id: id });
    const properties = { responseTopic: reply, messageExpiryInterval: ANSWER_MS / 1000 };
    try {
      await published(client, `${root}/cmd/${command}`, payload, properties);
      return await answered;
    } finally {
      this.waiting.delete(id);
    }
  }

  #answer(id) {
    const silent = "The station does not answer: it may take no commands, or this account may not hear its answer";
    const answered = new Promise((resolve, reject) => {
      this.waiting.set(id, resolve);
      setTimeout(() => reject(new NotGiven(silent, true)), ANSWER_MS);
    });
    answered.catch(() => {}); // the publish may have failed before: that is what is told
    return answered;
  }

  #connected() {
    if (this.client?.connected) return Promise.resolve(this.client);
    this.close();
    const { broker } = this.settings;
    const client = mqtt.connect(broker, {
      protocolVersion: 5,
      clean: true,
      clientId: `edgevision-orders-${randomName()}`,
      username: this.account.user || undefined,
      password: this.account.user ? this.account.password : undefined,
      reconnectPeriod: 0,
      connectTimeout: CONNECT_MS,
      timerVariant: "native",
    });
    this.client = client;
    client.on("message", (topic, bytes) => {
      const said = answer(bytes);
      if (said !== null) this.waiting.get(said.id)?.(said);
    });
    return new Promise((resolve, reject) => {
      client.once("connect", () => resolve(client));
      client.on("error", (error) => reject(refusal(error)));
      client.once("close", () => reject(new NotGiven("The broker cannot be reached, or does not speak MQTT 5")));
    });
  }
}

function refusal(error) {
  if (!DENIED.includes(error.code)) return new NotGiven(`The broker does not take the connection: ${error.message}`);
  return new NotGiven("The broker wants a user and a password that may do this", true);
}

function subscribed(client, topic) {
  return new Promise((resolve, reject) => {
    client.subscribe(topic, { qos: 1 }, (error, granted) => {
      if (error || granted?.some(({ qos }) => qos > 2)) reject(new NotGiven("This account may not hear the answer", true));
      else resolve();
    });
  });
}

function published(client, topic, payload, properties) {
  return new Promise((resolve, reject) => {
    client.publish(topic, payload, { qos: 1, properties }, (error, packet) => {
      const code = error?.code ?? packet?.reasonCode ?? 0;
      if (DENIED.includes(code)) reject(new NotGiven("This account may not do this", true));
      else if (error) reject(new NotGiven(`The broker does not take it: ${error.message}`));
      else resolve();
    });
  });
}
