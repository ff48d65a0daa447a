// The sessions of the server: a search by the beginning of the name, page by page.

import { Refused, ask } from "./api.js";
import { h, show } from "./dom.js";
import { count, time } from "./format.js";

const SIZE = 50, AGAIN_MS = 5000, TYPED_MS = 250;

export class SessionList {
  constructor(side) {
    this.prefix = "";
    this.offset = 0;
    this.selected = null;
    this.isRunning = false;
    this.search = h("input", { type: "search", id: "search", placeholder: "Name begins with …", autocomplete: "off", spellcheck: "false", maxlength: 256 });
    this.status = h("p", { class: "count", role: "status" });
    this.items = h("ul", { class: "sessions" });
    this.before = h("button", { type: "button", class: "quiet", "aria-label": "Previous page" }, "‹");
    this.after = h("button", { type: "button", class: "quiet", "aria-label": "Next page" }, "›");
    side.append(
      h("div", { class: "find" }, h("label", { for: "search" }, "Find a session"), this.search, h("kbd", { "aria-hidden": "true" }, "/")),
      this.items,
      h("div", { class: "pager" }, this.before, this.status, this.after));
    this.search.addEventListener("input", () => {
      clearTimeout(this.typed);
      this.typed = setTimeout(() => this.show(this.search.value, 0), TYPED_MS);
    });
    this.before.addEventListener("click", () => this.show(this.prefix, Math.max(0, this.offset - SIZE)));
    this.after.addEventListener("click", () => this.show(this.prefix, this.offset + SIZE));
    side.addEventListener("keydown", (event) => this.move(event));
    setInterval(() => this.isRunning && !document.hidden && this.reload(), AGAIN_MS);
  }

  run(isRunning) {
    this.isRunning = isRunning;
  }

  focusSearch() {
    if (!this.isRunning) return;
    this.search.focus();
    this.search.select();
  }

  select(id) {
    this.selected = id;
    for (const link of this.items.querySelectorAll("a")) this.mark(link);
  }

  mark(link) {
    if (link.dataset.id === this.selected) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }

  show(prefix, offset) {
    this.prefix = prefix;
    this.offset = offset;
    this.items.scrollTop = 0;
    return this.reload();
  }

  async reload() {
    this.asking?.abort();
    this.asking = new AbortController();
    try {
      const page = await ask("sessions", { prefix: this.prefix, offset: this.offset, size: SIZE }, this.asking.signal);
      this.fill(page);
    } catch (error) {
      if (error.name !== "AbortError") this.say(error instanceof Refused ? error.message : "The server does not answer.");
    }
  }

  fill(page) {
    const focused = this.items.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    show(this.items, page.sessions.map((each) => this.item(each)));
    if (focused !== null) [...this.items.querySelectorAll("a")].find((link) => link.dataset.id === focused)?.focus();
    const last = page.offset + page.sessions.length;
    const total = page.complete ? count(page.total) : `the first ${count(page.total)} found`;
    this.say(page.total ? `${count(page.offset + 1)}–${count(last)} of ${total}` : "");
    this.before.disabled = page.offset === 0;
    this.after.disabled = last >= page.total;
    if (!page.total) show(this.items, nothing(page.prefix));
    document.body.toggleAttribute("data-none", !page.total && !page.prefix);
  }

  /** Say how many there are; what has not changed is not said again. */
  say(text) {
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  item(session) {
    const about = session.problem && !session.model
      ? [h("span", { class: "tag" }, session.problem)]
      : [h("span", {}, session.model), h("span", {}, `step ${count(session.step)}`),
          session.time ? h("span", {}, time(session.time, session.zone)) : null,
          session.problem ? h("span", { class: "tag" }, session.problem) : null];
    const link = h("a", { href: `#/session/${encodeURIComponent(session.id)}`, "data-id": session.id, title: session.id },
      h("span", { class: "name" }, session.id), h("span", { class: "brief" }, about));
    this.mark(link);
    return h("li", {}, link);
  }

  move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...this.items.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (at < 0 && (event.target !== this.search || step < 0)) return;
    event.preventDefault();
    if (at === 0 && step < 0) this.search.focus();
    else links[at + step]?.focus();
  }
}

function nothing(prefix) {
  if (prefix) return h("li", { class: "nothing" }, "No session has a name that begins with ", h("strong", {}, prefix), ".");
  return h("li", { class: "nothing" },
    h("strong", {}, "No sessions yet"),
    h("p", {}, "A session begins with its first observations. In Python:"),
    h("pre", {}, 's = client.session("pump-17")\ns.observe([20.1, 20.4])'));
}
