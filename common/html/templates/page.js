"use strict";
(() => {
  const ROWS = 100; // events on a page of their table
  const SLICE = 50000; // events that are looked at before the page may draw again
  const root = document.documentElement;

  // -- what is packed ---------------------------------------------------------------------------

  async function bytesOf(id) {
    const text = atob(document.getElementById(id).textContent);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }
  const textOf = async (id) => new TextDecoder().decode(await bytesOf(id));
  const once = (make) => {
    const made = new Map();
    return (id) => {
      if (!made.has(id)) made.set(id, make(id));
      return made.get(id);
    };
  };
  const figuresOf = once(async (id) => JSON.parse(await textOf(id)));
  const library = once(async (id) => {
    const script = document.createElement("script");
    script.textContent = await textOf(id); // its hash is in the page's policy
    document.head.append(script);
    return window.Plotly;
  });

  // -- pictures ---------------------------------------------------------------------------------

  const drawn = new Map();

  // A figure names colours as CSS does, so that the style sheet is the one place that has them.
  function painted(value, styles) {
    if (typeof value === "string") {
      const name = /^var\((--[a-z-]+)\)$/.exec(value);
      return name ? styles.getPropertyValue(name[1]).trim() || value : value;
    }
    if (Array.isArray(value)) {
      const plain = value.every((v) => typeof v === "number" || v === null);
      return plain ? value : value.map((v) => painted(v, styles));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, painted(v, styles)]));
  }
  function figureOf(box) {
    const figure = painted(drawn.get(box), getComputedStyle(root));
    figure.layout.font.family = getComputedStyle(document.body).fontFamily;
    return figure;
  }
  function paint(box) {
    const figure = figureOf(box);
    const hover = matchMedia("(hover: hover)").matches ? "hover" : false;
    const config = { responsive: true, displaylogo: false, displayModeBar: hover, modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"] };
    return window.Plotly.react(box, figure.data, figure.layout, config);
  }
  const draw = once(async (box) => {
    const [figures] = await Promise.all([figuresOf(box.dataset.blob), library("plotly")]);
    drawn.set(box, figures[box.dataset.key]);
    await paint(box);
    box.dataset.drawn = "yes";
  });
  const failed = (box) => (error) => {
    box.textContent = `This picture could not be drawn: ${error.message}. A newer browser may be able to.`;
    box.dataset.drawn = "no";
    console.error(error);
  };
  // One after another: each is on the screen before the next one is begun.
  const breath = () => new Promise((resume) => setTimeout(resume));
  let turn = Promise.resolve();
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        seen.unobserve(target);
        turn = turn.then(() => draw(target).catch(failed(target))).then(breath);
      }
    },
    { rootMargin: "300px" },
  );
  // A picture that goes into a paper is of lines, not of points, has a ground, and its title.
  async function svgOf(box) {
    await draw(box);
    const figure = figureOf(box);
    const ground = getComputedStyle(root).getPropertyValue("--page").trim();
    const title = { text: box.dataset.title, x: 0.01, xanchor: "left", y: 0.98, yanchor: "top", yref: "container", font: { size: 15 } };
    const margin = { ...figure.layout.margin, t: (figure.layout.margin.t || 0) + 32 };
    const layout = { ...figure.layout, paper_bgcolor: ground, title, margin };
    const size = { width: Math.max(box.clientWidth, 640), height: box.clientHeight + 32 };
    const url = await window.Plotly.toImage({ data: figure.data, layout }, { format: "svg", ...size });
    return decodeURIComponent(url.slice(url.indexOf(",") + 1));
  }
  async function save(button) {
    const box = document.getElementById(button.dataset.plot);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await svgOf(box)], { type: "image/svg+xml" }));
    link.download = `${button.dataset.name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  for (const each of document.querySelectorAll("button.save")) {
    each.hidden = false;
    each.addEventListener("click", () => save(each).catch(failed(document.getElementById(each.dataset.plot))));
  }
  const boxes = [...document.querySelectorAll(".plot")];
  boxes.forEach((box) => seen.observe(box));

  // -- light and dark ---------------------------------------------------------------------------

  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  function repaint() {
    button.textContent = isDark() ? "Light" : "Dark";
    drawn.forEach((_, box) => paint(box));
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    repaint();
  });
  system.addEventListener("change", repaint);
  repaint();

  // Paper is light, and has all pictures of what is open.
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    repaint();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    repaint();
  });
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 200));
  const open = (box) => (box.checkVisibility ? box.checkVisibility() : box.offsetParent !== null);
  function drawRest() {
    const left = boxes.find((box) => !box.dataset.drawn && open(box));
    if (!left) return;
    seen.unobserve(left);
    turn = turn.then(() => draw(left).catch(failed(left))).then(() => idle(drawRest));
  }
  addEventListener("load", () => idle(drawRest));
  for (const run of document.querySelectorAll(".run")) run.addEventListener("toggle", () => idle(drawRest));

  // -- events -----------------------------------------------------------------------------------

  function numbers(column, count, buffer) {
    if (column.float) {
      const planes = new Uint8Array(buffer, column.at, count * 4);
      const bytes = new Uint8Array(count * 4);
      for (let p = 0; p < 4; p++) for (let i = 0; i < count; i++) bytes[i * 4 + p] = planes[p * count + i];
      return new Float32Array(bytes.buffer);
    }
    const out = new Float64Array(count).fill(column.least);
    for (let p = 0, unit = 1; p < column.width; p++, unit *= 256) {
      const plane = new Uint8Array(buffer, column.at + p * count, count);
      for (let i = 0; i < count; i++) out[i] += plane[i] * unit;
    }
    if (column.scale) for (let i = 0; i < count; i++) out[i] /= column.scale;
    return out;
  }

  function unpackEvents(whole) {
    const length = new DataView(whole).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length)));
    const body = whole.slice(4 + length);
    const times = numbers(head.time, head.count, body);
    for (let i = 1; i < head.count; i++) times[i] += times[i - 1];
    const kinds = Uint32Array.from(numbers(head.kind, head.count, body));
    const places = new Uint32Array(head.count); // of an event among those of its shape
    const counts = new Array(head.shapes.length).fill(0);
    for (let i = 0; i < head.count; i++) places[i] = counts[kinds[i]]++;
    const columnsOf = once((kind) =>
      Object.entries(head.shapes[kind].fields).map(([name, column]) => [
        name,
        numbers(column, counts[kind], body),
        column.words,
      ]),
    );
    const show = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
    const rounded = (value) => (Number.isInteger(value) ? value : Number(value.toPrecision(7)));
    return {
      count: head.count,
      names: [...new Set(head.shapes.map((shape) => shape.event))].sort(),
      time: (i) => times[i] / 1000,
      shape: (i) => head.shapes[kinds[i]],
      details: (i) =>
        columnsOf(kinds[i])
          .map(([name, values, words]) => {
            const value = values[places[i]];
            return `${name}=${show(words ? words[value] : rounded(value))}`;
          })
          .join("  "),
    };
  }

  function table(section, events) {
    const form = section.querySelector("form");
    const body = section.querySelector("tbody");
    const place = section.querySelector(".place");
    for (const name of events.names) form.event.append(new Option(name));
    let found = null; // indices, or null for all of them
    let page = 0;
    let asked = 0;
    const size = () => (found ? found.length : events.count);
    const last = () => Math.max(Math.ceil(size() / ROWS) - 1, 0);

    function show() {
      page = Math.min(Math.max(page, 0), last());
      const begin = page * ROWS;
      const end = Math.min(begin + ROWS, size());
      const rows = [];
      for (let at = begin; at < end; at++) {
        const i = found ? found[at] : at;
        const row = document.createElement("tr");
        const shape = events.shape(i);
        [events.time(i).toFixed(3), shape.agent, shape.event, events.details(i)].forEach((text, n) => {
          const cell = row.insertCell();
          cell.textContent = text;
          cell.className = n ? "word" : "figure";
        });
        rows.push(row);
      }
      body.replaceChildren(...rows);
      const number = (n) => n.toLocaleString("en");
      const of = found ? `${number(size())} of ${number(events.count)} that match` : number(size());
      place.textContent = size() ? `${number(begin + 1)}–${number(end)} of ${of}` : "no event matches";
      for (const one of section.querySelectorAll("[data-go]")) {
        one.disabled = ["first", "back"].includes(one.dataset.go) ? page === 0 : page === last();
      }
    }

    async function filter() {
      const mine = ++asked;
      const agent = form.agent.value;
      const name = form.event.value;
      const text = form.text.value.trim().toLowerCase();
      const from = form.from.value === "" ? -Infinity : Number(form.from.value);
      const to = form.to.value === "" ? Infinity : Number(form.to.value);
      page = 0;
      if (!agent && !name && !text && from === -Infinity && to === Infinity) {
        found = null;
        return show();
      }
      const out = [];
      for (let i = 0; i < events.count; i++) {
        if (i && i % SLICE === 0) {
          place.textContent = `looking: ${Math.round((100 * i) / events.count)} %`;
          await breath();
          if (mine !== asked) return; // somebody has typed on
        }
        const shape = events.shape(i);
        const time = events.time(i);
        if ((agent && shape.agent !== agent) || (name && shape.event !== name)) continue;
        if (time < from || time > to) continue;
        if (text && !`${shape.event} ${events.details(i)}`.toLowerCase().includes(text)) continue;
        out.push(i);
      }
      found = out;
      show();
    }

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", filter);
    section.querySelector(".pager").addEventListener("click", ({ target }) => {
      const step = { first: -page, back: -1, on: 1, last: last() - page }[target.dataset.go];
      if (step !== undefined) {
        page += step;
        show();
      }
    });
    show();
  }

  for (const section of document.querySelectorAll(".events")) {
    const details = section.querySelector("details");
    if (!details) continue;
    const show = once(async () => table(section, unpackEvents(await bytesOf(section.dataset.blob))));
    details.addEventListener("toggle", () => {
      if (details.open) show("");
    });
  }
})();
