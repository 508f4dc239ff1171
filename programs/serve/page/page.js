"use strict";
(() => {
const $ = (id) => document.getElementById(id);

/* el("p", { class: "x", onclick: f }, "text", node ...) */
function el(name, attributes, ...inside) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...inside.filter((x) => x !== null && x !== undefined));
  return e;
}

const ICONS = {
  copy: "M6 6h7v7H6zM10 6V3H3v7h3", edit: "M3 13l1-3 7-7 2 2-7 7z", again: "M13 8a5 5 0 1 1-1.5-3.6M13 2v3h-3",
  trash: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5L5 13h6l.5-8.5", left: "M10 4L6 8l4 4", right: "M6 4l4 4-4 4",
};
function icon(name) {
  const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), path = document.createElementNS(ns, "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
const tool = (name, words, onclick) =>
  el("button", { type: "button", class: "tool", "aria-label": words, title: words, onclick }, icon(name));

/* ---- what the browser keeps ---------------------------------------------------------------------------------
 * A conversation: { id, title, at, turns: [{ ask, answers: [{ text, thought, figures, fault }], now }] }. Each has
 * a key of its own, so that two open pages disturb each other as little as possible. */

const PREFIX = "stretto.conversation.", SETTINGS = "stretto.settings", CURRENT = "stretto.current";
const SAMPLING = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "max_tokens"];

function read(key, otherwise) {
  try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    toast("The browser has no more room for conversations: save them to a file and delete some.", "Settings", openSettings);
  }
}

const isText = (x) => typeof x === "string";
const isConversation = (c) => c && isText(c.id) && isText(c.title) && Array.isArray(c.turns)
  && c.turns.every((t) => t && isText(t.ask) && Array.isArray(t.answers) && t.answers.every((a) => a && isText(a.text)));

let settings = read(SETTINGS, {});
const conversations = new Map();
for (let i = 0; i < localStorage.length; i++) {
  const key = localStorage.key(i);
  if (!key.startsWith(PREFIX)) continue;
  const c = read(key, null);
  if (isConversation(c)) conversations.set(c.id, c);
}
let current = null;                    /* the one that is shown; one without turns is not kept */
let running = null;                    /* { abort, conversation, turn, answer } while an answer comes */

const fresh = () => ({ id: crypto.randomUUID ? crypto.randomUUID() : String(Date.now()) + Math.random(),
                       title: "New conversation", at: Date.now(), turns: [] });

function save(c) {
  if (!c.turns.length) return;
  c.at = Date.now();
  conversations.set(c.id, c);
  keep(PREFIX + c.id, c);
  drawList();
}

addEventListener("storage", (e) => {   /* another page of this browser wrote something */
  if (!e.key || !e.key.startsWith(PREFIX)) return;
  const id = e.key.slice(PREFIX.length), c = read(e.key, null);
  if (running && running.conversation.id === id) return;
  if (isConversation(c)) conversations.set(id, c);
  else conversations.delete(id);
  if (current.id === id && isConversation(c)) show(c);
  drawList();
});

/* ---- words at the edge of the page ---------------------------------------------------------------------------- */

let toastTimer = 0;
function toast(words, button, action) {
  const t = $("toast"), b = t.lastElementChild;
  t.firstElementChild.textContent = words;
  b.textContent = button || "Close";
  b.onclick = () => { t.hidden = true; if (action) action(); };
  t.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { t.hidden = true; }, 9000);
}
function say(words) { $("status").textContent = words; }   /* read aloud by screen readers */

/* ---- Markdown ---------------------------------------------------------------------------------------------------
 * Nodes are built one by one: nothing of an answer is ever read as HTML. */

