// The page's story: pictures and figures as they come, regions and settings as they are drawn, one change when confirmed.

const SVG = "http://www.w3.org/2000/svg";
const PAUSE_MS = 1000; // after a request that failed
const DRAG = 0.01; // of the picture: less is a tap
const SLIDERS = {
  exposure_us: { text: "Exposure, µs (0: the camera decides)", max: 100000, step: 50, index: null },
  gain_ratio: { text: "Gain (0: the camera decides)", max: 16, step: 0.1, index: null },
  red: { text: "White balance: red (0: the camera decides)", max: 8, step: 0.02, key: "colour_gains", index: 0 },
  blue: { text: "White balance: blue", max: 8, step: 0.02, key: "colour_gains", index: 1 },
};
const METADATA = ["exposure_us", "analogue_gain", "red_gain", "blue_gain", "illuminance_lx"];
const find = (id) => document.getElementById(id);

const page = {
  state: null, // what the station said at the start
  size: null, // of the camera's picture, px
  settings: {}, // of the camera, as the sliders stand
  regions: { roi: [], ignore: [] }, // polygons of corners in px
  order: [], // which kind was drawn, one after the other
  kind: "roi",
  corners: [], // of a polygon that is not closed
  drag: null,
  best: 0,
  golden: 0,
  last: null, // the latest figures
};

// ---- the station

const ended = new AbortController();

async function ask(path) {
  const answer = await fetch(path, { signal: ended.signal });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer;
}

async function hand(path, content) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function watch() {
  let number = 0;
  while (!ended.signal.aborted) {
    try {
      const said = await (await ask(`/live?after=${number}`)).json();
      if (said.number !== number && said.width) await show(said);
      number = said.number;
      text("fault", said.fault ?? "");
    } catch (problem) {
      if (ended.signal.aborted) return;
      text("fault", `${problem.message}. Is “device aim” still running?`);
      await pause(PAUSE_MS);
    }
  }
}

async function show(said) {
  const picture = await (await ask(`/frame.jpg?heat=${find("heat").checked ? 1 : 0}`)).blob();
  const before = find("live").src;
  find("live").src = URL.createObjectURL(picture);
  if (before) URL.revokeObjectURL(before);
  page.size = { width: said.width, height: said.height };
  page.last = said;
  find("drawing").setAttribute("viewBox", `0 0 ${said.width} ${said.height}`);
  focus(said);
  light(said);
  part(said);
  if (!find("camera").hidden) text("metadata", METADATA.filter((name) => name in said.camera).map((name) => `${name} ${said.camera[name]}`).join(", "));
}

// ---- figures

function focus({ sharpness, model }) {
  page.best = Math.max(page.best, sharpness);
  const share = page.best ? sharpness / page.best : 0;
  text("focus", `${Math.round(100 * share)} %`);
  find("focus-bar").style.setProperty("--share", share.toFixed(3));
  text("sharpness", `Sharpness ${sharpness.toFixed(1)}, best ${page.best.toFixed(1)}`);
  text("model-focus", model?.focus == null ? "" : `As the model sees it: ${model.focus.toFixed(1)}; its good images had ${usual(model.usual_focus, 1)}`);
}

function light({ histogram, black, white, model }) {
  const most = Math.max(...histogram, 1e-6);
  find("histogram").replaceChildren(
    ...histogram.map((share, at) => drawn("rect", { x: at, y: 24 - (24 * share) / most, width: 0.9, height: (24 * share) / most })),
  );
  text("clipped", `Black ${percent(black)}, white ${percent(white)} of all pixels`);
  text("model-light", model?.brightness == null ? "" : `Brightness ${model.brightness.toFixed(3)}; its good images had ${usual(model.usual_brightness, 3)}`);
}

function part({ shift, model }) {
  const none = page.state.golden ? "Nothing of the golden image is found, or it has another size" : "No golden image";
  text("shift", shift ? `${lies(shift.right_px, "right", "left")}, ${lies(shift.down_px, "below", "above")} the golden image` : none);
  const said = model && !model.fault ? `${model.verdict}, score ${model.score.toFixed(3)}, NG from ${model.threshold.toFixed(3)}` : (model?.fault ?? "No model on this station yet");
  text("verdict", said);
}

const usual = ({ mean, sd }, digits) => `${mean.toFixed(digits)} ± ${sd.toFixed(digits)}`;
const percent = (share) => `${(100 * share).toFixed(2)} %`;
const lies = (px, more, less) => `${Math.abs(px).toFixed(1)} px ${px >= 0 ? more : less}`;

