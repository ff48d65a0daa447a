// The numbers of the charts as tables, for those who read rather than look.

import { h, show } from "./dom.js";
import { count, number, percent, time } from "./format.js";
import { usualBand } from "./history.js";

const ROWS = 24;

/** A table that is filled only while it is open. */
class Table {
  constructor(rows) {
    this.rows = rows;
    this.body = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The numbers" });
    this.element = h("details", { class: "card wide", ontoggle: () => this.draw() },
      h("summary", {}, "The numbers as a table"), this.body);
  }

  update(history) {
    this.history = history;
    this.draw();
  }

  draw() {
    if (!this.element.open || !this.history) return;
    const [head, ...rows] = this.rows(this.history);
    show(this.body, h("table", {},
      h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, rows.map(([first, ...cells]) => h("tr", {}, h("th", { scope: "row" }, first), cells.map((cell) => h("td", {}, cell)))))));
  }
}

export const pointTable = () => new Table(({ points, forecast, session, step }) => {
  const middle = session.levels.indexOf(0.5), band = usualBand(session.levels);
  const range = (row) => (row && band ? `${number(row[band.from])} to ${number(row[band.to])}` : "");
  const when = (position, at) => (at === null || at === undefined ? `step ${count(position)}` : time(at, session.zone));
  const last = step;
  return [
    ["Step", "Kind", "Value or median", band ? `${percent(band.share)} band` : "Band", "Surprise"],
    ...(forecast?.values ?? []).slice(0, ROWS).map((row, at) => [when(last + at + 1, forecast.times?.[at]), "forecast", number(row[middle] ?? null), range(row), ""]).reverse(),
    ...points.slice(-ROWS).reverse().map((each) => [when(each.step, each.time), "observed", number(each.value), range(each.before), each.surprise ?? ""]),
  ];
});

export const symbolTable = () => new Table(({ points, forecast }) => [
  ["Step", "Kind", "Symbol", "Probability"],
  ...(forecast?.symbols[0] ?? []).map(([symbol, share]) => ["next", "forecast", shown(symbol), percent(share)]),
  ...points.slice(-ROWS).reverse().map((each) => [count(each.step), "observed", shown(each.symbol), each.surprise === null ? "" : percent(each.surprise)]),
]);

/** A symbol as it can be seen. */
export const shown = (symbol) => (symbol === null ? "missing" : { "\n": "↵", "\t": "⇥", " ": "␣" }[symbol] ?? symbol);
