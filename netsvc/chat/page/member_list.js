/** The list of the members of a room. */

import { byId, element } from "./dom.js";
import { nickElement } from "./message_row.js";

/** Shows members, and opens a private conversation with one of them. */
export class MemberList {
  /** @param {(nick: string) => void} open */
  constructor(open) {
    this.open = open;
    this.list = byId("member-list");
    this.heading = byId("members-heading");
    this.more = byId("members-more");
    this.shown = "";
  }

  /** @param {import("./conversation.js").Room | null} room @param {string} own the nick of the member itself */
  show(room, own) {
    if (room === null) {
      this.shown = "";
      this.list.replaceChildren();
      this.heading.textContent = "Members";
      this.more.textContent = "";
      return;
    }
    const others = [...room.others.values()].sort((a, b) => a.localeCompare(b, "en", { sensitivity: "base" }));
    const hidden = room.count - others.length - 1;
    this.heading.textContent = room.count > 0 ? `Members (${room.count.toLocaleString("en")})` : "Members";
    this.more.textContent = hidden > 0 ? `and ${hidden.toLocaleString("en")} more` : "";
    const shown = [own, ...others].join(" ");
    if (shown === this.shown) return;
    this.shown = shown;
    this.list.replaceChildren(
      element("li", { class: "self" }, nickElement(own), " (you)"),
      ...others.map((nick) => {
        const title = `Write to ${nick} privately`;
        return element("li", {}, element("button", { type: "button", title, onclick: () => this.open(nick) }, nickElement(nick)));
      }),
    );
  }
}