// ---- regions

function place(event) {
  const box = find("drawing").getBoundingClientRect();
  const share = (value, from, length) => Math.min(1, Math.max(0, (value - from) / length));
  return [Math.round(share(event.clientX, box.left, box.width) * page.size.width), Math.round(share(event.clientY, box.top, box.height) * page.size.height)];
}

function press(event) {
  if (!page.size || !event.isPrimary) return;
  event.preventDefault();
  find("drawing").setPointerCapture(event.pointerId);
  page.drag = { from: place(event), to: place(event) };
}

function move(event) {
  if (!page.drag) return;
  page.drag.to = place(event);
  draw();
}

function release() {
  if (!page.drag) return;
  const { from, to } = page.drag;
  page.drag = null;
  const far = Math.max(Math.abs(to[0] - from[0]) / page.size.width, Math.abs(to[1] - from[1]) / page.size.height) > DRAG;
  if (far) add(rectangle(from, to));
  else page.corners.push(to);
  find("close").disabled = page.corners.length < 3;
  draw();
}

function rectangle([x, y], [right, bottom]) {
  return [[x, y], [right, y], [right, bottom], [x, bottom]];
}

function add(polygon) {
  page.regions[page.kind].push(polygon);
  page.order.push(page.kind);
  page.corners = [];
  find("close").disabled = true;
  regionsChanged();
}

function undo() {
  if (page.corners.length) page.corners.pop();
  else page.regions[page.order.pop() ?? (page.regions.ignore.length ? "ignore" : "roi")].pop();
  find("close").disabled = page.corners.length < 3;
  regionsChanged();
}

function regionsChanged() {
  for (const kind of ["roi", "ignore"]) find(kind).value = JSON.stringify(page.regions[kind]);
  draw();
  propose();
}

function typed(kind) {
  try {
    const polygons = JSON.parse(find(kind).value || "[]");
    if (!polygons.every((one) => one.length >= 3 && one.every(([x, y]) => Number.isFinite(x) && Number.isFinite(y)))) throw new TypeError();
    page.regions[kind] = polygons;
    text("outcome", "");
    draw();
    propose();
  } catch {
    text("outcome", `${kind}: must be polygons of 3 corners [x, y] or more, as [[[0, 0], [100, 0], [100, 100]]]`);
  }
}

function draw() {
  const shapes = ["roi", "ignore"].flatMap((kind) => page.regions[kind].map((corners) => drawn("polygon", { points: corners.join(" "), class: kind })));
  if (page.corners.length) shapes.push(drawn("polyline", { points: page.corners.join(" "), class: page.kind }));
  if (page.drag) shapes.push(drawn("polygon", { points: rectangle(page.drag.from, page.drag.to).join(" "), class: page.kind }));
  find("drawing").replaceChildren(...shapes);
}

function drawn(name, attributes) {
  const shape = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
  return shape;
}

// ---- the camera's settings

function makeSliders() {
  const { controls } = page.state;
  find("camera").hidden = controls.length === 0;
  for (const [name, { text: words, max, step, key, index }] of Object.entries(SLIDERS)) {
    if (!controls.includes(key ?? name)) continue;
    const label = document.createElement("label");
    const input = document.createElement("input");
    const value = document.createElement("span");
    Object.assign(input, { type: "range", id: `slider-${name}`, min: 0, max, step, value: settingOf(key ?? name, index) });
    value.textContent = ` ${input.value}`;
    label.append(words, value, input);
    input.addEventListener("input", () => { value.textContent = ` ${input.value}`; });
    input.addEventListener("change", () => set(key ?? name, index, Number(input.value)));
    find("sliders").append(label);
  }
}

function settingOf(key, index) {
  const value = page.settings[key];
  return index === null ? value : value[index];
}

async function set(key, index, value) {
  if (index === null) page.settings[key] = value;
  else page.settings[key][index] = value;
  if (key === "colour_gains") {
    const [red, blue] = page.settings.colour_gains;
    if (!red !== !blue) page.settings.colour_gains = value ? [red || 1, blue || 1] : [0, 0]; // both or neither
  }
  showSliders();
  await tryCamera();
}

function takeOver() {
  const { exposure_us: exposure, analogue_gain: gain, red_gain: red, blue_gain: blue } = page.last?.camera ?? {};
  const { controls } = page.state;
  if (exposure && controls.includes("exposure_us")) page.settings.exposure_us = Math.round(exposure);
  if (gain && controls.includes("gain_ratio")) page.settings.gain_ratio = Math.max(1, gain);
  if (red && blue && controls.includes("colour_gains")) page.settings.colour_gains = [red, blue];
  showSliders();
  return tryCamera();
}

