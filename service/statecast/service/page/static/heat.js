// The recurrent state as a heat map: a cell for each unit, a block of rows for each layer.

import { choosing } from "./axes.js";
import { h, onWidth, show, svg } from "./dom.js";
import { count, number } from "./format.js";

const BINS = 7; // colours on each side of zero
const NAMES = {
  hidden: ["Hidden state", "What the network passes on to its outputs and to the next step, from −1 to 1."],
  cell: ["Cell state", "What the network keeps for long."],
  window: ["Inputs in the window", "This model runs over its last inputs at each step; these are its state. Rows are steps, columns inputs."],
};

class HeatMap {
  constructor(name) {
    this.width = 0;
    this.name = name;
    const [title, about] = NAMES[name];
    this.chart = svg("svg", { class: "chart heat", role: "img", tabindex: "0" });
    this.readout = h("output", { class: "readout", "aria-live": "polite" });
    this.range = h("p", { class: "about" });
    this.about = about;
    this.key = h("div", { class: "heat-key", "aria-hidden": "true" });
    this.element = h("div", { class: "heat-part" },
      h("div", { class: "card-head" }, h("h3", {}, title), this.readout, this.key), this.range, this.chart);
    const cellAt = (x, y) => this.cellAt?.(x, y) ?? null;
    choosing(this.chart, cellAt, () => [0, (this.part?.values.length ?? 1) - 1], (at) => this.choose(at));
    onWidth(this.chart, (width) => ((this.width = width), this.draw()));
  }

  update(part) {
    this.part = part;
    this.draw();
  }

  draw() {
    if (!this.part || !this.width) return;
    const { rows, columns, values, every } = this.part;
    const deep = Math.ceil(columns / Math.max(8, Math.floor(this.width / 12)));
    const across = Math.ceil(columns / deep), gap = rows > 1 && deep > 1 ? 8 : 0;
    const size = Math.min(22, this.width / across), tall = Math.min(size, 16);
    const height = rows * deep * tall + (rows - 1) * gap;
    const most = this.name === "hidden" ? 1 : Math.max(1e-9, ...values.map((value) => Math.abs(value ?? 0)));
    const place = (at) => {
      const row = Math.floor(at / columns), unit = at % columns;
      return [(unit % across) * size, row * (deep * tall + gap) + Math.floor(unit / across) * tall];
    };
    this.cellAt = (x, y) => {
      const row = Math.floor(y / (deep * tall + gap)), inside = y - row * (deep * tall + gap);
      const unit = Math.floor(inside / tall) * across + Math.floor(x / size);
      return row < rows && Math.floor(x / size) < across && unit < columns && unit >= 0 ? row * columns + unit : null;
    };
    const paths = new Map();
    values.forEach((value, at) => {
      const bin = value === null ? "none" : Math.max(-BINS, Math.min(BINS, Math.round((BINS * value) / most)));
      const [x, y] = place(at);
      paths.set(bin, `${paths.get(bin) ?? ""}M${x.toFixed(1)} ${y.toFixed(1)}h${(size - 1).toFixed(1)}v${tall - 1}h${(1 - size).toFixed(1)}z`);
    });
    const seen = values.filter((value) => value !== null);
    const low = Math.min(...seen), high = Math.max(...seen);
    const told = seen.length ? `from ${number(low)} to ${number(high)}` : "nothing yet";
    const units = this.name === "window" ? `${count(rows)} steps × ${count(columns)} input${columns > 1 ? "s" : ""}` : `${rows} layer${rows > 1 ? "s" : ""} × ${count(columns)} units`;
    this.range.textContent = `${this.about} ${units}${every > 1 ? `, every ${every}th shown` : ""}, ${told}.`;
    this.placed = { place, size, tall };
    this.chart.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.chart.setAttribute("height", height);
    this.chart.setAttribute("aria-label", `${NAMES[this.name][0]}: ${units}, ${told}`);
    show(this.chart,
      [...paths].map(([bin, d]) => svg("path", { class: `heat${bin}`, d })),
      (this.cursor = svg("g", { class: "cursor" })));
    if (!this.key.children.length) this.key.append(...this.colours());
    this.key.firstChild.textContent = number(-most);
    this.key.lastChild.textContent = number(most);
  }

  colours() {
    const bar = svg("svg", { viewBox: `0 0 ${(2 * BINS + 1) * 8} 8` });
    for (let bin = -BINS; bin <= BINS; bin++) bar.append(svg("rect", { class: `heat${bin}`, x: (bin + BINS) * 8, width: 8, height: 8 }));
    return [h("span"), bar, h("span")];
  }

  choose(at) {
    if (!this.cursor) return;
    show(this.cursor);
    this.readout.textContent = "";
    if (at === null || !this.part) return;
    const { columns, every, values } = this.part, { place, size, tall } = this.placed, [x, y] = place(at);
    const row = Math.floor(at / columns) + 1, unit = (at % columns) * every + 1;
    this.readout.textContent = this.name === "window"
      ? `step ${row}, input ${unit}: ${number(values[at])}`
      : `layer ${row}, unit ${unit}: ${number(values[at])}`;
    this.cursor.append(svg("rect", { x: x - 0.5, y: y - 0.5, width: size, height: tall }));
  }
}

export class HeatMaps {
  constructor() {
    this.maps = new Map();
    this.body = h("div", {});
    this.element = h("section", { class: "card wide", "aria-labelledby": "state-title" },
      h("h2", { id: "state-title" }, "State"), this.body);
  }

  update({ memory }) {
    for (const part of memory) {
      if (!this.maps.has(part.name)) {
        const map = new HeatMap(part.name);
        this.maps.set(part.name, map);
        this.body.append(map.element);
      }
      this.maps.get(part.name).update(part);
    }
  }
}
