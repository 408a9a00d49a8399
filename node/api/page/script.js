// The console: what the node says of the cluster, of a tenant and of conflicts, kept up to date.
//
// The stream of conflicts only says that something has changed, and what; the list is read again, so that order, filters
// and pages are the node's. All that others have named gets into the page as text, never as markup.

const POLL_MS = 3000;
const GATHER_MS = 300;
const PAGE = 50;
const MOST = 1000;
const COMES_BACK_MS = 5000;

const $ = (id) => document.getElementById(id);
const figure = new Intl.NumberFormat("en").format;
const signed = new Intl.NumberFormat("en", { signDisplay: "exceptZero" }).format;
const TONES = { detected: "warn", compensated: "", repaid: "good", cleared: "dim" };

let limit = PAGE;
let shownTenant = null;
let shownReport = null;
let key = newKey();
const changed = new Set();

// -- asking the node --------------------------------------------------------------------------------------------------

class Refused extends Error {}

async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", ...options });
  const said = await response.json();
  if (!response.ok) throw new Refused(said.detail ?? said.title ?? `HTTP ${response.status}`);
  return said;
}

function query(fields) {
  return new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "")).toString();
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "console-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// One reading at a time; what is asked for meanwhile is read once more afterwards. `trouble` shows why it failed.
function oneAtATime(trouble, read) {
  let running = false;
  let again = false;
  return async function start() {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      again = false;
      say(trouble, await read().then(() => "", reason));
      trouble.hidden = trouble.textContent === "";
    }
    running = false;
  };
}

function reason(error) {
  return error instanceof Refused ? error.message : "The node does not answer. What is shown may be out of date.";
}

// -- showing ----------------------------------------------------------------------------------------------------------

function time(ms) {
  // A time beyond what a date can be (an expiry at the end of time) is shown as a number.
  const moment = new Date(ms);
  if (Number.isNaN(moment.getTime()) || moment.getUTCFullYear() > 9999) return `${ms} ms`;
  return moment.toISOString().replace("T", " ").replace("Z", "").replace(".000", "");
}

const seconds = (ms) => time(ms - (ms % 1000));

