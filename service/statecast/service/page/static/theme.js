// The page's colours: as the system says, light or dark.

import { byId } from "./dom.js";

const NAMES = ["auto", "light", "dark"];
const KEY = "statecast-theme";

export function startTheme() {
  const button = byId("theme");
  const stored = () => (NAMES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto");
  const show = (name) => {
    document.documentElement.dataset.theme = name;
    button.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[name];
    button.setAttribute("aria-label", `Colours: ${name}. Change them`);
  };
  button.addEventListener("click", () => {
    const next = NAMES[(NAMES.indexOf(stored()) + 1) % NAMES.length];
    localStorage.setItem(KEY, next);
    show(next);
  });
  show(stored());
}
