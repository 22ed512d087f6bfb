/** Times that people choose with a click, in the viewer's zone. */

const MORNING = 9;

/**
 * The hour after three hours from now, or null where that is in the evening.
 *
 * @param {Date} [now]
 */
export function laterToday(now = new Date()) {
  const later = new Date(now.getTime() + 3 * 3_600_000);
  if (later.getMinutes()) later.setHours(later.getHours() + 1, 0, 0, 0);
  return later.getDate() === now.getDate() && later.getHours() <= 20 ? later : null;
}

/**
 * The next day, in the morning.
 *
 * @param {Date} [now]
 */
export function tomorrow(now = new Date()) {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1, MORNING);
}

/**
 * The next Monday, in the morning.
 *
 * @param {Date} [now]
 */
export function nextWeek(now = new Date()) {
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() + ((8 - now.getDay()) % 7 || 7), MORNING);
}