function ago(ms) {
  if (ms === null) return "never";
  return ms < 1000 ? `${ms} ms ago` : `${figure(Math.round(ms / 100) / 10)} s ago`;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

// What says the same already is left alone, so that selections stay and nothing is read out twice.
function say(place, text) {
  const value = String(text ?? "");
  if (place.textContent !== value) place.textContent = value;
}

function lines(list, texts, tag) {
  texts.forEach((text, number) => say(list.children[number] ?? list.appendChild(element(tag(number), "")), text));
  while (list.children.length > texts.length) list.lastElementChild.remove();
}

function facts(list, told) {
  const parts = Object.entries(told).filter(([, fact]) => fact !== null);
  lines(list, parts.flat(), (number) => (number % 2 === 0 ? "dt" : "dd"));
}

// A cell is a text, or [text, class, …]. Rows that stay are kept, so that focus and selection do.
function rows(body, told) {
  const old = new Map(Array.from(body.children, (row) => [row.dataset.key, row]));
  if (told.length === 0 && body.dataset.none) {
    const none = document.createElement("tr");
    none.className = "none";
    const cell = element("td", body.dataset.none);
    cell.colSpan = body.parentElement.querySelectorAll("th").length;
    none.append(cell);
    body.replaceChildren(none);
    return;
  }
  let place = body.firstElementChild;
  for (const { key: name, cells, open } of told) {
    const row = old.get(name) ?? newRow(name, cells.length, open);
    old.delete(name);
    cells.forEach((cell, number) => fill(row.cells[number], cell));
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
  }
  for (const row of old.values()) row.remove();
}

function newRow(name, count, open) {
  const row = document.createElement("tr");
  row.dataset.key = name;
  for (let number = 0; number < count; number += 1) row.insertCell();
  if (open) {
    const button = element("button", "Open");
    button.type = "button";
    button.setAttribute("aria-label", `Open the report ${name}`);
    button.addEventListener("click", open);
    row.insertCell().append(button);
  }
  return row;
}

function fill(cell, told) {
  const [text, ...classes] = Array.isArray(told) ? told : [told];
  say(cell, text);
  cell.className = classes.filter(Boolean).join(" ");
}

const amount = (value) => [value === null ? "" : figure(value), "figure"];

// -- the cluster ------------------------------------------------------------------------------------------------------

const readCluster = oneAtATime($("cluster-trouble"), async () => {
  const told = await ask("v1/cluster");
  say($("where"), `${told.cluster}, seen from ${told.region}`);
  document.title = `${told.region} – creditmesh`;
  const { hlc, held_back_by: heldBackBy } = told.frontier;
  const found = Object.entries(told.findings ?? {}).filter(([, count]) => count > 0);
  const nothing = told.findings === null ? "not looked for yet" : "nothing";
  facts($("facts"), {
    entries: figure(Object.values(told.clock).reduce((sum, count) => sum + count, 0)),
    "stable before":
      (hlc === null ? "nothing yet" : `${time(hlc[0])} UTC`) + (heldBackBy ? `, held back by ${heldBackBy}` : ""),
    "to be put right here": told.unsettled_tenants === 1 ? "1 tenant" : `${figure(told.unsettled_tenants)} tenants`,
    "does not add up": found.map(([kind, count]) => `${figure(count)} ${kind}`).join(", ") || nothing,
  });
  rows(
    $("regions"),
    told.regions.map((peer) => ({
      key: peer.region,
      cells: [
        peer.region,
        peer.cut ? ["cut on purpose", "warn"] : peer.linked ? ["up", "good"] : ["down", "bad"],
        [ago(peer.heard_ms_ago), "figure"],
        amount(peer.missing_here),
        amount(peer.missing_there),
      ],
    })),
  );
  lines($("alarms"), told.alarms.map(alarm), () => "li");
});

function alarm({ kind, subject, detail, raised_at: raisedAt, count }) {
  const times = count > 1 ? `, ${figure(count)} times` : "";
  return `Alarm ${kind} (${subject}): ${detail} (since ${time(raisedAt)} UTC${times})`;
}

// -- a tenant ---------------------------------------------------------------------------------------------------------

const readTenant = oneAtATime($("tenant-trouble"), async () => {
  if (shownTenant === null) return;
  const path = `v1/tenants/${encodeURIComponent(shownTenant)}`;
  try {
    showTenant(await ask(`${path}/balance`), await ask(`${path}/reservations?state=open`));
  } catch (error) {
    if (error instanceof Refused) {
      $("tenant").hidden = true;
      $("seen").textContent = "";
    }
    throw error;
  }
});

function showTenant(balance, open) {
  say($("seen"), `${balance.tenant}, as seen in ${balance.region}`);
  facts($("balance"), {
    available: figure(balance.available),
    elsewhere: balance.elsewhere === null ? null : figure(balance.elsewhere),
    held: figure(balance.held),
    used: figure(balance.used),
    owed: figure(balance.debt),
  });
  rows(
    $("lots"),
    balance.lots.map((lot) => ({
      key: lot.lot,
      cells: [lot.lot, amount(lot.remaining), seconds(lot.starts_at), seconds(lot.expires_at), amount(lot.priority)],
    })),
  );
  rows(
    $("reservations"),
    open.reservations.map((held) => ({
      key: held.reservation,
      cells: [
        held.reservation,
        [held.job, "text"],
        amount(held.held),
        amount(held.captured),
        amount(held.debt),
        seconds(held.lease_until),
      ],
    })),
  );
  $("more-reservations").hidden = !open.has_more;
  $("tenant").hidden = false;
}

$("tenant-form").addEventListener("submit", (event) => {
  event.preventDefault();
  shownTenant = event.target.tenant.value.trim();
  readTenant();
});

// -- conflicts --------------------------------------------------------------------------------------------------------

const byWhom = (conflict) => conflict.acknowledged.map((said) => said.by).join(", ");

const readConflicts = oneAtATime($("conflicts-trouble"), async () => {
  const news = Array.from(changed);
  changed.clear();
  const { tenant, state, acknowledged } = $("filter");
  const asked = { tenant: tenant.value.trim(), state: state.value, acknowledged: acknowledged.value, limit };
  const told = await ask(`v1/conflicts?${query(asked)}`);
  rows(
    $("conflicts"),
    told.conflicts.map((conflict) => ({
      key: conflict.id,
      cells: [
        time(conflict.loser.hlc[0]),
        conflict.tenant,
        conflict.kind,
        [conflict.state, TONES[conflict.state]],
        amount(conflict.amount),
        amount(conflict.debt),
        [byWhom(conflict), "text"],
      ],
      open: () => openReport(conflict.id),
    })),
  );
  $("more").hidden = !told.has_more || limit >= MOST;
  for (const row of $("conflicts").rows) {
    if (news.includes(row.dataset.key)) flash(row);
  }
});

function flash(row) {
  row.classList.remove("changed");
  row.getBoundingClientRect(); // so that the browser sees it without, and begins anew
  row.classList.add("changed");
}

$("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  limit = PAGE;
  readConflicts();
});

$("filter").addEventListener("change", () => $("filter").requestSubmit());

$("more").addEventListener("click", () => {
  limit = Math.min(limit + PAGE, MOST);
  readConflicts();
});

// -- one report -------------------------------------------------------------------------------------------------------

const readReport = oneAtATime($("report-trouble"), async () => {
  if (shownReport === null) return;
  const asked = shownReport;
  const { conflict } = await ask(`v1/conflicts/${encodeURIComponent(asked)}`);
  if (asked === shownReport) showReport(conflict);
});

function openReport(id) {
  shownReport = id;
  key = newKey();
  $("report-title").textContent = id;
  $("report-body").hidden = true;
  $("acknowledge-answer").textContent = "";
  $("acknowledge").note.value = "";
  $("report").showModal();
  readReport();
}

