/** Elements, texts and times as they are shown. What others wrote becomes text nodes; nothing is parsed as HTML. */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** @param {() => void} clicked @param {Record<string, string>} attributes @param {...(Node | string)} children */
export function button(clicked, attributes, ...children) {
  const made = element("button", { type: "button", ...attributes }, ...children);
  made.addEventListener("click", clicked);
  return made;
}

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export function byId(id) {
  return /** @type {any} */ (document.getElementById(id));
}

/** @param {string} id @param {() => void} clicked */
export function onClick(id, clicked) {
  byId(id).addEventListener("click", clicked);
}

/** @param {Element} target @param {string} text */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** A hidden page has no frames. @param {() => void} draw */
export function oncePerFrame(draw) {
  let isScheduled = false;
  return () => {
    if (!isScheduled) requestAnimationFrame(() => ((isScheduled = false), draw()));
    isScheduled = true;
  };
}

export const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
export const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

/** Returns when the day of a time began. Times are ms since 1970. @param {number} time */
export function dayOf(time) {
  return new Date(time).setHours(0, 0, 0, 0);
}

/** @param {number} time */
export function dayName(time) {
  const today = dayOf(Date.now());
  if (dayOf(time) === today) return "Today";
  if (dayOf(time) === dayOf(today - 1)) return "Yesterday";
  const isThisYear = new Date(time).getFullYear() === new Date().getFullYear();
  const year = isThisYear ? undefined : "numeric";
  return new Date(time).toLocaleDateString("en", { weekday: "long", day: "numeric", month: "long", year });
}

/** @param {number} number */
export function grouped(number) {
  return number.toLocaleString("en");
}

const CANDIDATE = /https?:\/\/[^\s<>"`]+|`[^`]+`/giu;
const TRAILING = /[.,;:!?'’”»…*_~、。，！？]+$/u;

/** @type {Record<string, string>} */
const OPENING = { ")": "(", "]": "[", "}": "{" };

/** Removes what belongs to the sentence around the link. @param {string} url @returns {string} */
function trimLink(url) {
  const shorter = url.replace(TRAILING, "");
  const last = shorter.at(-1) ?? "";
  const opening = OPENING[last];
  const isUnbalanced = opening && shorter.split(last).length > shorter.split(opening).length;
  return isUnbalanced ? trimLink(shorter.slice(0, -1)) : shorter;
}

/** Finds the nick as a word of its own. @param {string} nick */
export function mentionPattern(nick) {
  const escaped = nick.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return nick ? new RegExp(`(?<![\\p{L}\\p{N}_-])${escaped}(?![\\p{L}\\p{N}_]|-[\\p{L}\\p{N}_])`, "iu") : null;
}

/** @param {string} text @param {RegExp | null} mention */
export function textParts(text, mention) {
  /** @type {Part[]} */
  const parts = [];
  let end = 0;
  for (const { 0: candidate, index } of text.matchAll(CANDIDATE)) {
    const isCode = candidate.startsWith("`");
    const found = isCode ? candidate : trimLink(candidate);
    if (!isCode && !URL.canParse(found)) continue;
    addPlain(parts, text.slice(end, index), mention);
    parts.push({ kind: isCode ? "code" : "link", text: found });
    end = index + found.length;
  }
  addPlain(parts, text.slice(end), mention);
  return parts;
}

/** @param {Part[]} parts @param {string} text @param {RegExp | null} mention */
function addPlain(parts, text, mention) {
  const match = mention?.exec(text);
  const plain = match ? text.slice(0, match.index) : text;
  if (plain) parts.push({ kind: "text", text: plain });
  if (!match) return;
  parts.push({ kind: "mention", text: match[0] });
  addPlain(parts, text.slice(match.index + match[0].length), mention);
}

/** @param {string} text @param {RegExp | null} mention */
export function textElement(text, mention = null) {
  const rel = "noopener noreferrer nofollow";
  const parts = textParts(text, mention).map(({ kind, text: part }) => {
    if (kind === "link") return element("a", { href: part, target: "_blank", rel }, part);
    if (kind === "text") return part;
    return element(kind === "code" ? "code" : "mark", {}, part);
  });
  return element("span", { class: "text", dir: "auto" }, ...parts);
}

/** @param {string} nick */
export function nickElement(nick) {
  let hash = 0x811c9dc5; // FNV-1a
  for (const character of nick.toLowerCase()) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  const shown = element("bdi", { class: "nick" }, nick);
  shown.style.setProperty("--hue", String(((hash ^ (hash >>> 15)) >>> 0) % 360));
  return shown;
}
