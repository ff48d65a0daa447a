// Repeats calls of unknown outcome. That is safe: the request's id and last_seen stay the same.
import { setTimeout as sleep } from "node:timers/promises";
import { status, type ServiceError } from "@grpc/grpc-js";
import { explain } from "./service";

const RETRYABLE = [status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED, status.RESOURCE_EXHAUSTED];
const PATIENCE = 60_000; // milliseconds

export function isRetryable(code: number): boolean {
  return RETRYABLE.includes(code);
}

export class Backoff {
  private delay = 100;
  private readonly until = Date.now() + PATIENCE;

  // Waits before the next attempt; throws the error once patience has run out.
  async wait(error: Error): Promise<void> {
    if (Date.now() > this.until) throw error;
    await sleep(this.delay * (0.5 + Math.random()));
    this.delay = Math.min(2 * this.delay, 2_000);
  }
}

type Callback<T> = (error: ServiceError | null, answer?: T) => void;

// Makes a unary call until it is answered. `call` starts one attempt, with a deadline of its own.
export async function answered<T>(call: (deadline: number, callback: Callback<T>) => void): Promise<T> {
  for (const backoff = new Backoff(); ; ) {
    try {
      return await new Promise((resolve, reject) => {
        call(Date.now() + 5_000, (error, answer) => (error ? reject(error) : resolve(answer as T)));
      });
    } catch (error) {
      if (!isRetryable((error as ServiceError).code)) throw error;
      console.log(`again, after ${explain(error as ServiceError)}`);
      await backoff.wait(error as Error);
    }
  }
}
