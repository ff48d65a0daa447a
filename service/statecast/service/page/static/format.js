// Numbers and times as people read them.

const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const percents = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

export const count = (value) => whole.format(value);
export const percent = (share) => percents.format(share);

/** A number with five digits; very large and very small ones as powers of ten. */
export function number(value) {
  if (value === null || value === undefined) return "missing";
  const size = Math.abs(value);
  if (size && (size >= 1e9 || size < 1e-4)) return value.toExponential(2).replace("e+", "e");
  return plain.format(value).replace("-", "−");
}

/** A number with four digits; with more if it is larger. */
export function brief(value) {
  const size = Math.abs(value ?? 0);
  if (!size || size >= 1e4) return number(value);
  return number(Number(value.toPrecision(4)));
}

/** The number for a tick, as precise as the distance between ticks needs. */
export function tick(value, step) {
  const size = Math.abs(value);
  if (size < step / 1e6) return "0";
  if (size >= 1e6 || (size && step < 1e-4)) return value ? value.toExponential(1).replace("e+", "e") : "0";
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value.toLocaleString("en", format).replace("-", "−");
}

const formats = new Map();

/** A formatter for a time zone; UTC if the browser does not know the zone. */
function formatter(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) {
    const settings = { ...options, hourCycle: "h23" };
    try {
      formats.set(key, new Intl.DateTimeFormat("en-GB", { ...settings, timeZone: zone || "UTC" }));
    } catch {
      formats.set(key, new Intl.DateTimeFormat("en-GB", { ...settings, timeZone: "UTC" }));
    }
  }
  return formats.get(key);
}

const DATE = { year: "numeric", month: "short", day: "numeric" };
const CLOCK = { hour: "2-digit", minute: "2-digit" };

/** A whole time, such as "3 Mar 2024, 14:05"; steps of days have no time of day. */
export function time(milliseconds, zone, isDays) {
  if (milliseconds === null || milliseconds === undefined) return "";
  const seconds = milliseconds % 60000 ? { second: "2-digit" } : {};
  return formatter(zone, isDays ? DATE : { ...DATE, ...CLOCK, ...seconds }).format(milliseconds);
}

const MINUTE = 60000, DAY = 86400000;
const UNITS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200].map((s) => s * 1000);

function offset(milliseconds, zone) {
  const parts = formatter(zone, { year: "numeric", month: "numeric", day: "numeric", ...CLOCK, second: "numeric" })
    .formatToParts(milliseconds);
  const at = Object.fromEntries(parts.map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) - Math.floor(milliseconds / 1000) * 1000;
}

/** Up to `most` ticks for ascending times: [position in the list, text]. */
export function timeTicks(times, zone, most) {
  if (times.length < 2) return times.map((each, at) => [at, time(each, zone)]);
  const span = times.at(-1) - times[0], shift = offset(times[0], zone);
  const days = [1, 2, 5, 7, 14, 30, 60, 90, 180, 365, 730, 1825, 3650].map((count) => count * DAY);
  const unit = [...UNITS, ...days].find((each) => span / each <= most) ?? span;
  const kind = unit < MINUTE ? { ...CLOCK, second: "2-digit" } : unit < DAY ? CLOCK : { month: "short", day: "numeric" };
  const format = formatter(zone, unit >= 365 * DAY ? { year: "numeric" } : unit >= 30 * DAY ? { month: "short", year: "numeric" } : kind);
  const date = formatter(zone, { month: "short", day: "numeric" });
  const ticks = [];
  let slot = Math.floor((times[0] + shift) / unit) - 1;
  times.forEach((each, at) => {
    const own = Math.floor((each + shift) / unit);
    if (own === slot) return;
    const aligned = (each + shift) % unit < Math.max(1, (times[at + 1] ?? each + unit) - each);
    slot = own;
    if (!aligned) return;
    const isMidnight = unit < DAY && (each + shift) % DAY < MINUTE;
    ticks.push([at, isMidnight ? date.format(each) : format.format(each)]);
  });
  return ticks;
}

/** A message of the server as a sentence. */
export const sentence = (text) => text && text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** A length of time in its largest unit, such as "30 days". */
export function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, size] = units.find(([, each]) => seconds >= each) ?? units[3];
  const amount = Math.round(seconds / size);
  return `${count(amount)} ${name}${amount === 1 ? "" : "s"}`;
}
