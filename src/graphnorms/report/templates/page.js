"use strict";
// Draws the figures, and lets the reader choose norms, axes and scales. What it relies on (the
// tags "norm:NAME", "curve" and "loss") is set in graphnorms/report/{marks,figures}.py.
(async () => {
  const { document: model, roots } = JSON.parse(document.getElementById("figures").textContent);
  const views = await Bokeh.embed.embed_items({ report: model }, [{
    docid: "report",
    roots: Object.fromEntries(roots.map(({ id, place }) => [id, place])),
    root_ids: roots.map(({ id }) => id),
  }]);
  const plots = Bokeh.documents[0].roots();
  const curves = plots.filter((plot) => plot.tags.includes("curve"));

  const paint = () => {
    const style = getComputedStyle(document.documentElement);
    const [muted, rule] = ["--muted", "--rule"].map((name) => style.getPropertyValue(name).trim());
    for (const plot of plots) {
      for (const axis of [...plot.below, ...plot.left]) {
        axis.setv({
          axis_label_text_color: muted,
          major_label_text_color: muted,
          axis_line_color: axis.axis_line_color && muted,
          major_tick_line_color: axis.major_tick_line_color && muted,
        });
      }
      for (const grid of plot.center) {
        if (grid.type === "Grid" && grid.grid_line_color) grid.setv({ grid_line_color: rule, grid_line_alpha: 1 });
        if (grid.type === "Label") grid.setv({ text_color: muted });
      }
    }
  };

  const hidden = new Set();
  const showNorms = () => {
    for (const plot of plots) {
      for (const mark of plot.renderers) {
        mark.visible = !mark.tags.some((tag) => hidden.has(tag));
      }
    }
  };

  const names = { epoch: "Epoch", step: "Optimizer step", seconds: "Seconds of training" };
  const setUnit = (unit) => {
    for (const plot of curves) {
      for (const mark of plot.renderers) mark.glyph.x = { field: unit };
      for (const axis of plot.below) axis.axis_label = names[unit];
    }
  };

  // An axis and its logarithmic twin lie side by side in the figure, one of them hidden.
  const setScale = (plot, side, kind) => {
    const horizontal = side === "below";
    const Scale = Bokeh.Models.get(kind === "log" ? "LogScale" : "LinearScale");
    const range = horizontal ? plot.x_range : plot.y_range;
    for (const axis of plot[side]) axis.visible = (axis.type === "LogAxis") === (kind === "log");
    const shown = plot[side].find((axis) => axis.visible);
    for (const grid of plot.center) {
      if (grid.type === "Grid" && grid.dimension === (horizontal ? 0 : 1)) grid.axis = shown;
    }
    range.scale_hint = kind === "log" ? "log" : "auto";
    plot[horizontal ? "x_scale" : "y_scale"] = new Scale();
  };

  const choices = {
    unit: setUnit,
    horizontal: (kind) => curves.forEach((plot) => setScale(plot, "below", kind)),
    vertical: (kind) => curves.filter((plot) => plot.tags.includes("loss")).forEach((plot) => setScale(plot, "left", kind)),
  };
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button?.dataset.norm !== undefined) {
      const tag = `norm:${button.dataset.norm}`;
      if (!hidden.delete(tag)) hidden.add(tag);
      button.setAttribute("aria-pressed", String(!hidden.has(tag)));
      showNorms();
    } else if (button?.dataset.value !== undefined) {
      const group = button.closest("[data-choice]");
      for (const other of group.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
      choices[group.dataset.choice](button.dataset.value);
    }
  });

  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  // A printer takes what the canvases show at that moment; a change alone is drawn a frame later.
  const paintNow = () => {
    paint();
    for (const { roots: plotViews } of views) for (const view of plotViews) view.paint?.();
  };
  matchMedia("print").addEventListener("change", paintNow);
  document.documentElement.dataset.ready = "true";
})();
