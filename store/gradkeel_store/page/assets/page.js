"use strict";
// The page is whole without this: it adds copy buttons, a reading cursor on the charts, and unfolds what is folded for printing.
(() => {
  const readings = JSON.parse(document.getElementById("readings").textContent);

  const superscript = (exponent) => String(exponent).replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  const figure = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-4 || size >= 1e7)) {
      const [mantissa, exponent] = value.toExponential(2).split("e");
      return `${Number(mantissa)}×10${superscript(Number(exponent))}`.replace("-", "−");
    }
    const digits = Number.isInteger(value) ? 0 : Math.max(0, 3 - Math.floor(Math.log10(size)));
    return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");
  };

  for (const value of document.querySelectorAll("data")) value.title = value.value;

  const copy = async (text, holder) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(holder);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand("copy");
    }
  };
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const holder = document.getElementById(button.dataset.copy);
    const status = button.parentElement.querySelector("[role=status]");
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copy(holder.textContent, holder);
      status.textContent = done ? "Copied" : "Selected: press Ctrl+C to copy";
    });
  }

  const nearest = (places, wanted) => {
    let best = 0;
    for (let i = 1; i < places.length; i++) if (Math.abs(places[i] - wanted) < Math.abs(places[best] - wanted)) best = i;
    return best;
  };

  const charts = [];
  class Chart {
    constructor(stage, reading) {
      this.reading = reading;
      this.figure = stage.closest("figure");
      this.values = [...this.figure.querySelectorAll("[data-series]")];
      this.resting = this.values.map((value) => value.textContent);
      this.row = 0;
      this.index = reading.at.length - 1;
      this.scrub = document.createElement("div");
      this.scrub.className = "scrub";
      this.scrub.tabIndex = 0;
      this.scrub.setAttribute("role", "slider");
      this.scrub.setAttribute("aria-label", `Read values by ${reading.axis}: ${this.figure.querySelector("h3").textContent}`);
      this.scrub.setAttribute("aria-valuemin", this.position(0));
      this.scrub.setAttribute("aria-valuemax", this.position(reading.x.length - 1));
      this.cursor = document.createElement("div");
      this.cursor.className = reading.rows ? "cell" : "cursor";
      this.cursor.hidden = true;
      this.describe();
      stage.closest(".plot").removeAttribute("role");
      stage.closest(".plot").setAttribute("role", "group");
      stage.append(this.cursor, this.scrub);
      this.scrub.addEventListener("pointermove", (event) => this.point(event));
      this.scrub.addEventListener("pointerdown", (event) => this.point(event));
      this.scrub.addEventListener("pointerleave", () => rest());
      this.scrub.addEventListener("blur", () => rest());
      this.scrub.addEventListener("focus", () => this.announce());
      this.scrub.addEventListener("keydown", (event) => this.key(event));
    }

    point(event) {
      const box = this.scrub.getBoundingClientRect();
      this.index = nearest(this.reading.at, (event.clientX - box.left) / box.width);
      if (this.reading.rows) {
        const rows = this.reading.rows.length;
        this.row = Math.min(rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * rows)));
      }
      this.announce();
    }

    key(event) {
      const last = this.reading.at.length - 1;
      const page = Math.max(1, Math.round(last / 10));
      const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -page, PageUp: page, Home: -last, End: last };
      const rows = this.reading.rows ? { ArrowUp: -1, ArrowDown: 1 } : { ArrowUp: 0, ArrowDown: 0 };
      if (event.key in moves) this.index = Math.min(last, Math.max(0, this.index + moves[event.key]));
      else if (event.key in rows && this.reading.rows) this.row = Math.min(this.reading.rows.length - 1, Math.max(0, this.row + rows[event.key]));
      else if (event.key === "Escape") return rest();
      else return;
      event.preventDefault();
      this.announce();
    }

    announce() {
      if (!this.reading.linked) return this.show(this.index);
      const place = this.reading.at[this.index];
      for (const chart of charts) {
        if (chart === this) chart.show(chart.index);
        else if (chart.reading.linked) chart.show(nearest(chart.reading.at, place));
      }
    }

    // What the slider counts in: steps, or where the axis holds fractions (h) the index of the reading.
    position(index) {
      return this.reading.linked ? this.reading.x[index] : index;
    }

    describe() {
      const { reading, index } = this;
      const words = this.words(index);
      this.scrub.setAttribute("aria-valuenow", this.position(index));
      this.scrub.setAttribute("aria-valuetext", `${reading.axis} ${figure(reading.x[index])}: ${words.join(", ")}`);
    }

    words(index) {
      const { reading } = this;
      if (reading.rows) return [`${reading.rows[this.row]} ${figure(reading.series[this.row][index])}`];
      return this.values.map((value) => `${value.previousElementSibling.textContent} ${figure(reading.series[value.dataset.series][index])}`);
    }

    show(index) {
      this.index = index;
      const { reading } = this;
      const step = `${reading.axis} ${figure(reading.x[index])}`;
      this.cursor.hidden = false;
      if (reading.rows) {
        const rows = reading.rows.length, columns = reading.at.length, height = this.scrub.clientHeight / rows;
        Object.assign(this.cursor.style, { left: `${(index / columns) * 100}%`, width: `max(4px, ${100 / columns}%)`, top: `${this.row * height}px`, height: `${height}px` });
        this.values[0].textContent = `${reading.rows[this.row]}, ${step}: ${figure(reading.series[this.row][index])}`;
      } else {
        const place = reading.at[index];
        this.cursor.style.left = `${place * 100}%`;
        this.cursor.style.bottom = "22px";
        this.cursor.style.setProperty("--shift", place < 0.1 ? "0" : place > 0.9 ? "-100%" : "-50%");
        this.cursor.dataset.words = step;
        for (const value of this.values) value.textContent = figure(reading.series[value.dataset.series][index]);
      }
      this.describe();
    }

    rest() {
      this.cursor.hidden = true;
      this.values.forEach((value, i) => { value.textContent = this.resting[i]; });
    }
  }
  const rest = () => charts.forEach((chart) => chart.rest());
  for (const stage of document.querySelectorAll("[data-hover]")) {
    const reading = readings[stage.dataset.hover];
    if (reading && reading.at.length > 1) charts.push(new Chart(stage, reading));
  }

  for (const hint of document.querySelectorAll("[data-hint]")) hint.hidden = charts.length === 0;

  const folded = new Set();
  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open]):not(.numbers)")) { folded.add(part); part.open = true; }
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
    folded.clear();
  });
})();
