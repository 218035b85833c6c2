"use strict";
(() => {
  const HEIGHT = 24;
  const MARKS = { success: "✓", fail: "✗", cancelled: "■", interrupted: "?", running: "▶", several: "…" };
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const [rows, space, marks, details] = ["rows", "space", "marks", "details"].map(find);
  const all = data.rows.map(([label, depth, status, holds, bars, path, notes], at) => (
    { label, depth, status, holds, bars, path, notes, at, above: null }));
  const line = [];
  for (const row of all) {
    line.length = row.depth;
    row.above = line[row.depth - 1] ?? null;
    line.push(row);
  }
  const whole = Math.max(data.seconds, 1e-6);
  let from = 0, to = whole;
  let shown = [], chosen = null, hovered = null, isPlanned = false;
  const closed = new Set();

  function make(tag, name = "", text = "") {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text) made.textContent = text;
    return made;
  }

  function inWords(seconds) {
    if (seconds === 0) return "0 s";
    if (seconds < 0.01) return `${Number((seconds * 1000).toPrecision(2))} ms`;
    if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
    let minutes = Math.floor(Math.round(seconds) / 60);
    if (minutes < 60) return `${minutes} min ${Math.round(seconds) % 60} s`;
    const hours = Math.floor(minutes / 60);
    minutes %= 60;
    return hours < 24 ? `${hours} h ${minutes} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
  }

  function clock(seconds) {
    const time = new Date((data.start + seconds) * 1000);
    return time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }

  function tookOf(row) {
    return row.bars.reduce((sum, [start, end]) => sum + (end - start), 0);
  }

  // Which rows there are: those that match, with all that they stand in, but for what is closed.
  function sieve() {
    const wanted = find("filter").value.toLowerCase();
    const isTroubled = find("troubled").checked;
    const isSieved = wanted !== "" || isTroubled;
    const kept = new Set();
    if (isSieved) {
      for (const row of all) {
        const isGood = row.status === "success" || row.status === "several";
        if (isTroubled && isGood) continue;
        if (!row.path.toLowerCase().includes(wanted)) continue;
        for (let each = row; each !== null && !kept.has(each); each = each.above) kept.add(each);
      }
    }
    let below = Infinity;
    shown = all.filter((row) => {
      if (isSieved && !kept.has(row)) return false;
      if (row.depth > below) return false;
      below = closed.has(row) ? row.depth : Infinity;
      return true;
    });
    space.style.height = `${shown.length * HEIGHT}px`;
    const count = all.length === shown.length ? "" : `${shown.length.toLocaleString()} of `;
    find("count").textContent = `${count}${all.length.toLocaleString()} rows`;
    plan();
  }

  function plan() {
    if (isPlanned) return;
    isPlanned = true;
    requestAnimationFrame(() => { isPlanned = false; draw(); });
  }

  function draw() {
    const first = Math.max(0, Math.floor(rows.scrollTop / HEIGHT) - 4);
    const last = Math.min(shown.length, first + Math.ceil(rows.clientHeight / HEIGHT) + 8);
    const drawn = document.createDocumentFragment();
    for (let at = first; at < last; at++) drawn.append(drawRow(shown[at], at));
    space.replaceChildren(drawn);
    rows.setAttribute("aria-activedescendant", chosen === null ? "" : `row-${chosen.at}`);
    drawAxis();
  }

  function drawRow(row, at) {
    const made = make("div", row === chosen ? "row chosen" : "row");
    made.id = `row-${row.at}`;
    made.dataset.at = row.at;
    made.style.top = `${at * HEIGHT}px`;
    made.setAttribute("role", "treeitem");
    made.setAttribute("aria-level", row.depth + 1);
    made.setAttribute("aria-selected", row === chosen);
    made.setAttribute("aria-label", `${row.path || row.label}, ${row.status}, ${inWords(tookOf(row))}`);
    if (row.holds) made.setAttribute("aria-expanded", !closed.has(row));
    const name = make("div", "name");
    name.style.paddingLeft = `${0.5 + row.depth}rem`;
    name.title = row.path;
    name.append(make("span", "twist", row.holds ? (closed.has(row) ? "▸" : "▾") : ""),
      make("span", `mark ${row.status}`, MARKS[row.status]), make("span", "text", row.label));
    const track = make("div", "track");
    let before = null;
    for (const [start, end, status, isGroup] of row.bars) {
      if (before !== null && start > before) place(track, before, start, "bar waiting");
      place(track, start, end, `bar ${status}${isGroup ? " group" : ""}`);
      before = end;
    }
    if (before !== null) {
      const right = part(before);
      if (right >= 0 && right <= 1) {
        const took = make("span", "took", inWords(tookOf(row)));
        if (right > 0.85) took.style.right = `${100 * (1 - part(row.bars[0][0]))}%`;
        else took.style.left = `${100 * right}%`;
        track.append(took);
      }
    }
    made.append(name, track);
    return made;
  }

  function part(seconds) { return (seconds - from) / (to - from); }

  function place(track, start, end, name) {
    const left = Math.max(-0.01, part(start)), right = Math.min(1.01, part(end));
    if (right < 0 || left > 1) return;
    const bar = make("span", name);
    bar.style.left = `${100 * left}%`;
    bar.style.width = `${100 * (right - left)}%`;
    track.append(bar);
  }

  function drawAxis() {
    const width = marks.clientWidth;
    const least = (to - from) / Math.max(1, Math.floor(width / 90));
    const steps = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
    const power = 10 ** Math.floor(Math.log10(least));
    const times = [1, 2, 5, 10].find((each) => each * power >= least * (1 - 1e-9)) ?? 10;
    let step = times * power;
    if (least > 10) step = steps.find((each) => each >= least) ?? 86400 * Math.ceil(least / 86400);
    if (least > 10 && least <= 30) step = least <= 15 ? 15 : 30;
    const drawn = document.createDocumentFragment();
    for (let mark = Math.ceil(from / step); mark * step <= to; mark++) {
      const made = make("span", "", written(mark * step, step));
      made.style.left = `${100 * part(mark * step)}%`;
      drawn.append(made);
    }
    marks.replaceChildren(drawn);
  }

  function written(seconds, step) {
    if (seconds === 0) return "0";
    if (step < 0.1) return `${Number((seconds * 1000).toPrecision(10))} ms`;
    if (step < 60 && seconds < 60) return `${Number(seconds.toPrecision(10))} s`;
    const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    if (hours > 0) return `${hours}:${two(minutes)}${whole % 60 ? `:${two(whole % 60)}` : " h"}`;
    return `${minutes}:${two(whole % 60)} min`;
  }

  // What is chosen stays where it is; else the middle does.
  function anchor() {
    const bars = chosen?.bars ?? [];
    if (bars.length === 0) return 0.5;
    return Math.max(0, Math.min(1, part((bars[0][0] + bars[bars.length - 1][1]) / 2)));
  }

  function zoom(factor, about = anchor()) {
    const at = from + about * (to - from);
    const span = Math.min(whole, Math.max(whole / 1e6, 1e-6, (to - from) * factor));
    look(at - about * span, span);
  }

  function look(start, span) {
    from = Math.max(0, Math.min(whole - span, start));
    to = from + span;
    plan();
  }

  function choose(row) {
    chosen = row;
    const at = shown.indexOf(row);
    if (at >= 0) {
      const top = at * HEIGHT, bottom = top + HEIGHT;
      if (top < rows.scrollTop) rows.scrollTop = top;
      else if (bottom > rows.scrollTop + rows.clientHeight) rows.scrollTop = bottom - rows.clientHeight;
    }
    tell(row);
    plan();
  }

  function tell(row) {
    if (row === null) {
      details.replaceChildren(make("p", "", "Point at a step, or choose one with the arrow keys. "
        + "+ and - zoom, Shift with the arrow keys moves, 0 shows all."));
      return;
    }
    const list = make("dl");
    const say = (name, value) => list.append(make("dt", "", name), make("dd", "", value));
    say("status", row.status);
    if (row.bars.length) {
      const [start, , ] = row.bars[0], end = row.bars[row.bars.length - 1][1];
      say("time", `${clock(start)}, from ${inWords(start)} to ${inWords(end)}`);
      say("took", inWords(tookOf(row)));
      if (row.bars.length > 1) {
        say("attempts", row.bars.map(([start, end, status]) => `${status} ${inWords(end - start)}`).join(", "));
      }
    }
    for (const [name, value] of row.notes) say(name, value);
    details.replaceChildren(make("h2", "", row.path || row.label), list);
  }

  function rowOf(event) {
    const made = event.target.closest(".row");
    return made === null ? null : all[Number(made.dataset.at)];
  }

  function toggle(row, isClosed) {
    if (!row.holds) return;
    if (isClosed) closed.add(row); else closed.delete(row);
    sieve();
  }

  function move(by) {
    if (shown.length === 0) return;
    let at = shown.indexOf(chosen);
    if (at < 0 && by < 0) at = 0;
    choose(shown[Math.max(0, Math.min(shown.length - 1, at + by))]);
  }

  const KEYS = {
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    PageDown: () => move(Math.floor(rows.clientHeight / HEIGHT)),
    PageUp: () => move(-Math.floor(rows.clientHeight / HEIGHT)),
    Home: () => move(-shown.length),
    End: () => move(shown.length),
    ArrowRight: () => {
      if (chosen?.holds && closed.has(chosen)) toggle(chosen, false); else if (chosen?.holds) move(1);
    },
    ArrowLeft: () => {
      if (chosen?.holds && !closed.has(chosen)) toggle(chosen, true); else if (chosen?.above) choose(chosen.above);
    },
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": () => look(0, whole),
  };
  rows.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pans = { ArrowLeft: -0.2, ArrowRight: 0.2 };
    const run = event.shiftKey && event.key in pans
      ? () => look(from + pans[event.key] * (to - from), to - from) : KEYS[event.key];
    if (run === undefined) return;
    event.preventDefault();
    run();
  });
  rows.addEventListener("click", (event) => {
    const row = rowOf(event);
    if (row === null) return;
    if (event.target.closest(".twist")) toggle(row, !closed.has(row));
    choose(row);
  });
  rows.addEventListener("mousemove", (event) => {
    const row = rowOf(event);
    if (row === hovered) return;
    hovered = row;
    tell(row ?? chosen);
  });
  rows.addEventListener("mouseleave", () => { hovered = null; tell(chosen); });
  rows.addEventListener("scroll", plan);
  rows.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const box = marks.getBoundingClientRect();
    const by = event.deltaY || event.deltaX;
    if (event.ctrlKey) zoom(by > 0 ? 1.25 : 0.8, Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)));
    else look(from + (by > 0 ? 0.1 : -0.1) * (to - from), to - from);
  }, { passive: false });
  let grip = null;
  rows.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.target.closest(".track")) grip = { x: event.clientX, from };
  });
  addEventListener("pointermove", (event) => {
    if (grip === null) return;
    look(grip.from - ((event.clientX - grip.x) / marks.clientWidth) * (to - from), to - from);
  });
  addEventListener("pointerup", () => { grip = null; });
  find("in").addEventListener("click", () => zoom(0.5));
  find("out").addEventListener("click", () => zoom(2));
  find("fit").addEventListener("click", () => look(0, whole));
  find("filter").addEventListener("input", () => { rows.scrollTop = 0; sieve(); });
  find("troubled").addEventListener("change", () => { rows.scrollTop = 0; sieve(); });
  addEventListener("resize", plan);
  tell(null);
  sieve();
})();
