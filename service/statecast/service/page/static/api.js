// Asks the server. A credential lives in this module's memory: it is gone when the page is.

import { sentence } from "./format.js";

let credential = "";
let onRefused = () => {};

export class Refused extends Error {
  constructor(status, message, seconds) {
    super(message);
    this.status = status;
    this.seconds = seconds;
  }
}

export const signIn = (text) => (credential = text);
export const isSignedIn = () => credential !== "";
export const whenRefused = (tell) => (onRefused = tell);

async function get(path, fields, signal) {
  const query = new URLSearchParams(fields).toString();
  const headers = credential ? { Authorization: `Bearer ${credential}` } : {};
  const response = await fetch(`api/${path}?${query}`, { headers, signal, cache: "no-store" });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: response.statusText }));
  if (response.status === 401) onRefused(sentence(error));
  throw new Refused(response.status, sentence(error), Number(response.headers.get("Retry-After")) || 0);
}

export const ask = async (path, fields = {}, signal = undefined) => (await get(path, fields, signal)).json();

/** Yield the events of one answer: [name, content]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffer += value;
      const blocks = buffer.split("\n\n");
      buffer = blocks.pop();
      for (const block of blocks) {
        const lines = Object.fromEntries(block.split("\n").map((line) => line.match(/^(\w*): (.*)$/s)?.slice(1) ?? []));
        yield [lines.event ?? "", lines.data ? JSON.parse(lines.data) : null];
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const SILENCE_MS = 30000;
const sleep = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Follow a session until `signal` aborts; connect again if the connection breaks.
 * `tell` gets "view" with a view, or "live", "waiting" or "refused" with a reason.
 */
export async function follow(id, target, signal, tell) {
  for (let attempt = 0; !signal.aborted; attempt++) {
    const attempted = new AbortController();
    const stop = () => attempted.abort();
    signal.addEventListener("abort", stop);
    let silence = setTimeout(stop, SILENCE_MS), reason = "The connection has ended.", pause = 0;
    try {
      for await (const [name, content] of events(await get("session", { id, target }, attempted.signal))) {
        clearTimeout(silence);
        silence = setTimeout(stop, SILENCE_MS);
        attempt = 0;
        if (name === "view") tell("view", content);
        if (name === "refused") throw new Refused(0, sentence(content.error), 5);
        else tell("live", "");
      }
    } catch (error) {
      if (signal.aborted) return;
      if ([400, 401, 403, 404].includes(error.status)) return tell("refused", error.message);
      reason = error instanceof Refused ? error.message : "The server does not answer.";
      pause = error.seconds ?? 0;
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
      attempted.abort();
    }
    if (signal.aborted) return;
    tell("waiting", reason);
    await sleep(Math.max(1000 * pause, Math.min(15000, 500 * 2 ** attempt)) * (0.75 + Math.random() / 2), signal);
  }
}
