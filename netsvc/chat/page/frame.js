/** What is around the messages: the lists at the sides, the state of the connection, title, icon and notifications. */

import { Membership, Room } from "./conversation.js";
import { button, byId, element, grouped, nickElement, onClick, setText } from "./elements.js";
import { Phase } from "./session.js";

export class ConversationList {
  /** @param {ListHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {WeakMap<AnyConversation, HTMLElement>} */
    this.items = new WeakMap();
  }

  /** @param {AnyConversation[]} conversations @param {AnyConversation | null} current */
  show(conversations, current) {
    for (const [id, isPrivate] of Object.entries({ "room-list": false, "private-list": true })) {
      const shown = conversations.filter((each) => each.isPrivate === isPrivate);
      const items = shown.map((each) => this.#item(each, each === current));
      const list = byId(id);
      // The focus is lost if an item is removed, even for a moment.
      if (list.children.length !== items.length || items.some((item, index) => item !== list.children[index])) {
        list.replaceChildren(...items);
      }
      byId("private-section").hidden = items.length === 0;
    }
  }

  /** @param {AnyConversation} conversation @param {boolean} isCurrent */
  #item(conversation, isCurrent) {
    const item = this.items.get(conversation) ?? this.#newItem(conversation);
    const [open, leave] = item.children;
    const [label, badge, hidden] = open.children;
    const { name, unread, mentions, isPrivate } = conversation;
    item.classList.toggle("unread", unread > 0);
    item.classList.toggle("mentions", mentions > 0);
    item.classList.toggle("out", conversation instanceof Room && conversation.membership === Membership.OUT);
    if (isCurrent) open.setAttribute("aria-current", "page");
    else open.removeAttribute("aria-current");
    const count = mentions || unread;
    setText(label, name);
    setText(badge, count > 999 ? "999+" : count > 0 ? String(count) : "");
    const mentioned = mentions > 0 && !isPrivate ? `, ${mentions} mention you` : "";
    setText(hidden, unread > 0 ? `${unread} unread${mentioned}` : "");
    leave.setAttribute("aria-label", `${isPrivate ? "Close" : "Leave"} ${name}`);
    return item;
  }

  /** @param {AnyConversation} conversation */
  #newItem(conversation) {
    const { open, leave } = this.handlers;
    const badge = element("span", { class: "badge", "aria-hidden": "true" });
    const parts = [element("bdi"), badge, element("span", { class: "hidden" })];
    const item = element(
      "li",
      {},
      button(() => open(conversation), { class: "conversation" }, ...parts),
      button(() => leave(conversation), { class: "leave" }, "×"),
    );
    this.items.set(conversation, item);
    return item;
  }
}

export class MembersList {
  /** @param {(nick: string) => void} open */
  constructor(open) {
    this.open = open;
    this.shown = "";
  }

  /** @param {Room} room @param {string} own */
  show({ others, count }, own) {
    const nicks = [...others.values()].sort((a, b) => a.localeCompare(b, "en", { sensitivity: "base" }));
    const rest = count - nicks.length - 1;
    setText(byId("members-heading"), count > 0 ? `Members (${grouped(count)})` : "Members");
    setText(byId("members-more"), rest > 0 ? `and ${grouped(rest)} more` : "");
    const shown = [own, ...nicks].join(" ");
    if (shown === this.shown) return;
    this.shown = shown;
    const items = nicks.map((nick) => {
      const title = `Write to ${nick} privately`;
      return element("li", {}, button(() => this.open(nick), { title }, nickElement(nick)));
    });
    const self = element("li", {}, element("span", {}, nickElement(own), " (you)"));
    byId("member-list").replaceChildren(self, ...items);
  }
}

/** When a list is a drawer over the messages. The widths are those of style.css. */
const NARROW = { rooms: matchMedia("(max-width: 760px)"), members: matchMedia("(max-width: 1000px)") };

const SIDES = /** @type {("rooms" | "members")[]} */ (Object.keys(NARROW));

export class Drawers {
  constructor() {
    /** @type {"rooms" | "members" | null} */
    this.open = null;
    this.showsMembers = false;
    onClick("backdrop", () => this.close());
    for (const side of SIDES) NARROW[side].addEventListener("change", () => this.close() || this.update());
  }

  get areMembersVisible() {
    return NARROW.members.matches ? this.open === "members" : this.showsMembers;
  }

  /** Returns false if the list is no drawer now. @param {"rooms" | "members"} side */
  toggle(side) {
    if (!NARROW[side].matches) return false;
    const isOpening = this.open !== side;
    this.close();
    if (isOpening) {
      this.open = side;
      this.update();
      /** @type {HTMLElement | null} */ (byId(side).querySelector("[aria-current], button"))?.focus();
    }
    return true;
  }

  close() {
    const side = this.open;
    if (!side) return false;
    const hadFocus = byId(side).contains(document.activeElement);
    this.open = null;
    this.update();
    if (hadFocus) byId(`open-${side}`).focus();
    return true;
  }

