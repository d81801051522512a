"use strict";
// The live view of a job: readings and two charts from its event stream. Without it the page reloads itself.

const KEPT = 1200; // points of a chart; every second one is dropped when there are more
const AGAIN_MS = 3000;
const NAMES = ["state", "progress", "epoch", "reading", "intervention", "log", "gap", "end"];

class Chart {
  // Values on a logarithmic scale; those that have no logarithm are left out.
  constructor(place, title, lines) {
    this.lines = lines.map(() => []);
    const figure = place.appendChild(document.createElement("figure"));
    const caption = figure.appendChild(document.createElement("figcaption"));
    caption.textContent = title + " (logarithmic)";
    this.scale = caption.appendChild(document.createElement("span"));
    this.scale.className = "scale";
    this.svg = figure.appendChild(svg("svg"));
    this.svg.setAttribute("viewBox", "0 0 100 100");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", title + " by step; the numbers above say the latest");
    this.drawn = lines.map(([, kind]) => {
      const line = this.svg.appendChild(svg("polyline"));
      line.setAttribute("class", kind);
      return line;
    });
    const key = figure.appendChild(document.createElement("div"));
    key.className = "key";
    for (const [name, kind] of lines) {
      const one = key.appendChild(document.createElement("span"));
      one.className = kind;
      one.textContent = name;
    }
  }

  add(which, step, value) {
    if (!Number.isFinite(step) || !Number.isFinite(value) || value <= 0) return;
    const points = this.lines[which];
    if (points.length && step < points[points.length - 1][0]) points.length = 0; // it began anew
    points.push([step, Math.log10(value)]);
    if (points.length > KEPT) this.lines[which] = points.filter((_, index) => index % 2);
  }

  draw() {
    const all = this.lines.flat();
    if (!all.length) return;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const [x, y] of all) {
      left = Math.min(left, x);
      right = Math.max(right, x);
      low = Math.min(low, y);
      high = Math.max(high, y);
    }
    const [width, height] = [right - left || 1, high - low || 1];
    this.lines.forEach((points, which) => {
      const places = points.map(([x, y]) => {
        const across = ((x - left) / width) * 96 + 2;
        const down = 94 - ((y - low) / height) * 88;
        return across.toFixed(2) + "," + down.toFixed(2);
      });
      this.drawn[which].setAttribute("points", places.join(" "));
    });
    this.scale.textContent = number(10 ** low) + " to " + number(10 ** high);
  }
}

function svg(name) {
  return document.createElementNS("http://www.w3.org/2000/svg", name);
}

function number(value) {
  if (!Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

function duration(seconds) {
  if (seconds < 120) return Math.round(seconds) + " s";
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? minutes + " min" : Math.floor(minutes / 60) + " h " + (minutes % 60) + " min";
}

class Live {
  constructor(place) {
    this.address = place.dataset.events;
    this.last = "";
    this.due = false;
    const charts = document.getElementById("charts");
    this.loss = new Chart(charts, "Loss", [["training", "line-a"], ["validation", "line-b"]]);
    this.norm = new Chart(charts, "Gradient norm", [["before clipping", "line-a"]]);
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
    if (name === "intervention") say("remark", "step " + data.step + ": " + (data.reason || data.action));
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
    if (Number.isFinite(data.loss)) say("now-loss", number(data.loss));
    if (Number.isFinite(data.global_norm)) say("now-norm", number(data.global_norm));
    if (Number.isFinite(data.lr)) say("now-rate", number(data.lr));
    this.loss.add(0, data.step, data.loss);
    this.norm.add(0, data.step, data.global_norm);
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
      this.loss.draw();
      this.norm.draw();
    });
  }
}

function say(id, text) {
  document.getElementById(id).textContent = text;
}

const place = document.getElementById("live");
if (place) new Live(place);
else setTimeout(() => location.reload(), AGAIN_MS); // a data set that is being read
