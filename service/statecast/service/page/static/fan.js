// The fan chart: recent values, how they lay in the forecasts before them, and the forecast.

import { area, choosing, line, scale, xAxis, yAxis } from "./axes.js";
import { h, onWidth, show, svg } from "./dom.js";
import { number, percent, time } from "./format.js";
import { bandsOf, isOutside, usualBand } from "./history.js";

const LEFT = 56, RIGHT = 14, TOP = 14, BOTTOM = 28;

export class FanChart {
  constructor() {
    this.width = 0;
    this.chart = svg("svg", { class: "chart fan", role: "img", tabindex: "0", "aria-describedby": "fan-keys" });
    this.readout = h("output", { class: "readout", "aria-live": "polite" });
    this.legend = h("ul", { class: "legend" });
    this.range = h("div", { class: "segments", role: "group", "aria-label": "Steps shown" },
      ["Recent", "All"].map((text, at) =>
        h("button", { type: "button", "aria-pressed": String(at === 0), onclick: () => this.showAll(at === 1) }, text)));
    this.element = h("section", { class: "card wide fan-card", "aria-labelledby": "fan-title" },
      h("div", { class: "card-head" }, h("h2", { id: "fan-title" }, "Forecast"), this.readout, this.range),
      this.chart, this.legend,
      h("p", { class: "unseen", id: "fan-keys" }, "Arrow keys read the chart step by step. A table follows."));
    choosing(this.chart, (x) => Math.round(this.stepAt?.(x) ?? 0), () => this.steps ?? [0, 0], (step) => this.choose(step));
    onWidth(this.chart, (width) => ((this.width = width), this.draw()));
  }

  showAll(isAll) {
    this.isAll = isAll;
    [...this.range.children].forEach((button, at) => button.setAttribute("aria-pressed", String((at === 1) === isAll)));
    this.draw();
  }

  update(history) {
    this.history = history;
    this.draw();
  }

  /** The steps to show: history as far as it is wanted, then the forecast. */
  shown() {
    const { points, forecast } = this.history;
    const ahead = forecast ? forecast.values.length : 0;
    const most = this.isAll ? points.length : Math.max(72, Math.round(2.5 * ahead));
    return { recent: points.slice(-most), ahead };
  }