function inline(text, into) {
  const rule = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|(?<![\w*])\*(?=\S)([^*]*?\S)\*(?!\*)|\[([^\]\n]+)\]\(([^)\s]+)\)|(https?:\/\/[^\s<>"'`)\]]+[^\s<>"'`)\].,;:!?])/g;
  let at = 0;
  for (const m of text.matchAll(rule)) {
    into.append(text.slice(at, m.index));
    at = m.index + m[0].length;
    if (m[2] !== undefined) into.append(el("code", null, m[2].trim()));
    else if (m[3] !== undefined) into.append(inline(m[3], el("strong")));
    else if (m[4] !== undefined) into.append(inline(m[4], el("em")));
    else {
      const href = m[6] || m[7];
      if (/^(https?:|mailto:)/i.test(href))
        into.append(el("a", { href, target: "_blank", rel: "noopener noreferrer" }, m[5] || m[7]));
      else into.append(m[0]);
    }
  }
  into.append(text.slice(at));
  return into;
}

function codeBlock(language, text) {
  const copied = (e) => copy(text, e.currentTarget);
  return el("div", { class: "code" },
    el("div", { class: "code-head" }, el("span", null, language || "text"),
      el("button", { type: "button", onclick: copied }, "Copy")),
    el("pre", { tabindex: "0" }, el("code", null, text)));
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((x) => x.trim());

function listOf(lines, at, indent) {
  const first = /^(\s*)([-*+]|(\d+)[.)])\s+/.exec(lines[at]);
  const list = el(first[3] ? "ol" : "ul", { start: first[3] && first[3] !== "1" ? first[3] : null });
  while (at < lines.length) {
    const m = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/.exec(lines[at]);
    if (!m || m[1].length < indent) break;
    if (m[1].length > indent + 1 && list.lastElementChild) {
      const [inner, next] = listOf(lines, at, m[1].length);
      list.lastElementChild.append(inner);
      at = next;
      continue;
    }
    let text = m[3];
    for (at++; at < lines.length && /^\s{2,}\S/.test(lines[at]) && !/^\s*([-*+]|\d+[.)])\s+/.test(lines[at]); at++)
      text += "\n" + lines[at].trim();
    list.append(inline(text, el("li")));
    while (at + 1 < lines.length && !lines[at].trim() && /^\s*([-*+]|\d+[.)])\s+/.test(lines[at + 1])) at++;
  }
  return [list, at];
}

