// What is known of a session: its steps so far, its newest forecast and state.

const MOST = 2000;

export class History {
  constructor() {
    this.session = null;
    this.points = [];
    this.forecast = null;
    this.memory = [];
  }

  /** Take a view, and return true if it holds another session or history. */
  take(view) {
    Object.assign(this, { problem: view.problem, isGone: view.gone, note: view.note });
    if (view.step === undefined) return false;
    if (view.reset) {
      this.session = view.session;
      this.points = [];
    }
    Object.assign(this, { step: view.step, tag: view.tag, time: view.time, forecast: view.forecast, memory: view.memory });
    const { first, times, values, surprise, before, symbols } = view.points;
    values.forEach((value, at) =>
      this.points.push({
        step: first + at, value, surprise: surprise[at], time: times?.[at] ?? null, before: before?.[at] ?? null, symbol: symbols?.[at] ?? null,
      }));
    if (this.points.length > MOST) this.points = this.points.slice(-MOST);
    return view.reset;
  }
}

const near = (a, b) => Math.abs(a - b) < 1e-9;

/** The bands between levels equally far from the median, the widest first: positions of their levels, and their share. */
export function bandsOf(levels) {
  return levels.flatMap((low, from) => {
    const to = levels.findIndex((high) => near(low + high, 1));
    return low < 0.5 && to > from ? [{ from, to, low, high: levels[to], share: Math.round((levels[to] - low) * 1e6) / 1e6 }] : [];
  });
}

/** The band to show by itself: the widest one up to 80 %, or else the narrowest. */
export const usualBand = (levels) => bandsOf(levels).find(({ share }) => share <= 0.8) ?? bandsOf(levels).at(-1);

/** Whether a value lay outside the widest band that was forecast for it. */
export function isOutside({ surprise }, levels) {
  const [widest] = bandsOf(levels);
  return Boolean(widest) && surprise !== null && (surprise < widest.low || surprise > widest.high);
}
