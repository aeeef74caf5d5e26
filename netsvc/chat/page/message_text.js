/** What is in the text of a message: links, code, and mentions of a nick. */

/**
 * @typedef {object} Part
 * @property {"text" | "link" | "code" | "mention"} kind
 * @property {string} text
 */

const CANDIDATE = /https?:\/\/[^\s<>"`]+|`[^`]+`/giu;
const TRAILING = /[.,;:!?'’”»…*_~、。，！？]+$/u;

/** @type {Record<string, string>} */
const OPENING = { ")": "(", "]": "[", "}": "{" };

/**
 * Removes from a link what belongs to the sentence around it: punctuation, and brackets that were opened before it.
 *
 * @param {string} url
 * @returns {string}
 */
function trimLink(url) {
  for (;;) {
    const shorter = url.replace(TRAILING, "");
    const last = shorter.at(-1) ?? "";
    const opening = OPENING[last];
    const isUnbalanced = opening !== undefined && shorter.split(last).length > shorter.split(opening).length;
    if (!isUnbalanced) return shorter;
    url = shorter.slice(0, -1);
  }
}

/** @param {string} url */
function isLink(url) {
  try {
    const { protocol, hostname } = new URL(url);
    return (protocol === "https:" || protocol === "http:") && hostname !== "";
  } catch {
    return false;
  }
}

/**
 * Returns a pattern that finds a nick as a word of its own; null without a nick.
 *
 * @param {string} nick
 * @returns {RegExp | null}
 */
export function mentionPattern(nick) {
  if (!nick) return null;
  const escaped = nick.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_-])${escaped}(?![\\p{L}\\p{N}_]|-[\\p{L}\\p{N}_])`, "iu");
}

/**
 * Splits a text into parts. All of the parts together are the text.
 *
 * @param {string} text
 * @param {RegExp | null} mention
 * @returns {Part[]}
 */
export function textParts(text, mention) {
  /** @type {Part[]} */
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(CANDIDATE)) {
    const isCode = match[0].startsWith("`");
    const found = isCode ? match[0] : trimLink(match[0]);
    if (!isCode && !isLink(found)) continue;
    addPlain(parts, text.slice(end, match.index), mention);
    parts.push({ kind: isCode ? "code" : "link", text: found });
    end = match.index + found.length;
  }
  addPlain(parts, text.slice(end), mention);
  return parts;
}

/** @param {Part[]} parts @param {string} text @param {RegExp | null} mention */
function addPlain(parts, text, mention) {
  const match = mention?.exec(text);
  if (match) {
    if (match.index > 0) parts.push({ kind: "text", text: text.slice(0, match.index) });
    parts.push({ kind: "mention", text: match[0] });
    addPlain(parts, text.slice(match.index + match[0].length), mention);
  } else if (text) {
    parts.push({ kind: "text", text });
  }
}