function markdown(text, into) {
  const lines = text.split("\n"), levels = new Set();
  for (const l of lines) { const m = /^(#{1,6})\s/.exec(l); if (m) levels.add(m[1].length); }
  const ranks = [...levels].sort();      /* headings begin at the second level, without gaps */
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    let m;
    if (!line.trim()) i++;
    else if ((m = /^\s*(```+|~~~+)\s*([\w+#.-]*)/.exec(line))) {
      const body = [];
      for (i++; i < lines.length && !lines[i].trim().startsWith(m[1]); i++) body.push(lines[i]);
      i++;
      into.append(codeBlock(m[2], body.join("\n")));
    } else if ((m = /^(#{1,6})\s+(.*)$/.exec(line))) {
      into.append(inline(m[2], el("h" + Math.min(4, ranks.indexOf(m[1].length) + 2))));
      i++;
    } else if (/^\s*([-*_])\s*(\1\s*){2,}$/.test(line)) {
      into.append(el("hr"));
      i++;
    } else if (/^\s*>/.test(line)) {
      const body = [];
      for (; i < lines.length && /^\s*>/.test(lines[i]); i++) body.push(lines[i].replace(/^\s*> ?/, ""));
      into.append(markdown(body.join("\n"), el("blockquote")));
    } else if (/\|/.test(line) && i + 1 < lines.length && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[i + 1])) {
      const body = el("tbody"), head = el("tr", null, ...cells(line).map((x) => inline(x, el("th", { scope: "col" }))));
      for (i += 2; i < lines.length && /\|/.test(lines[i]); i++)
        body.append(el("tr", null, ...cells(lines[i]).map((x) => inline(x, el("td")))));
      into.append(el("table", { tabindex: "0" }, el("thead", null, head), body));
    } else if ((m = /^(\s*)([-*+]|\d+[.)])\s+/.exec(line))) {
      const [list, next] = listOf(lines, i, m[1].length);
      into.append(list);
      i = next;
    } else {
      const body = [line];
      for (i++; i < lines.length && lines[i].trim() && !/^\s*(```|~~~|#{1,6}\s|>|[-*+]\s|\d+[.)]\s)/.test(lines[i]); i++)
        body.push(lines[i]);
      into.append(inline(body.join("\n"), el("p")));
    }
  }
  return into;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {                            /* pages that are not served securely have no clipboard */
    const t = el("textarea", null, text);
    document.body.append(t);
    t.select();
    document.execCommand("copy");
    t.remove();
  }
  say("Copied");
  if (button.classList.contains("tool")) return;
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1200);
}

/* ---- figures of an answer ------------------------------------------------------------------------------------- */

const rate = (f) => (f.seconds > 0 ? f.tokens / f.seconds : 0);

/* steps[i]: tokens that the i-th pass through the model gave. Long answers are drawn with several passes a bar. */
function overlap(steps) {
  const ns = "http://www.w3.org/2000/svg", most = 150, group = Math.ceil(steps.length / most), bars = [];
  for (let i = 0; i < steps.length; i += group) {
    const part = steps.slice(i, i + group);
    bars.push(part.reduce((a, b) => a + b, 0) / part.length);
  }
  const top = Math.max(4, ...bars), tokens = steps.reduce((a, b) => a + b, 0);
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", `0 0 ${most * 4} 34`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Tokens of each pass through the model, ${Math.min(...steps)} to ${Math.max(...steps)}`);
  bars.forEach((n, i) => {
    const bar = document.createElementNS(ns, "rect"), height = 32 * n / top;
    for (const [k, v] of Object.entries({ x: i * 4, y: 33 - height, width: 3, height })) bar.setAttribute(k, v);
    bar.setAttribute("class", n > 1 ? "more" : "one");
    svg.append(bar);
  });
  return el("figure", { class: "overlap" }, svg,
    el("figcaption", null, `${tokens} tokens in ${steps.length} passes through the model: ${(tokens / steps.length).toFixed(2)} a pass`));
}

function figuresLine(f) {
  const parts = [];
  if (f.tokens) parts.push(`${f.tokens} tokens`);
  if (rate(f)) parts.push(`${rate(f).toFixed(1)} per second`);
  if (f.first) parts.push(`first after ${f.first.toFixed(2)} s`);
  if (f.cut) parts.push(f.cut);
  return parts.join(" · ");
}

/* ---- the conversation on the page ----------------------------------------------------------------------------- */

const atEnd = () => { const l = $("log"); return l.scrollHeight - l.scrollTop - l.clientHeight < 60; };
const toEnd = () => { const l = $("log"); l.scrollTop = l.scrollHeight; };

function hello() {
  const starts = ["Explain how a transformer writes text, in five sentences.", "Write a Python function that merges two sorted lists.",
                  "What should I ask before buying a used bicycle?"];
  return el("div", { class: "hello" }, el("h2", null, "What shall we write?"),
    el("p", null, "Answers are made on the machine that this page comes from. Nothing is sent anywhere else."),
    el("div", { class: "starts" }, ...starts.map((x) => el("button", { type: "button", onclick: () => ask(x) }, x))));
}

function userArticle(turn, i) {
  const article = el("article", { class: "user", "aria-label": "You" });
  article.append(el("div", { class: "body" }, turn.ask),
    el("div", { class: "tools" }, tool("copy", "Copy this message", (e) => copy(turn.ask, e.currentTarget)),
      tool("edit", "Edit this message", () => edit(article, i))));
  return article;
}

function edit(article, i) {
  if (running) return toast("Stop the answer first.");
  const turn = current.turns[i], field = el("textarea", { "aria-label": "The message" });
  field.value = turn.ask;
  const send = () => {
    const text = field.value.trim();
    if (!text) return;
    cutTurns(i);
    ask(text);
  };
  article.replaceChildren(el("div", { class: "edit" }, field, el("div", { class: "row" },
    el("button", { type: "button", onclick: () => show(current) }, "Cancel"),
    el("button", { type: "button", class: "primary", onclick: send }, "Send"))));
  field.addEventListener("keydown", (e) => {
    if (e.key === "Escape") { e.stopPropagation(); show(current); $("input").focus(); }
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
  });
  field.focus();
  field.style.height = field.scrollHeight + 4 + "px";
}

/* Turns from i on leave the conversation; they can be had back. */
function cutTurns(i) {
  const c = current, gone = c.turns.splice(i);
  if (gone.length > 1 || (gone[0] && gone[0].answers.length))
    toast("The messages from there on are replaced.", "Undo", () => {
      if (running) stopAnswer();
      c.turns.splice(i, Infinity, ...gone);
      save(c);
      show(c);
    });
}

function answerArticle(turn, i) {
  const a = turn.answers[turn.now], last = i === current.turns.length - 1;
  const article = el("article", { class: "answer", "aria-label": "Answer" });
  const busy = running && running.answer === a;
  fillAnswer(article, a, busy);
  if (busy) running.article = article;
  else article.append(answerTools(turn, a, last));
  return article;
}

function fillAnswer(article, a, busy) {
  const body = el("div", { class: "body" });
  if (a.thought) body.append(el("details", { class: "thought", open: busy && !a.text }, el("summary", null, "Thoughts"), markdown(a.thought, el("div"))));
  markdown(a.text, body);
  if (busy && !a.text && !a.thought) {
    const p = running.progress;
    body.append(el("p", { class: "wait" }, p ? `Reading, ${p.processed} of ${p.total} tokens` : "Waiting for the first token",
      p ? el("progress", { max: p.total, value: p.processed, "aria-label": "Reading the conversation" }) : null));
  }
  if (a.fault) body.append(el("div", { class: "fault", role: "alert" }, el("span", null, a.fault),
    el("button", { type: "button", onclick: () => again() }, "Try again")));
  article.replaceChildren(body);
}

function answerTools(turn, a, last) {
  const f = a.figures || {}, tools = el("div", { class: "tools" });
  if (turn.answers.length > 1) {
    const turnTo = (k) => { turn.now = k; save(current); show(current); };
    tools.append(el("button", { type: "button", class: "tool", "aria-label": "The answer before", disabled: turn.now === 0, onclick: () => turnTo(turn.now - 1) }, icon("left")),
      el("span", null, `${turn.now + 1} of ${turn.answers.length}`),
      el("button", { type: "button", class: "tool", "aria-label": "The next answer", disabled: turn.now + 1 === turn.answers.length, onclick: () => turnTo(turn.now + 1) }, icon("right")));
  }
  tools.append(tool("copy", "Copy this answer", (e) => copy(a.text, e.currentTarget)));
  if (last) tools.append(tool("again", "Write this answer again", () => again()));
  const words = figuresLine(f);
  if (words) tools.append(el("span", { class: "figures" }, words));
  const out = el("div", null, tools);
  if (f.steps && f.steps.length > 1) out.append(overlap(f.steps));
  return out;
}

function show(c) {
  current = c;
  keep(CURRENT, c.id);
  $("title").textContent = c.title;
  document.title = c.turns.length ? c.title + " · stretto" : "stretto";
  const articles = [];
  c.turns.forEach((turn, i) => {
    articles.push(userArticle(turn, i));
    if (turn.answers.length) articles.push(answerArticle(turn, i));
  });
  $("log").replaceChildren(...(articles.length ? articles : [hello()]));
  drawList();
  drawButtons();
  toEnd();
}

/* ---- the list of conversations -------------------------------------------------------------------------------- */

function drawList() {
  const wanted = $("find").value.trim().toLowerCase();
  const has = (c) => !wanted || c.title.toLowerCase().includes(wanted)
    || c.turns.some((t) => t.ask.toLowerCase().includes(wanted) || t.answers.some((a) => a.text.toLowerCase().includes(wanted)));
  const rows = [...conversations.values()].filter(has).sort((a, b) => b.at - a.at).map((c) => {
    const now = current && c.id === current.id;
    const row = el("li", { class: now ? "now" : null });
    row.append(el("button", { type: "button", class: "pick", "aria-current": now ? "true" : null, onclick: () => { show(c); closeSide(); } }, c.title),
      tool("edit", "Rename " + c.title, () => rename(row, c)), tool("trash", "Delete " + c.title, () => remove(c)));
    return row;
  });
  $("list").replaceChildren(...(rows.length ? rows : [el("li", { class: "empty-list" }, wanted ? "Nothing found" : "None yet")]));
}

function rename(row, c) {
  const field = el("input", { "aria-label": "New name", value: c.title, maxlength: "120" });
  let ended = false;
  const end = (take) => {
    if (ended) return;
    ended = true;
    const title = field.value.trim();
    if (take && title) { c.title = title; save(c); }
    if (c === current) $("title").textContent = c.title;
    drawList();
  };
  field.addEventListener("keydown", (e) => {
    if (e.key === "Enter") end(true);
    if (e.key === "Escape") { e.stopPropagation(); end(false); }
  });
  field.addEventListener("blur", () => end(true));
  row.replaceChildren(field);
  field.focus();
  field.select();
}

function remove(c) {
  if (running && running.conversation === c) stopAnswer();
  conversations.delete(c.id);
  localStorage.removeItem(PREFIX + c.id);
  if (current === c) show(fresh());
  else drawList();
  toast(`“${c.title}” is deleted.`, "Undo", () => { save(c); show(c); });
}

const openSide = () => { document.body.classList.add("side-open"); $("open-side").setAttribute("aria-expanded", "true"); $("close-side").focus(); };
function closeSide() {
  if (!document.body.classList.contains("side-open")) return;
  document.body.classList.remove("side-open");
  $("open-side").setAttribute("aria-expanded", "false");
  $("open-side").focus();
}

/* ---- asking --------------------------------------------------------------------------------------------------- */

const headers = () => ({ "Content-Type": "application/json", ...(settings.key ? { Authorization: "Bearer " + settings.key } : {}) });

async function words(response) {
  let text = await response.text();
  try {
    const e = JSON.parse(text).error;
    text = (e && e.message) || e || text;
  } catch { /* not JSON */ }
  if (response.status === 401) return "The server asks for an API key: put it into the settings.";
  return isText(text) && text ? text : `The server answered ${response.status}.`;
}

function requestOf(c, upTo) {
  const messages = settings.system ? [{ role: "system", content: settings.system }] : [];
  c.turns.slice(0, upTo + 1).forEach((t, i) => {
    messages.push({ role: "user", content: t.ask });
    if (i < upTo && t.answers.length) messages.push({ role: "assistant", content: t.answers[t.now].text });
  });
  const body = { messages, stream: true, stream_options: { include_usage: true }, timings_per_token: true, return_progress: true };
  if ($("model").value) body.model = $("model").value;
  for (const k of SAMPLING) if (settings[k] !== undefined && settings[k] !== "") body[k] = Number(settings[k]);
  return body;
}

/* Calls each(object) for every event of a stream of server-sent events. */
async function events(response, each) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data) each(JSON.parse(data));
    }
  }
}

