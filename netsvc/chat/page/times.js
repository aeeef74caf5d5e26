/** Local times as they are shown. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long" });
const dayOfYear = new Intl.DateTimeFormat("en", { weekday: "long", day: "numeric", month: "long", year: "numeric" });

/** @param {number} time in ms since 1970 @returns {number} when its day began, here */
export function dayOf(time) {
  return new Date(time).setHours(0, 0, 0, 0);
}

/** @param {number} time */
export function clockTime(time) {
  return clock.format(time);
}

/** @param {number} time */
export function fullTime(time) {
  return full.format(time);
}

/** @param {number} time @returns {string} such as `Today`, or `Monday, March 3` */
export function dayName(time) {
  const now = Date.now();
  if (dayOf(time) === dayOf(now)) return "Today";
  if (dayOf(time) === dayOf(dayOf(now) - 1)) return "Yesterday";
  return (new Date(time).getFullYear() === new Date(now).getFullYear() ? day : dayOfYear).format(time);
}
