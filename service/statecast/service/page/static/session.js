// One session: what it is, its forecast as observations arrive, how good the forecasts were, and its state.

import { follow } from "./api.js";
import { h, show } from "./dom.js";
import { FanChart } from "./fan.js";
import { brief, count, duration, number, percent, sentence, time } from "./format.js";
import { HeatMaps } from "./heat.js";
import { History, bandsOf, usualBand } from "./history.js";
import { Calibration, Surprise } from "./quality.js";
import { SymbolChart, SymbolSurprise } from "./symbols.js";
import { pointTable, shown, symbolTable } from "./tables.js";

const HIDDEN_MS = 30000;

export function showSession(main, id, target, left) {
  const view = new SessionView(id, target);
  show(main, view.element);
  let stop = new AbortController();
  const start = () => {
    stop = new AbortController();
    follow(id, target, stop.signal, (kind, content) => left.aborted || view.tell(kind, content));
  };
  let timer = 0;
  const seen = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => (stop.abort(), view.tell("paused", "")), HIDDEN_MS);
    else if (stop.signal.aborted) start();
  };
  document.addEventListener("visibilitychange", seen, { signal: left });
  left.addEventListener("abort", () => (clearTimeout(timer), stop.abort()));
  start();
}

class SessionView {
  constructor(id, target) {
    this.id = id;
    this.target = target;
    this.history = new History();
    this.status = h("span", { class: "status", role: "status" }, "connecting");
    this.about = h("p", { class: "facts" });
    this.choice = h("div", { class: "choice" });
    this.tiles = h("dl", { class: "tiles" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.note = h("p", { class: "note", hidden: true });
    this.body = h("div", { class: "cards" });
    this.element = h("article", {},
      h("a", { class: "back", href: "#/" }, "‹ Sessions"),
      h("header", { class: "session-head" }, h("div", { class: "session-title" }, h("h1", {}, id), this.status), this.choice),
      this.about, this.problem, this.note, this.tiles, this.body);
  }

  tell(kind, content) {
    if (kind === "view") this.take(content);
    else this.setStatus(kind, content);
  }

  setStatus(kind, reason) {
    const gone = this.history.isGone && kind === "live";
    const text = gone ? "gone" : { live: "live", waiting: "connecting again", refused: "refused", paused: "paused" }[kind];
    if (this.status.textContent !== text) this.status.textContent = text;
    this.status.dataset.kind = gone ? "refused" : kind;
    this.status.title = reason;
    this.warn(kind === "live" ? sentence(this.history.problem) : reason);
  }

  warn(text) {
    this.problem.hidden = !text;
    if (this.problem.textContent !== (text ?? "")) this.problem.textContent = text ?? "";
  }

  take(view) {
    const isNew = this.history.take(view);
    if (isNew) this.build();
    this.warn(sentence(this.history.problem));
    if (!this.history.session) return;
    this.remark();
    this.facts();
    show(this.tiles, this.figures().map(([name, value, more, kind]) =>
      h("div", { class: kind ?? "" }, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, more) : null))));
    for (const part of this.parts) part.update(this.history);
  }

  /** Say why something that one would expect is not there. */
  remark() {
    const { note, points, session, step } = this.history, remarks = note ? [note] : [];
    if (!points.length && step && !session.symbols) remarks.push("The state of this model keeps no past values; they show here as they arrive.");
    if (!session.symbols && !bandsOf(session.levels).length) remarks.push("This model forecasts without bands, so there is no calibration and no surprise.");
    this.note.hidden = !remarks.length;
    this.note.textContent = remarks.join(" ");
  }

  build() {
    const { session, memory } = this.history;
    this.parts = session.symbols
      ? [new SymbolChart(), new SymbolSurprise()]
      : [new FanChart(), ...(bandsOf(session.levels).length ? [new Calibration(), new Surprise()] : [])];
    const table = session.symbols ? symbolTable() : pointTable();
    const heat = memory.length ? [new HeatMaps()] : [];
    this.parts.push(...heat, table);
    show(this.body, this.parts.map((part) => part.element));
    if (session.targets.length < 2) return show(this.choice);
    const select = h("select", { id: "target", onchange: (event) => {
      location.hash = `#/session/${encodeURIComponent(this.id)}/${event.target.value}`;
    } }, session.targets.map((name, at) => h("option", { value: at, selected: at === session.target }, name)));
    show(this.choice, h("label", { for: "target" }, "Target"), select);
  }

  facts() {
    const { session, step, tag, time: last } = this.history;
    const model = `#/model/${encodeURIComponent(session.model)}/${encodeURIComponent(session.version)}`;
    const facts = [
      ["Model", h("a", { href: model }, `${session.model} ${session.version}`)],
      ["Step", count(step)],
      last !== null ? ["Last time", time(last, session.zone) + (session.zone ? ` (${session.zone})` : " UTC")] : null,
      session.frequency ? ["Every", session.frequency] : null,
      ["Kept", `${duration(session.kept_seconds)} after the last observation`],
      ...Object.entries(session.categories),
      ["Tag", h("code", {}, tag)],
    ];
    const text = JSON.stringify([step, tag, last, session]);
    if (text === this.told) return;
    this.told = text;
    show(this.about, facts.filter(Boolean).map(([name, value]) => h("span", {}, h("b", {}, name), " ", value)));
  }

  figures() {
    const { session, points, forecast, step } = this.history, last = points.at(-1);
    if (session.symbols) return symbolFigures(this.history);
    const figures = [["Last value", last ? number(last.value) : "not kept", `step ${count(step)}`]];
    const middle = session.levels.indexOf(0.5), next = forecast?.values[0];
    const band = usualBand(session.levels);
    if (next && middle >= 0) figures.push([band ? "Next, median" : "Next", brief(next[middle]), forecast.times ? time(forecast.times[0], session.zone) : `step ${count(step + 1)}`]);
    if (next && band) figures.push([`Next, ${percent(band.share)} band`, `${brief(next[band.from])} to ${brief(next[band.to])}`, ""]);
    if (last && last.surprise !== null) {
      const far = last.surprise < 0.05 || last.surprise > 0.95;
      figures.push(["Surprise", String(last.surprise), far ? (last.surprise < 0.5 ? "unusually low" : "unusually high") : "as expected", far ? "far" : ""]);
    }
    return figures;
  }
}

function symbolFigures({ points, forecast, step }) {
  const last = points.at(-1), next = forecast?.symbols[0]?.[0];
  const figures = [["Last symbol", last ? shown(last.symbol) : "not kept", `step ${count(step)}`]];
  if (next) figures.push(["Likeliest next", shown(next[0]), percent(next[1])]);
  if (last && last.surprise !== null) figures.push(["Surprise", `${number(-Math.log2(Math.max(last.surprise, 1e-9)))} bits`, `it had ${percent(last.surprise)}`]);
  return figures;
}
