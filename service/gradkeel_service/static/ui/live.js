"use strict";
// The live view of a job: readings and the report's charts from its event stream. Without it the page reloads itself.

const KEPT = 1200; // points of a chart; every second one is dropped when there are more
const COLUMNS = 120; // of the map; neighbours are joined when there are more
const LEVELS = 16; // colours of the map, as in the report
const AGAIN_MS = 3000;
const HEIGHT = 200; // pixels of a chart
const RULE_OF_THUMB = 1e-3; // of update ratios
const NAMES = ["state", "progress", "epoch", "reading", "intervention", "log", "gap", "end"];

function element(parent, name, attributes, text) {
  const drawn = name[0] === name[0].toLowerCase() && ["svg", "path", "line", "text", "rect"].includes(name);
  const one = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) one.setAttribute(key, value);
  if (text !== undefined) one.textContent = text;
  parent.append(one);
  return one;
}

function number(value) {
  if (!Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e7)) {
    const [mantissa, exponent] = value.toExponential(2).split("e");
    const raised = String(Number(exponent)).replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return (Number(mantissa) === 1 ? "10" : Number(mantissa) + "×10") + raised;
  }
  return Number(value.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 7 });
}

function duration(seconds) {
  if (seconds < 120) return Math.round(seconds) + " s";
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? minutes + " min" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

// Places of at most five round numbers between two: 1, 2 or 5 times a power of ten apart.
function ticks(low, high) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / 5));
  const apart = [1, 2, 5, 10].map((m) => m * power).find((step) => span / step <= 5);
  const places = [];
  for (let at = Math.ceil(low / apart) * apart; at <= high + 1e-9; at += apart) places.push(at);
  return places;
}

// The same on a logarithmic scale, of logarithms.
function decades(low, high) {
  if (high - low >= 2) {
    const apart = Math.max(1, Math.ceil((high - low) / 5));
    const places = [];
    for (let at = Math.ceil(low / apart) * apart; at <= high; at += apart) places.push(at);
    return places;
  }
  return ticks(10 ** low, 10 ** high).filter((value) => value > 0).map(Math.log10);
}

class Chart {
  // Values on a logarithmic scale; those that have no logarithm are left out.
  constructor(place, title, lines, rule, note) {
    this.title = title;
    this.lines = lines.map((line) => ({ ...line, points: [] }));
    this.rule = rule;
    this.marks = [];
    const figure = element(place, "figure", { class: rule ? "chart wide" : "chart" });
    element(element(figure, "figcaption"), "h3", {}, title);
    if (note) element(figure, "p", { class: "aside" }, note);
    this.legend(figure, rule);
    this.row = element(figure, "div", { class: "plot-row", role: "img" });
    this.axis = element(this.row, "svg", { class: "axis", width: 58, height: HEIGHT + 22, "aria-hidden": "true" });
    this.field = element(this.row, "svg", { class: "field", height: HEIGHT + 22, "aria-hidden": "true" });
  }

  legend(figure, rule) {
    const list = element(figure, "ul", { class: "legend" });
    for (const line of this.lines) {
      const item = element(list, "li");
      const sign = element(item, "svg", { class: "swatch", width: 22, height: 14, "aria-hidden": "true" });
      element(sign, "path", { d: "M1 7h20", class: "line " + line.kind });
      element(item, "span", {}, line.name);
      line.value = element(item, "span", { class: "value" });
    }
    if (!rule) return;
    const item = element(list, "li");
    const sign = element(item, "svg", { class: "swatch", width: 22, height: 14, "aria-hidden": "true" });
    element(sign, "path", { d: "M1 7h20", class: "line rule dash" });
    element(item, "span", {}, rule.name);
  }

  add(which, step, value) {
    const line = this.lines[which];
    if (!Number.isFinite(step)) return;
    if (line.points.length && step < line.points[line.points.length - 1][0]) line.points.length = 0; // it began anew
    if (!Number.isFinite(value) || value <= 0) return;
    line.points.push([step, Math.log10(value)]);
    line.value.textContent = number(value);
    if (line.points.length > KEPT) line.points = line.points.filter((_, index) => index % 2);
  }

  mark(step, kind) {
    this.marks.push([step, kind]);
    if (this.marks.length > KEPT) this.marks = this.marks.filter((_, index) => index % 2);
  }

  range() {
    const all = this.lines.flatMap((line) => line.points);
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [x, y] of all) {
      left = Math.min(left, x);
      right = Math.max(right, x);
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
    if (this.rule) [low, high] = [Math.min(low, Math.log10(this.rule.at)), Math.max(high, Math.log10(this.rule.at))];
    const room = Math.max((high - low) * 0.08, 0.05);
    return { left, right: right > left ? right : left + 1, low: low - room, high: high + room };
  }

