// What htmx doesn't do for an operator's page when it brings a part of it anew: leave open what somebody has opened, say
// when the page is out of date, rest in hidden tabs; and bring the part itself where htmx couldn't be loaded.
(() => {
  "use strict";
  const EVERY = 5000;
  const stale = document.getElementById("stale");
  const live = () => document.querySelector("main [hx-get]");
  let open = [];
  let freshAt = new Date();

  function fresh() {
    freshAt = new Date();
    stale.hidden = true;
  }

  function outOfDate() {
    stale.querySelector("span").textContent = `${freshAt.toISOString().slice(11, 19)} UTC`;
    stale.hidden = false;
  }

  function remember() {
    open = [...document.querySelectorAll("details[open] > summary[id]")].map((each) => each.id);
  }

  function reopen() {
    for (const id of open) {
      const summary = document.getElementById(id);
      if (summary) summary.parentElement.open = true;
    }
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => (event.detail.successful ? fresh() : outOfDate()));
  document.addEventListener("htmx:beforeSwap", remember);
  document.addEventListener("htmx:afterSwap", reopen);

  async function follow() {
    const part = live();
    if (window.htmx || document.hidden || !part) return;
    try {
      const asked = { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(2 * EVERY) };
      const answer = await fetch(part.getAttribute("hx-get"), asked);
      if (answer.status === 401) return location.reload(); // signed out
      if (!answer.ok) return outOfDate();
      const text = await answer.text();
      const focused = document.activeElement.id;
      remember();
      part.outerHTML = text;
      reopen();
      if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
      fresh();
    } catch {
      outOfDate();
    }
  }
  setInterval(follow, EVERY);
})();