function takeChunk(run, chunk) {
  const a = run.answer, f = a.figures;
  if (chunk.error) throw new Error(chunk.error.message || "the server stopped");
  if (chunk.prompt_progress) run.progress = chunk.prompt_progress;
  const choice = chunk.choices && chunk.choices[0], d = choice && choice.delta;
  const text = d && d.content, thought = d && d.reasoning_content;
  if (text || thought) {
    if (!f.first) { f.first = (performance.now() - run.began) / 1000; run.firstAt = performance.now(); }
    a.text += text || "";
    if (thought) a.thought = (a.thought || "") + thought;
    f.chunks++;
  }
  const t = chunk.timings;
  if (t) {
    if (t.predicted_n) f.tokens = t.predicted_n;
    if (t.predicted_ms) f.seconds = t.predicted_ms / 1000;
    if (Array.isArray(t.steps)) f.steps.push(...t.steps.filter((n) => n > 0));
  }
  if (chunk.usage) f.tokens = chunk.usage.completion_tokens;
  if (choice && choice.finish_reason === "length") f.cut = "cut at the limit of tokens";
}

async function answer(c, turn) {
  const a = { text: "", figures: { tokens: 0, seconds: 0, first: 0, chunks: 0, steps: [] } };
  turn.answers.push(a);
  turn.now = turn.answers.length - 1;
  const run = running = { abort: new AbortController(), conversation: c, turn, answer: a, began: performance.now() };
  save(c);
  show(c);
  say("The answer begins.");
  try {
    const response = await fetch("v1/chat/completions", { method: "POST", headers: headers(), signal: run.abort.signal,
                                                          body: JSON.stringify(requestOf(c, c.turns.indexOf(turn))) });
    if (!response.ok) throw new Error(await words(response));
    await events(response, (chunk) => { takeChunk(run, chunk); drawSoon(run); });
  } catch (e) {
    if (run.abort.signal.aborted) a.figures.cut = "stopped";
    else a.fault = e instanceof TypeError ? "The server cannot be reached. Is it still running?" : e.message;
  }
  if (!a.figures.seconds && run.firstAt) a.figures.seconds = (performance.now() - run.firstAt) / 1000;
  running = null;
  const end = atEnd();
  save(c);
  if (current === c) {
    const at = $("log").scrollTop;
    show(c);
    if (!end) $("log").scrollTop = at;
  }
  drawButtons();
  say(a.fault ? "" : a.figures.cut === "stopped" ? "Stopped." : "The answer is complete. " + a.text.slice(0, 400));
}