  draw() {
    if (!this.lines.some((line) => line.points.length)) return;
    const { left, right, low, high } = this.range();
    const across = (x) => ((x - left) / (right - left)) * 1000;
    const down = (y) => (1 - (y - low) / (high - low)) * 1000;
    this.axis.replaceChildren();
    this.field.replaceChildren();
    for (const at of decades(low, high)) {
      const y = (down(at) / 1000) * HEIGHT;
      element(this.axis, "text", { x: 52, y: y + 4, "text-anchor": "end" }, number(10 ** at));
      element(this.field, "line", { x1: 0, x2: "100%", y1: y, y2: y, class: "grid" });
    }
    const marks = { viewBox: "0 0 1000 1000", preserveAspectRatio: "none", width: "100%", height: HEIGHT, class: "marks" };
    const stretched = element(this.field, "svg", marks);
    if (this.rule) element(stretched, "path", { d: `M0 ${down(Math.log10(this.rule.at))}H1000`, class: "line rule dash" });
    this.lines.forEach((line, which) => {
      const spots = line.points.map(([x, y]) => across(x).toFixed(1) + " " + down(y).toFixed(1));
      if (spots.length) element(stretched, "path", { d: "M" + spots.join("L") + (spots.length > 1 ? "" : "h0"), class: "line thin " + line.kind, "data-line": which });
    });
    const drawn = new Set();
    for (const [step, kind] of this.marks) {
      const place = Math.round(across(step) / 10);
      if (step < left || step > right || drawn.has(kind + place)) continue;
      drawn.add(kind + place);
      const holder = element(this.field, "svg", { x: place + "%", y: 0, width: 1, height: 12, overflow: "visible" });
      element(holder, "path", kind === "broken" ? { d: "M-4 2l8 8m0-8l-8 8", class: "line broken" } : { d: "M0 15l5 5-5 5-5-5z", class: "fill acted" });
    }
    for (const at of ticks(left, right)) {
      const share = across(at) / 10;
      const anchor = share < 3 ? "start" : share > 95 ? "end" : "middle";
      element(this.field, "text", { x: share + "%", y: HEIGHT + 17, "text-anchor": anchor }, number(at));
    }
    const latest = this.lines.filter((line) => line.points.length).map((line) => `${line.name} ${line.value.textContent}`);
    this.row.setAttribute("aria-label", `${this.title} by step, logarithmic. Latest: ${latest.join(", ")}`);
  }
}

class HeatMap {
  constructor(place, title) {
    this.place = place;
    this.title = title;
    this.columns = []; // [step, values by layer]
  }

  add(step, names, values) {
    if (this.names && (this.names.length !== names.length || step < this.columns[this.columns.length - 1][0])) this.columns = [];
    this.names = names;
    this.columns.push([step, values]);
    if (this.columns.length > COLUMNS) this.columns = this.columns.filter((_, index) => index % 2).map(([at, some], index) => [at, this.joined(some, this.columns[2 * index][1])]);
  }

  joined(some, others) {
    return some.map((value, i) => (others[i] === null ? value : value === null ? others[i] : Math.max(value, others[i])));
  }

  frame() {
    const figure = element(this.place, "figure", { class: "chart wide" });
    element(element(figure, "figcaption"), "h3", {}, this.title);
    this.row = element(figure, "div", { class: "plot-row named", role: "img" });
    this.axis = element(this.row, "svg", { class: "axis", width: 110, "aria-hidden": "true" });
    this.field = element(this.row, "svg", { class: "field", "aria-hidden": "true" });
    this.note = element(figure, "p", { class: "note" });
  }

  draw() {
    if (!this.columns.length) return;
    if (!this.row) this.frame();
    const rows = this.names.length;
    const tall = Math.max(4, Math.min(22, 320 / rows));
    const positive = this.columns.flatMap(([, values]) => values.filter((value) => value > 0)).map(Math.log10);
    const low = positive.reduce((a, b) => Math.min(a, b), Infinity), high = positive.reduce((a, b) => Math.max(a, b), -Infinity);
    this.axis.setAttribute("height", rows * tall + 22);
    this.field.setAttribute("height", rows * tall + 22);
    this.axis.replaceChildren();
    this.field.replaceChildren();
    this.names.forEach((name, i) => {
      const short = name.length > 15 ? name.slice(0, 9) + "…" + name.slice(-5) : name;
      if (i % Math.ceil(14 / tall) === 0) element(this.axis, "text", { x: 104, y: (i + 0.5) * tall + 4, "text-anchor": "end" }, short);
    });
    const map = element(this.field, "svg", { class: "heat", viewBox: `0 0 ${this.columns.length} ${rows}`, preserveAspectRatio: "none", width: "100%", height: rows * tall, "shape-rendering": "crispEdges" });
    for (const [colour, path] of this.runs(low, high)) element(map, "path", { d: path, class: colour });
    const last = this.columns.length - 1;
    element(this.field, "text", { x: 0, y: rows * tall + 17 }, number(this.columns[0][0]));
    if (last) element(this.field, "text", { x: "100%", y: rows * tall + 17, "text-anchor": "end" }, number(this.columns[last][0]));
    const words = positive.length ? `dark ${number(10 ** low)} to light ${number(10 ** high)}, logarithmic` : "no finite reading yet";
    this.note.textContent = `First layer at the top; a column every two seconds: ${words}.`;
    this.row.setAttribute("aria-label", `${this.title}, ${rows} layers: ${words}`);
  }

