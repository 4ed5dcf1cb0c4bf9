"use strict";
// The status page of a workflow service: asks for the runs every second, and shows one's history.
(() => {
  const byId = (id) => document.getElementById(id);
  let chosen = "";

  const ask = async (path) => {
    const response = await fetch(path, { cache: "no-store" });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return response.json();
  };
  const when = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : "");
  const cell = (row, text, kind) => {
    const made = row.insertCell();
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const rows = (id, list, fill) => {
    const made = document.createElement("tbody");
    for (const one of list) fill(made.insertRow(), one);
    made.id = id;
    byId(id).replaceWith(made);
  };
  const error = (one) => (one.error ? `${one.error.code}: ${one.error.message}` : "");

  const show = async () => {
    const now = await ask("runs.json");
    byId("counts").textContent =
      Object.entries(now.counts).map(([state, n]) => `${n} ${state}`).join(", ");
    rows("runs", now.runs, (row, one) => {
      row.dataset.run = one.id;
      const button = document.createElement("button");
      button.textContent = one.id;
      button.addEventListener("click", () => { chosen = one.id; look(); });
      row.insertCell().append(button);
      cell(row, one.task);
      cell(row, one.state);
      cell(row, one.caller);
      cell(row, when(one.created));
      cell(row, when(one.updated));
      cell(row, error(one));
    });
    if (chosen) {
      const run = await ask(`run.json?id=${encodeURIComponent(chosen)}`);
      byId("run").textContent = `${run.id}, ${run.state}`;
      byId("history").hidden = false;
      rows("steps", run.steps, (row, one) => {
        cell(row, one.path);
        cell(row, one.kind);
        cell(row, one.state);
        cell(row, one.attempts || "", "n");
        cell(row, when(one.began));
        cell(row, one.ended ? `${(one.ended - one.began).toFixed(2)} s` : "");
        cell(row, one.args);
        cell(row, error(one));
      });
    }
    byId("state").textContent = "live";
  };
  const look = async () => {
    try { await show(); } catch (problem) { byId("state").textContent = problem.message; }
  };
  look();
  setInterval(look, 1000);
})();