function drawSoon(run) {
  if (run.drawing) return;
  run.drawing = true;
  setTimeout(() => requestAnimationFrame(() => {
    run.drawing = false;
    if (running !== run) return;
    const f = run.answer.figures, seconds = run.firstAt ? (performance.now() - run.firstAt) / 1000 : 0;
    const speed = rate(f) || (seconds > 0.2 ? (f.tokens || f.chunks) / seconds : 0);
    $("speed").textContent = speed ? `${speed.toFixed(1)} tokens per second` + (f.steps.length
      ? ` · ${(f.steps.reduce((x, y) => x + y, 0) / f.steps.length).toFixed(2)} a pass` : "") : "";
    if (current !== run.conversation || !run.article) return;
    const end = atEnd();
    fillAnswer(run.article, run.answer, true);
    if (end) toEnd();
  }), 60);
}

function ask(text) {
  if (running) return toast("An answer is being written: stop it first.");
  const c = current, turn = { ask: text, answers: [], now: 0 };
  if (!c.turns.length && c.title === "New conversation") c.title = text.replace(/\s+/g, " ").slice(0, 60);
  c.turns.push(turn);
  answer(c, turn);
}

function again() {
  if (running || !current.turns.length) return;
  const turn = current.turns[current.turns.length - 1];
  turn.answers = turn.answers.filter((a) => !(a.fault && !a.text));
  answer(current, turn);
}

