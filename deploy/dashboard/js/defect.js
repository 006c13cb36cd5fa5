// One defect, large: why it was rejected, what is known of it, and what a person says of it.

import * as format from "./format.js";
import { NotGiven } from "./orders.js";
import { Picture } from "./picture.js";

const SAID = { ok: "was OK", ng: "really NG", unsure: "unsure" };
const PLACES = ["top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right"];

export class DefectView {
  constructor(dialog, login, orders) {
    this.dialog = dialog;
    this.login = login;
    this.orders = orders; // () => the present Orders
    this.part = (name) => dialog.querySelector(`[data-part="${name}"]`);
    this.picture = new Picture(this.part("picture"));
    this.station = null;
    this.defect = null;
    this.part("older").addEventListener("click", () => this.#step(1));
    this.part("newer").addEventListener("click", () => this.#step(-1));
    this.part("close").addEventListener("click", () => dialog.close());
    this.part("boxes").addEventListener("click", () => this.#toggle("boxes"));
    this.part("heat").addEventListener("click", () => this.#toggle("heat"));
    this.part("fetch").addEventListener("click", () => this.#give("picture", {}, () => "The picture is on its way"));
    for (const button of dialog.querySelectorAll("[data-label]")) {
      button.addEventListener("click", () => this.#review(button.dataset.label));
    }
    dialog.addEventListener("keydown", (event) => this.#key(event));
    dialog.addEventListener("close", () => this.#closed());
  }

  open(station, eventId) {
    const defect = station.defects.find((known) => known.eventId === eventId);
    if (!defect) return;
    this.station = station;
    if (!this.dialog.open) this.dialog.showModal();
    this.#show(defect);
  }

  // What may have come since: the picture, a review, newer defects.
  refresh() {
    if (this.defect) this.#fill();
  }

  #closed() {
    this.station = this.defect = null;
    this.picture.clear();
  }

  #key({ key, target }) {
    if (target.matches("input")) return;
    if (key === "ArrowLeft") this.#step(-1);
    if (key === "ArrowRight") this.#step(1);
  }

  #step(by) {
    const at = this.#at();
    const next = this.station.defects[at + by];
    if (next) this.#show(next);
  }

  #at() {
    return this.station.defects.findIndex(({ eventId }) => eventId === this.defect.eventId);
  }

  #show(defect) {
    this.defect = defect;
    this.picture.clear();
    this.#text("answer", "");
    this.#fill();
  }

  #fill() {
    const { station, defect } = this;
    const at = this.#at();
    const { defects } = station;
    this.dialog.dataset.verdict = defect.word;
    this.#text("title", `${station.name}: ${defect.word}${defect.part ? `, part ${defect.part}` : ""}`);
    this.#text("place", at < 0 ? "no longer listed" : `${at + 1} of ${defects.length}, the newest first`);
    this.part("newer").disabled = at <= 0;
    this.part("older").disabled = at < 0 || at + 1 >= defects.length;
    const held = document.activeElement;
    if (held === null || held.disabled || !this.dialog.contains(held)) this.dialog.focus(); // a key must have somewhere to go
    this.#text("why", why(defect));
    this.#score();
    this.#facts();
    this.#picture();
    this.#judgement();
  }

  #score() {
    const { score, threshold } = this.defect;
    this.part("bar").style.setProperty("--score", score ?? 0);
    this.part("bar").style.setProperty("--threshold", threshold ?? 1);
    this.#text("score", format.score(score));
    this.#text("threshold", format.score(threshold));
  }

  #facts() {
    const { defect } = this;
    const facts = {
      time: format.precise(defect.at),
      part_id: defect.part ?? format.NONE,
      model: defect.model ?? format.NONE,
      regions: String(defect.regions.length),
      brightness: defect.brightness === null ? format.NONE : defect.brightness.toFixed(3),
      focus: defect.focus === null ? format.NONE : defect.focus.toFixed(1),
      event: defect.eventId,
    };
    for (const [name, text] of Object.entries(facts)) this.#text(name, text);
  }

  #picture() {
    const { station, defect } = this;
    const picture = station.pictureOf(defect);
    const mayAsk = picture === null && station.takes("picture");
    this.part("fetch").hidden = !mayAsk;
    if (picture) this.picture.show(picture);
    else this.picture.none(mayAsk ? "This picture has not come to this page. The station may still have it." : station.noPicture());
    this.part("heat").disabled = !this.picture.hasHeat;
  }

  #judgement() {
    const { station, defect } = this;
    const said = station.reviews.get(defect.eventId) ?? null;
    for (const button of this.dialog.querySelectorAll("[data-label]")) {
      button.setAttribute("aria-pressed", String(button.dataset.label === said));
      button.disabled = !station.takes("review");
    }
    const cannot = "This station takes no reviews: [commands] enabled and allow = [\"review\"] in its configuration.";
    this.#text("said", station.takes("review") ? (said ? `Said so far: ${SAID[said]}` : "Nobody has said yet") : cannot);
  }

  // What is drawn over the picture: boxes, heat.
  #toggle(layer) {
    const button = this.part(layer);
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    this.part("picture").dataset[layer] = button.getAttribute("aria-pressed");
  }

  #review(label) {
    const { station, defect } = this;
    this.#give("review", { label }, ({ before }) => {
      station.reviewed(defect.eventId, label);
      return `Noted: ${SAID[label]}${before ? ` (before: ${SAID[before] ?? before})` : ""}`;
    });
  }

  // Ask for a login where one is needed, and give the command again.
  async #give(command, content, done) {
    const { station, defect } = this;
    const say = (text, well) => {
      if (this.defect !== defect) return;
      this.part("answer").dataset.well = String(well);
      this.#text("answer", text);
    };
    say("…", true);
    try {
      const { ok, reason, before } = await this.login.giving(() =>
        this.orders().give(station.name, command, { event_id: defect.eventId, ...content }),
      );
      say(ok ? done({ before }) : `The station refuses: ${reason ?? "no reason given"}`, ok);
    } catch (problem) {
      if (!(problem instanceof NotGiven)) throw problem;
      say(`${problem.message}.`, false);
    }
    this.refresh();
  }

  #text(name, text) {
    const part = this.part(name);
    if (part.textContent !== text) part.textContent = text;
  }
}

// Why it is not OK, in a sentence.
function why({ word, score, threshold, reason, regions, width, height }) {
  if (reason !== null) return `It cannot be judged by its score: ${reason}.`;
  const [strongest] = [...regions].sort((a, b) => (b.score ?? 0) - (a.score ?? 0));
  const where = strongest ? `; the strongest of ${format.plural(regions.length, "region")} is at the ${place(strongest.box)}` : "";
  const size = width && height ? ` of ${width} × ${height} px` : "";
  if (threshold === null) return `Score ${format.score(score)}${where}${size}.`;
  const limit = word === "NG" ? `reaches ${format.score(threshold)}, from which a part is NG` : `is close to ${format.score(threshold)}, from which a part is NG`;
  return `Its score ${format.score(score)} ${limit}${where}${strongest ? ` of the picture${size}` : ""}.`;
}

function place([x, y, w, h]) {
  const third = (value) => Math.min(2, Math.floor(3 * value));
  return PLACES[3 * third(y + h / 2) + third(x + w / 2)];
}
