// Sessions of symbols: those that came, the likeliest next ones, and how much each surprised.

import { line, scale, xAxis, yAxis } from "./axes.js";
import { h, onWidth, show, svg } from "./dom.js";
import { count, number, percent } from "./format.js";
import { shown } from "./tables.js";

const RECENT = 160;

export class SymbolChart {
  constructor() {
    this.recent = h("p", { class: "symbols" });
    this.next = h("div", { class: "bars" });
    this.later = h("p", { class: "about" });
    this.element = h("section", { class: "card wide", "aria-labelledby": "symbols-title" },
      h("h2", { id: "symbols-title" }, "Symbols"),
      (this.about = h("p", { class: "about" })), this.recent,
      h("h3", {}, "The next symbol"), this.next, this.later);
  }

  update({ points, forecast }) {
    this.about.textContent = points.length
      ? "The last symbols; those that had less than 5 % of the probability are marked."
      : "The state of this model keeps no past symbols; they show here as they arrive.";
    show(this.recent, points.slice(-RECENT).map(({ symbol, surprise, step }) =>
      h("span", { class: surprise !== null && surprise < 0.05 ? "symbol far" : "symbol", title: `step ${count(step)}${surprise === null ? "" : `, had ${percent(surprise)}`}` }, shown(symbol))));
    const [first, ...rest] = forecast?.symbols ?? [];
    show(this.next, (first ?? []).map(([symbol, share]) =>
      h("div", { class: "bar" }, h("span", { class: "label symbol" }, shown(symbol)),
        svg("svg", { class: "track", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: "rail", width: 100, height: 12 }), svg("rect", { class: "fill", width: 100 * share, height: 12 })),
        h("span", { class: "value" }, percent(share)))));
    this.later.textContent = rest.length
      ? `Likeliest after that: ${rest.map(([[symbol, share]]) => `${shown(symbol)} (${percent(share)})`).join(", ")}.`
      : "";
  }
}

const LEFT = 40, RIGHT = 12, TOP = 12, BOTTOM = 28, HEIGHT = 220;

export class SymbolSurprise {
  constructor() {
    this.width = 0;
    this.chart = svg("svg", { class: "chart", role: "img", height: HEIGHT });
    this.about = h("p", { class: "about" });
    this.element = h("section", { class: "card wide", "aria-labelledby": "bits-title" },
      h("h2", { id: "bits-title" }, "Surprise"), this.about, this.chart);
    onWidth(this.chart, (width) => ((this.width = width), this.draw()));
  }

  update(history) {
    this.history = history;
    this.draw();
  }

  draw() {
    if (!this.history) return;
    const judged = this.history.points.filter(({ surprise }) => surprise !== null).slice(-400);
    this.chart.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.chart.toggleAttribute("hidden", !judged.length);
    if (!judged.length) return (this.about.textContent = "Nothing to judge yet: symbols are checked from the next one on.");
    if (!this.width) return;
    const bits = judged.map(({ step, surprise }) => [step, -Math.log2(Math.max(surprise, 1e-9))]);
    const mean = bits.reduce((sum, [, each]) => sum + each, 0) / bits.length, most = Math.max(1, ...bits.map(([, each]) => each));
    this.about.textContent = `Bits for each symbol: 0 if it was certain, 1 more for each halving of its probability. Mean of the last ${count(bits.length)}: ${number(mean)} bits, as if each were one of ${number(2 ** mean)} equally likely symbols.`;
    const first = bits[0][0], last = Math.max(first + 1, bits.at(-1)[0]);
    const x = scale(first, last, LEFT + 6, this.width - RIGHT), y = scale(0, most * 1.05, HEIGHT - BOTTOM, TOP);
    this.chart.setAttribute("aria-label", this.about.textContent);
    show(this.chart,
      yAxis(y, 0, most * 1.05, LEFT, this.width - RIGHT, 4),
      xAxis(x, first, last, null, "", HEIGHT - BOTTOM, this.width - LEFT),
      svg("path", { class: "median", d: line([[LEFT, y(mean)], [this.width - RIGHT, y(mean)]]) }),
      svg("path", { class: "observed", d: line(bits.map(([step, each]) => [x(step), y(each)])) }));
  }
}
