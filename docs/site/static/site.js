"use strict";

// What scrolls sideways can be reached by the keyboard, and is named; nothing else gets a tab stop.
const BOXES =
  "pre, .text_html, .table-wrapper, .formula, .cell_output:has(> img), p:has(> img)";

function nameWhatScrolls() {
  for (const box of document.querySelectorAll(BOXES)) {
    const scrolls = box.scrollWidth > box.clientWidth;
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "scrolls sideways"]]) {
      if (scrolls) box.setAttribute(name, value);
      else box.removeAttribute(name);
    }
  }
}

// Furo opens its drawers by labels of hidden checkboxes, which no key reaches.
function openDrawersByKey() {
  const drawers = { __navigation: "All pages", __toc: "This page" };
  for (const label of document.querySelectorAll(".nav-overlay-icon, .toc-overlay-icon")) {
    const box = document.getElementById(label.htmlFor);
    const icon = label.querySelector(".icon");
    icon.setAttribute("role", "button");
    icon.setAttribute("tabindex", "0");
    icon.setAttribute("aria-label", drawers[label.htmlFor]);
    const tell = () => icon.setAttribute("aria-expanded", box.checked);
    tell();
    box.addEventListener("change", tell);
    icon.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      box.click();
    });
  }
}

addEventListener("DOMContentLoaded", openDrawersByKey);
addEventListener("load", nameWhatScrolls);
addEventListener("resize", nameWhatScrolls);
addEventListener("toggle", nameWhatScrolls, true); // a block that was folded