function showReport(conflict) {
  say($("report-title"), conflict.id); // what became known since may have given it another
  $("report-body").hidden = false;
  facts($("report-facts"), {
    tenant: conflict.tenant,
    kind: conflict.kind,
    state: conflict.state,
    amount: `${figure(conflict.amount)} moved otherwise than recorded`,
    debt: figure(conflict.debt),
    "loser in canonical order": conflict.canonical_outcome,
    rivals: figure(conflict.rival_count),
    detected: conflict.detected_at === null ? "nothing is posted yet" : `${time(conflict.detected_at)} UTC`,
  });
  const parties = [
    ["loser", conflict.loser],
    ...conflict.rivals.map((rival, number) => [`rival ${number + 1}`, rival]),
  ];
  rows($("contenders"), parties.map(contender));
  rows(
    $("clocks"),
    parties.map(([who, party]) => ({ key: who, cells: [who, [entries(party.clock), "text"]] })),
  );
  rows(
    $("differences"),
    conflict.lots.map((lot) => ({
      key: lot.lot,
      cells: [
        lot.lot,
        [signed(lot.recorded), "figure"],
        [signed(lot.canonical), "figure"],
        [signed(lot.canonical - lot.recorded), "figure"],
      ],
    })),
  );
  rows(
    $("compensations"),
    conflict.compensations.map((entry) => ({
      key: `${entry.replica}:${entry.seq}`,
      cells: [`${entry.replica}:${entry.seq}`, time(entry.hlc[0]), [postings(entry.postings), "text"]],
    })),
  );
  rows(
    $("acknowledgements"),
    conflict.acknowledged.map((said) => ({
      key: said.entry,
      cells: [[said.by, "text"], time(said.at), said.region, [said.note, "text"]],
    })),
  );
}

function contender([who, party]) {
  const entry = `${party.replica}:${party.seq}`;
  return {
    key: who,
    cells: [
      who,
      entry,
      time(party.hlc[0]),
      party.kind,
      amount(party.amount),
      party.outcome,
      [party.claim, "text"],
      [party.key, "text"],
    ],
  };
}

function entries(clock) {
  return Object.entries(clock).sort().map(([replica, count]) => `${replica}:${count}`).join(", ");
}

function postings(posted) {
  const parts = Object.entries(posted).sort(([, one], [, other]) => one - other);
  return parts.map(([account, value]) => `${account} ${signed(value)}`).join(", ");
}

$("close").addEventListener("click", () => $("report").close());

$("report").addEventListener("close", () => {
  shownReport = null;
});

$("acknowledge").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { by, note } = event.target;
  const button = event.target.querySelector("button");
  const body = JSON.stringify({ by: by.value.trim(), note: note.value.trim() || null });
  const answer = $("acknowledge-answer");
  button.disabled = true;
  try {
    const path = `v1/conflicts/${encodeURIComponent(shownReport)}/ack`;
    const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
    const told = await ask(path, { method: "POST", headers, body });
    answer.textContent = told.again ? "Acknowledged, not as the first." : "Acknowledged.";
    key = newKey();
    note.value = "";
  } catch (error) {
    // What was refused did nothing, and may be asked otherwise; of a lost answer nobody knows, so the key stays.
    if (error instanceof Refused) key = newKey();
    answer.textContent = error instanceof Refused ? error.message : "No answer. Asking again does no harm.";
  } finally {
    button.disabled = false;
  }
});

// -- live -------------------------------------------------------------------------------------------------------------

let gathering = null;

function somethingChanged() {
  gathering ??= setTimeout(() => {
    gathering = null;
    readConflicts();
    readReport();
    readTenant();
  }, GATHER_MS);
}

function follow() {
  const stream = new EventSource("v1/conflicts/stream");
  stream.addEventListener("open", () => {
    live("live", "good");
    somethingChanged();
  });
  stream.addEventListener("error", () => {
    live("not connected", "bad");
    // After a break a browser comes back by itself; after a refusal it does not.
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, COMES_BACK_MS);
  });
  stream.addEventListener("conflict", ({ data }) => {
    const { conflict } = JSON.parse(data);
    const seen = conflict.acknowledged.length > 0 ? `, acknowledged by ${byWhom(conflict)}` : "";
    $("told").textContent = `${conflict.kind} of ${conflict.tenant}: ${conflict.state}${seen}`;
    changed.add(conflict.id);
    somethingChanged();
  });
  stream.addEventListener("gone", somethingChanged);
  stream.addEventListener("gap", somethingChanged);
}

function live(text, tone) {
  $("live").textContent = text;
  $("live").className = tone;
}

function poll() {
  if (document.hidden) return;
  readCluster();
  readTenant();
}

readCluster();
readConflicts();
follow();
setInterval(poll, POLL_MS);
document.addEventListener("visibilitychange", poll);
