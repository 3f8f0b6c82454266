// Times in the reader's own zone; and what htmx doesn't do for an order's page: rest in hidden tabs, say when the page
// is out of date, speak a stage's change once, and follow the order by itself where htmx couldn't be loaded.
(() => {
  "use strict";
  const EVERY = 5000;
  const LOCALE = document.documentElement.dataset.locale;
  const MOMENT = { dateStyle: "long", timeStyle: "short" };

  function inOwnZone() {
    for (const time of document.querySelectorAll("time[data-moment]")) {
      time.textContent = new Date(time.dateTime).toLocaleString(LOCALE, MOMENT);
    }
    for (const day of document.querySelectorAll("time[data-day]")) {
      day.textContent = new Date(day.dateTime).toLocaleDateString(LOCALE, { dateStyle: "long" });
    }
  }

  inOwnZone();
  // What follows by itself: an order's progress, or the rows of the list.
  const live = () => document.querySelector("#progress, #rows");
  const stale = document.getElementById("stale");
  const spoken = document.getElementById("spoken");
  let freshAt = new Date();
  let said = live() ? live().dataset.spoken : "";
  let tag = live() ? live().dataset.tag : "";

  function fresh() {
    freshAt = new Date();
    stale.hidden = true;
  }

  function outOfDate() {
    stale.querySelector("span").textContent = freshAt.toLocaleTimeString(LOCALE, { timeStyle: "short" });
    stale.hidden = false;
  }

  if (!live() || !stale) return;

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => (event.detail.successful ? fresh() : outOfDate()));
  document.addEventListener("htmx:afterSwap", () => {
    inOwnZone();
    const now = live().dataset;
    if (spoken && now.spoken !== said) spoken.textContent = said = now.spoken;
    if (tag && document.title.startsWith(tag)) document.title = now.tag + document.title.slice(tag.length);
    tag = now.tag;
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && window.htmx && live()) window.htmx.trigger(live(), "refresh");
  });

  // Without htmx (its host is blocked or down): ask the same address, and load the page anew once it has changed.
  async function follow() {
    const address = live().getAttribute("hx-get");
    if (window.htmx || document.hidden || !address) return;
    try {
      const answer = await fetch(address, { headers: { "HX-Request": "true" }, signal: AbortSignal.timeout(2 * EVERY) });
      if (answer.status === 200 || answer.status === 401) location.reload();
      else if (answer.status === 204) fresh();
      else outOfDate();
    } catch {
      outOfDate();
    }
  }
  setInterval(follow, EVERY);
})();
