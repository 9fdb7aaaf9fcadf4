// Draws <figure class="chart"> with Plotly, from the page's own colours.
//
//   <figure class="chart" data-chart-url="/x.json" data-live="rollout:17">   or with the figure inside:
//   <figure class="chart"><script type="application/json">{"data": [], "layout": {}}</script></figure>
//
// A colour in a figure is written as "var(--series-3)" and takes the value of the theme shown.

const drawn = new Map();
let plotlyPromise = null;

function loadPlotly() {
  // 4.8 MB: only pages with a chart pay for it.
  plotlyPromise ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    // While it loads, Plotly puts the styles of its maps inline, which the page's policy refuses. We draw
    // no maps; but a console that always shows one refusal hides the one that matters.
    const create = document.createElement;
    document.createElement = function (name, ...rest) {
      const inert = name === "style" && document.currentScript === script;
      return create.call(document, inert ? "meta" : name, ...rest);
    };
    const restore = () => delete document.createElement;
    script.addEventListener("load", restore);
    script.addEventListener("error", restore);
    script.src = document.querySelector('meta[name="plotly-src"]').content;
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      plotlyPromise = null;
      reject(new Error("The chart library did not load."));
    });
    document.head.append(script);
  });
  return plotlyPromise;
}

// ---- colours from the page's tokens --------------------------------------------------------------

const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
const paint = canvas.getContext("2d", { willReadFrequently: true });
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
let colours = new Map();

function colour(text) {
  // Plotly reads no oklch() and no light-dark(): the browser resolves both, a pixel gives them as rgba.
  if (!colours.has(text)) {
    probe.style.color = "";
    probe.style.color = text;
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = getComputedStyle(probe).color;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data;
    colours.set(text, `rgba(${r},${g},${b},${(a / 255).toFixed(3)})`);
  }
  return colours.get(text);
}

function themed(value) {
  if (typeof value === "string") {
    return value.includes("var(--") || value.startsWith("color-mix(") ? colour(value) : value;
  }
  if (Array.isArray(value)) return value.map(themed);
  // Typed arrays and Plotly's base64 arrays ({dtype, bdata}) hold no colours.
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value) || "bdata" in value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, themed(part)]));
}

function template() {
  const axis = {
    gridcolor: "var(--line)",
    linecolor: "var(--line-strong)",
    zerolinecolor: "var(--line)",
    ticks: "outside",
    ticklen: 6,
    tickcolor: "rgba(0,0,0,0)",
    tickfont: { color: "var(--muted)", size: 12 },
    title: { font: { color: "var(--muted)", size: 12 }, standoff: 8 },
    // Plotly outlines the hover line in white, which would outshine the event marks.
    showspikes: false,
    automargin: true,
    zeroline: false,
  };
  return themed({
    layout: {
      colorway: [0, 1, 2, 3, 4, 5, 6, 7].map((n) => `var(--series-${n})`),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "var(--text)" },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 48, r: 12, t: 8, b: 32 },
      xaxis: { ...axis, showgrid: false },
      yaxis: { ...axis, rangemode: "tozero" },
      hovermode: "x unified",
      hoverlabel: { bgcolor: "var(--surface)", bordercolor: "var(--line-strong)", font: { color: "var(--text)", size: 12 } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: "var(--muted)" }, bgcolor: "rgba(0,0,0,0)" },
      shapedefaults: { line: { color: "var(--line-strong)", width: 1, dash: "dot" } },
      annotationdefaults: { font: { color: "var(--muted)", size: 12 }, showarrow: false },
      colorscale: { sequential: [[0, "var(--sunken)"], [1, "var(--accent)"]] },
    },
    data: { scatter: [{ type: "scatter", line: { width: 2 }, connectgaps: false }] },
  });
}

// ---- drawing ------------------------------------------------------------------------------------

function say(figure, text) {
  let words = figure.querySelector(":scope > .chart-says");
  if (!words) {
    words = document.createElement("p");
    words.className = "chart-says";
    words.setAttribute("role", "status");
    plotOf(figure).after(words);
  }
  if (words.textContent !== text) words.textContent = text;
}