function stopAnswer() { if (running) running.abort.abort(); }

/* ---- buttons, fields, keys ------------------------------------------------------------------------------------ */

function drawButtons() {
  $("send").hidden = !!running;
  $("stop").hidden = !running;
  $("send").disabled = !$("input").value.trim();
  if (!running) $("speed").textContent = "";
}

function fitInput() {
  const i = $("input");
  i.style.height = "auto";
  i.style.height = i.scrollHeight + "px";
  drawButtons();
}

function send() {
  const text = $("input").value.trim();
  if (!text) return;
  if (running) return toast("An answer is being written: stop it first.");
  $("input").value = "";
  fitInput();
  ask(text);
}

function newConversation() {
  if (current.turns.length) show(fresh());
  closeSide();
  $("input").focus();
}

function openSettings() {
  $("s-system").value = settings.system || "";
  $("s-key").value = settings.key || "";
  $("s-theme").value = settings.theme || "";
  for (const k of SAMPLING) $("s-" + k).value = settings[k] ?? "";
  $("settings").showModal();
}

function takeSettings() {
  const before = settings.key;
  settings = { ...settings, system: $("s-system").value.trim(), key: $("s-key").value.trim(), theme: $("s-theme").value };
  for (const k of SAMPLING) settings[k] = $("s-" + k).validity.valid ? $("s-" + k).value : settings[k];
  keep(SETTINGS, settings);
  theme();
  if (settings.key !== before) models();
}

