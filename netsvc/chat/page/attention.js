/** Draws attention to what is unread: the title, the icon, and notifications. */

import { byId } from "./dom.js";

const TITLE = "Chat";

/** Characters of a message that a notification shows. */
const BODY_MAX = 200;

export class Attention {
  constructor() {
    /** @type {HTMLLinkElement} */
    this.icon = byId("icon");
    this.plainIcon = this.icon.href;
    this.shown = "";
  }

  /** @param {string} name of the current conversation @param {number} unread @param {number} mentions */
  show(name, unread, mentions) {
    const count = mentions > 0 ? `(${unread}, ${mentions} for you) ` : unread > 0 ? `(${unread}) ` : "";
    const title = `${count}${name ? `${name} · ` : ""}${TITLE}`;
    if (document.title !== title) document.title = title;
    const badge = mentions > 0 ? String(Math.min(mentions, 99)) : unread > 0 ? "." : "";
    if (badge === this.shown) return;
    this.shown = badge;
    this.icon.href = badge ? `data:image/svg+xml,${encodeURIComponent(iconWith(badge))}` : this.plainIcon;
  }
}

/** @param {string} badge a number, or a dot */
function iconWith(badge) {
  const bubble = '<path d="M5 4h22a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H14l-7 6v-6H5a3 3 0 0 1-3-3V7a3 3 0 0 1 3-3z" fill="#2f6fde"/>';
  const mark =
    badge === "."
      ? '<circle cx="25" cy="8" r="7" fill="#e8590c" stroke="#fff" stroke-width="2"/>'
      : '<rect x="8" y="0" width="24" height="22" rx="8" fill="#d6293e"/>' +
        `<text x="20" y="17" font-family="sans-serif" font-size="17" font-weight="700" fill="#fff" text-anchor="middle">${badge}</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${bubble}${mark}</svg>`;
}

/** @returns {string} why notifications are impossible; empty if they are possible */
export function notificationProblem() {
  if (!window.isSecureContext) return "Notifications need HTTPS.";
  if (typeof Notification === "undefined") return "This browser has no notifications.";
  if (Notification.permission === "denied") return "The browser's settings forbid notifications from this site.";
  return "";
}

/** @returns {Promise<boolean>} whether the user allows notifications */
export async function allowNotifications() {
  return notificationProblem() === "" && (await Notification.requestPermission()) === "granted";
}

/**
 * Shows a notification, if that is allowed.
 *
 * @param {string} title
 * @param {string} text
 * @param {string} tag of the conversation; a later notification replaces an earlier one
 * @param {() => void} open
 */
export function notify(title, text, tag, open) {
  if (notificationProblem() !== "" || Notification.permission !== "granted") return;
  try {
    const shown = new Notification(title, { body: text.slice(0, BODY_MAX), tag });
    shown.onclick = () => {
      window.focus();
      open();
      shown.close();
    };
  } catch {
    // Chrome on Android has the constructor, and always throws.
  }
}