  // One path for each colour.
  runs(low, high) {
    const found = new Map();
    this.columns.forEach(([, values], column) => {
      values.forEach((value, row) => {
        const share = high > low ? (Math.log10(value) - low) / (high - low) : 0.5;
        const colour = value === null ? "missing" : value <= 0 ? "zero" : "q" + Math.min(LEVELS - 1, Math.floor(share * LEVELS));
        found.set(colour, (found.get(colour) || "") + `M${column} ${row}.5h1`);
      });
    });
    return found;
  }
}

class Live {
  constructor(place) {
    this.address = place.dataset.events;
    this.last = "";
    this.due = false;
    const charts = document.getElementById("charts");
    this.loss = new Chart(charts, "Loss", [{ name: "Training loss of a batch", kind: "s1" }, { name: "Validation loss", kind: "s2" }]);
    this.norm = new Chart(charts, "Gradient norm", [{ name: "Before clipping", kind: "s3" }, { name: "After clipping", kind: "s1" }]);
    this.ratio = null;
    this.map = new HeatMap(charts, "Gradient norm of each layer");
    this.place = charts;
    this.step = 0;
    this.open();
  }

  open() {
    const source = new EventSource(this.address + (this.last ? "?after=" + this.last : ""));
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        this.last = event.lastEventId || this.last;
        this.take(name, JSON.parse(event.data), source);
      });
    }
    source.addEventListener("error", () => {
      // The browser reconnects by itself, unless the answer was no stream: all seats taken, or signed out.
      if (source.readyState === EventSource.CLOSED && !this.ended) setTimeout(() => this.open(), AGAIN_MS);
    });
  }

  take(name, data, source) {
    if (name === "end") {
      this.ended = true;
      source.close();
      location.reload();
      return;
    }
    if (name === "state") this.state(data);
    if (name === "progress") this.progress(data);
    if (name === "epoch") this.epoch(data);
    if (name === "reading") this.reading(data);
    if (name === "intervention") this.intervention(data);
    if (name === "log" && data.repair) say("remark", data.message);
    if (name === "gap") say("remark", "Some events may be missing here; the job is not affected.");
    this.later();
  }

  state(data) {
    if (!data.state) return;
    const chip = document.querySelector("#state .chip");
    chip.className = "chip state-" + data.state;
    chip.textContent = data.state;
  }

  progress(data) {
    if (data.phase) say("now-phase", data.phase);
    if (Number.isFinite(data.fraction)) document.getElementById("done").value = data.fraction;
    if (Number.isFinite(data.epoch) && data.epochs) say("now-epoch", data.epoch + 1 + " of " + data.epochs);
    if (Number.isFinite(data.step)) say("now-step", data.step);
    if (Number.isFinite(data.eta_seconds)) say("now-left", duration(data.eta_seconds));
  }

  reading(data) {
    this.step = data.step;
    say("now-step", data.step);
    say("now-loss", number(data.loss));
    say("now-norm", number(data.global_norm));
    if (Number.isFinite(data.lr)) say("now-rate", number(data.lr));
    this.loss.add(0, data.step, data.loss);
    this.norm.add(0, data.step, data.global_norm);
    this.norm.add(1, data.step, data.clipped_norm);
    for (const [chart, value] of [[this.loss, data.loss], [this.norm, data.global_norm]]) {
      if (value === null) chart.mark(data.step, "broken");
    }
    if (data.layers) this.layers(data.step, data.layers);
  }

  layers(step, told) {
    if (told.norm) this.map.add(step, told.names, told.norm);
    const ratios = (told.update_ratio || []).filter((value) => value > 0);
    if (!ratios.length) return;
    const lines = [{ name: "Layer that moves most", kind: "s2" }, { name: "Layer that moves least", kind: "s1" }];
    const rule = { at: RULE_OF_THUMB, name: "0.001, a rule of thumb, not a target" };
    this.ratio = this.ratio || new Chart(this.place, "Update ratio", lines, rule, "By which share of its own length one step changes a layer’s weights.");
    this.ratio.add(0, step, Math.max(...ratios));
    this.ratio.add(1, step, Math.min(...ratios));
  }

  intervention(data) {
    say("remark", "step " + data.step + ": " + (data.reason || data.action));
    this.loss.mark(data.step, "acted");
    this.norm.mark(data.step, "acted");
  }

  epoch(data) {
    const step = Number.isFinite(data.step) ? data.step : this.step;
    if (Number.isFinite(data.train_loss)) say("now-loss", number(data.train_loss));
    if (Number.isFinite(data.validation_loss)) say("now-validation", number(data.validation_loss));
    this.loss.add(1, step, data.validation_loss);
  }

  later() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      for (const chart of [this.loss, this.norm, this.ratio, this.map]) if (chart) chart.draw();
    });
  }
}

function say(id, text) {
  document.getElementById(id).textContent = text;
}

const place = document.getElementById("live");
if (place) new Live(place);
else setTimeout(() => location.reload(), AGAIN_MS); // a data set that is being read
