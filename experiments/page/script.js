"use strict";
// Draws every .plot from the JSON beside it in the colours of the theme; one legend shows and hides a group in all of them.
const plots = [...document.querySelectorAll(".plot")];
const hidden = new Set();
const phone = matchMedia("(max-width: 720px)");
const dark = matchMedia("(prefers-color-scheme: dark)");

function named(colour) { // "@0/0.2" -> the first group's colour at 20 % opacity
  const [name, opacity] = colour.slice(1).split("/");
  const hex = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  return opacity ? hex + Math.round(opacity * 255).toString(16).padStart(2, "0") : hex;
}

function themed(value) {
  if (Array.isArray(value)) return value.map(themed);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)]));
  return typeof value === "string" && /^@[a-z0-9]+(\/[\d.]+)?$/.test(value) ? named(value) : value;
}

function axis(given) {
  const title = { ...(given?.title ?? {}), standoff: 8, font: { size: 12, color: named("@muted") } };
  return { gridcolor: named("@rule"), zeroline: false, linecolor: named("@rule"), tickfont: { size: 11, color: named("@muted") },
           automargin: true, ticks: "", ...given, title };
}

function draw(plot) {
  const figure = themed(JSON.parse(plot.nextElementSibling.textContent));
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: phone.matches ? false : "zoom",
    margin: { l: 8, r: 12, t: 10, b: 8 }, font: { family: getComputedStyle(document.documentElement).getPropertyValue("--sans"), size: 12, color: named("@ink") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: named("@muted/0.6"), activecolor: named("@ink") },
    hoverlabel: { bgcolor: named("@raised"), bordercolor: named("@rule"), font: { color: named("@ink"), size: 12 } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 }, groupclick: "togglegroup" },
    ...figure.layout,
  };
  for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key)) layout[key] = axis(layout[key]);
  for (const trace of figure.data) if (hidden.has(trace.legendgroup)) trace.visible = false;
  Plotly.react(plot, figure.data, layout, {
    displaylogo: false, responsive: true, displayModeBar: phone.matches ? false : undefined,
    modeBarButtons: [["toImage", "resetScale2d"]], toImageButtonOptions: { scale: 3, filename: plot.id },
  });
}

function toggle(button) {
  const group = button.dataset.legend;
  const off = hidden.has(group) ? !hidden.delete(group) : Boolean(hidden.add(group));
  button.setAttribute("aria-pressed", String(!off));
  document.querySelectorAll("[data-group]").forEach(e => { if (e.dataset.group === group) e.classList.toggle("off", off); });
  for (const plot of plots) {
    const places = plot.data.flatMap((trace, i) => trace.legendgroup === group || trace.meta === "pair" ? [i] : []);
    const visible = places.map(i => plot.data[i].meta === "pair" ? hidden.size === 0 : !off);
    if (places.length) Plotly.restyle(plot, { visible }, places);
  }
}

function sort(table, column, header) {
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    const order = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y);
    return ascending ? order : -order;
  });
  table.querySelectorAll("th").forEach(th => th.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  table.tBodies[0].append(...rows);
}

plots.forEach(draw);
dark.addEventListener("change", () => plots.forEach(draw));
phone.addEventListener("change", () => plots.forEach(draw));
document.querySelectorAll("[data-legend]").forEach(b => b.addEventListener("click", () => toggle(b)));
document.querySelectorAll("table.sortable").forEach(table =>
  table.querySelectorAll("th").forEach((th, i) => th.addEventListener("click", () => sort(table, i, th))));
document.querySelectorAll(".seeds").forEach(bar => bar.querySelectorAll("button").forEach(button => button.addEventListener("click", () => {
  bar.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", String(b === button)));
  bar.parentElement.querySelectorAll("[data-seed]").forEach(e => { e.hidden = e.dataset.seed !== button.dataset.show; });
})));
document.documentElement.dataset.drawn = String(plots.length);