function showSliders() {
  for (const [name, { key, index }] of Object.entries(SLIDERS)) {
    const input = find(`slider-${name}`);
    if (!input) continue;
    input.value = settingOf(key ?? name, index);
    input.previousElementSibling.textContent = ` ${settingOf(key ?? name, index)}`;
  }
}

async function tryCamera() {
  text("tried", "The camera is opened anew…");
  try {
    const { refused } = await hand("/try", changedCamera(true));
    text("tried", refused ? `Not taken: ${refused}` : "At work, for this page alone");
    page.best = 0;
  } catch (problem) {
    text("tried", problem.message);
  }
  propose();
}

function changedCamera(all = false) {
  const { controls, settings } = page.state;
  const changed = controls.filter((key) => all || JSON.stringify(page.settings[key]) !== JSON.stringify(settings[key]));
  return Object.fromEntries(changed.map((key) => [key, page.settings[key]]));
}

// ---- the change

function changes() {
  const inspection = {};
  for (const kind of ["roi", "ignore"]) {
    if (JSON.stringify(page.regions[kind]) !== JSON.stringify(page.state[kind])) inspection[kind] = page.regions[kind];
  }
  const wanted = { camera: changedCamera(), inspection };
  return Object.fromEntries(Object.entries(wanted).filter(([, keys]) => Object.keys(keys).length));
}

async function propose() {
  const wanted = changes();
  const some = Object.keys(wanted).length > 0;
  find("confirm").disabled = !some;
  try {
    text("toml", some ? (await hand("/toml", wanted)).toml : "nothing is changed");
  } catch (problem) {
    text("toml", problem.message);
    find("confirm").disabled = true;
  }
}

async function confirm() {
  const wanted = changes();
  find("confirm").disabled = true;
  try {
    const { config, kept } = await hand("/confirm", wanted);
    page.state = { ...page.state, settings: structuredClone(page.settings), ...structuredClone(page.regions) };
    text("outcome", `${config} is changed; what it was is in ${kept}. It holds from the next start of the service.`);
  } catch (problem) {
    text("outcome", problem.message);
    find("confirm").disabled = false;
  }
}

// ---- the rest

function text(id, words) {
  if (find(id).textContent !== words) find(id).textContent = words;
}

function choose(kind) {
  page.kind = kind;
  find("draw-roi").setAttribute("aria-pressed", String(kind === "roi"));
  find("draw-ignore").setAttribute("aria-pressed", String(kind === "ignore"));
}

function overlay() {
  const share = find("opacity").value / 100;
  find("golden").hidden = share === 0;
  find("golden").style.setProperty("--opacity", share);
  if (share > 0) find("golden").src = `/golden.jpg?number=${page.golden}`;
}

async function end() {
  ended.abort();
  await hand("/done", {});
  text("fault", "Ended. This page may be closed.");
}

async function start() {
  page.state = await (await ask("/state")).json();
  page.settings = structuredClone(page.state.settings);
  page.regions = { roi: structuredClone(page.state.roi), ignore: structuredClone(page.state.ignore) };
  text("station", page.state.station);
  find("opacity").disabled = find("next-golden").disabled = page.state.golden === 0;
  makeSliders();
  regionsChanged();
  const drawing = find("drawing");
  drawing.addEventListener("pointerdown", press);
  drawing.addEventListener("pointermove", move);
  drawing.addEventListener("pointerup", release);
  drawing.addEventListener("pointercancel", () => { page.drag = null; draw(); });
  find("draw-roi").addEventListener("click", () => choose("roi"));
  find("draw-ignore").addEventListener("click", () => choose("ignore"));
  find("close").addEventListener("click", () => add(page.corners));
  find("undo").addEventListener("click", undo);
  for (const kind of ["roi", "ignore"]) find(kind).addEventListener("change", () => typed(kind));
  find("restart").addEventListener("click", () => { page.best = 0; });
  find("take-over").addEventListener("click", takeOver);
  find("opacity").addEventListener("input", overlay);
  find("next-golden").addEventListener("click", () => { page.golden = (page.golden + 1) % page.state.golden; overlay(); });
  find("confirm").addEventListener("click", confirm);
  find("done").addEventListener("click", end);
  watch();
}

start().catch((problem) => text("fault", problem.message));
