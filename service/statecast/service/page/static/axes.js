// Scales, ticks and lines that the charts share.

import { svg } from "./dom.js";
import { number, tick, timeTicks } from "./format.js";

export const scale = (from, to, start, end) => (value) => start + ((value - from) / (to - from || 1)) * (end - start);

/** Round values between `low` and `high`, about `most` of them, and their distance. */
export function ticks(low, high, most) {
  const rough = (high - low || 1) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= 0.75 * rough) ?? 10);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return { values: found, step };
}

const round = (value) => Math.round(value * 10) / 10;

/** The path through points [x, y], broken where y is null. */
export function line(points) {
  let path = "", pen = "M";
  for (const [x, y] of points) {
    if (y === null) pen = "M";
    else {
      path += `${pen}${round(x)} ${round(y)}`;
      pen = "L";
    }
  }
  return path;
}

/** The areas between low and high of points [x, low, high], with gaps where they are null. */
export function area(points) {
  let path = "", run = [];
  const end = () => {
    if (run.length) {
      const top = run.map(([x, , high]) => `${round(x)} ${round(high)}`);
      const bottom = run.map(([x, low]) => `${round(x)} ${round(low)}`).reverse();
      path += `M${top.join("L")}L${bottom.join("L")}Z`;
    }
    run = [];
  };
  for (const point of points) point[1] === null || point[2] === null ? end() : run.push(point);
  end();
  return path;
}

/** Horizontal lines with their numbers. */
export function yAxis(y, low, high, left, right, most) {
  const { values, step } = ticks(low, high, most);
  return svg("g", { class: "axis" }, values.map((value) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: round(y(value)), y2: round(y(value)) }),
    svg("text", { x: left - 8, y: round(y(value)) + 4, "text-anchor": "end" }, tick(value, step)),
  ]));
}

/** Ticks below: times if there are any, else numbers of steps. */
export function xAxis(x, first, last, times, zone, bottom, width) {
  const most = Math.max(3, Math.floor(width / (times ? 96 : 72)));
  const marks = times && times.length > 1
    ? timeTicks(times, zone, most).map(([at, text]) => [first + at, text])
    : ticks(first, last, most).values.filter(Number.isInteger).map((step) => [step, number(step)]);
  return svg("g", { class: "axis" }, marks.map(([step, text]) => [
    svg("line", { class: "mark", x1: round(x(step)), x2: round(x(step)), y1: bottom, y2: bottom + 4 }),
    svg("text", { x: round(x(step)), y: bottom + 18, "text-anchor": "middle" }, text),
  ]));
}

/** Let a pointer or the arrow keys choose a step of a chart; `choose` gets it, or null. `stepAt` takes x and y in pixels. */
export function choosing(element, stepAt, range, choose) {
  let chosen = null;
  const set = (step) => {
    const [first, last] = range();
    chosen = step === null ? null : Math.min(last, Math.max(first, step));
    choose(chosen);
  };
  element.addEventListener("pointermove", (event) => {
    const box = element.getBoundingClientRect();
    set(stepAt(event.clientX - box.left, event.clientY - box.top));
  });
  element.addEventListener("pointerleave", () => set(null));
  element.addEventListener("blur", () => set(null));
  element.addEventListener("keydown", (event) => {
    const [first, last] = range();
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (move) set((chosen ?? Math.round((first + last) / 2)) + move);
    else if (event.key === "Home") set(first);
    else if (event.key === "End") set(last);
    else if (event.key === "Escape") set(null);
    else return;
    event.preventDefault();
  });
}
