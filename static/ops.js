// What htmx doesn't do for an operator's page when it brings a part of it anew: leave open what somebody has opened, say
// when the page is out of date, rest in hidden tabs.
(() => {
  "use strict";
  const stale = document.getElementById("stale");
  const live = () => document.querySelector("main [hx-get]");
  let open = [];
  let freshAt = new Date();

  function outOfDate() {
    stale.querySelector("span").textContent = `${freshAt.toISOString().slice(11, 19)} UTC`;
    stale.hidden = false;
  }

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.successful) return outOfDate();
    freshAt = new Date();
    stale.hidden = true;
  });
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details[open] > summary[id]")].map((each) => each.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) {
      const summary = document.getElementById(id);
      if (summary) summary.parentElement.open = true;
    }
  });
  // Without htmx (its host is blocked or down) nothing comes by itself.
  addEventListener("load", () => {
    if (!window.htmx && live()) outOfDate();
  });
})();
