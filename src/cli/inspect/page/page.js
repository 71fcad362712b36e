
"use strict";
(() => {
  const documents = document.getElementsByTagName("article");
  const tip = document.getElementById("tip");
  const at = document.getElementById("at");
  const nav = document.querySelector("nav");
  // A document is the current one from the moment when it is so close to the top, in pixels.
  const TOP = 24;

  // The number of documents that begin above the reader's eye. They lie in order, so halving finds it.
  function current() {
    let low = 0, high = documents.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (documents[middle].getBoundingClientRect().top <= TOP) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function go(step) {
    const number = current() + step;
    hide();
    if (number < 1) return scrollTo(0, 0);
    const to = documents[Math.min(number, documents.length) - 1];
    if (!to) return;
    to.scrollIntoView();
    to.querySelector("h2 a").focus({ preventScroll: true });
  }

  function update() {
    at.textContent = `${current() || "–"} / ${documents.length}`;
    if (shown) move();
  }

  // At most once a frame.
  let awaited = 0;
  function schedule() {
    awaited ||= requestAnimationFrame(() => {
      awaited = 0;
      update();
    });
  }

  // Copies what the edit's line below says.
  function describe(row) {
    const [position, before, after, tokens] = row.cells;
    const change = document.createElement("div");
    change.append(...[...tokens.childNodes].map((node) => node.cloneNode(true)));
    const numbers = document.createElement("p");
    numbers.textContent = `token ${position.textContent}: p ${before.textContent} → ${after.textContent}`;
    return [change, numbers];
  }

  function rows(link) {
    let row = document.getElementById(link.hash.slice(1));
    const found = [];
    for (let left = Number(link.dataset.edits); row && left > 0; left--) {
      found.push(row);
      row = row.nextElementSibling;
    }
    return found;
  }

  let shown = null;
  function show(link) {
    shown = link;
    tip.replaceChildren(...rows(link).flatMap(describe));
    tip.hidden = false;
    move();
  }

  // Below the edit, or above it where there is no room.
  function move() {
    const box = shown.getClientRects()[0] ?? shown.getBoundingClientRect();
    const { width, height } = tip.getBoundingClientRect();
    const below = box.bottom + 6;
    const top = below + height < innerHeight ? below : Math.max(4, box.top - height - 6);
    tip.style.left = `${Math.max(4, Math.min(box.left, innerWidth - width - 4))}px`;
    tip.style.top = `${top}px`;
  }

  function hide() {
    tip.hidden = true;
    shown = null;
  }

  const edit = (event) => event.target instanceof Element && event.target.closest(".text a");
  let pointer = "";
  addEventListener("pointerdown", (event) => {
    pointer = event.pointerType;
    if (!edit(event)) hide();
  });
  addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    const link = edit(event);
    if (link) show(link);
    else hide();
  });
  addEventListener("focusin", (event) => {
    const link = edit(event);
    if (link) show(link);
    else hide();
  });
  addEventListener("click", (event) => {
    const link = edit(event);
    if (!link) return;
    // A finger has no other way to ask; a mouse or a key goes on to the list.
    if (pointer === "mouse" || event.detail === 0) {
      hide();
      const row = rows(link)[0];
      if (row) row.closest("details").open = true;
    } else {
      event.preventDefault();
      show(link);
    }
  });
  addEventListener("scroll", schedule, { passive: true });
  addEventListener("resize", schedule);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = { j: 1, n: 1, ArrowRight: 1, k: -1, p: -1, ArrowLeft: -1 }[event.key];
    if (step) {
      event.preventDefault();
      go(step);
    } else if (event.key === "Escape") {
      hide();
    }
  });
  document.getElementById("previous").addEventListener("click", () => go(-1));
  document.getElementById("next").addEventListener("click", () => go(1));
  nav.hidden = documents.length < 2;
  update();
})();
