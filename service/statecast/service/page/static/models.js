// The models that the server has, and the card of one.

import { ask } from "./api.js";
import { h, show } from "./dom.js";
import { count, percent } from "./format.js";
import { markdown } from "./markdown.js";

const failed = (main, error) =>
  error.name === "AbortError" || show(main, h("div", { class: "empty" }, h("h1", {}, "Not to be shown"), h("p", {}, error.message)));

const address = ({ name, version }) => `#/model/${encodeURIComponent(name)}/${encodeURIComponent(version)}`;

export async function showModels(main, left) {
  try {
    const { models, default_model: usual } = await ask("server", {}, left);
    show(main, h("article", {},
      h("h1", {}, "Models"),
      h("ul", { class: "models" }, models.map((each) => h("li", {},
        h("a", { class: "card", href: address(each) }, h("strong", {}, each.name), h("span", {}, `version ${each.version}`),
          each.name === usual ? h("span", { class: "tag" }, "default") : null))))));
  } catch (error) {
    failed(main, error);
  }
}

export async function showModel(main, name, version, left) {
  try {
    const model = await ask("model", { name, version }, left);
    show(main, h("article", {},
      h("a", { class: "back always", href: "#/models" }, "‹ Models"),
      h("h1", {}, model.name, " ", h("small", {}, `version ${model.version}`)),
      h("section", { class: "card" }, h("h2", {}, "What it is"),
        h("dl", { class: "about-model" }, rows(model).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]))),
      h("section", { class: "card card-text" }, model.card
        ? markdown(model.card)
        : [h("h2", {}, "Card"), h("p", { class: "about" }, "There is no README.md in this model's folder.")])));
  } catch (error) {
    failed(main, error);
  }
}

function rows(model) {
  const categories = model.categories.map((each) => `${each.name} (${each.count}: ${each.values.slice(0, 8).join(", ")}${each.count > 8 ? ", …" : ""})`);
  return [
    ["Network", `${model.layers} × ${model.hidden_size} ${model.cell.toUpperCase()}`],
    [model.targets.length > 1 ? "Targets" : "Target", model.targets.join(", ")],
    model.classes ? ["Symbols", count(model.classes)] : ["Quantiles", model.levels.map((level) => percent(level)).join(", ")],
    ["Longest forecast", `${count(model.horizon)} steps`],
    ["Time between steps", model.frequency || "any: only the order counts"],
    ["Covariates", model.covariates.join(", ") || "none"],
    ["Categories", categories.join("; ") || "none"],
    ["Missing values", model.takes_missing ? "taken" : "refused"],
    model.classes ? null : ["Intervals", model.adaptive ? "adapt to each session" : "stay as the model gives them"],
    ["Remembers unchanged", `${count(model.window)} steps`],
    ["State of a session", `${count(model.state_bytes)} bytes`],
    ["Digest", h("code", {}, model.digest)],
  ].filter(Boolean);
}