function theme() {
  const dark = settings.theme ? settings.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

async function models() {
  const m = $("model");
  try {
    const r = await fetch("v1/models", { headers: headers() });
    if (!r.ok) throw new Error(await words(r));
    const names = (await r.json()).data.map((x) => x.id);
    m.replaceChildren(...names.map((n) => el("option", { value: n, selected: n === settings.model }, n)));
  } catch (e) {
    m.replaceChildren(el("option", { value: "" }, "no model"));
    toast(e instanceof TypeError ? "The server cannot be reached." : e.message, "Settings", openSettings);
  }
}

function exportAll() {
  const all = JSON.stringify({ stretto: 1, conversations: [...conversations.values()] }, null, 1);
  const link = el("a", { href: URL.createObjectURL(new Blob([all], { type: "application/json" })), download: "stretto-conversations.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function importFile(file) {
  try {
    const all = JSON.parse(await file.text()).conversations.filter(isConversation);
    for (const c of all) {
      for (const t of c.turns) t.now = Math.min(Math.max(0, t.now | 0), Math.max(0, t.answers.length - 1));
      conversations.set(c.id, c);
      keep(PREFIX + c.id, c);
    }
    drawList();
    toast(`${all.length} conversations were read.`);
  } catch {
    toast("That file holds no conversations of this page.");
  }
}

function eraseAll() {
  const all = [...conversations.values()];
  if (!all.length) return;
  stopAnswer();
  for (const c of all) localStorage.removeItem(PREFIX + c.id);
  conversations.clear();
  $("settings").close();
  show(fresh());
  toast(`${all.length} conversations are deleted.`, "Undo", () => { for (const c of all) { conversations.set(c.id, c); keep(PREFIX + c.id, c); } drawList(); });
}

$("form").addEventListener("submit", (e) => { e.preventDefault(); send(); });
$("input").addEventListener("input", fitInput);
$("input").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
  if (e.key === "ArrowUp" && !$("input").value) {
    const all = document.querySelectorAll("article.user [aria-label='Edit this message']");
    if (all.length) { e.preventDefault(); all[all.length - 1].click(); }
  }
});
$("stop").addEventListener("click", () => { stopAnswer(); $("input").focus(); });
$("new").addEventListener("click", newConversation);
$("find").addEventListener("input", drawList);
$("open-side").addEventListener("click", openSide);
$("close-side").addEventListener("click", closeSide);
$("veil").addEventListener("click", closeSide);
$("open-settings").addEventListener("click", openSettings);
$("open-keys").addEventListener("click", () => $("keys").showModal());
$("settings").addEventListener("close", takeSettings);
$("export").addEventListener("click", exportAll);
$("import").addEventListener("click", () => $("import-file").click());
$("import-file").addEventListener("change", (e) => { if (e.target.files[0]) importFile(e.target.files[0]); e.target.value = ""; });
$("erase").addEventListener("click", eraseAll);
$("model").addEventListener("change", () => { settings.model = $("model").value; keep(SETTINGS, settings); });
$("log").addEventListener("scroll", () => { $("down").hidden = atEnd(); });
$("down").addEventListener("click", toEnd);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", theme);
document.addEventListener("keydown", (e) => {
  if (document.querySelector("dialog[open]")) return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName);
  if (e.key === "Escape") { if (running) stopAnswer(); else closeSide(); }
  else if (e.key === "/" && !typing) { e.preventDefault(); $("input").focus(); }
  else if (e.altKey && !e.ctrlKey && !e.metaKey) {
    const act = { KeyN: newConversation, KeyR: again, KeyL: openSide, KeyS: openSettings }[e.code];
    if (act) { e.preventDefault(); act(); }
  }
});

theme();
show(conversations.get(read(CURRENT, "")) || fresh());
fitInput();
models();
if (matchMedia("(min-width: 761px)").matches) $("input").focus();
})();
