// One session and the values to send to it. One request is in flight at a time, so that their order holds.
import { randomUUID } from "node:crypto";
import type { ForecastRequest } from "./generated/statecast/v1/ForecastRequest";
import type { ForecastResponse__Output } from "./generated/statecast/v1/ForecastResponse";
import type { Version } from "./generated/statecast/v1/Version";
import { Backoff } from "./retry";

export class Series {
  request: ForecastRequest | null = null; // the one in flight; it is repeated as it is
  sent = 0;
  backoff = new Backoff(); // of the request in flight
  private lastSeen: Version = {};

  constructor(readonly id: string, private readonly values: number[]) {}

  // Makes the next request; null after the last value.
  next(): ForecastRequest | null {
    const value = this.values[this.sent];
    this.backoff = new Backoff();
    if (value === undefined) return (this.request = null);
    this.request = {
      session_id: this.id,
      open: this.sent === 0 ? {} : null, // later, a session that is gone is an error, not a new one
      observations: { values: [value] },
      horizon: 1,
      quantile_levels: [0.1, 0.5, 0.9],
      request_id: randomUUID(),
      last_seen: this.lastSeen,
      timeout: { seconds: 10 }, // a stream has no deadline
    };
    this.sent += 1;
    return this.request;
  }

  take({ version, forecast }: ForecastResponse__Output): void {
    if (version === null || forecast === null) throw new Error("an answer lacks what was asked for");
    this.lastSeen = version;
    const [low, median, high] = forecast.values.map((value) => value.toFixed(1));
    if (Number(version.step) % 10 === 0) console.log(`${this.id} step ${version.step}: next ${median} (${low} to ${high})`);
  }
}
