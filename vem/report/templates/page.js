"use strict";
(() => {
  const key = (row, column, numeric) => {
    const value = row.cells[column].dataset.value;
    return value === undefined || value === "" ? null : numeric ? Number(value) : value;
  };
  // What has no value stands last in either direction.
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  };
  const turned = (head) => {
    const first = head.hasAttribute("data-larger-first") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    return head.getAttribute("aria-sort") === first ? other : first;
  };
  const sort = (table, heads, column, direction) => {
    const head = heads[column], numeric = head.hasAttribute("data-numeric");
    for (const each of heads) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1, body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [key(row, column, numeric), row]);
    rows.sort((a, b) => compare(a[0], b[0], sign));
    body.append(...rows.map((pair) => pair[1]));
  };
  // A page that reloads itself keeps the order that its reader has chosen; not where the browser stores nothing.
  const stored = (name, value) => {
    try {
      if (value !== undefined) sessionStorage.setItem(name, JSON.stringify(value));
      return JSON.parse(sessionStorage.getItem(name));
    } catch { return null; }
  };
  document.querySelectorAll("table[data-sortable]").forEach((table, number) => {
    const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
    const name = `${location.pathname} ${number}`, before = stored(name);
    if (before && heads[before.column] && heads[before.column].innerText === before.title) {
      sort(table, heads, before.column, before.direction);
    }
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const direction = turned(head);
        sort(table, heads, column, direction);
        stored(name, { column, direction, title: head.innerText });
      });
    });
  });

  const tip = document.getElementById("tip");
  let target = null;
  const hide = () => { target = null; tip.hidden = true; };
  const place = () => {
    if (!target) return;
    const at = target.getBoundingClientRect(), own = tip.getBoundingClientRect(), edge = 8;
    const left = Math.min(at.left + at.width / 2 - own.width / 2, document.documentElement.clientWidth - own.width - edge);
    const above = at.top - own.height - edge;
    tip.style.left = `${Math.max(edge, left)}px`;
    tip.style.top = `${above < edge ? at.bottom + edge : above}px`;
  };
  const show = (event) => {
    const found = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!found) return hide();
    target = found;
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    place();
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", place, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
