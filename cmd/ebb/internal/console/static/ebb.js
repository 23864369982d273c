// Live updates and keys. Everything here is an addition: without it the page is a list that reloads.
//
// The queue: the server tells that it has changed (never what it looks like); the script fetches the rows that are shown and
// brings the list up to date. While somebody is at work in the list (pointer over it, a row selected, scrolled down) no row moves:
// new ones wait behind a button, those that left stay where they are, marked with their reason.
"use strict";
(() => {
  const $ = (sel, root = document) => root.querySelector(sel);
  const $$ = (sel, root = document) => [...root.querySelectorAll(sel)];
  const body = document.body;
  document.documentElement.classList.add("scripted");

  // ---- times in the viewer's zone -------------------------------------------------------------------------------------
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const dayOnly = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
  const plain = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  function localTimes(root) {
    for (const t of $$("time[datetime]", root)) {
      const d = new Date(t.dateTime);
      if (isNaN(d)) continue;
      t.title = full.format(d);
      if (t.classList.contains("abs")) t.textContent = plain.format(d);
      if (t.classList.contains("day")) t.textContent = dayOnly.format(d);
    }
  }

  // ---- the list ------------------------------------------------------------------------------------------------------
  const queue = $("#queue");
  const news = $("#news");
  let over = false; // the pointer is in the list
  let wanted = false; // a change has been told and not yet fetched
  let busy = false;
  let paused = null; // rows fetched but held back
  let selected = ""; // alert id of the selected row
  const left = new Map(); // alert id -> reason

  const rowsOf = (root) => $$("li.row", root);
  const shown = () => rowsOf(queue).length;
  const quiet = () => !over && !selected && window.scrollY < 200;

  function rowsURL(from, limit) {
    const q = new URLSearchParams(location.search);
    const base = Number(q.get("from") || 0);
    q.set("from", base + from);
    q.set("limit", limit);
    return "/rows?" + q;
  }

  async function fetchRows(from, limit) {
    const r = await fetch(rowsURL(from, limit), { headers: { Accept: "text/html" } });
    if (!r.ok) throw new Error("rows: " + r.status);
    const doc = new DOMParser().parseFromString(await r.text(), "text/html");
    localTimes(doc);
    return doc.body;
  }

  async function refresh() {
    if (!queue || busy || document.hidden) return;
    busy = true;
    wanted = false;
    try {
      const next = await fetchRows(0, Math.min(1000, Math.max(100, shown())));
      if (quiet()) show(next);
      else hold(next);
    } catch {
      wanted = true; // the stream tells when the server is back
    } finally {
      busy = false;
    }
  }

  // show replaces the list, and lets what is new slide in.
  function show(next) {
    const before = new Set(rowsOf(queue).map((r) => r.dataset.id));
    const first = before.size === 0;
    for (const r of rowsOf(next)) if (!first && !before.has(r.dataset.id)) r.classList.add("fresh");
    queue.replaceChildren(...next.childNodes);
    paused = null;
    news.hidden = true;
    left.clear();
    select(selected, false);
  }

  // hold brings the rows that are there up to date in place, and counts those that are not.
  function hold(next) {
    const fresh = new Map(rowsOf(next).map((r) => [r.dataset.id, r]));
    let away = 0;
    for (const row of rowsOf(queue)) {
      const now = fresh.get(row.dataset.id);
      if (now) {
        if (now.dataset.rev !== row.dataset.rev || row.innerHTML !== now.innerHTML) row.innerHTML = now.innerHTML;
        row.classList.remove("gone");
        fresh.delete(row.dataset.id);
      } else if (left.has(row.dataset.id)) {
        away++;
        leave(row, left.get(row.dataset.id));
      }
    }
    for (const part of [".pager", ".manner"]) {
      const now = $(part, next), old = $(part, queue);
      if (now && old) old.replaceWith(now.cloneNode(true));
    }
    paused = next;
    const n = fresh.size;
    news.hidden = n === 0 && away === 0;
    news.textContent = n ? n + " new" + (away ? ", " + away + " over" : "") : away + " over";
  }

  function leave(row, reason) {
    if (row.classList.contains("gone")) return;
    row.classList.add("gone");
    const step = $(".c-step", row), small = $(".c-what small", row);
    const why = document.createElement("span");
    why.className = "why-gone";
    why.textContent = " " + (reason || "over");
    (step && step.offsetParent ? step : small).append(why);
  }

  async function showNews() {
    if (!queue) return;
    selected = "";
    window.scrollTo({ top: 0 });
    if (paused) show(paused);
    else refresh();
  }

  async function more(link) {
    if (busy) return;
    busy = true;
    try {
      const next = await fetchRows(shown(), 100);
      const have = new Set(rowsOf(queue).map((r) => r.dataset.id));
      const list = $("ol.rows", queue);
      for (const r of rowsOf(next)) if (!have.has(r.dataset.id)) list.append(r);
      const pager = $(".pager", next);
      if (pager) {
        const first = $(".pager span", queue);
        $(".pager", queue).replaceWith(pager);
        if (first) $("span", pager).textContent = $("span", pager).textContent.replace(/\d[\d,]* to/, "1 to");
      } else link.remove();
    } catch {
      location.href = link.href; // the plain way
    } finally {
      busy = false;
      watchEnd();
    }
  }

  // The rest of the list comes when its end comes into sight.
  const sight = "IntersectionObserver" in window && queue
    ? new IntersectionObserver((es) => { for (const e of es) if (e.isIntersecting && window.scrollY > 0) more(e.target); }, { rootMargin: "600px" })
    : null;
  function watchEnd() {
    if (!sight) return;
    sight.disconnect();
    const a = $('.pager a[rel="next"]', queue);
    if (a) sight.observe(a);
  }

  if (queue) {
    queue.addEventListener("pointerenter", () => { over = true; });
    queue.addEventListener("pointerleave", () => { over = false; if (paused && quiet()) show(paused); });
    queue.addEventListener("click", (e) => {
      const a = e.target.closest('.pager a[rel="next"]');
      if (a && !e.metaKey && !e.ctrlKey) { e.preventDefault(); more(a); }
    });
    new MutationObserver(watchEnd).observe(queue, { childList: true });
    watchEnd();
    news.addEventListener("click", showNews);
    const form = $("form.filters");
    form.addEventListener("change", (e) => { if (e.target.matches("select")) submit(form); });
    form.addEventListener("submit", (e) => { e.preventDefault(); submit(form); });
  }
  // submit leaves empty fields out of the address, so that it stays worth sending.
  function submit(form) {
    const q = new URLSearchParams();
    for (const [k, v] of new FormData(form)) if (v) q.set(k, v);
    location.href = "/" + (String(q) ? "?" + q : "");
  }

  // ---- keys ----------------------------------------------------------------------------------------------------------
  const help = $("#help");
  const keys = $("#keys");
  if (keys) { keys.hidden = false; keys.addEventListener("click", () => { help.hidden = !help.hidden; }); }

  function select(id, scroll = true) {
    selected = id;
    for (const r of $$("li.row.at")) r.classList.remove("at");
    if (!id) return;
    const row = rowsOf(document).find((r) => r.dataset.id === id);
    if (!row) { selected = ""; return; }
    row.classList.add("at");
    if (scroll) row.scrollIntoView({ block: "nearest" });
  }

  function move(by) {
    const rows = rowsOf(document);
    if (!rows.length) return;
    const i = rows.findIndex((r) => r.dataset.id === selected);
    const to = i < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, i + by));
    select(rows[to].dataset.id);
  }

  document.addEventListener("keydown", (e) => {
    if (e.metaKey || e.ctrlKey || e.altKey) return;
    const field = e.target.closest("input, select, textarea");
    if (e.key === "Escape") {
      help.hidden = true;
      if (field) field.blur();
      else { select(""); if (paused && quiet()) show(paused); }
      return;
    }
    if (field) return;
    switch (e.key) {
      case "j": move(1); break;
      case "k": move(-1); break;
      case "n": if (news && !news.hidden) showNews(); break;
      case "g": location.href = "/"; break;
      case "?": help.hidden = !help.hidden; break;
      case "/": {
        const s = $('.filters input[type="search"]');
        if (!s) { location.href = "/"; break; }
        e.preventDefault();
        s.focus();
        s.select();
        break;
      }
      case "Enter": {
        const a = $("li.row.at a.open");
        if (a && !e.target.closest("a, button, summary")) location.href = a.href;
        break;
      }
    }
  });

  // ---- copy ----------------------------------------------------------------------------------------------------------
  const showCopy = (root) => { if (navigator.clipboard) for (const b of $$("[data-copy]", root)) b.hidden = !$("pre", b.closest("div")); };
  document.addEventListener("click", async (e) => {
    const b = e.target.closest("[data-copy]");
    if (!b) return;
    await navigator.clipboard.writeText($("pre", b.closest("div")).textContent);
    b.textContent = "copied";
  });
  showCopy(document);

  // ---- the demo's buttons --------------------------------------------------------------------------------------------
  for (const f of $$("form[data-act]")) {
    f.addEventListener("submit", async (e) => {
      if (!e.submitter) return;
      e.preventDefault();
      const data = new URLSearchParams({ value: e.submitter.value || "" });
      const r = await fetch(f.action, { method: "POST", body: data, headers: { "X-Ebb-Live": "1" } }).catch(() => null);
      if (r && r.status === 409) { f.title = "could not be done now"; return; }
      if (f.dataset.reload) { location.reload(); return; }
      if (f.dataset.act === "speed") for (const b of $$("button", f)) b.setAttribute("aria-pressed", b === e.submitter);
    });
  }
  function acts(list) {
    for (const a of list) {
      const f = $(`form[data-act="${CSS.escape(a.name)}"]`);
      if (!f) continue;
      const b = $("button", f), did = $(".did", f.parentElement);
      b.textContent = a.label;
      b.disabled = !!a.disabled;
      b.title = a.disabled || "";
      b.setAttribute("aria-pressed", a.active);
      did.textContent = a.did;
      did.classList.toggle("good", a.good);
    }
  }

  // ---- the live stream -----------------------------------------------------------------------------------------------
  const stale = $("#stale"), live = $("#live");
  let lastHeard = new Date();
  function heard() {
    lastHeard = new Date();
    stale.hidden = true;
    live.hidden = false;
    live.classList.remove("off");
    live.textContent = "live";
  }
  function lost() {
    stale.textContent = "As of " + lastHeard.toLocaleTimeString() + ": the engine does not answer. What is below stands as it was; the page goes on by itself when it is back.";
    stale.hidden = false;
    live.classList.add("off");
    live.textContent = "not live";
  }
  let stream = null;
  let retry = 0;
  function connect() {
    stream = new EventSource("/events");
    stream.addEventListener("hello", (e) => {
      heard();
      retry = 0;
      if (JSON.parse(e.data).version !== body.dataset.version) location.reload(); // another build serves the page now
      wanted = true;
    });
    stream.addEventListener("queue", (e) => {
      heard();
      for (const d of JSON.parse(e.data).left || []) left.set(d.id, d.reason);
      wanted = true;
    });
    stream.addEventListener("parts", (e) => {
      heard();
      for (const [id, html] of Object.entries(JSON.parse(e.data))) {
        const at = document.getElementById(id);
        if (!at) continue;
        at.innerHTML = html;
        localTimes(at);
      }
      if ($("[data-wait]")) wanted = true;
    });
    stream.addEventListener("acts", (e) => { heard(); acts(JSON.parse(e.data)); });
    stream.onerror = () => {
      lost();
      stream.close();
      retry = Math.min(retry + 1, 6);
      setTimeout(connect, 500 * 2 ** retry * (0.5 + Math.random() / 2));
    };
  }
  connect();
  setInterval(() => { if (wanted) refresh(); }, 400);
  window.addEventListener("pagehide", () => stream && stream.close());
  window.addEventListener("pageshow", (e) => { if (e.persisted) connect(); });

  // Pages about one thing bring their content up to date by themselves, while nobody reads its table or selects text in it.
  const part = $('[data-live="customer"], [data-live="detectors"], [data-live="feeds"]');
  if (part) {
    setInterval(async () => {
      if (document.hidden || !stale.hidden || $("details[open]", part) || String(getSelection()) || $(".pic:hover, pre:hover", part)) return;
      const r = await fetch(location.href).catch(() => null);
      if (!r || !r.ok) return;
      const doc = new DOMParser().parseFromString(await r.text(), "text/html");
      const next = $("[data-live]", doc.querySelector("main"));
      if (!next || $("details[open]", part)) return;
      localTimes(next);
      showCopy(next);
      part.replaceChildren(...next.childNodes);
    }, 3000);
  }

  localTimes(document);
})();
