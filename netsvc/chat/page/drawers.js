/** The lists at the sides. Where there is no room for them, they are drawers over the messages. */

import { byId } from "./dom.js";

/** @typedef {"rooms" | "members"} Side */

/** Widths below which a list is a drawer. They are those of style.css. */
const NARROW = { rooms: "(max-width: 760px)", members: "(max-width: 1000px)" };

/** @type {Side[]} */
const SIDES = ["rooms", "members"];

export class Drawers {
  constructor() {
    /** @type {Side | null} */
    this.open = null;
    this.isMembersWanted = true;
    byId("backdrop").addEventListener("click", () => this.close());
    for (const side of SIDES) {
      window.matchMedia(NARROW[side]).addEventListener("change", () => this.close() || this.#update());
    }
  }

  get areMembersVisible() {
    return this.#isDrawer("members") ? this.open === "members" : this.isMembersWanted;
  }

  /** @param {boolean} isWanted whether the members are shown where there is room for them */
  showMembers(isWanted) {
    this.isMembersWanted = isWanted;
    this.#update();
  }

  /** Opens or closes a drawer. @param {Side} side @returns {boolean} false if the list is not a drawer now */
  toggle(side) {
    if (!this.#isDrawer(side)) return false;
    const isOpening = this.open !== side;
    this.close();
    if (isOpening) {
      this.open = side;
      this.#update();
      const focused = byId(side).querySelector("[aria-current], button");
      if (focused instanceof HTMLElement) focused.focus();
    }
    return true;
  }

  /** @returns {boolean} whether a drawer was open */
  close() {
    const side = this.open;
    if (side === null) return false;
    const hadFocus = byId(side).contains(document.activeElement);
    this.open = null;
    this.#update();
    if (hadFocus) byId(`open-${side}`).focus();
    return true;
  }

  /** @param {Side} side */
  #isDrawer(side) {
    return window.matchMedia(NARROW[side]).matches;
  }

  #update() {
    for (const side of SIDES) {
      const isDrawer = this.#isDrawer(side);
      const isShown = isDrawer ? this.open === side : side === "rooms" || this.isMembersWanted;
      byId(side).hidden = !isShown;
      byId(`open-${side}`).setAttribute("aria-expanded", String(isShown));
    }
    byId("backdrop").hidden = this.open === null;
    for (const behind of document.querySelectorAll("main, .skip")) {
      if (behind instanceof HTMLElement) behind.inert = this.open !== null;
    }
  }
}