  draw() {
    if (!this.history || !this.width) return;
    const { session, forecast } = this.history, { recent, ahead } = this.shown();
    const height = Math.round(Math.min(420, Math.max(240, this.width * 0.38)));
    this.chart.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.chart.setAttribute("height", height);
    const now = this.history.step, first = recent[0]?.step ?? now;
    this.steps = [first, now + ahead];
    const x = scale(first, Math.max(now + ahead, first + 1), LEFT, this.width - RIGHT);
    this.stepAt = scale(LEFT, this.width - RIGHT, first, Math.max(now + ahead, first + 1));
    const [low, high] = extent(recent, forecast, session.levels);
    const y = scale(low, high, height - BOTTOM, TOP);
    const all = [...recent.map((each) => each.time), ...(forecast?.times ?? recent.map(() => null).slice(0, ahead))];
    const times = all.some((each) => each === null) ? null : all;
    this.placed = { x, y, height, now };
    const clip = "fan-clip";
    this.chart.setAttribute("aria-label", this.summary());
    show(this.chart,
      svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: TOP - 6, width: this.width - LEFT - RIGHT + 6, height: height - BOTTOM - TOP + 7 })),
      yAxis(y, low, high, LEFT, this.width - RIGHT, height / 60),
      xAxis(x, recent.length ? first : now + 1, now + ahead, times, session.zone, height - BOTTOM, this.width - LEFT - RIGHT),
      svg("g", { "clip-path": `url(#${clip})` }, this.past(recent, x, y), this.future(recent, x, y), this.dots(recent, x, y, height)),
      ahead ? this.nowLine(x(now), height) : "",
      (this.cursor = svg("g", { class: "cursor" })));
    this.explain(recent);
  }

  past(recent, x, y) {
    const usual = usualBand(this.history.session.levels);
    const path = line(recent.map(({ step, value }) => [x(step), value === null ? null : y(value)]));
    const lone = recent.filter(({ value }, at) =>
      value !== null && (recent[at - 1]?.value ?? null) === null && (recent[at + 1]?.value ?? null) === null);
    if (!usual) return svg("path", { class: "observed", d: path });
    const band = recent.map(({ step, before }) =>
      before ? [x(step), y(before[usual.from]), y(before[usual.to])] : [x(step), null, null]);
    return svg("g", {},
      svg("path", { class: "before", d: area(band) }),
      svg("path", { class: "observed", d: path }),
      lone.map(({ step, value }) => svg("circle", { class: "lone", cx: x(step), cy: y(value), r: 2.2 })));
  }

  future(recent, x, y) {
    const { forecast, session } = this.history;
    if (!forecast) return "";
    const last = recent.at(-1), middle = session.levels.indexOf(0.5);
    const start = (last?.value ?? null) === null ? [] : [[x(last.step), y(last.value), y(last.value)]];
    const at = (index) => x(this.history.step + 1 + index);
    const bands = bandsOf(session.levels).map(({ from, to }, depth, all) => {
      const points = forecast.values.map((row, index) =>
        row[from] === null ? [at(index), null, null] : [at(index), y(row[from]), y(row[to])]);
      return svg("path", { class: `band band-${Math.min(4, Math.round((4 * (depth + 1)) / all.length))}`, d: area([...start, ...points]) });
    });
    const centre = middle < 0 ? [] : forecast.values.map((row, index) => [at(index), row[middle] === null ? null : y(row[middle])]);
    return svg("g", {}, bands, svg("path", { class: "median", d: line([...start, ...centre]) }));
  }

  dots(recent, x, y, height) {
    const { levels } = this.history.session;
    return svg("g", {},
      recent.filter((each) => each.value !== null && isOutside(each, levels))
        .map(({ step, value }) => svg("circle", { class: "outside", cx: x(step), cy: y(value), r: 3 })),
      recent.filter(({ value }) => value === null)
        .map(({ step }) => svg("path", { class: "missing", d: `M${x(step)} ${height - BOTTOM}v-7` })),
      recent.slice(-1).filter(({ value }) => value !== null)
        .map(({ step, value }) => svg("circle", { class: "latest", cx: x(step), cy: y(value), r: 4 })));
  }

  nowLine(x, height) {
    return svg("g", { class: "now" }, svg("line", { x1: x, x2: x, y1: TOP, y2: height - BOTTOM }),
      svg("text", { x: x + 6, y: TOP + 8 }, "now"));
  }

  explain(recent) {
    const { session, forecast } = this.history, bands = bandsOf(session.levels), usual = usualBand(session.levels);
    const entries = recent.length ? [["key-observed", "observed"]] : [];
    if (bands.length && recent.some(({ before }) => before)) entries.push(["key-before", `${percent(usual.share)} band, one step before`]);
    if (forecast && bands.length) entries.push(["key-band", `forecast: ${bands.map(({ share }) => percent(share)).join(", ")} band${bands.length > 1 ? "s" : ""}`]);
    if (forecast) entries.push(["key-median", bands.length ? "median" : "forecast"]);
    if (recent.some((each) => isOutside(each, session.levels))) entries.push(["key-outside", `outside its ${percent(bands[0].share)} band`]);
    if (recent.some(({ value }) => value === null)) entries.push(["key-missing", "missing"]);
    const text = entries.map(([, each]) => each).join();
    if (text === this.explained) return;
    this.explained = text;
    show(this.legend, entries.map(([kind, each]) => h("li", {}, h("i", { class: kind, "aria-hidden": "true" }), each)));
  }

  summary() {
    const { points, forecast, session } = this.history, last = points.at(-1), usual = usualBand(session.levels);
    const next = forecast?.values[0], middle = session.levels.indexOf(0.5);
    const told = next && middle >= 0 ? ` Next step: ${number(next[middle])}${usual ? `, from ${number(next[usual.from])} to ${number(next[usual.to])} with ${percent(usual.share)}` : ""}.` : "";
    return `${session.targets[session.target]}: ${last ? `${number(last.value)} at step ${last.step}` : "no values yet"}.${told}`;
  }

  choose(step) {
    if (!this.placed || !this.cursor) return;
    const { x, y, height, now } = this.placed, { points, forecast, session } = this.history;
    show(this.cursor);
    this.readout.textContent = "";
    if (step === null) return;
    const point = points.find((each) => each.step === step), row = forecast?.values[step - now - 1];
    const usual = usualBand(session.levels), middle = session.levels.indexOf(0.5);
    const when = point?.time ?? forecast?.times?.[step - now - 1] ?? null;
    const value = point ? point.value : row?.[middle] ?? null;
    const quantiles = point ? point.before : row;
    const range = quantiles && usual ? ` (${number(quantiles[usual.from])} to ${number(quantiles[usual.to])})` : "";
    const label = when === null ? `step ${step}` : time(when, session.zone);
    this.readout.textContent = `${label}: ${point ? "" : "forecast "}${number(value)}${range}`;
    this.cursor.append(svg("line", { x1: x(step), x2: x(step), y1: TOP, y2: height - BOTTOM }));
    if (value !== null) this.cursor.append(svg("circle", { cx: x(step), cy: y(value), r: 4 }));
  }
}

/** The lowest and highest value to show: all that was observed, the usual bands, and what is not much further out. */
function extent(recent, forecast, levels) {
  const known = (values) => values.filter((value) => value !== null && value !== undefined);
  const usual = usualBand(levels) ?? { from: 0, to: 0 };
  const rows = known([...recent.map(({ before }) => before), ...(forecast?.values ?? [])]);
  const inner = known([...recent.map(({ value }) => value), ...rows.flatMap((row) => [row[usual.from], row[usual.to]])]);
  if (!inner.length) return [0, 1];
  let low = Math.min(...inner), high = Math.max(...inner);
  const least = low - 0.75 * (high - low), most = high + 0.75 * (high - low);
  for (const value of known(rows.flat())) {
    low = Math.min(low, Math.max(value, least));
    high = Math.max(high, Math.min(value, most));
  }
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - pad, high + pad];
}
