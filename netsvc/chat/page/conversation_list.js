/** The lists of rooms and private conversations. */

import { Membership, Room } from "./conversation.js";
import { byId, element } from "./dom.js";

/** @typedef {import("./conversation.js").AnyConversation} AnyConversation */

/**
 * @typedef {object} ListHandlers
 * @property {(conversation: AnyConversation) => void} open
 * @property {(conversation: AnyConversation) => void} leave
 */

export class ConversationList {
  /** @param {ListHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.rooms = byId("room-list");
    this.privates = byId("private-list");
    /** @type {WeakMap<AnyConversation, HTMLElement>} */
    this.items = new WeakMap();
  }

  /** @param {Iterable<AnyConversation>} conversations @param {AnyConversation | null} current */
  show(conversations, current) {
    /** @type {HTMLElement[]} */
    const rooms = [];
    /** @type {HTMLElement[]} */
    const privates = [];
    for (const conversation of conversations) {
      (conversation.isPrivate ? privates : rooms).push(this.#item(conversation, conversation === current));
    }
    replaceChanged(this.rooms, rooms);
    replaceChanged(this.privates, privates);
    byId("private-section").hidden = privates.length === 0;
  }

  /** @param {AnyConversation} conversation @param {boolean} isCurrent */
  #item(conversation, isCurrent) {
    const item = this.items.get(conversation) ?? this.#newItem(conversation);
    const [open, leave] = /** @type {HTMLButtonElement[]} */ ([...item.children]);
    const { name, unread, mentions } = conversation;
    const isOut = conversation instanceof Room && conversation.membership === Membership.OUT;
    item.classList.toggle("unread", unread > 0);
    item.classList.toggle("mentions", mentions > 0);
    item.classList.toggle("out", isOut);
    if (isCurrent) open.setAttribute("aria-current", "page");
    else open.removeAttribute("aria-current");
    const [label, badge, hidden] = open.children;
    setText(label, name);
    setText(badge, unread > 0 ? shortNumber(mentions || unread) : "");
    setText(hidden, unreadText(unread, conversation.isPrivate ? 0 : mentions));
    const action = conversation.isPrivate ? "Close" : "Leave";
    leave.setAttribute("aria-label", `${action} ${name}`);
    leave.title = action;
    return item;
  }

  /** @param {AnyConversation} conversation */
  #newItem(conversation) {
    const open = element(
      "button",
      { type: "button", class: "conversation", onclick: () => this.handlers.open(conversation) },
      element("bdi"),
      element("span", { class: "badge", "aria-hidden": "true" }),
      element("span", { class: "hidden" }),
    );
    const leave = element("button", { type: "button", class: "leave", onclick: () => this.handlers.leave(conversation) }, "×");
    const item = element("li", {}, open, leave);
    this.items.set(conversation, item);
    return item;
  }
}

/** @param {number} unread @param {number} mentions */
function unreadText(unread, mentions) {
  if (unread === 0) return "";
  return mentions > 0 ? `, ${unread} unread, ${mentions} mention you` : `, ${unread} unread`;
}

/** @param {number} number */
function shortNumber(number) {
  return number > 999 ? "999+" : String(number);
}

/** @param {Element} target @param {string} text */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Replaces children only if they differ, so that the focus stays. @param {HTMLElement} list @param {HTMLElement[]} items */
function replaceChanged(list, items) {
  const isSame = list.children.length === items.length && items.every((item, index) => list.children[index] === item);
  if (!isSame) list.replaceChildren(...items);
}
