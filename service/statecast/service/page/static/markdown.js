// The little Markdown that model cards use: headings, paragraphs, lists, tables, code. Everything else stays as it is written.

import { h } from "./dom.js";

const SPAN = /(`[^`]+`|\*\*[^*]+\*\*)/;

const spans = (text) => text.split(SPAN).map((part) => {
  if (part.startsWith("`") && part.length > 2) return h("code", {}, part.slice(1, -1));
  if (part.startsWith("**") && part.length > 4) return h("strong", {}, part.slice(2, -2));
  return part;
});

const cells = (row) => row.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function block(lines) {
  const [first] = lines, heading = /^(#{1,6}) (.*)$/.exec(first);
  if (heading) {
    const level = Math.min(6, heading[1].length + 1);
    return [h(`h${level}`, {}, spans(heading[2])), ...(lines.length > 1 ? [block(lines.slice(1))].flat() : [])];
  }
  if (first.startsWith("```")) return h("pre", {}, lines.slice(1).filter((each) => !each.startsWith("```")).join("\n"));
  if (first.startsWith("|") && /^[|\s:-]+$/.test(lines[1] ?? "")) {
    return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" }, h("table", {},
      h("thead", {}, h("tr", {}, cells(first).map((cell) => h("th", { scope: "col" }, spans(cell))))),
      h("tbody", {}, lines.slice(2).map((row) => h("tr", {}, cells(row).map((cell) => h("td", {}, spans(cell))))))));
  }
  if (lines.every((each) => /^([-*] |\s+\S)/.test(each))) {
    const items = lines.join("\n").split(/^[-*] /m).slice(1);
    return h("ul", {}, items.map((item) => h("li", {}, spans(item.trim()))));
  }
  return h("p", {}, spans(lines.join(" ")));
}

/** Elements for a text in Markdown. */
export function markdown(text) {
  const blocks = [];
  let open = [], isCode = false;
  for (const each of [...text.split(/\r?\n/), ""]) {
    if (each.startsWith("```")) isCode = !isCode;
    if (each.trim() || isCode) open.push(each);
    else if (open.length) {
      blocks.push(block(open));
      open = [];
    }
  }
  if (open.length) blocks.push(block(open));
  return blocks.flat();
}