  update() {
    for (const side of SIDES) {
      const isShown = NARROW[side].matches ? this.open === side : side === "rooms" || this.showsMembers;
      byId(side).hidden = !isShown;
      byId(`open-${side}`).setAttribute("aria-expanded", String(isShown));
    }
    byId("backdrop").hidden = !this.open;
    for (const id of ["main", "skip"]) byId(id).inert = this.open !== null;
  }
}

const BUTTONS = ["retry", "take-over", "begin-anew", "join-again"];

/** @type {Record<Phase, [state: string, sentence?: string, buttons?: string[]]>} */
const SHOWN = {
  [Phase.IDLE]: ["Not connected"],
  [Phase.CONNECTING]: ["Connecting…"],
  [Phase.BEGINNING]: ["Connecting…"],
  [Phase.RESUMING]: ["Connecting…"],
  [Phase.ONLINE]: ["Connected"],
  [Phase.WAITING]: ["Offline", "", ["retry"]],
  [Phase.ELSEWHERE]: ["In another tab", "The chat is open in another tab or window.", ["take-over", "begin-anew"]],
  [Phase.LEFT]: ["Left", "You left the chat.", ["join-again"]],
};

export class ConnectionBar {
  /** @param {Session} session @param {() => void} takeOver */
  constructor(session, takeOver) {
    this.session = session;
    /** @type {number | undefined} */
    this.ticking = undefined;
    onClick("retry", () => session.start());
    onClick("take-over", takeOver);
    onClick("begin-anew", () => session.beginAnew());
    onClick("join-again", () => session.start());
  }

  show() {
    const { phase, connection } = this.session;
    const [state, sentence = "", buttons = []] = SHOWN[phase];
    document.documentElement.dataset.phase = phase;
    setText(byId("connection-text"), state);
    setText(byId("bar-text"), sentence || connection.reason);
    for (const id of BUTTONS) byId(id).hidden = !buttons.includes(id);
    byId("bar").hidden = sentence === "" && connection.reason === "";
    clearInterval(this.ticking);
    if (phase === Phase.WAITING) this.ticking = setInterval(() => this.#tick(), 250);
    this.#tick();
  }

  #tick() {
    const { phase, connection } = this.session;
    const seconds = Math.max(1, Math.ceil((connection.retryAt - performance.now()) / 1_000));
    setText(byId("countdown"), phase === Phase.WAITING ? `Trying again in ${seconds} s.` : "");
  }
}

export class Attention {
  constructor() {
    /** @type {HTMLLinkElement} */
    this.icon = byId("icon");
    this.plainIcon = this.icon.href;
  }

  /** @param {string} name @param {number} unread @param {number} mentions */
  show(name, unread, mentions) {
    const count = mentions > 0 ? `(${unread}, ${mentions} for you) ` : unread > 0 ? `(${unread}) ` : "";
    const title = `${count}${name && `${name} · `}Chat`;
    if (document.title !== title) document.title = title;
    const icon = unread > 0 ? `data:image/svg+xml,${encodeURIComponent(iconWith(mentions))}` : this.plainIcon;
    if (this.icon.href !== icon) this.icon.href = icon;
  }
}

/** @param {number} mentions */
function iconWith(mentions) {
  const font = 'font-family="sans-serif" font-size="19" font-weight="700" text-anchor="middle"';
  const number = `<text x="16" y="23" fill="#fff" ${font}>${Math.min(mentions, 99)}</text>`;
  const dot = '<circle cx="16" cy="16" r="7" fill="#fff"/>';
  const [colour, mark] = mentions > 0 ? ["#c92a3a", number] : ["#2f6fde", dot];
  const shape = `<rect width="32" height="32" rx="9" fill="${colour}"/>${mark}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${shape}</svg>`;
}

export function notificationProblem() {
  if (!isSecureContext) return "Notifications need HTTPS.";
  if (typeof Notification === "undefined") return "This browser has no notifications.";
  return Notification.permission === "denied" ? "The browser's settings forbid notifications from this site." : "";
}

/** @param {string} title @param {string} body @param {string} tag @param {() => void} open */
export function notify(title, body, tag, open) {
  if (notificationProblem() || Notification.permission !== "granted") return;
  try {
    const shown = new Notification(title, { body, tag });
    shown.onclick = () => {
      focus();
      open();
      shown.close();
    };
  } catch {
    // Chrome on Android has the constructor, and always throws.
  }
}

const COLLECT_MS = 1_000;
const SPOKEN_MAX = 3;
const KEPT_MAX = 6;

/** Speaks to screen readers. The log itself is silent: it also changes when it is scrolled. */
export class Announcer {
  /** @type {string[]} */
  waiting = [];

  /** @param {string} text */
  announce(text) {
    if (this.waiting.push(text) === 1) setTimeout(() => this.#speak(), COLLECT_MS);
  }

  #speak() {
    const texts = this.waiting.splice(0);
    const spoken = texts.length > SPOKEN_MAX ? [`${texts.length} new messages`] : texts;
    const region = byId("announcements");
    region.append(...spoken.map((text) => element("p", { dir: "auto" }, text)));
    while (region.children.length > KEPT_MAX) region.firstElementChild?.remove();
  }
}
