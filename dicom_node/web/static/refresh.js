// Keeps the part of a page that shows the node's state fresh, until the reader pauses it or works in it.
"use strict";
(() => {
  const place = document.querySelector("[data-refresh]");
  if (!place || !document.getElementById("fresh")) return;
  const every = Number(place.dataset.refresh) * 1000;
  const button = document.createElement("button");
  const said = document.createElement("span");
  button.type = "button";
  button.className = "quiet";
  said.className = "hint";
  said.setAttribute("role", "status");
  place.append(said, " ", button);
  let paused = false;
  const show = (text) => { if (said.textContent !== text) said.textContent = text; };
  const label = () => {
    button.textContent = paused ? "Go on" : "Pause";
    show(paused ? "Paused." : `New every ${every / 1000} s.`);
  };
  button.addEventListener("click", () => { paused = !paused; label(); if (!paused) load(); });
  const busy = () => {
    const fresh = document.getElementById("fresh");
    return fresh.contains(document.activeElement) || !getSelection().isCollapsed || document.hidden;
  };
  async function load() {
    if (paused || busy()) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store", headers: { "X-Refresh": "1" } });
      if (answer.redirected) { location.reload(); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const part = page.getElementById("fresh");
      if (!answer.ok || !part) { show("The node answers with a fault; still trying."); return; }
      document.getElementById("fresh").replaceWith(part);
      label();
    } catch {
      show("The node does not answer; still trying.");
    }
  }
  label();
  setInterval(load, every);
})();
