/** Times in the viewer's zone, days as they are, amounts in their own currency. */

import { locale, text } from "./texts.js";

const clock = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const weekday = new Intl.DateTimeFormat(locale, { weekday: "short", hour: "numeric", minute: "2-digit" });
const sameYear = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long" });
const otherYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const shortYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric" });
const appointment = new Intl.DateTimeFormat(locale, { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });
// a day without a time is the same day in every zone
const plainDay = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const signed = new Intl.NumberFormat(locale, { signDisplay: "exceptZero" });
const month = new Intl.DateTimeFormat(locale, { month: "short" });

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
 * The date and time of an appointment.
 *
 * @param {string} instant
 */
export function appointmentTime(instant) {
  return appointment.format(new Date(instant));
}

/**
 * The number of an instant's day and its month, as a leaf of a calendar.
 *
 * @param {string} instant
 */
export function leafOf(instant) {
  const date = new Date(instant);
  return { day: String(date.getDate()), month: month.format(date).replace(".", "") };
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
 * An instant as a field for date and time takes it, in the viewer's zone.
 *
 * @param {string | number} instant
 */
export function fieldOf(instant) {
  const date = new Date(instant);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
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

/** @param {Date} date */
function midnight(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
