// The parts of the report that need more than HTML: graph, timeline and the table of instances. Everything else is in the page
// already, so that it reads without this script. Only what is visible is drawn: a run of ten thousand instances stays quick.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  // A row: [job, address, state, message, attempts]; an attempt: [number, ready, start, end, outcome, what, cpu, memory, staged?], -1: none.
  const ROW = { JOB: 0, ADDRESS: 1, STATE: 2, MESSAGE: 3, ATTEMPTS: 4 };
  const AT = { NUMBER: 0, READY: 1, START: 2, END: 3, OUTCOME: 4, WHAT: 5, CPU: 6, MEMORY: 7, STAGED: 8 };
  const rows = data.rows;

  const pad = (n) => String(n).padStart(2, "0");
  function took(ms) {
    if (ms < 0) return "";
    if (ms < 1000) return `${ms}ms`;
    if (ms < 10000) return `${Math.floor(ms / 1000)}.${Math.floor(ms / 100) % 10}s`;
    const s = Math.floor(ms / 1000);
    if (s < 60) return `${s}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m${pad(s % 60)}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h${pad(Math.floor(s / 60) % 60)}m`;
    return `${Math.floor(s / 86400)}d${pad(Math.floor(s / 3600) % 24)}h`;
  }
  function bytes(n) {
    if (n < 0) return "";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (n >= 1024 && unit < units.length - 1) { n /= 1024; unit++; }
    return `${n >= 10 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
  }
  const endOf = (attempt) => (attempt[AT.END] >= 0 ? attempt[AT.END] : data.elapsed);
  const runTime = (row) => row[ROW.ATTEMPTS].reduce((sum, a) => sum + (a[AT.START] >= 0 ? endOf(a) - a[AT.START] : 0), 0);
  const started = (row) => row[ROW.ATTEMPTS].some((a) => a[AT.START] >= 0);
  const waitTime = (row) => row[ROW.ATTEMPTS].reduce((sum, a) => sum + (a[AT.READY] >= 0 && a[AT.START] >= 0 ? Math.max(0, a[AT.START] - a[AT.READY]) : 0), 0);
  const beginOf = (row) => {
    for (const a of row[ROW.ATTEMPTS]) if (a[AT.READY] >= 0 || a[AT.START] >= 0) return a[AT.READY] >= 0 ? a[AT.READY] : a[AT.START];
    return -1;
  };
  const make = (name, attributes = {}, text) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // --- Light and dark -------------------------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const redraws = [];
  function themed() {
    $("theme").textContent = isDark() ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", isDark() ? "show in light colours" : "show in dark colours");
    for (const redraw of redraws) redraw();
  }
  $("theme").addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; themed(); });
  dark.addEventListener("change", themed);

  // --- The graph ------------------------------------------------------------------------------------------------------
  const SVG = "http://www.w3.org/2000/svg";
  function shape(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }
  const STATES = ["failed", "ignored", "cancelled", "blocked", "running", "succeeded", "skipped", "waiting", "lost"];
  function drawGraph() {
    const host = $("graph");
    if (!host || !data.graph) return;
    const jobs = data.jobs, W = 184, H = 50, GAP_X = 26, GAP_Y = 44;
    const layer = jobs.map(() => 0);
    // Plans list a job after what it needs, so one pass gives the longest path to each.
    const order = jobs.map((_, i) => i);
    for (let pass = 0, changed = true; changed && pass < jobs.length; pass++) {
      changed = false;
      for (const i of order) for (const [from] of jobs[i].needs) if (layer[i] < layer[from] + 1) { layer[i] = layer[from] + 1; changed = true; }
    }
    const last = Math.max(0, ...layer);
    jobs.forEach((job, i) => { if (job.kind === "finally" || job.kind === "hook") layer[i] = last + 1; });
    const layers = [];
    jobs.forEach((_, i) => (layers[layer[i]] ||= []).push(i));
    const place = jobs.map(() => 0);
    const lanes = layers.filter(Boolean);
    lanes.forEach((lane) => lane.forEach((job, at) => { place[job] = at - (lane.length - 1) / 2; }));
    for (let pass = 0; pass < 4; pass++) {
      for (const lane of lanes) {
        const middle = new Map(lane.map((job) => {
          const near = pass % 2 === 0 ? jobs[job].needs.map(([from]) => from) : jobs.flatMap((other, to) => (other.needs.some(([from]) => from === job) ? [to] : []));
          return [job, near.length ? near.reduce((sum, other) => sum + place[other], 0) / near.length : place[job]];
        }));
        lane.sort((a, b) => middle.get(a) - middle.get(b));
        lane.forEach((job, at) => { place[job] = at - (lane.length - 1) / 2; });
      }
    }
    const widest = Math.max(...lanes.map((lane) => lane.length));
    const width = widest * (W + GAP_X) + GAP_X, height = lanes.length * (H + GAP_Y) - GAP_Y + 24;
    const svg = document.createElementNS(SVG, "svg");
    for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `graph of ${jobs.length} jobs; the table of jobs below says the same` })) svg.setAttribute(key, value);
    const marker = shape(shape(svg, "defs", {}), "marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
    shape(marker, "path", { d: "M0 0 L8 4 L0 8 z" });
    const x = (job) => width / 2 + place[job] * (W + GAP_X) - W / 2;
    const y = (job) => 12 + lanes.findIndex((lane) => lane.includes(job)) * (H + GAP_Y);
    const top = jobs.map((_, i) => y(i));
    jobs.forEach((job, to) => {
      for (const [from, weak] of job.needs) {
        const x1 = x(from) + W / 2, y1 = top[from] + H, x2 = x(to) + W / 2, y2 = top[to] - 2, bend = Math.max(20, (y2 - y1) / 2);
        shape(svg, "path", { class: weak ? "edge weak" : "edge", d: `M${x1} ${y1} C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`, "marker-end": "url(#arrow)" });
      }
    });
    jobs.forEach((job, i) => {
      const mark = job.counts.failed ? "failed" : job.counts.running ? "running" : "";
      const node = shape(svg, "g", { class: `node ${mark}`, transform: `translate(${x(i)} ${top[i]})` });
      const words = STATES.filter((state) => job.counts[state]).map((state) => `${job.counts[state]} ${state}`).join(", ");
      shape(node, "title", {}, `${job.name}: ${words || "no instances"}${job.elapsed >= 0 ? `, ${took(job.elapsed)}` : ""}`);
      shape(node, "rect", { class: "box", width: W, height: H, rx: job.kind === "check" ? 20 : 7 });
      const name = job.name.length > 24 ? `${job.name.slice(0, 23)}…` : job.name;
      shape(node, "text", { x: 12, y: 20 }, name);
      const total = STATES.reduce((sum, state) => sum + (job.counts[state] || 0), 0);
      const done = total - (job.counts.running || 0) - (job.counts.waiting || 0) - (job.counts.lost || 0);
      const side = job.scatter ? `${done}/${total}` : words.replace(/^1 /, "");
      shape(node, "text", { class: "sub", x: 12, y: 35 }, `${side}${job.elapsed >= 0 ? ` · ${took(job.elapsed)}` : ""}${job.kind === "job" ? "" : ` · ${job.kind}`}`);
      shape(node, "rect", { class: "track", x: 12, y: 40, width: W - 24, height: 4, rx: 2 });
      let at = 12;
      for (const state of STATES) {
        const part = total ? ((W - 24) * (job.counts[state] || 0)) / total : 0;
        if (part > 0) shape(node, "rect", { class: `fill-${state}`, x: at, y: 40, width: part, height: 4 });
        at += part;
      }
    });
    host.replaceChildren(svg);
  }

  // --- The timeline ---------------------------------------------------------------------------------------------------
  function timeline() {
    const host = $("timeline");
    if (!host) return;
    const LINE = 18, HEAD = 26, canvas = document.createElement("canvas"), viewport = make("div", { class: "viewport", tabindex: "0", role: "application", "aria-roledescription": "timeline", "aria-describedby": "timeline-help" });
    const spacer = make("div", { class: "spacer" });
    viewport.append(canvas, spacer);
    host.append(viewport);
    const tip = $("tip"), live = $("timeline-live");
    let shown = [], from = 0, to = Math.max(1, data.elapsed), selected = -1, queued = false, filter = -1;
    const labels = () => Math.min(260, Math.max(90, viewport.clientWidth * 0.22));
    const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const attemptColor = (a, state) => (a[AT.OUTCOME] === "succeeded" ? "--succeeded" : a[AT.OUTCOME] === "cancelled" ? "--cancelled" : a[AT.OUTCOME] === "failed" ? (state === "ignored" ? "--ignored" : "--failed") : "--running");
    function choose() {
      const by = $("timeline-order").value;
      shown = rows.map((_, i) => i).filter((i) => beginOf(rows[i]) >= 0 && (filter < 0 || rows[i][ROW.JOB] === filter));
      if (by === "long") shown.sort((a, b) => runTime(rows[b]) - runTime(rows[a]));
      if (by === "job") shown.sort((a, b) => rows[a][ROW.JOB] - rows[b][ROW.JOB] || beginOf(rows[a]) - beginOf(rows[b]));
      const height = Math.min(460, HEAD + Math.max(3, shown.length) * LINE + 6);
      viewport.style.height = `${height}px`;
      spacer.style.height = `${Math.max(0, HEAD + shown.length * LINE + 6 - height)}px`;
      selected = -1;
      viewport.scrollTop = 0;
      draw();
    }
    const firstLine = () => Math.floor(viewport.scrollTop / LINE);
    function paint() {
      queued = false;
      const ratio = devicePixelRatio || 1, width = viewport.clientWidth, height = viewport.clientHeight;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      const g = canvas.getContext("2d");
      g.scale(ratio, ratio);
      const left = labels(), color = {};
      for (const name of ["--panel", "--text", "--dim", "--line", "--soft", "--wait", "--succeeded", "--failed", "--ignored", "--cancelled", "--running", "--accent"]) color[name] = css(name);
      const px = (t) => left + ((t - from) / (to - from)) * (width - left - 10);
      g.fillStyle = color["--panel"];
      g.fillRect(0, 0, width, height);
      g.font = '12px system-ui, "DejaVu Sans", sans-serif';
      g.textBaseline = "middle";
      const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 144e5, 432e5, 864e5, 1728e5, 6048e5].find((s) => (s / (to - from)) * (width - left) > 76) || 2592e6;
      g.strokeStyle = color["--line"];
      g.lineWidth = 1;
      for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
        const at = Math.round(px(t)) + 0.5;
        g.beginPath();
        g.moveTo(at, HEAD);
        g.lineTo(at, height);
        g.stroke();
        g.fillStyle = color["--dim"];
        g.textAlign = at > width - 30 ? "right" : "center";
        g.fillText(t === 0 ? "0" : took(t), at, HEAD / 2);
      }
      g.save();
      g.beginPath();
      g.rect(0, HEAD, width, height - HEAD);
      g.clip();
      const first = firstLine(), shift = viewport.scrollTop - first * LINE;
      for (let line = first, y = HEAD - shift; line < shown.length && y < height; line++, y += LINE) {
        const row = rows[shown[line]];
        if (line === selected) {
          g.fillStyle = color["--soft"];
          g.fillRect(0, y, width, LINE);
        }
        g.textAlign = "left";
        g.fillStyle = line === selected ? color["--text"] : color["--dim"];
        let label = row[ROW.ADDRESS];
        while (label.length > 4 && g.measureText(label).width > left - 18) label = `${label.slice(0, Math.max(3, Math.floor(label.length * 0.93) - 1))}…`.replace("……", "…");
        g.fillText(label, 10, y + LINE / 2);
        g.save();
        g.beginPath();
        g.rect(left, HEAD, width - left, height);
        g.clip();
        for (const a of row[ROW.ATTEMPTS]) {
          const start = a[AT.START] >= 0 ? a[AT.START] : endOf(a);
          if (a[AT.READY] >= 0 && start > a[AT.READY]) {
            g.fillStyle = color["--wait"];
            g.fillRect(px(a[AT.READY]), y + LINE / 2 - 1.5, Math.max(1, px(start) - px(a[AT.READY])), 3);
          }
          if (a[AT.START] >= 0) {
            g.fillStyle = color[attemptColor(a, row[ROW.STATE])];
            g.fillRect(px(a[AT.START]), y + 3, Math.max(2, px(endOf(a)) - px(a[AT.START])), LINE - 6);
          }
        }
        g.restore();
      }
      g.restore();
      g.strokeStyle = color["--line"];
      g.beginPath();
      g.moveTo(0, HEAD + 0.5);
      g.lineTo(width, HEAD + 0.5);
      g.moveTo(left + 0.5, 0);
      g.lineTo(left + 0.5, height);
      g.stroke();
    }
    function draw() {
      if (queued) return;
      queued = true;
      requestAnimationFrame(paint);
    }
    function describe(row) {
      const lines = [`${row[ROW.ADDRESS]}: ${row[ROW.STATE]}`];
      for (const a of row[ROW.ATTEMPTS]) {
        const parts = [`attempt ${a[AT.NUMBER]}: ${a[AT.OUTCOME]}${a[AT.WHAT] ? ` (${a[AT.WHAT]})` : ""}`];
        if (a[AT.START] >= 0) parts.push(`ran ${took(endOf(a) - a[AT.START])} from ${took(a[AT.START])} on`);
        if (a[AT.READY] >= 0 && a[AT.START] >= 0) parts.push(`waited ${took(Math.max(0, a[AT.START] - a[AT.READY]))}`);
        if (a[AT.CPU] >= 0) parts.push(`cpu ${took(a[AT.CPU])}`);
        if (a[AT.MEMORY] > 0) parts.push(`memory ${bytes(a[AT.MEMORY])}`);
        lines.push(parts.join(", "));
        if (a[AT.STAGED]) lines.push(`staged: ${a[AT.STAGED]}`);
      }
      return lines.join("\n");
    }
    function zoom(factor, around = (from + to) / 2) {
      const span = Math.min(Math.max(1, data.elapsed), Math.max(5, (to - from) * factor));
      from = Math.max(0, Math.min(around - ((around - from) / (to - from)) * span, Math.max(1, data.elapsed) - span));
      to = from + span;
      draw();
    }
    function pan(by) {
      const span = to - from;
      from = Math.max(0, Math.min(from + by, Math.max(1, data.elapsed) - span));
      to = from + span;
      draw();
    }
    const timeAt = (x) => from + ((x - labels()) / (viewport.clientWidth - labels() - 10)) * (to - from);
    function select(line) {
      selected = Math.max(0, Math.min(shown.length - 1, line));
      const top = selected * LINE, bottom = top + LINE + HEAD;
      if (top < viewport.scrollTop) viewport.scrollTop = top;
      if (bottom > viewport.scrollTop + viewport.clientHeight) viewport.scrollTop = bottom - viewport.clientHeight + 6;
      if (shown.length) live.textContent = describe(rows[shown[selected]]);
      draw();
    }
    viewport.addEventListener("scroll", draw, { passive: true });
    viewport.addEventListener("keydown", (event) => {
      const page = Math.floor((viewport.clientHeight - HEAD) / LINE);
      const keys = { ArrowDown: () => select(selected + 1), ArrowUp: () => select(selected - 1), PageDown: () => select(selected + page), PageUp: () => select(selected - page), Home: () => select(0), End: () => select(shown.length - 1),
        ArrowLeft: () => pan(-(to - from) / 8), ArrowRight: () => pan((to - from) / 8), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => zoom(1e9) };
      if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) { keys[event.key](); event.preventDefault(); }
    });
    viewport.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event.clientX - canvas.getBoundingClientRect().left));
    }, { passive: false });
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, from }; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", (event) => {
      if (drag && Math.abs(event.clientX - drag.x) < 3) select(lineAt(event));
      drag = null;
    });
    const lineAt = (event) => Math.floor((event.clientY - canvas.getBoundingClientRect().top - HEAD + viewport.scrollTop) / LINE);
    canvas.addEventListener("pointermove", (event) => {
      if (drag) { pan(drag.from - ((event.clientX - drag.x) / (viewport.clientWidth - labels() - 10)) * (to - from) - from); tip.hidden = true; return; }
      const line = lineAt(event), y = event.clientY - canvas.getBoundingClientRect().top;
      if (y < HEAD || line < 0 || line >= shown.length) { tip.hidden = true; return; }
      tip.textContent = describe(rows[shown[line]]);
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${event.clientY + 16 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 16}px`;
    });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    $("timeline-in").addEventListener("click", () => zoom(0.6));
    $("timeline-out").addEventListener("click", () => zoom(1 / 0.6));
    $("timeline-fit").addEventListener("click", () => zoom(1e9));
    $("timeline-order").addEventListener("change", choose);
    $("timeline-job").addEventListener("change", () => { filter = Number($("timeline-job").value); choose(); });
    data.jobs.forEach((job, i) => { if (job.attempts) $("timeline-job").append(make("option", { value: i }, job.name)); });
    new ResizeObserver(draw).observe(viewport);
    redraws.push(draw);
    choose();
  }

  // --- The instances --------------------------------------------------------------------------------------------------
  function instances() {
    const grid = $("grid");
    if (!grid) return;
    const LINE = 29, body = grid.querySelector("tbody"), search = $("instances-search"), states = $("instances-state");
    const columns = [(row) => row[ROW.ADDRESS], (row) => row[ROW.STATE], (row) => row[ROW.ATTEMPTS].length, beginOf, (row) => (started(row) ? waitTime(row) : -1), (row) => (started(row) ? runTime(row) : -1),
      (row) => Math.max(-1, ...row[ROW.ATTEMPTS].map((a) => a[AT.CPU])), (row) => Math.max(-1, ...row[ROW.ATTEMPTS].map((a) => a[AT.MEMORY])), (row) => row[ROW.MESSAGE]];
    const shownAs = [null, null, String, (v) => (v < 0 ? "" : took(v)), took, took, took, (v) => (v > 0 ? bytes(v) : ""), null];
    const collate = new Intl.Collator("en", { numeric: true });
    let list = [], by = 3, down = false, drawn = [-1, -1];
    for (const state of [...new Set(rows.map((row) => row[ROW.STATE]))].sort()) states.append(make("option", { value: state }, state));
    function choose() {
      const text = search.value.toLowerCase(), state = states.value;
      list = [];
      rows.forEach((row, i) => { if ((!state || row[ROW.STATE] === state) && (!text || row[ROW.ADDRESS].toLowerCase().includes(text) || row[ROW.MESSAGE].toLowerCase().includes(text))) list.push(i); });
      const key = new Map(list.map((i) => [i, columns[by](rows[i])]));
      list.sort((a, b) => {
        const x = key.get(a), y = key.get(b);
        if (x === -1 || y === -1) return x === y ? a - b : x === -1 ? 1 : -1; // what is not known comes last, either way
        const less = typeof x === "string" ? collate.compare(x, y) : x - y;
        return (down ? -less : less) || a - b;
      });
      grid.querySelectorAll("th").forEach((th, i) => th.setAttribute("aria-sort", i === by ? (down ? "descending" : "ascending") : "none"));
      $("instances-count").textContent = `${list.length} of ${rows.length}`;
      grid.querySelector("table").setAttribute("aria-rowcount", String(list.length + 1));
      grid.scrollTop = 0;
      drawn = [-1, -1];
      draw();
    }
    function draw() {
      const first = Math.max(0, Math.floor(grid.scrollTop / LINE) - 10), end = Math.min(list.length, first + Math.ceil(grid.clientHeight / LINE) + 22);
      if (drawn[0] === first && drawn[1] === end) return;
      drawn = [first, end];
      const gap = (lines) => {
        const row = make("tr", { class: "gap", "aria-hidden": "true" }), cell = make("td", { colspan: columns.length });
        cell.style.height = `${lines * LINE}px`;
        row.append(cell);
        return row;
      };
      const out = [gap(first)];
      for (let at = first; at < end; at++) {
        const row = rows[list[at]], line = make("tr", { "aria-rowindex": at + 2 });
        columns.forEach((column, i) => {
          const value = column(row), cell = make("td", {}, shownAs[i] ? shownAs[i](value) : value);
          if (i === 0) { cell.className = "address"; cell.title = value; }
          if (i === 1) cell.className = `state ${value}`;
          if (i >= 2 && i <= 7) cell.className = "num";
          if (i === 8) cell.title = value;
          line.append(cell);
        });
        out.push(line);
      }
      out.push(gap(list.length - end));
      body.replaceChildren(...out);
    }
    grid.addEventListener("scroll", draw, { passive: true });
    search.addEventListener("input", choose);
    states.addEventListener("change", choose);
    grid.querySelectorAll("th button").forEach((button, i) => button.addEventListener("click", () => { down = by === i ? !down : i >= 4 && i <= 7; by = i; choose(); }));
    new ResizeObserver(draw).observe(grid);
    choose();
  }

  for (const element of document.querySelectorAll(".needs-script")) element.hidden = false;
  drawGraph();
  timeline();
  instances();
  themed();
  document.documentElement.dataset.ready = "yes";
})();
