/** Finds out whether another tab uses the same session: a duplicated tab begins with a copy of the session storage. */

/** Milliseconds in which another tab answers. */
const ANSWER_TIME = 250;

export class TabGuard {
  /**
   * @param {string} channel the name on which the tabs of this chat talk
   * @param {() => void} taken called when another tab takes the session of this one
   */
  constructor(channel, taken) {
    this.claimed = "";
    this.taken = taken;
    /** @type {((name: string) => void) | null} */
    this.answered = null;
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(channel);
    this.channel?.addEventListener("message", (event) => this.#received(event.data));
  }

  /**
   * Uses a session in this tab.
   *
   * @param {string} name of the session, which is not secret; empty for none
   */
  claim(name) {
    this.claimed = name;
  }

  /** Takes a session from another tab. @param {string} name */
  take(name) {
    this.channel?.postMessage({ taken: name });
  }

  /**
   * @param {string} name of the session
   * @returns {Promise<boolean>} whether another tab uses it
   */
  isUsedElsewhere(name) {
    if (this.channel === null) return Promise.resolve(false);
    this.channel.postMessage({ question: name });
    return new Promise((resolve) => {
      setTimeout(() => resolve(false), ANSWER_TIME);
      this.answered = (answer) => answer === name && resolve(true);
    });
  }

  /** @param {any} message */
  #received(message) {
    if (this.claimed && message?.question === this.claimed) this.channel?.postMessage({ answer: this.claimed });
    if (this.claimed && message?.taken === this.claimed) this.taken();
    if (typeof message?.answer === "string") this.answered?.(message.answer);
  }
}
