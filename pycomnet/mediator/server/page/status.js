"use strict";
// The status page. The token lives in this closure alone: not in a cookie, not in storage, not in
// an address.
(() => {
  const byId = (id) => document.getElementById(id);
  let token = "";
  let socket = null;
  let pause = 500;

  const ask = async (method, path, body) => {
    const headers = { authorization: `Bearer ${token}`, accept: "application/json" };
    if (body) headers["content-type"] = "application/json";
    const options = { method, headers, body: body && JSON.stringify(body), cache: "no-store" };
    const response = await fetch(path, options);
    const value = await response.json();
    if (!response.ok) {
      const problem = new Error(value.message);
      problem.status = response.status;
      throw problem;
    }
    return value;
  };

  const bytes = (n) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit += 1; }
    return `${unit ? n.toPrecision(3) : n} ${units[unit]}`;
  };
  const span = (s) => {
    if (s < 60) return `${Math.floor(s)} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  };

  const cell = (row, text, kind) => {
    const made = row.insertCell();
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const rows = (id, list, fill) => {
    const made = document.createElement("tbody");
    for (const one of list) {
      const row = made.insertRow();
      row.dataset.pid = one.pid;
      const pid = document.createElement("code");
      pid.textContent = one.pid.slice(0, 8);
      row.insertCell().append(pid);
      cell(row, one.id || "");
      fill(row, one);
    }
    made.id = id;
    byId(id).replaceWith(made);
  };

  const end = async (pid) => {
    try { await ask("DELETE", `exec/${pid}`); } catch (problem) { byId("state").textContent = problem.message; }
  };

  const show = (now) => {
    byId("state").textContent = `${now.user}, live${now.draining ? ", shutting down" : ""}`;
    const running = now.processes.filter((one) => one.state === "running");
    const ended = now.processes.filter((one) => one.state !== "running").concat(now.ended);
    byId("count").textContent = running.length;
    rows("running", running, (row, one) => {
      cell(row, span(one.seconds)).title = new Date(one.started * 1000).toLocaleString();
      cell(row, one.connections);
      cell(row, bytes(one.received), "n");
      cell(row, bytes(one.stdout.end), "n");
      cell(row, bytes(one.stdout.queued + one.stderr.queued), "n");
      const button = document.createElement("button");
      button.textContent = "End";
      button.addEventListener("click", () => end(one.pid));
      row.insertCell().append(button);
    });
    rows("ended", ended, (row, one) => {
      cell(row, span(one.seconds));
      cell(row, one.end.signal_name || one.end.exit_status);
      cell(row, one.end.reason).title = one.end.stderr;
      cell(row, bytes(one.received), "n");
      cell(row, bytes(one.stdout.end), "n");
    });
  };

  const follow = async () => {
    const { ticket } = await ask("POST", "tickets", { path: "/ws" });
    const address = new URL(`ws?ticket=${ticket}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    socket = new WebSocket(address);
    socket.addEventListener("message", (event) => { pause = 500; show(JSON.parse(event.data)); });
    socket.addEventListener("close", () => {
      byId("state").textContent = "not connected, trying again";
      setTimeout(again, pause);
      pause = Math.min(2 * pause, 10000);
    });
  };

  const again = async () => {
    try {
      await follow();
    } catch (problem) {
      if (problem.status === 401 || problem.status === 403) return out(problem.message);
      setTimeout(again, pause);
      pause = Math.min(2 * pause, 10000);
    }
  };

  const out = (message) => {
    token = "";
    byId("overview").hidden = true;
    byId("login").hidden = false;
    byId("problem").textContent = message;
    byId("state").textContent = "signed out";
  };

  byId("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    token = byId("token").value.trim();
    byId("token").value = "";
    byId("problem").textContent = "";
    try {
      show(await ask("GET", "./"));
      byId("login").hidden = true;
      byId("overview").hidden = false;
      await follow();
    } catch (problem) {
      out(problem.message);
    }
  });
})();
