/** Tells users of screen readers what is new. The log itself is silent: scrolling changes it as well. */

import { byId, element } from "./dom.js";

/** Milliseconds in which messages are collected, and messages above which they are counted only. */
const INTERVAL = 1_000;
const SPOKEN_MAX = 3;
const KEPT_MAX = 6;

export class Announcer {
  constructor() {
    this.region = byId("announcements");
    /** @type {string[]} */
    this.waiting = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** @param {string} text */
  announce(text) {
    this.waiting.push(text);
    this.timer ??= setTimeout(() => this.#speak(), INTERVAL);
  }

  #speak() {
    this.timer = undefined;
    const texts = this.waiting.splice(0);
    const spoken = texts.length > SPOKEN_MAX ? [`${texts.length} new messages`] : texts;
    this.region.append(...spoken.map((text) => element("p", { dir: "auto" }, text)));
    while (this.region.children.length > KEPT_MAX) this.region.firstElementChild?.remove();
  }
}
