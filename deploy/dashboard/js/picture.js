// A defective part: the JPEG as it came, and over it the verdict's boxes and, where there is a place for it, the heat.

import { moment, score } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const ASPECT_TOLERANCE = 0.03;

export class Picture {
  constructor(figure) {
    this.image = figure.querySelector("img");
    this.heat = figure.querySelector("img.heat"); // null on a card
    this.boxes = figure.querySelector("svg");
    this.caption = figure.querySelector("figcaption");
    this.frame = figure.querySelector(".frame");
    this.shown = null;
    this.image.addEventListener("error", () => this.#say("The picture cannot be shown"));
  }

  show(picture) {
    if (picture === null || this.#isShown(picture)) return;
    this.shown = picture;
    const fits = sameShape(picture);
    set(this.image, picture.bytes, "image/jpeg");
    set(this.heat, fits ? picture.heat : null, "image/png");
    this.frame.dataset.empty = "false";
    const regions = fits ? picture.verdict.regions : [];
    this.#draw(regions, picture.size);
    this.#say(picture.verdict ? caption(picture, fits) : "The last defect that had a picture");
    this.image.alt = picture.verdict ? `${picture.verdict.word} part, ${boxesInWords(regions.length)}` : "Defective part";
  }

  get hasHeat() {
    return Boolean(this.heat?.src);
  }

  #isShown({ bytes, heat, verdict }) {
    const { shown } = this;
    return shown !== null && bytes === shown.bytes && heat === shown.heat && verdict === shown.verdict;
  }

  // Nothing to be seen, and why.
  none(why) {
    if (this.shown !== null || this.caption.textContent === "") this.clear();
    this.#say(why);
  }

  clear() {
    set(this.image, null);
    set(this.heat, null);
    this.image.alt = "";
    this.shown = null;
    this.frame.dataset.empty = "true";
    this.boxes.replaceChildren();
    this.#say("");
  }

  // The frame's own proportions: the boxes are shares of it.
  #draw(regions, { width, height }) {
    this.boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.boxes.replaceChildren(...regions.flatMap(({ box }) => ["under", "over"].map((side) => rect(box, width, height, side))));
  }

  #say(text) {
    if (this.caption.textContent !== text) this.caption.textContent = text;
  }
}

// An image of these bytes; null: none.
function set(image, bytes, type) {
  if (image === null) return;
  const before = image.src;
  if (bytes === null) image.removeAttribute("src");
  else image.src = URL.createObjectURL(new Blob([bytes], { type }));
  if (before) URL.revokeObjectURL(before);
}

function rect([x, y, w, h], width, height, side) {
  const drawn = document.createElementNS(SVG, "rect");
  const places = { x: x * width, y: y * height, width: w * width, height: h * height, class: side };
  for (const [name, value] of Object.entries(places)) drawn.setAttribute(name, value);
  return drawn;
}

// A picture that was cropped is not the frame that the boxes speak of.
function sameShape({ size, verdict }) {
  if (verdict === null) return false;
  if (!verdict.width || !verdict.height) return true;
  const [shown, captured] = [size.width / size.height, verdict.width / verdict.height];
  return Math.abs(shown / captured - 1) <= ASPECT_TOLERANCE;
}

function caption({ verdict }, fits) {
  const boxes = fits ? boxesInWords(verdict.regions.length) : "boxes do not fit this picture";
  return [`${verdict.word} ${score(verdict.score)}`, moment(verdict.at), verdict.part, boxes].filter(Boolean).join(" · ");
}

function boxesInWords(count) {
  return count === 0 ? "no region" : `${count} region${count === 1 ? "" : "s"}`;
}
