"use strict";
// Draws the charts, and lets the reader choose norms, axes and scales.
(async () => {
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const curves = Object.values(specs).filter((spec) => spec.encoding?.x.field === "epoch");
  const hidden = new Set();
  const views = {};

  const show = (name) => views[name].signal("hidden", [...hidden]).runAsync();
  const draw = async (name) => {
    views[name]?.finalize();
    const { view } = await vegaEmbed(document.getElementById(name), specs[name], {
      actions: { export: true, source: false, compiled: false, editor: false },
      ast: true, // no code is made from text, which the page's policy forbids
      downloadFileName: name,
      logLevel: 1, // errors: Vega also warns of a norm without an interval
      mode: "vega-lite",
      renderer: "svg",
    });
    views[name] = view;
    if (hidden.size) await show(name);
  };

  const titles = { epoch: "Epoch", step: "Optimizer step", seconds: "Seconds of training" };
  const setScale = (channel, type) => {
    channel.scale = { type, nice: false, ...(type === "linear" && { zero: false }) };
    channel.axis.format = type === "log" ? "~g" : "";
  };
  const choices = {
    unit: ({ x }, unit) => Object.assign(x, { field: unit, title: titles[unit] }),
    horizontal: ({ x }, type) => setScale(x, type),
    vertical: ({ y }, type) => setScale(y, type),
  };
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (button?.dataset.norm !== undefined) {
      if (!hidden.delete(button.dataset.norm)) hidden.add(button.dataset.norm);
      button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.norm)));
      await Promise.all(Object.keys(views).map(show));
    } else if (button?.dataset.value !== undefined) {
      const { choice } = button.parentElement.dataset;
      for (const other of button.parentElement.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      for (const [name, spec] of Object.entries(specs)) {
        if (!curves.includes(spec) || (choice === "vertical" && !name.endsWith("loss"))) continue;
        choices[choice](spec.encoding, button.dataset.value);
        await draw(name);
      }
    }
  });

  for (const name of Object.keys(specs)) await draw(name);
  window.charts = views;
  document.documentElement.dataset.ready = "true";
})();
