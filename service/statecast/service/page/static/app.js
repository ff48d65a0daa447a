// Shows what the address names: the sessions, one session, the models, or one model.

import { ask, isSignedIn, signIn, whenRefused } from "./api.js";
import { byId, h, show } from "./dom.js";
import { SessionList } from "./list.js";
import { showModel, showModels } from "./models.js";
import { showSession } from "./session.js";
import { startTheme } from "./theme.js";

const main = byId("main"), side = byId("side");
const list = new SessionList(side);
let leave = new AbortController();

/** The parts of the address behind "#/". */
const parts = () => location.hash.replace(/^#\/?/, "").split("/").map(decode);

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function welcome() {
  show(main,
      h("div", { class: "empty" },
      h("h1", {}, "Sessions"),
      h("p", { class: "none" }, "There are none yet. They show on the left as they begin."),
      h("p", { class: "some" }, "Choose one to see its forecast as observations arrive. Press ", h("kbd", {}, "/"), " to find it by name.")));
}

function route() {
  leave.abort();
  leave = new AbortController();
  const [kind, first, second] = parts();
  const isList = kind === "" || kind === "session";
  document.body.dataset.view = kind === "" ? "list" : "detail";
  side.hidden = !isList;
  byId("to-sessions").toggleAttribute("data-current", isList);
  byId("to-models").toggleAttribute("data-current", !isList);
  list.select(kind === "session" ? first : null);
  list.run(isList);
  if (kind === "session" && first) showSession(main, first, Number(second) || 0, leave.signal);
  else if (kind === "models") showModels(main, leave.signal);
  else if (kind === "model" && first) showModel(main, first, second ?? "", leave.signal);
  else welcome();
  document.title = kind === "session" && first ? `${first} · Statecast` : "Statecast";
}

function askForCredential(reason) {
  if (byId("credential")) return;
  leave.abort();
  list.run(false);
  side.hidden = true;
  document.body.dataset.view = "detail";
  const problem = h("p", { class: "problem", role: "alert" }, isSignedIn() ? reason : "");
  const input = h("input", { id: "credential", type: "password", autocomplete: "current-password", required: true });
  const take = async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!/^[!-~]+$/.test(text)) return (problem.textContent = "A key or token has no spaces and no special letters.");
    signIn(text);
    input.disabled = true;
    input.id = "";
    await start();
  };
  show(main,
      h("form", { class: "card sign-in", onsubmit: take },
      h("h1", {}, "Sign in"),
      h("p", {}, "This server asks for a credential. It is kept in this page's memory only, and is gone when you close or reload the page."),
      h("label", { for: "credential" }, "API key or token"),
      input, problem,
      h("button", { type: "submit", class: "strong" }, "Sign in")));
  input.focus();
}

async function start() {
  try {
    const server = await ask("server");
    byId("caller").textContent = isSignedIn() ? `${server.tenant} · ${server.role}` : "";
    byId("sign-out").hidden = !isSignedIn();
  } catch (error) {
    if (error.status === 401) return askForCredential(error.message);
    show(main,
      h("div", { class: "empty" },
        h("h1", {}, "The server cannot be reached"),
        h("p", {}, error.message),
        h("button", { type: "button", class: "strong", onclick: start }, "Try again")));
    return;
  }
  list.reload();
  route();
}

startTheme();
whenRefused(askForCredential);
addEventListener("hashchange", () => {
  route();
  scrollTo(0, 0);
  if (!document.activeElement?.offsetParent) main.focus(); // what had the focus is gone, as the list is on a phone
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
byId("sign-out").addEventListener("click", () => {
  signIn("");
  location.reload();
});
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches?.("input, select, textarea");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    list.focusSearch();
  }
});
start();
