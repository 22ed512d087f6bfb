/**
 * Times in the viewer's zone, and those of appointments in the zone of the business, which is named
 * where it is another; days as they are, amounts in their own currency.
 */

import { locale, text } from "./texts.js";

const clock = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const weekday = new Intl.DateTimeFormat(locale, { weekday: "short", hour: "numeric", minute: "2-digit" });
const sameYear = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long" });
const otherYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const shortYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
const list = new Intl.ListFormat(locale);
// a day without a time is the same day in every zone
const plainDay = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const signed = new Intl.NumberFormat(locale, { signDisplay: "exceptZero" });
/** What writes times of appointments, made once. @type {Map<string, Intl.DateTimeFormat>} */
const zoned = new Map();

/**
 * The time of day of an instant.
 *
 * @param {string | number} instant
 */
export function timeOf(instant) {
  return clock.format(new Date(instant));
}

/**
 * The day of the week and the time of day of an instant.
 *
 * @param {string | number} instant
 */
export function weekdayOf(instant) {
  return weekday.format(new Date(instant));
}

/**
 * The name of an instant's day: today, yesterday, or the date.
 *
 * @param {string | number} instant
 */
export function dayOf(instant) {
  const date = new Date(instant);
  const now = new Date();
  const days = Math.round((midnight(now) - midnight(date)) / 86_400_000);
  if (days === 0) return text("day.today");
  if (days === 1) return text("day.yesterday");
  return (date.getFullYear() === now.getFullYear() ? sameYear : otherYear).format(date);
}

/**
 * What tells days apart.
 *
 * @param {string | number} instant
 */
export function dayKey(instant) {
  return midnight(new Date(instant));
}

/**
 * An instant as a list shows it: the time today, the date before.
 *
 * @param {string} instant
 */
export function whenOf(instant) {
  const date = new Date(instant);
  const now = new Date();
  if (midnight(date) === midnight(now)) return clock.format(date);
  return (date.getFullYear() === now.getFullYear() ? short : shortYear).format(date);
}

/**
 * The date and time of an appointment in the time zone of the business, as its notices say them;
 * with the year where it is not this one, or is asked for. Where the viewer's clock shows another
 * time, the zone is named.
 *
 * @param {string | number} instant
 * @param {{ zone?: string, withYear?: boolean }} [how] without a zone it is the viewer's
 */
export function appointmentTime(instant, { zone = "", withYear = false } = {}) {
  const date = new Date(instant);
  const isOther = withYear || partsOf(date, zone).getUTCFullYear() !== partsOf(new Date(), zone).getUTCFullYear();
  const name = zoneName(instant, zone);
  const time = zonedFormat(zone, {
    weekday: "short",
    day: "numeric",
    month: "short",
    ...(isOther ? { year: "numeric" } : {}),
    hour: "numeric",
    minute: "2-digit",
  }).format(date);
  // a whole name is no part of the time, as letters are
  if (!name) return time;
  return name.includes(" ") ? `${time} (${name})` : `${time} ${name}`;
}

/**
 * What the time zone of the business is called, such as CET, where the viewer's clock shows another
 * time at that instant; nothing where it shows the same. Where the language has no such letters, and
 * the browser would write GMT +1, it is the zone's whole name.
 *
 * @param {string | number} instant
 * @param {string} zone
 */
export function zoneName(instant, zone) {
  const date = new Date(instant);
  if (partsOf(date, zone).getTime() === partsOf(date, "").getTime()) return "";
  /** @param {"short" | "longGeneric"} timeZoneName */
  const name = (timeZoneName) => zonedFormat(zone, { timeZoneName }).formatToParts(date).find(({ type }) => type === "timeZoneName")?.value ?? "";
  const letters = name("short");
  return /\d/.test(letters) ? name("longGeneric") : letters;
}

/**
 * How far a day without a time is from today: today, tomorrow, in 5 days, 3 days ago.
 *
 * @param {string} day
 */
export function daysFromNow(day) {
  return relative.format(daysUntil(day), "day");
}

/**
 * In how many days a day without a time comes; less than 0 where it is over.
 *
 * @param {string} day
 */
export function daysUntil(day) {
  const now = new Date();
  const today = Date.UTC(now.getFullYear(), now.getMonth(), now.getDate());
  return Math.round((Date.parse(`${day}T00:00:00Z`) - today) / 86_400_000);
}

/**
 * Several things in a row, as the language joins them.
 *
 * @param {string[]} things
 */
export function listOf(things) {
  return list.format(things);
}

/**
 * The number of an instant's day and its month, as a leaf of a calendar.
 *
 * @param {string} instant
 * @param {string} [zone] of the business; the viewer's without one
 */
export function leafOf(instant, zone = "") {
  const date = new Date(instant);
  return { day: String(partsOf(date, zone).getUTCDate()), month: zonedFormat(zone, { month: "short" }).format(date).replace(".", "") };
}

