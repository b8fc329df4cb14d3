// Which page it is, and what all pages share.

import { base, into } from "./core.js";
import { cohorts, events, funnels, metrics } from "./ask.js";
import { connect, dead, entities, experiments, goals, overview, streams, views } from "./standing.js";

const PAGES = { "": overview, events, funnels, cohorts, metrics, experiments, goals, views, streams, entities, "dead-letters": dead, connect };

const side = document.querySelector(".side"), menu = document.querySelector(".menu");
menu?.addEventListener("click", () => menu.setAttribute("aria-expanded", String(side.classList.toggle("open"))));

const theme = document.getElementById("theme");
const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = dark() ? "Light theme" : "Dark theme"; };
theme?.addEventListener("click", () => {
  const next = dark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  document.cookie = `bizcode_theme=${next}; path=${base || "/"}; max-age=31536000; samesite=strict`;
  name();
  dispatchEvent(new Event("theme"));
});
if (theme) name();

const root = document.getElementById("page"), show = PAGES[document.body.dataset.page];
if (root && show) into(root, () => show(root));
