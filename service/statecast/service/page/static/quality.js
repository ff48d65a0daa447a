// How good the forecasts were: the share of values inside each band, and each value's position in its forecast.

import { choosing, scale, xAxis } from "./axes.js";
import { h, onWidth, show, svg } from "./dom.js";
import { count, percent } from "./format.js";
import { bandsOf } from "./history.js";

const FEW = 20;

/** Bars of the share of values inside each band, beside the share that was promised. */
export class Calibration {
  constructor() {
    this.body = h("div", { class: "bars" });
    this.about = h("p", { class: "about" });
    this.element = h("section", { class: "card", "aria-labelledby": "calibration-title" },
      h("div", { class: "card-head" }, h("h2", { id: "calibration-title" }, "Calibration")), this.about, this.body);
  }

  update({ points, session }) {
    const judged = points.filter(({ surprise }) => surprise !== null), bands = bandsOf(session.levels);
    const isTold = bands.length && judged.length;
    this.about.textContent = !bands.length
      ? "This model gives no bands to check."
      : judged.length
        ? `Share of the last ${count(judged.length)} values inside the bands forecast one step before${judged.length < FEW ? "; too few to judge yet" : ""}.`
        : "Nothing to judge yet: values are checked against their forecasts from the next one on.";
    show(this.body, (isTold ? bands.map((band) => this.row(band, judged)) : []));
  }

  row({ low, high, share }, judged) {
    const inside = judged.filter(({ surprise }) => surprise >= low && surprise <= high).length / judged.length;
    // Twice the standard error of a share of so many independent values.
    const isFar = judged.length >= FEW && Math.abs(inside - share) > 2 * Math.sqrt((share * (1 - share)) / judged.length);
    return h("div", { class: isFar ? "bar far" : "bar" },
      h("span", { class: "label" }, `${percent(share)} band`),
      svg("svg", { class: "track", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "rail", width: 100, height: 12 }),
        svg("rect", { class: "fill", width: 100 * inside, height: 12 }),
        svg("rect", { class: "promise", x: 100 * share - 0.4, width: 0.8, height: 12 })),
      h("span", { class: "value" }, `${percent(inside)} inside`));
  }
}

const LEFT = 34, RIGHT = 92, TOP = 10, BOTTOM = 28, HEIGHT = 220, BINS = 10;

const ABOUT = "Position of each value in the forecast before it: near 0.5 as expected, near 0 or 1 a surprise. Right: how often each tenth was hit.";

/** Each value's position in the forecast before it, and how often each tenth was hit. */
export class Surprise {
  constructor() {
    this.width = 0;
    this.chart = svg("svg", { class: "chart surprise", role: "img", tabindex: "0", height: HEIGHT });
    this.readout = h("output", { class: "readout", "aria-live": "polite" });
    this.about = h("p", { class: "about" });
    this.element = h("section", { class: "card", "aria-labelledby": "surprise-title" },
      h("div", { class: "card-head" }, h("h2", { id: "surprise-title" }, "Surprise"), this.readout), this.about, this.chart);
    choosing(this.chart, (x) => Math.round(this.stepAt?.(x) ?? 0), () => this.steps ?? [0, 0], (step) => this.choose(step));
    onWidth(this.chart, (width) => ((this.width = width), this.draw()));
  }

  update(history) {
    this.history = history;
    this.draw();
  }

  draw() {
    if (!this.history) return;
    const { points, session } = this.history;
    const judged = points.filter(({ surprise }) => surprise !== null).slice(-400);
    this.chart.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.about.textContent = judged.length ? ABOUT : "Nothing to judge yet.";
    this.chart.toggleAttribute("hidden", !judged.length);
    if (!judged.length || !this.width) return;
    const first = judged[0].step, last = Math.max(judged.at(-1).step, first + 1), right = this.width - RIGHT;
    const x = scale(first, last, LEFT + 6, right - 6), y = scale(0, 1, HEIGHT - BOTTOM, TOP);
    this.steps = [first, judged.at(-1).step];
    this.stepAt = scale(LEFT + 6, right - 6, first, last);
    this.placed = { x, y };
    const strange = ({ surprise }) => surprise < 0.05 || surprise > 0.95;
    const shown = points.filter(({ step }) => step >= first);
    const times = shown[0].time === null ? null : shown.map((each) => each.time);
    this.chart.setAttribute("aria-label", `${judged.filter(strange).length} of ${judged.length} values were surprises: below 0.05 or above 0.95`);
    show(this.chart,
      [[0, 0.05], [0.95, 1]].map(([low, high]) =>
        svg("rect", { class: "strange", x: LEFT, width: right - LEFT, y: y(high), height: y(low) - y(high) })),
      svg("g", { class: "axis" }, [0, 0.5, 1].map((value) => [
        svg("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }),
        svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, value),
      ])),
      xAxis(x, first, last, times, session.zone, HEIGHT - BOTTOM, right - LEFT),
      judged.map((each) => svg("circle", { class: strange(each) ? "pit far" : "pit", cx: x(each.step), cy: y(each.surprise), r: judged.length > 150 ? 1.8 : 2.6 })),
      this.tenths(judged, y),
      (this.cursor = svg("g", { class: "cursor" })));
  }

  tenths(judged, y) {
    const hits = Array(BINS).fill(0), left = this.width - RIGHT + 14, room = RIGHT - 20;
    for (const { surprise } of judged) hits[Math.min(BINS - 1, Math.floor(surprise * BINS))]++;
    const most = Math.max(...hits, judged.length / BINS), even = left + (room * judged.length) / BINS / most;
    return svg("g", { class: "tenths" },
      hits.map((hit, at) => svg("rect", { x: left, width: (room * hit) / most, y: y((at + 1) / BINS) + 1, height: y(0) - y(1 / BINS) - 2 })),
      svg("line", { x1: even, x2: even, y1: TOP, y2: HEIGHT - BOTTOM }),
      svg("text", { x: left, y: HEIGHT - BOTTOM + 18 }, "how often"));
  }

  choose(step) {
    if (!this.cursor) return;
    show(this.cursor);
    const point = step === null ? null : this.history.points.find((each) => each.step === step);
    this.readout.textContent = point ? `step ${step}: ${point.surprise ?? "not judged"}` : "";
    if (!point || point.surprise === null) return;
    this.cursor.append(svg("circle", { cx: this.placed.x(step), cy: this.placed.y(point.surprise), r: 5 }));
  }
}