function plotOf(figure) {
  let plot = figure.querySelector(":scope > .chart-plot");
  if (!plot) {
    plot = document.createElement("div");
    plot.className = "chart-plot";
    const caption = figure.querySelector(":scope > figcaption");
    if (caption) caption.after(plot);
    else figure.prepend(plot);
  }
  const name = figure.querySelector(":scope > figcaption")?.textContent.trim() || "Chart";
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", figure.querySelector(":scope > details") ? `${name}; the table below says the same` : name);
  return plot;
}

async function readFigure(figure) {
  const inline = figure.querySelector(':scope > script[type="application/json"]')
    ?? (figure.dataset.chartUrl ? null : figure.nextElementSibling?.matches('script[type="application/json"]') && figure.nextElementSibling);
  if (!figure.dataset.chartUrl) return inline ? JSON.parse(inline.textContent) : null;
  const answer = await fetch(figure.dataset.chartUrl, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.message ? `${told.message}.` : `The chart's figures could not be read (${answer.status}).`);
  }
  return answer.json();
}

async function draw(figure, spec) {
  const plotly = await loadPlotly();
  // Fonts decide margins; drawn before they stand, labels are cut.
  await document.fonts.ready;
  if (!figure.isConnected) return;
  const plot = plotOf(figure);
  const { width, height, template: ignored, ...layout } = spec.layout ?? {};
  const many = (spec.data ?? []).filter((trace) => trace.showlegend !== false).length > 1;
  const full = {
    showlegend: many,
    // The reader's zoom and hidden traces outlive an update; the axis itself moves on with time.
    uirevision: figure.id || "keep",
    ...themed(layout),
    autosize: true,
    template: template(),
  };
  if (many && !layout.margin) full.margin = { l: 48, r: 12, t: 32, b: 32 };
  await plotly.react(plot, themed(spec.data ?? []), full, { displayModeBar: false, responsive: true, doubleClick: "reset", locale: "en" });
  drawn.set(figure, spec);
  resize.observe(plot);
}

const resize = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.isConnected && target.clientWidth > 0 && target.data) window.Plotly?.Plots.resize(target);
  }
});

const asked = new WeakSet();
const running = new WeakSet();
const again = new WeakSet();

async function update(figure) {
  // Two answers may arrive in the wrong order; one request at a time cannot.
  if (running.has(figure)) {
    again.add(figure);
    return;
  }
  running.add(figure);
  try {
    // Only once: an empty one that follows the present would say so at every change.
    if (!asked.has(figure)) say(figure, "Drawing…");
    asked.add(figure);
    const spec = await readFigure(figure);
    if (!spec || !(spec.data ?? []).length) {
      say(figure, spec?.layout?.meta?.empty ?? "Nothing was measured in this time.");
      plotOf(figure).hidden = true;
      return;
    }
    plotOf(figure).hidden = false;
    await draw(figure, spec);
    say(figure, "");
  } catch (error) {
    // The last picture stays; what it lacks is said below it.
    say(figure, `${error.message} It is tried again with the next change.`);
  } finally {
    running.delete(figure);
    // A change told while the last was being drawn is not in the picture.
    if (again.delete(figure)) update(figure);
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    update(target);
  }
}, { rootMargin: "300px" });

function findCharts() {
  for (const figure of drawn.keys()) {
    if (figure.isConnected) continue;
    const plot = figure.querySelector(":scope > .chart-plot");
    if (plot) {
      resize.unobserve(plot);
      window.Plotly?.purge(plot);
    }
    drawn.delete(figure);
  }
  for (const figure of document.querySelectorAll("figure.chart:not([data-found])")) {
    figure.dataset.found = "yes";
    figure.addEventListener("live", () => update(figure));
    seen.observe(figure);
  }
}

document.addEventListener("contentchange", findCharts);
document.addEventListener("themechange", () => {
  colours = new Map();
  for (const [figure, spec] of drawn) if (figure.isConnected) draw(figure, spec);
});
findCharts();