/**
 * A date of an instant.
 *
 * @param {string} instant
 */
export function dateOf(instant) {
  return shortYear.format(new Date(instant));
}

/**
 * A day without a time, such as 2026-12-01.
 *
 * @param {string} day
 */
export function plainDayOf(day) {
  return plainDay.format(new Date(`${day}T00:00:00Z`));
}

/**
 * An amount in minor units of its currency.
 *
 * @param {number} minor
 * @param {string} currency
 */
export function amountOf(minor, currency) {
  try {
    const format = new Intl.NumberFormat(locale, { style: "currency", currency });
    return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
  } catch {
    // a currency that the browser can't read
    return `${minor} ${currency}`;
  }
}

/**
 * A number with its sign.
 *
 * @param {number} number
 */
export function signedOf(number) {
  return signed.format(number);
}

/**
 * An instant as a field for date and time takes it, in the viewer's zone or in another one.
 *
 * @param {string | number} instant
 * @param {string} [zone]
 */
export function fieldOf(instant, zone = "") {
  return partsOf(new Date(instant), zone).toISOString().slice(0, 16);
}

/**
 * The instant that a field for date and time means. Of a time that the clocks pass over, the one
 * after it; of one that they show twice, the first.
 *
 * @param {string} field such as 2026-12-01T09:00
 * @param {string} [zone] the viewer's without one
 * @returns {Date}
 */
export function instantOf(field, zone = "") {
  if (!zone || !isZone(zone)) return new Date(field);
  const wanted = Date.parse(`${field.length === 16 ? `${field}:00` : field}Z`);
  // the clocks of a day before are right, or those of a day after
  const [before, after] = [-86_400_000, 86_400_000].map((away) => {
    const near = new Date(wanted + away);
    return wanted - (partsOf(near, zone).getTime() - near.getTime());
  });
  return [before, after].map((time) => new Date(time)).find((one) => partsOf(one, zone).getTime() === wanted) ?? new Date(before);
}

/**
 * The next day at a time of day, on the clocks of a zone, as a field takes it.
 *
 * @param {string} time such as 09:00
 * @param {string} [zone]
 */
export function tomorrowAt(time, zone = "") {
  const now = partsOf(new Date(), zone);
  return `${new Date(now.getTime() + 86_400_000).toISOString().slice(0, 10)}T${time}`;
}

/**
 * The first letters of a name, for a picture of somebody who has none.
 *
 * @param {string} name
 */
export function initialsOf(name) {
  const words = name.match(/[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu) ?? [];
  const letters = [words[0], words.length > 1 ? words.at(-1) : undefined].map((one) => [...(one ?? "")][0] ?? "");
  return letters.join("").toLocaleUpperCase(locale);
}

/**
 * How large a file is, in the unit that people read.
 *
 * @param {number} bytes
 */
export function sizeOf(bytes) {
  const unit = bytes < 1024 ? "byte" : bytes < 1024 ** 2 ? "kilobyte" : "megabyte";
  // as WhatsApp counts
  const value = bytes / { byte: 1, kilobyte: 1024, megabyte: 1024 ** 2 }[unit];
  const digits = value < 10 && unit === "megabyte" ? 1 : 0;
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits }).format(value);
}

/**
 * A length of time, such as 1:05.
 *
 * @param {number} seconds
 */
export function durationOf(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/**
 * What the clocks of a zone show at an instant, as if they were those of UTC; to the millisecond.
 *
 * @param {Date} date
 * @param {string} zone the viewer's where there is none
 */
function partsOf(date, zone) {
  if (!zone || !isZone(zone)) return new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  const format = zonedFormat(zone, { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23" }, "en-US-u-ca-iso8601");
  /** @type {Record<string, number>} */
  const parts = {};
  for (const { type, value } of format.formatToParts(date)) parts[type] = Number(value);
  const shown = new Date(Date.UTC(2000, parts.month - 1, parts.day, parts.hour, parts.minute, parts.second, date.getMilliseconds()));
  shown.setUTCFullYear(parts.year, parts.month - 1, parts.day);
  return shown;
}

/** @param {string} zone */
function isZone(zone) {
  try {
    return !!zonedFormat(zone, {});
  } catch {
    // a zone that this browser does not know yet
    return false;
  }
}

/**
 * @param {string} zone the viewer's where there is none
 * @param {Intl.DateTimeFormatOptions} options
 * @param {string} [language]
 */
function zonedFormat(zone, options, language = locale) {
  const name = JSON.stringify([zone, options, language]);
  let format = zoned.get(name);
  if (!format) {
    try {
      format = new Intl.DateTimeFormat(language, { ...options, ...(zone ? { timeZone: zone } : {}) });
    } catch (error) {
      if (!Object.keys(options).length) throw error;
      format = new Intl.DateTimeFormat(language, options);
    }
    zoned.set(name, format);
  }
  return format;
}

/** @param {Date} date */
function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
