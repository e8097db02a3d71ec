// The plots, which are drawn anew every two seconds, and what a form asks before it is sent. All else is the server's.
(() => {
  "use strict";
  const EVERY = 2000;
  const root = document.getElementById("plots");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = new Map(); // by name: the uPlot, and the names of its lines
  let last = null;

  const format = (v) => v === 0 ? "0" : v < 10 ? v.toFixed(1) : v < 1e4 ? String(Math.round(v)) : Math.round(v).toLocaleString("en").replaceAll(",", "\u202f");

  // What is refused has the colours of trouble, all else those of its place.
  const colours = { "refused for good": "--bad", "to be sent again": "--warn" };
  const colourOf = (name, i) => colour(colours[name] ?? "--c" + i % 8);

  function options(box, names) {
    const grid = { stroke: colour("--line"), width: 1 };
    const axis = { stroke: colour("--dim"), grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      width: box.clientWidth, height: box.clientHeight, legend: { show: false }, cursor: { y: false, points: { show: false } },
      padding: [8, 28, 0, 0], // on the right the half of a time
      scales: { y: { range: (u, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, space: 64, size: 26, values: (u, ticks) => ticks.map((t) => new Date(t * 1000).toISOString().slice(11, 19)) },
        { ...axis, size: 46, values: (u, ticks) => ticks.map((v) => v >= 1e6 ? v / 1e6 + " M" : v >= 1e4 ? v / 1e3 + " k" : String(+v.toFixed(2))) },
      ],
      series: [{}, ...names.map((label, i) => ({
        label, stroke: colourOf(label, i), width: 1.75, fill: colourOf(label, i) + "1c", points: { show: false },
      }))],
    };
  }

  function draw(name, times, lines) {
    const box = root.querySelector(`[data-plot="${name}"]`);
    const data = [times, ...lines.map((l) => l.values)];
    if (lines.length === 0) { data.push(times.map(() => 0)); }
    const names = lines.length ? lines.map((l) => l.name) : ["nothing"];
    let p = plots.get(name);
    if (!p || p.names.join("\n") !== names.join("\n")) {
      p?.plot.destroy();
      box.replaceChildren();
      p = { names, plot: new uPlot(options(box, names), data, box) };
      plots.set(name, p);
      box.querySelectorAll("canvas").forEach((c) => c.setAttribute("aria-hidden", "true"));
    } else {
      p.plot.setData(data);
    }
    // The legend has the numbers in words: it is what those read who do not see the plot.
    const legend = box.parentElement.querySelector(".legend");
    legend.replaceChildren(...lines.map((l, i) => {
      const item = document.createElement("li"), mark = document.createElement("i");
      mark.className = colours[l.name] ? "l-" + colours[l.name].slice(2) : "l" + i % 8;
      item.append(mark, `${l.name} ${format(l.values[l.values.length - 1] ?? 0)}`);
      return item;
    }));
  }

  function drawAll() {
    if (!last) return;
    draw("sent", last.times, last.sent);
    draw("waiting", last.times, last.waiting);
    draw("refused", last.times, last.refused);
  }

  function again() {
    plots.forEach((p) => p.plot.destroy());
    plots.clear();
    drawAll();
  }

  async function poll() {
    const stale = root.querySelector(".stale");
    if (!document.hidden) {
      try {
        const answer = await fetch(root.dataset.live, { signal: AbortSignal.timeout(10000) });
        if (answer.status === 401) { location.reload(); return; }
        if (!answer.ok) throw new Error(answer.statusText);
        last = await answer.json();
        stale.hidden = true;
        drawAll();
      } catch {
        stale.hidden = false;
      }
    }
    setTimeout(poll, EVERY);
  }

  document.addEventListener("submit", (e) => {
    const question = e.submitter?.dataset.confirm;
    if (question && !confirm(question)) e.preventDefault();
  });

  if (!root) return;
  dark.addEventListener("change", again);
  let width = innerWidth, wait;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(wait);
    wait = setTimeout(again, 150);
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) drawAll(); });

  // The navigation marks the section that is read.
  const links = [...document.querySelectorAll(".top nav a")];
  const mark = () => {
    let here = links[0];
    for (const a of links) {
      const section = document.querySelector(a.getAttribute("href"));
      if (section && section.getBoundingClientRect().top < 180) here = a;
    }
    links.forEach((a) => a.classList.toggle("here", a === here));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
  poll();
})();
